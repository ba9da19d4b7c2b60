"""Tiles and strips of a TIFF as samples, by Pillow's decoders.

A JPEG tile gets its tables and a marker that names its colours, a JPEG 2000 tile is a file as it is, and every other
tile becomes a TIFF of one strip in memory: so libjpeg, OpenJPEG and libtiff as Pillow brings them decode what OpenSlide
decoded with its own, or tifffile with imagecodecs.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as pillow

from dlpr_wsi.second import Unjudged
from dlpr_wsi.second.ifd import Directory

__all__ = ["NAME", "decode_segment", "jpeg_samples", "reversible"]

NAME = f"Pillow {pillow}"
_APERIO = (33003, 33005)
_J2K = (*_APERIO, 34712)
_DEFLATE = (8, 32946)
_LIBTIFF = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, deflate, PackBits, LZMA, zstd
_WEBP = (50001, 34927)
_MAX_PIXELS = 1 << 26  # of a tile that Pillow may decode


def decode_segment(  # noqa: PLR0911 - a list of cases
    page: Directory, data: bytes, width: int, height: int, samples: int
) -> NDArray[np.uint8] | Unjudged:
    """Decode a tile or strip.

    Parameters
    ----------
    page : Directory
        The page that it is of.
    data : bytes
        As stored.
    width, height : int
        Its size in px.
    samples : int
        Samples a px that it holds (1 where the planes are stored apart).

    Returns
    -------
    ndarray of uint8, (height, width, samples), or Unjudged
        JPEG comes as RGB or grey; anything else as stored.
    """
    compression, predictor = page.number(259, 1), page.number(317, 1)
    if width * height * samples > _MAX_PIXELS:
        return Unjudged(f"tiles of more than {_MAX_PIXELS} samples")
    if compression == 7:
        return jpeg_samples(data, page.data(347), page.number(262), samples)
    if compression in _J2K:
        with Image.open(io.BytesIO(data)) as image:
            if image.format != "JPEG2000" or image.size != (width, height) or image.mode not in ("L", "RGB"):
                return Unjudged("JPEG 2000 of a kind that Pillow does not decode")
            return np.asarray(image).reshape(height, width, -1)
    if compression in (1, *_DEFLATE) and predictor == 1:
        size = height * width * samples
        raw = data if compression == 1 else zlib.decompressobj().decompress(data, size)
        if len(raw) < size:
            return Unjudged("a tile that ends early")
        return np.frombuffer(raw, np.uint8, size).reshape(height, width, samples)
    if compression in _WEBP:
        with Image.open(io.BytesIO(data)) as image:
            if image.format != "WEBP" or image.size != (width, height):
                return Unjudged("WebP of another size")
            return np.asarray(image.convert("RGBA" if samples == 4 else "RGB"))
    if compression not in _LIBTIFF or samples not in (1, 3, 4):
        return Unjudged(f"samples in a form that {NAME} does not decode")
    return _through_libtiff(data, width, height, samples, compression, predictor)


def jpeg_samples(data: bytes, tables: bytes | None, photometric: int, samples: int) -> NDArray[np.uint8] | Unjudged:
    """Decode a JPEG tile to RGB or grey.

    The container says which colours it has, whatever markers of its own say: so does OpenSlide, through libtiff.
    """
    body = data[2:]
    if tables:
        body = tables[2 : -2 if tables.endswith(b"\xff\xd9") else None] + body
    transform = {2: 0, 6: 1}.get(photometric)
    if samples == 3 and transform is None:
        return Unjudged("JPEG of colours other than RGB and YCbCr")
    marker = b"" if transform is None else b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])
    with Image.open(io.BytesIO(b"\xff\xd8" + marker + _without_colour_markers(body)), formats=("JPEG",)) as image:
        if image.mode not in ("L", "RGB"):
            return Unjudged(f"JPEG of {image.mode}")
        if image.width * image.height > _MAX_PIXELS:  # what its own header claims, before anything is allocated
            return Unjudged(f"tiles of more than {_MAX_PIXELS} samples")
        return np.asarray(image).reshape(image.height, image.width, -1)


def _without_colour_markers(body: bytes) -> bytes:
    """Drop APP0 and APP14 before the scan: they would have a say in the colours."""
    out, at = [], 0
    while at + 4 <= len(body) and body[at] == 0xFF:
        code = body[at + 1]
        if code == 0xDA:
            break
        if code == 0xFF:
            at += 1
            continue
        if code == 0xD8:  # the start again, behind the tables
            at += 2
            continue
        size = 2 + int.from_bytes(body[at + 2 : at + 4], "big")
        if code not in (0xE0, 0xEE):
            out.append(body[at : at + size])
        at += size
    return b"".join(out) + body[at:]


def reversible(data: bytes) -> bool:
    """Tell whether a JPEG 2000 codestream uses the 5/3 wavelet, which every decoder computes alike.

    Examples
    --------
    >>> reversible(b"...")
    False
    """
    at = data.find(b"\xff\x52")
    return at >= 0 and len(data) > at + 13 and data[at + 13] == 1


def _through_libtiff(
    data: bytes, width: int, height: int, samples: int, compression: int, predictor: int
) -> NDArray[np.uint8] | Unjudged:
    """Make a little-endian TIFF of one strip and have Pillow decode it."""
    photometric = {1: 1, 3: 2, 4: 5}[samples]  # grey, RGB, CMYK: what Pillow takes without converting
    entries = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [8] * samples),
        (259, 3, [compression]),
        (262, 3, [photometric]),
        (273, 4, [0]),
        (277, 3, [samples]),
        (278, 4, [height]),
        (279, 4, [len(data)]),
        (284, 3, [1]),
        (317, 3, [predictor]),
    ]
    start = 8 + 2 + 12 * len(entries) + 4
    extra, body = b"", b""
    for tag, kind, values in entries:
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if tag == 273:
            packed = struct.pack("<I", start + 8)
        if len(packed) > 4:
            extra = packed
            packed = struct.pack("<I", start)
        body += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)
    with Image.open(io.BytesIO(head + extra.ljust(8, b"\0") + data), formats=("TIFF",)) as image:
        if image.mode != {1: "L", 3: "RGB", 4: "CMYK"}[samples]:
            return Unjudged(f"samples that {NAME} takes for {image.mode}")
        return np.asarray(image).reshape(height, width, samples)
