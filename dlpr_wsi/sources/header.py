"""What image data says about itself in its first bytes: kind, size, and above all the bits of a sample.

Libraries hand over 8 bits where a file has 16; so the depth is read here, from the file's own header, before anything
is decoded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Header", "JpegHeader", "Kind", "jpeg2000_header", "jpeg_header", "parse_header", "sniff"]


class Kind(StrEnum):
    """Formats that are told apart by their first bytes."""

    TIFF = "TIFF"
    PNG = "PNG"
    JPEG = "JPEG"
    BMP = "BMP"
    WEBP = "WEBP"
    PNM = "PNM"
    JPEG2000 = "JPEG2000"


_MAGIC = {
    Kind.TIFF: rb"II[*+]\0|MM\0[*+]",
    Kind.PNG: rb"\x89PNG\r\n\x1a\n",
    Kind.JPEG: rb"\xff\xd8\xff",
    Kind.WEBP: rb"RIFF....WEBP",
    Kind.JPEG2000: rb"....jP  \r\n\x87\n|\xff\x4f\xff\x51",
    Kind.BMP: rb"BM",
    Kind.PNM: rb"P[1-7][\s#]|P[fF]\s",
}


@dataclass(frozen=True)
class Header:
    """Facts of a header.

    Parameters
    ----------
    kind : Kind
        The format.
    width, height : int
        px; 0 where the header leaves it to the decoder.
    bits : int
        Of a sample, the largest of all components.
    note : str
        Why the file is refused whatever its depth; empty where it is not.
    """

    kind: Kind
    width: int
    height: int
    bits: int
    note: str = ""


@dataclass(frozen=True)
class JpegHeader:
    """Frame header and markers of a JPEG stream.

    Parameters
    ----------
    width, height, precision : int
        Of the frame.
    components : int
        1, 3 or 4.
    adobe : int or None
        Colour transform of the Adobe marker.
    jfif : bool
        Whether there is a JFIF marker.
    ids : bytes
        Component identifiers.
    """

    width: int
    height: int
    precision: int
    components: int
    adobe: int | None
    jfif: bool
    ids: bytes

    @property
    def ycbcr(self) -> bool | None:
        """What the markers say about three components; None where they say nothing."""
        if self.components != 3:
            return None
        if self.adobe is not None:
            return self.adobe == 1
        if self.jfif:
            return True
        return False if self.ids == b"RGB" else None


def sniff(head: bytes) -> Kind | None:
    """Return the format of a file by its first 16 bytes; None for any other.

    Examples
    --------
    >>> str(sniff(bytes.fromhex("89504e470d0a1a0a")))
    'PNG'
    """
    return next((kind for kind, pattern in _MAGIC.items() if re.match(pattern, head, re.DOTALL)), None)


def parse_header(data: bytes) -> Header | None:
    """Read a plain image's header.

    Parameters
    ----------
    data : bytes
        The beginning of the file; a JPEG's markers can take 100 kB and more.

    Returns
    -------
    Header or None
        None where the data is none of the formats or is cut off.
    """
    kind = sniff(data)
    try:
        return _PARSERS[kind](data) if kind in _PARSERS else None
    except (struct.error, IndexError, KeyError, ValueError):
        return None


def jpeg_header(data: bytes) -> JpegHeader | None:
    """Read the markers of a JPEG stream up to its frame header; None where there is none."""
    adobe, jfif, at = None, False, 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in (0x01, *range(0xD0, 0xD9)):
            at += 2
            continue
        if marker in (0xD9, 0xDA):
            return None
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if size < 2:
            return None
        body = data[at + 4 : at + 2 + size]
        if marker == 0xE0 and body[:5] == b"JFIF\0":
            jfif = True
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if len(body) < 6 or len(body) < 6 + 3 * body[5]:
                return None
            height, width = struct.unpack(">HH", body[1:5])
            return JpegHeader(width, height, body[0], body[5], adobe, jfif, body[6 : 6 + 3 * body[5] : 3])
        at += 2 + size
    return None


def jpeg2000_header(data: bytes) -> tuple[int, int, int, str] | None:
    """Return width, height, bits and a reason to refuse (or "") of a JPEG 2000 stream or JP2 file."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(data) < at + 42:
        return None
    x1, y1, x0, y0 = struct.unpack(">IIII", data[at + 8 : at + 24])
    (components,) = struct.unpack(">H", data[at + 40 : at + 42])
    parts = data[at + 42 : at + 42 + 3 * components]
    if len(parts) < 3 * components or not components:
        return None
    note = ""
    if any(depth & 0x80 for depth in parts[::3]):
        note = "its samples are signed"
    elif any(step != 1 for part in (parts[1::3], parts[2::3]) for step in part):
        note = "its components are subsampled"
    elif at and (found := re.search(rb"colr\x01..(....)", data[:at], re.DOTALL)) and found.group(1)[3] == 18:
        note = "its components are Y, Cb, Cr (sYCC)"
    return x1 - x0, y1 - y0, max((depth & 0x7F) + 1 for depth in parts[::3]), note


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height."""
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        packed = int.from_bytes(data[21:25], "little")
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _bmp(data: bytes) -> Header:
    """Read a BMP header; its bits are those of a px."""
    (size,) = struct.unpack("<I", data[14:18])
    if size == 12:
        width, height, _, count = struct.unpack("<HHHH", data[18:26])
        compression = 0
    else:
        width, height, _, count, compression = struct.unpack("<iiHHI", data[18:34])
    note = ""
    if compression in (3, 6) or count == 16:
        masks = struct.unpack("<III", data[54:66]) if compression in (3, 6) else (0x7C00, 0x3E0, 0x1F)
        if any(mask.bit_count() != 8 for mask in masks):
            note = "its samples have other than 8 bits (bit fields)"
    return Header(Kind.BMP, abs(width), abs(height), 8, note)


def _pnm(data: bytes) -> Header | None:
    """Read a PBM, PGM, PPM, PAM or PFM header."""
    magic = data[:2]
    if magic in (b"Pf", b"PF"):
        return Header(Kind.PNM, 0, 0, 32, "its samples are floating point")
    if magic == b"P7":
        fields = dict(re.findall(rb"(?m)^(WIDTH|HEIGHT|MAXVAL)\s+(\d{1,10})", data[:1024]))
        width, height, top = (int(fields[name]) for name in (b"WIDTH", b"HEIGHT", b"MAXVAL"))
    else:
        words = re.sub(rb"#[^\r\n]*", b" ", data[2:4096]).split(maxsplit=4)
        width, height = int(words[0]), int(words[1])
        top = 1 if magic in (b"P1", b"P4") else int(words[2])
    note = "" if top in (1, 255) or top > 255 else f"its samples end at {top}, not at 255"
    return Header(Kind.PNM, width, height, max(1, top.bit_length()), note)


def _png(data: bytes) -> Header:
    """Read a PNG header."""
    width, height, bits = struct.unpack(">IIB", data[16:25])
    animated = b"acTL" in data[33 : 33 + 4096].split(b"IDAT", 1)[0]
    return Header(Kind.PNG, width, height, bits, "an animated PNG holds several pictures" if animated else "")


def _jpeg(data: bytes) -> Header | None:
    """Read a JPEG header."""
    frame = jpeg_header(data)
    return None if frame is None else Header(Kind.JPEG, frame.width, frame.height, frame.precision)


def _webp(data: bytes) -> Header:
    """Read a WebP header; its samples have 8 bits always."""
    animated = data[12:16] == b"VP8X" and bool(data[20] & 2)
    return Header(Kind.WEBP, *_webp_size(data), 8, "an animated WebP holds several pictures" if animated else "")


def _jpeg2000(data: bytes) -> Header | None:
    """Read a JPEG 2000 header."""
    found = jpeg2000_header(data)
    return None if found is None else Header(Kind.JPEG2000, *found)


_PARSERS: dict[Kind | None, Callable[[bytes], Header | None]] = {
    Kind.PNG: _png,
    Kind.JPEG: _jpeg,
    Kind.WEBP: _webp,
    Kind.JPEG2000: _jpeg2000,
    Kind.BMP: _bmp,
    Kind.PNM: _pnm,
}
