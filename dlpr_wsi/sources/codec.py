"""How the pixels inside a slide file are compressed.

OpenSlide does not tell, but it matters: exact coding of pixels that were once JPEG makes the file grow.
TIFF-based slides (SVS, NDPI, SCN, Ventana, generic) say it in tag 259 of their first directory, DICOM in its
transfer syntax.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SourceCodec", "source_codec", "tiff_codec"]


@dataclass(frozen=True)
class SourceCodec:
    """A slide's own compression.

    Parameters
    ----------
    name : str or None
        For example "JPEG"; None when it cannot be told.
    lossy : bool or None
        Whether pixels were changed by it; None when it cannot be told.
    quality : int or None
        The scanner's quality setting, where the file records it.
    """

    name: str | None = None
    lossy: bool | None = None
    quality: int | None = None

    def __str__(self) -> str:
        """Return for example ``JPEG, quality 30``."""
        if self.name is None:
            return "unknown"
        return self.name if self.quality is None else f"{self.name}, quality {self.quality}"


_TIFF = {
    1: ("uncompressed", False),
    5: ("LZW", False),
    6: ("JPEG", True),
    7: ("JPEG", True),
    8: ("Deflate", False),
    32773: ("PackBits", False),
    32946: ("Deflate", False),
    33003: ("JPEG 2000", None),
    33004: ("JPEG 2000", None),
    33005: ("JPEG 2000", None),
    34712: ("JPEG 2000", None),
    34925: ("LZMA", False),
    50000: ("Zstandard", False),
    50001: ("WebP", None),
    50002: ("JPEG XL", None),
    65471: ("DLPR", None),
}
_DICOM = {
    "1.2.840.10008.1.2": ("uncompressed", False),
    "1.2.840.10008.1.2.1": ("uncompressed", False),
    "1.2.840.10008.1.2.4.50": ("JPEG", True),
    "1.2.840.10008.1.2.4.80": ("JPEG-LS", False),
    "1.2.840.10008.1.2.4.90": ("JPEG 2000", False),
    "1.2.840.10008.1.2.4.91": ("JPEG 2000", None),
    "1.2.840.10008.1.2.4.201": ("HTJ2K", False),
    "1.2.840.10008.1.2.4.203": ("HTJ2K", None),
}
_TAG_COMPRESSION = 259
_MAX_TAGS = 4096  # of one directory; a real one has some dozens


def source_codec(path: Path, properties: Mapping[str, str]) -> SourceCodec:
    """Tell how a slide file is compressed.

    Parameters
    ----------
    path : Path
        The file.
    properties : mapping of str to str
        OpenSlide's properties of it.
    """
    quality = re.search(r"\bJPEG/\w+ Q=(\d{1,3})\b", properties.get("aperio.ImageDescription", ""))
    if quality is None and properties.get("openslide.vendor") == "aperio":
        quality = re.search(r"\bJPEG/\w+ Q=(\d{1,3})\b", properties.get("tiff.ImageDescription", ""))
    syntax = properties.get("dicom.TransferSyntaxUID")
    if syntax is not None:
        name, lossy = _DICOM.get(syntax, (None, None))
        if properties.get("dicom.LossyImageCompression") == "01":
            lossy = True  # somewhere in the image's history
    else:
        name, lossy = _TIFF.get(_tiff_compression(path) or 0, (None, None))
        if name is None and properties.get("mirax.LAYER_0_LEVEL_0_SECTION.IMAGE_FORMAT") == "JPEG":
            name, lossy = "JPEG", True
    return SourceCodec(name, lossy, int(quality.group(1)) if quality and name == "JPEG" else None)


def tiff_codec(compression: int) -> SourceCodec:
    """Return the codec that TIFF's tag 259 names.

    Examples
    --------
    >>> str(tiff_codec(7))
    'JPEG'
    """
    return SourceCodec(*_TIFF.get(compression, (None, None)))


def _tiff_compression(path: Path) -> int | None:
    """Read tag 259 of the first directory of a TIFF or BigTIFF file; None if it is neither."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
            order = {b"II": "<", b"MM": ">"}.get(head[:2])
            if order is None:
                return None
            (version,) = struct.unpack(order + "H", head[2:4])
            if version == 42:
                (offset,) = struct.unpack(order + "I", head[4:8])
                count_format, entry_bytes, value_at = "H", 12, 8
            elif version == 43:
                (offset,) = struct.unpack(order + "Q", head[8:16])
                count_format, entry_bytes, value_at = "Q", 20, 12
            else:
                return None
            file.seek(offset)
            (count,) = struct.unpack(order + count_format, file.read(struct.calcsize(count_format)))
            for _ in range(min(count, _MAX_TAGS)):
                entry = file.read(entry_bytes)
                if struct.unpack(order + "H", entry[:2])[0] == _TAG_COMPRESSION:
                    return int(struct.unpack(order + "H", entry[value_at : value_at + 2])[0])
    except (OSError, struct.error):
        return None
    return None
