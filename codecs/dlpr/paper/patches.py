"""Images to patches and back: residuals are coded in P x P patches that do not see each other."""

from __future__ import annotations

from torch import Tensor


def to_patches(t: Tensor, patch: int) -> Tensor:
    """Cut [b, c, h, w] into patches [b * h/P * w/P, c, P, P] in raster order."""
    b, c, h, w = t.shape
    cut = t.reshape(b, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(-1, c, patch, patch)


def from_patches(t: Tensor, h: int, w: int) -> Tensor:
    """Undo :func:`to_patches`: [n, c, P, P] -> [b, c, h, w]."""
    _, c, patch, _ = t.shape
    grid = t.reshape(-1, h // patch, w // patch, c, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(-1, c, h, w)
