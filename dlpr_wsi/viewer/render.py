"""From pixels to the bytes of a response: formats, colour management, and how damage looks."""

from __future__ import annotations

import io
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageDraw

__all__ = ["ImageFormat", "encode_image", "marked_tile", "to_srgb", "usable_profile"]

JPEG_QUALITY = 90
WEBP_QUALITY = 90


class ImageFormat(StrEnum):
    """Formats that a response can have: PNG is exact, the others are quick to send and only look the same."""

    PNG = "png"
    JPG = "jpg"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        """MIME type."""
        return "image/jpeg" if self in (ImageFormat.JPG, ImageFormat.JPEG) else f"image/{self}"


def encode_image(image: Image.Image, form: ImageFormat) -> bytes:
    """Return an image as a file.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB, RGBA (PNG only) or L. Its ICC profile is not embedded: it is larger than the tile.
    form : ImageFormat
        PNG keeps every sample; it is compressed lightly, because a fast answer matters more than a small one.
    """
    out = io.BytesIO()
    if form is ImageFormat.PNG:
        image.save(out, "PNG", compress_level=1)
    elif form is ImageFormat.WEBP:
        image.save(out, "WEBP", quality=WEBP_QUALITY, method=0)
    else:
        image.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()


@lru_cache(maxsize=16)
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), "RGB", "RGB"
    )


def usable_profile(profile: bytes | None) -> bool:
    """Tell whether `to_srgb` can use a profile: it is intact, and for RGB."""
    if profile is None:
        return False
    try:
        _transform(profile)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
    return True


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert an RGB image from the colours of a usable ICC profile to sRGB."""
    converted = ImageCms.applyTransform(image, _transform(profile))
    return image if converted is None else converted


@lru_cache(maxsize=8)
def marked_tile(width: int, height: int) -> NDArray[np.uint8]:
    """Return what stands for a damaged chunk: stripes that no tissue has, and words where they fit.

    Returns
    -------
    ndarray of uint8, (height, width, 3)
        Read-only.
    """
    y, x = np.mgrid[:height, :width]
    stripe = ((x + y) // 12 % 2).astype(bool)
    pixels = np.where(stripe[..., None], np.array([255, 214, 10], np.uint8), np.array([40, 40, 44], np.uint8))
    image = Image.fromarray(pixels.astype(np.uint8))
    if width >= 96:
        draw = ImageDraw.Draw(image)
        text, centre = "damaged tile", (width // 2, height // 2)
        left, top, right, bottom = draw.textbbox(centre, text, anchor="mm")
        draw.rectangle((left - 8, top - 6, right + 8, bottom + 6), fill=(20, 20, 22))
        draw.text(centre, text, fill=(255, 255, 255), anchor="mm")
    out = np.array(image)
    out.flags.writeable = False
    return out
