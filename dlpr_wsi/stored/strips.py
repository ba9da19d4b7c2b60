"""A level made of JPEGs that restart markers cut into strips (NDPI, VMS): chunks of many strips.

::

    strips of the rows and columns that a chunk touches --renumbered--> one JPEG --offset--> the chunk's window

A strip wider than a chunk has to be decoded from its beginning; chunks beside each other share the JPEG, so that it is
parsed once, and `TileGrid.together` asks for tasks that hold them all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dlpr_wsi.sources import SourceTile, TileGrid
from dlpr_wsi.stored import FileRange, PartKind, StoredLevel, StoredPart
from dlpr_wsi.stored.scan import JpegScan, WholeScan, marked
from dlpr_wsi.stored.shrunk import in_file

__all__ = ["CHUNK", "StripLevel", "StripStore", "chunk_side"]

CHUNK = 512
"""About the side of a chunk in px."""
_LEAST, _MOST = 256, 1024
_TIFF_UNIT = 16
_MOST_PIXELS = 1 << 26  # of a JPEG that the codec reads
_MOST_SIDE = 65535
_CACHE_BYTES = 1 << 26


def chunk_side(unit: int, run: int, *, smooth: bool = False) -> int:
    """Choose a chunk's side: whole runs of px where they are short, else a part that a run is a multiple of.

    Parameters
    ----------
    unit : int
        px of an MCU.
    run : int
        px of a strip, a multiple of ``unit``.
    smooth : bool
        Whether chroma is smoothed across a cut, which then costs a residual: the fewer cuts the better.

    Examples
    --------
    >>> [chunk_side(8, run) for run in (128, 1024, 4096, 3968, 8 * 127)]
    [512, 512, 512, 496, 512]
    >>> [chunk_side(16, run, smooth=True) for run in (128, 1024, 4096, 3968)]
    [512, 1024, 1024, 992]
    """
    if run <= CHUNK:
        parts = [run * times for times in range(1, CHUNK // run + 1)]
    else:
        parts = [run // n for n in range(1, run // _LEAST + 1) if run % n == 0 and run // n % unit == 0]
    fitting = [part for part in parts if part <= _MOST and part % _TIFF_UNIT == 0]
    if smooth:
        return max(fitting, default=CHUNK)
    return min(fitting, key=lambda part: max(part / CHUNK, CHUNK / part), default=CHUNK)


class StripLevel:
    """A grid of JPEGs of one level.

    Parameters
    ----------
    scans : sequence of sequence of JpegScan
        By row and column, already cut into strips. All but the last row and column have the same number of strips.
    strip : tuple of int
        Width and height of a strip in px.
    width, height : int
        Of the level in px. What is no whole strip is not shown by OpenSlide, but for a JPEG without restart markers.

    Raises
    ------
    ValueError
        The codec cannot take such strips.
    """

    def __init__(self, scans: Sequence[Sequence[JpegScan]], strip: tuple[int, int], width: int, height: int) -> None:
        self._scans, self.width, self.height = scans, width, height
        self._strip_width, self._strip_height = strip
        self._header = scans[0][0].header
        self._whole = isinstance(scans[0][0], WholeScan)
        self._columns = width // strip[0]
        self._rows = -(-height // strip[1]) if self._whole else height // strip[1]
        mcu = (self._header.mcu_width, self._header.mcu_height)
        self._chunk_width = min(chunk_side(mcu[0], strip[0], smooth=mcu[0] > 8), -(-width // _TIFF_UNIT) * _TIFF_UNIT)
        self._chunk_height = min(chunk_side(mcu[1], strip[1]), -(-height // _TIFF_UNIT) * _TIFF_UNIT)
        across = (-(-self._chunk_width // strip[0]) + 1) * strip[0]
        down = (-(-self._chunk_height // strip[1]) + 1) * strip[1]
        if min(across, width) > _MOST_SIDE or min(down, height) > _MOST_SIDE:
            raise ValueError(f"strips of {strip[0]} x {strip[1]} px, wider than a JPEG can say")
        if min(across, width) * min(down, height) > _MOST_PIXELS:
            raise ValueError(f"a JPEG of {strip[0]} x {strip[1]} px without restart markers in between")
        self._cache: OrderedDict[tuple[int, int, int, int], SourceTile] = OrderedDict()

    def grid(self) -> TileGrid:
        """Return the chunks."""
        wide, high = self._chunk_width, self._chunk_height
        together = max(1, self._strip_width // wide)
        return TileGrid(wide, high, -(-self.height // high), -(-self.width // wide), together)

    def tile(self, row: int, column: int) -> SourceTile | None:
        """Return the strips behind a chunk as one JPEG, and the chunk's place in it."""
        x, y = column * self._chunk_width, row * self._chunk_height
        left, top = x // self._strip_width, y // self._strip_height
        right = min(-(-(x + self._chunk_width) // self._strip_width), self._columns)
        bottom = min(-(-(y + self._chunk_height) // self._strip_height), self._rows)
        if left >= right or top >= bottom:
            return None
        whole = self._joined(top, bottom, left, right)
        if whole is None:
            return None
        shares = max(1, self._strip_width // self._chunk_width) * max(1, self._strip_height // self._chunk_height)
        place = (y - top * self._strip_height, x - left * self._strip_width)
        size = max(1, (len(whole.data) - len(self._header.data)) // shares)
        return SourceTile(whole.data, None, whole.ycbcr, offset=place, extended=True, size=size)

    def _joined(self, top: int, bottom: int, left: int, right: int) -> SourceTile | None:
        """Return a rectangle of strips as one JPEG; None where it holds strips of JPEGs that differ."""
        key = (top, bottom, left, right)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        header, intervals = None, []
        for row in range(top, bottom):
            column = left
            while column < right:
                scan, index, run = self._at(row, column)
                if header is not None and not header.like(scan.header):
                    return None
                header = header or scan.header
                count = min(run, right - column)
                intervals += scan.intervals(index, count)
                column += count
        if header is None:
            return None
        size = ((right - left) * self._strip_width, (bottom - top) * self._strip_height)
        if self._whole:  # perhaps not whole MCUs
            size = (self.width, min(size[1], self.height - top * self._strip_height))
        tile = SourceTile(marked(header.sized(*size), intervals), None, header.ycbcr)
        self._cache[key] = tile
        while len(self._cache) > 1 and sum(len(kept.data) for kept in self._cache.values()) > _CACHE_BYTES:
            self._cache.popitem(last=False)
        return tile

    def _at(self, row: int, column: int) -> tuple[JpegScan, int, int]:
        """Return the JPEG that holds a strip, the strip's number in it, and how many follow in the same row of it."""
        first = self._scans[0][0]
        scan_row, inside_row = divmod(row, self._down(first))
        scan_column, inside_column = divmod(column, self._across(first))
        scan = self._scans[scan_row][scan_column]
        across = self._across(scan)
        return scan, inside_row * across + inside_column, across - inside_column

    def _across(self, scan: JpegScan) -> int:
        """Return the strips in a row of a JPEG."""
        if len(self._scans[0]) == 1:
            return self._columns
        return max(1, scan.header.width // self._strip_width)

    def _down(self, scan: JpegScan) -> int:
        """Return the rows of strips of a JPEG."""
        if len(self._scans) == 1:
            return self._rows
        return max(1, scan.header.height // self._strip_height)

    def parts(self) -> Iterator[StoredPart]:
        """Give the strips, row by row; of a JPEG without restart markers the whole."""
        first = self._scans[0][0]
        if isinstance(first, WholeScan):
            where = (FileRange(first.number, first.offset, first.size),)
            yield StoredPart(PartKind.IMAGE, where, 0, 0, self.width, self.height)
            return
        wide, high = self._strip_width, self._strip_height
        for row in range(self._rows):
            for column in range(self._columns):
                scan, index, _ = self._at(row, column)
                offset, size = scan.extent(index)
                ranges = (FileRange(scan.number, offset, size),)
                yield StoredPart(PartKind.INTERVAL, ranges, column * wide, row * high, wide, high, scan.header.data)


class _Closes(Protocol):
    """Something to be closed."""

    def close(self) -> None:
        """Release it."""


class StripStore:
    """The levels of a slide whose reader shrinks some levels while it decodes others.

    Parameters
    ----------
    files : tuple of Path
        The slide's.
    handles : sequence
        What `close` closes.
    notes : tuple of str
        For the report.
    """

    def __init__(self, files: tuple[Path, ...], handles: Sequence[_Closes], notes: tuple[str, ...] = ()) -> None:
        self.files, self.notes, self._handles = files, notes, handles
        self.shown: tuple[int, ...] = ()
        """The reader's level behind each level of the archive."""
        self.levels: Mapping[int, StoredLevel] = {}

    def fill(self, dimensions: Sequence[tuple[int, int]], stored: Mapping[int, Callable[[], StripLevel]]) -> None:
        """Choose the archive's levels and prepare those that are in the files.

        Parameters
        ----------
        dimensions : sequence of (int, int)
            Width and height of all of the reader's levels.
        stored : mapping of int to callable
            By the reader's level, what prepares it or raises ValueError.
        """
        self.shown = in_file(dimensions, frozenset(stored))
        levels: dict[int, StoredLevel] = {}
        for number, shown in enumerate(self.shown):
            try:
                if shown in stored:
                    levels[number] = stored[shown]()
            except ValueError as error:
                self.notes = (*self.notes, f"level {number}: its JPEG data is not kept: {error}")
            except BaseException:
                self.close()
                raise
        self.levels = levels

    def close(self) -> None:
        """Release the files."""
        for handle in self._handles:
            handle.close()
