"""From pixels to the bytes of a response: formats, colour management, and how damage and previews look."""

from __future__ import annotations

import io
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin

__all__ = [
    "PREVIEW_COMMENT",
    "ImageFormat",
    "encode_image",
    "encode_preview",
    "marked_tile",
    "preview_mark",
    "to_srgb",
    "usable_profile",
]

JPEG_QUALITY = 90
WEBP_QUALITY = 90
PREVIEW_QUALITY = 60
PREVIEW_COMMENT = "DLPR lossy layer: a preview without any bound on its error, not the pixels of the slide"
"""Stands in every file of a preview."""
_STRIPES = 32  # px between two stripes of the mark, along a row


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


def encode_preview(image: Image.Image, form: ImageFormat) -> bytes:
    """Return pixels of the lossy layer as a file that says so in its comment (JPEG, PNG) or XMP packet (WebP).

    Parameters
    ----------
    image : PIL.Image.Image
        RGB, with `preview_mark`.
    form : ImageFormat
        Format. It is compressed more than `encode_image` does: what is not exact need not be kept with care.
    """
    out = io.BytesIO()
    if form is ImageFormat.PNG:
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", PREVIEW_COMMENT)
        image.save(out, "PNG", compress_level=1, pnginfo=text)
    elif form is ImageFormat.WEBP:
        image.save(out, "WEBP", quality=PREVIEW_QUALITY, method=0, xmp=PREVIEW_COMMENT.encode())
    else:
        image.save(out, "JPEG", quality=PREVIEW_QUALITY, subsampling=2, comment=PREVIEW_COMMENT.encode())
    return out.getvalue()


@lru_cache(maxsize=8)
def _stripes(width: int, height: int) -> tuple[Image.Image, Image.Image]:
    """Return what the mark adds to pixels, and how much of it (0..255)."""
    y, x = np.mgrid[:height, :width]
    at = (x + y) % _STRIPES
    colour = np.where((at == 0)[..., None], np.array([0, 40, 90], np.uint8), np.array([255, 255, 255], np.uint8))
    return Image.fromarray(colour.astype(np.uint8)), Image.fromarray(((at < 2) * 140).astype(np.uint8))


def preview_mark(image: Image.Image) -> Image.Image:
    """Return an RGB image with thin diagonal lines, dark beside light: they show on any tissue, and hide little."""
    colour, share = _stripes(*image.size)
    return Image.composite(colour, image, share)


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
