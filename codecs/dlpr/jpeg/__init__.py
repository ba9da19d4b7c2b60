"""The JPEG layer: an image as the JPEG it was decoded from, and what that JPEG lacks (docs/format section 15)."""
