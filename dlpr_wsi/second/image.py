"""PNG, JPEG, WebP, JPEG 2000 through imagecodecs, BMP and PNM parsed here: what conversion reads through Pillow."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.second import NoSecond, Reading, Unjudged
from dlpr_wsi.second.segments import reversible
from dlpr_wsi.sources import SlideFacts

__all__ = ["ImageReader"]

_MAX_PIXELS = 1 << 28
_ORIENTED = "an orientation tag"


class ImageReader:
    """An image, decoded once and kept.

    Raises
    ------
    NoSecond
        It is of a kind that is not decoded here.
    """

    def __init__(self, path: Path, facts: SlideFacts) -> None:
        width, height = facts.levels[0].width, facts.levels[0].height
        if width * height > _MAX_PIXELS:
            raise NoSecond(f"images of more than {_MAX_PIXELS} px are decoded once")
        data = path.read_bytes()
        stored, self.name, tolerance = _decode(data)
        if stored.dtype != np.uint8:
            raise NoSecond("samples of other than 8 bits")
        if stored.ndim == 2:
            stored = stored[..., None]
        pixels, more = _shown(stored, facts.background)
        if pixels.shape != (height, width, 3):
            raise NoSecond("it decodes to another size (an orientation tag, or several images in one)")
        self._reading = Reading(pixels, tolerance + more)

    def read(self, x: int, y: int, width: int, height: int, level: int) -> Reading | Unjudged:
        """Return a region."""
        del level
        return Reading(self._reading.pixels[y : y + height, x : x + width], self._reading.tolerance)

    def close(self) -> None:
        """Nothing is open."""


def _decode(data: bytes) -> tuple[NDArray[np.uint8], str, int]:
    """Return samples, who decoded them and how far other decoders may be off."""
    if data[:2] in (b"P4", b"P5", b"P6"):
        return _pnm(data), "dlpr-wsi's own PNM parser", 0
    if data[:2] == b"BM":
        return _bmp(data), "dlpr-wsi's own BMP parser", 0
    import imagecodecs

    name = f"imagecodecs {imagecodecs.__version__}"
    if b"Exif\0\0" in data[: 1 << 16] or b"eXIf" in data[: 1 << 16] or (data[:4] == b"RIFF" and b"EXIF" in data):
        raise NoSecond("images with EXIF data may have " + _ORIENTED)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        if b"tRNS" in data[: 1 << 16]:
            raise NoSecond("a PNG with one transparent colour is decoded by Pillow alone")
        return imagecodecs.png_decode(data), name, 0
    if data[:3] == b"\xff\xd8\xff":
        decoded = imagecodecs.jpeg8_decode(data)
        if decoded.ndim == 3 and decoded.shape[-1] == 4:
            raise NoSecond("a CMYK JPEG is decoded by Pillow alone")
        return decoded, name, 0
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        if b"ANIM" in data[:64]:
            raise NoSecond("an animation is decoded by Pillow alone")
        return imagecodecs.webp_decode(data), name, 0
    if data[4:8] == b"jP  " or data[:4] == b"\xff\x4f\xff\x51":
        return imagecodecs.jpeg2k_decode(data), name, 0 if reversible(data) else 1
    raise NoSecond("images of this kind are decoded by Pillow alone")


def _shown(stored: NDArray[np.uint8], background: tuple[int, int, int]) -> tuple[NDArray[np.uint8], int]:
    """Return grey or RGB, with or without alpha, as RGB on the background; and how far rounding may be off."""
    samples = stored.shape[-1]
    base = stored[..., : 1 if samples < 3 else 3]
    base = np.repeat(base, 3, -1) if base.shape[-1] == 1 else base
    if samples in (1, 3):
        return np.ascontiguousarray(base), 0
    out = np.empty(base.shape, np.uint8)
    backdrop = np.array(background, np.uint32)
    for top in range(0, len(out), 256):  # in bands: the products take four times the memory
        part = slice(top, top + 256)
        alpha = stored[part, :, -1:].astype(np.uint32)
        out[part] = (base[part] * alpha + backdrop * (255 - alpha) + 127) // 255
    return out, 1


def _pnm(data: bytes) -> NDArray[np.uint8]:
    """Parse P4, P5 or P6 of 8 bits."""
    space = rb"(?:\s|#[^\n]*\n)+"
    found = re.match(rb"P([456])" + space + rb"(\d+)" + space + rb"(\d+)" + rb"(?:" + space + rb"(\d+))?\s", data)
    if data[:2] == b"P4":
        found = re.match(rb"P(4)" + space + rb"(\d+)" + space + rb"(\d+)()\s", data)
    if found is None:
        raise NoSecond("a PNM header of another kind")
    width, height = int(found[2]), int(found[3])
    body = data[found.end() :]
    if found[1] == b"4":
        packed = np.frombuffer(body, np.uint8, height * -(-width // 8)).reshape(height, -1)
        return (1 - np.unpackbits(packed, axis=1)[:, :width]) * np.uint8(255)
    if found[4] != b"255":
        raise NoSecond("a PNM whose white is not 255")
    samples = 3 if found[1] == b"6" else 1
    return np.frombuffer(body, np.uint8, height * width * samples).reshape(height, width, samples)


def _bmp(data: bytes) -> NDArray[np.uint8]:
    """Parse an uncompressed BMP of 8, 24 or 32 bits."""
    start, head = int.from_bytes(data[10:14], "little"), int.from_bytes(data[14:18], "little")
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    bits, coding = int.from_bytes(data[28:30], "little"), int.from_bytes(data[30:34], "little")
    if head < 40 or coding != 0 or bits not in (8, 24):
        raise NoSecond("BMP of this kind is decoded by Pillow alone")
    stride = (width * bits // 8 + 3) // 4 * 4
    rows = np.frombuffer(data, np.uint8, stride * abs(height), start).reshape(abs(height), stride)
    rows = rows[::-1] if height > 0 else rows
    if bits == 8:
        count = int.from_bytes(data[46:50], "little") or 256
        table = np.zeros((256, 4), np.uint8)
        table[:count] = np.frombuffer(data, np.uint8, 4 * count, 14 + head).reshape(count, 4)
        return table[rows[:, :width], 2::-1]
    return rows[:, : 3 * width].reshape(abs(height), width, 3)[..., ::-1]
