"""NDPI through tifffile, which knows Hamamatsu's 64-bit offsets and cuts its JPEG at restart markers; Pillow decodes.

OpenSlide decodes the pieces between restart markers one by one, so that chroma is not smoothed across their edges; so
does this reader. A level without restart markers is one JPEG, decoded as a whole.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from dlpr_wsi.second import NoSecond, Reading, Unjudged
from dlpr_wsi.second.segments import NAME, jpeg_samples
from dlpr_wsi.second.tiff import SegmentCache, assemble
from dlpr_wsi.sources import SlideFacts

__all__ = ["NdpiReader"]

_MAX_WHOLE = 1 << 26  # px of a level that is one JPEG
_MAX_PIECE = 1 << 24


class NdpiReader:
    """Reads the pages that have the size of a level, in the focal plane 0."""

    def __init__(self, path: Path, facts: SlideFacts) -> None:
        import tifffile

        self._tifffile = tifffile
        self._tiff = tifffile.TiffFile(path)
        self._lock = threading.Lock()
        self._cache = SegmentCache(1 << 28)
        try:
            if not self._tiff.is_ndpi:
                raise NoSecond("no NDPI")
            self._pages: list[Any] = [self._page(level.width, level.height) for level in facts.levels]
            if all(isinstance(page, Unjudged) for page in self._pages):
                raise NoSecond("no page has the size of a level")
        except BaseException:
            self._tiff.close()
            raise

    def _page(self, width: int, height: int) -> Any:
        """Return the page of a size, or why there is none."""
        pages: list[Any] = [page.aspage() for page in self._tiff.pages]
        found = [page for page in pages if (page.imagewidth, page.imagelength) == (width, height)]
        planes = [page for page in found if float(page.ndpi_tags.get("ZOffsetFromSlideCenter", 0) or 0) == 0]
        if len(planes) != 1:
            return Unjudged(
                "several pages of this size" if planes else "no page of this size: OpenSlide shrinks it from another"
            )
        (page,) = planes
        if int(page.compression) != 7 or page.dtype != "uint8" or page.samplesperpixel not in (1, 3):
            return Unjudged("samples that are no 8-bit JPEG")
        return page

    @property
    def name(self) -> str:
        """What reads."""
        return f"tifffile {self._tifffile.__version__}'s pages with {NAME}"

    def read(self, x: int, y: int, width: int, height: int, level: int) -> Reading | Unjudged:
        """Return a region of a level."""
        page = self._pages[level]
        if isinstance(page, Unjudged):
            return page
        tile = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
        if tile[0] * tile[1] > (_MAX_PIECE if page.is_tiled else _MAX_WHOLE):
            return Unjudged("a level that is one JPEG too large to decode as a whole")
        return assemble(
            (x, y, width, height),
            tile,
            3,
            lambda row, column: self._cache.get((level, row, column), lambda: self._segment(page, row, column)),
        )

    def _segment(self, page: Any, row: int, column: int) -> Reading | Unjudged:
        """Read and decode a piece between restart markers, or the whole level."""
        across = -(-page.imagewidth // page.tilewidth) if page.is_tiled else 1
        index = row * across + column
        offset, size = int(page.dataoffsets[index]), int(page.databytecounts[index])
        if size == 0:
            return Unjudged("no tile is stored there")
        with self._lock:
            handle = self._tiff.filehandle
            handle.seek(offset)
            data = handle.read(size)
        header = page.jpegheader
        if header is not None and not data.startswith(b"\xff\xd8"):
            data = header + data + b"\xff\xd9"
        photometric = int(page.photometric)
        decoded = jpeg_samples(data, None, photometric, page.samplesperpixel)
        if isinstance(decoded, Unjudged):
            return decoded
        return Reading(decoded.repeat(3, axis=-1) if decoded.shape[-1] == 1 else decoded)

    def close(self) -> None:
        """Release the file."""
        self._tiff.close()
