"""DICOM whole slides: each file of the series (instance) is a level, its frames are JPEG or JPEG 2000 codestreams.

A frame lies in one fragment or in several, each an item of the element Pixel Data (PS3.5 annex A.4)::

    Pixel Data | item: Basic Offset Table | item: fragment | item: fragment | ... | end of the sequence

Where frames begin is told by the Extended Offset Table, else by the Basic Offset Table, else by the fragments: as many
as there are frames, or each frame from a start marker on. No table is believed before an item stands where it points.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources import Coding, SourceTile, TileGrid
from dlpr_wsi.sources.dicom import slide_series
from dlpr_wsi.stored import FileRange, PartKind, StoredLevel, StoredPart
from dlpr_wsi.stored.container import SlideFile

__all__ = ["DamagedTableError", "DicomLevel", "DicomStore"]

_CODINGS = {
    "1.2.840.10008.1.2.4.50": Coding.JPEG,
    "1.2.840.10008.1.2.4.90": Coding.JPEG2000,
    "1.2.840.10008.1.2.4.91": Coding.JPEG2000,
}
_START = {Coding.JPEG: b"\xff\xd8", Coding.JPEG2000: b"\xff\x4f"}
_PIXEL_DATA, _ITEM, _END = b"\xe0\x7f\x10\0", b"\xfe\xff\0\xe0", b"\xfe\xff\xdd\xe0"
_UNDEFINED = 0xFFFFFFFF
_SPARSE = "PerFrameFunctionalGroupsSequence"
_TAGS = [
    "DimensionOrganizationType",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixColumns",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
]


class DamagedTableError(SourceError):
    """A table of offsets on which OpenSlide's library for DICOM ends the process (libdicom 1.2)."""


class DicomStore:
    """Finds the instance of each level by its size.

    Parameters
    ----------
    slide : SlideFile
        The slide; its path is a file of the series.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        The series cannot be read, or OpenSlide would crash on it.
    OSError
        A file cannot be read.
    """

    def __init__(self, slide: SlideFile) -> None:
        series = slide_series(slide.path)
        instances = sorted(series.instances, key=lambda one: (one.path != slide.path, one.path))
        self.files: tuple[Path, ...] = tuple(one.path for one in instances)
        notes: list[str] = []
        levels: dict[int, StoredLevel] = {}
        with ExitStack() as stack:
            for number, instance in enumerate(instances):
                size = (instance.width, instance.height)
                level = next((level for level, said in enumerate(slide.dimensions) if tuple(said) == size), None)
                if level is None or level in levels or not instance.is_level:
                    continue
                file = stack.enter_context(instance.path.open("rb"))
                try:
                    header = _header(file)
                    if str(header.file_meta.TransferSyntaxUID) in _CODINGS:
                        levels[level] = DicomLevel(file, number, header)
                except DamagedTableError as error:
                    raise SourceError(f"{instance.path}: {error}") from error
                except Exception as error:  # pydicom raises many kinds for damaged files
                    why = str(error) if isinstance(error, SourceError) else f"damaged ({type(error).__name__})"
                    notes.append(f"level {level}: its frames cannot be found in the file, {why}; coded as pixels")
            self._open = stack.pop_all()
        self.levels: Mapping[int, StoredLevel] = levels
        self.notes = tuple(notes)

    def close(self) -> None:
        """Release the files."""
        self._open.close()


class DicomLevel:
    """The frames of one instance.

    Parameters
    ----------
    file : file object
        Open for reading, behind its header; the store closes it.
    number : int
        Its place among the store's files.
    header : pydicom.Dataset
        Its header.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        Where its frames begin cannot be told.
    """

    def __init__(self, file: BinaryIO, number: int, header: Any) -> None:
        self._file, self._number = file, number
        self.coding = _CODINGS[str(header.file_meta.TransferSyntaxUID)]
        self._ycbcr = str(header.get("PhotometricInterpretation", "")).startswith("YBR")
        self._tile_width, self._tile_height = int(header.Columns), int(header.Rows)
        width, height = int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows)
        if min(self._tile_width, self._tile_height, width, height) < 1:
            raise SourceError("its size is 0")
        self.columns, self.rows = -(-width // self._tile_width), -(-height // self._tile_height)
        count = int(header.get("NumberOfFrames", 1) or 1)
        self._size = file.seek(0, 2)
        self._frames = self._positions(header, count)
        """By row and column, the number of the frame."""
        self._first, table = self._table(header.pixel_data_at)
        self._begins = self._find(header, table, count)
        """Where the first fragment of each frame begins, with its item's head; the last is where all end, or 0."""

    def grid(self) -> TileGrid:
        """Return where the frames are."""
        return TileGrid(self._tile_width, self._tile_height, self.rows, self.columns)

    def tile(self, row: int, column: int) -> SourceTile | None:
        """Return a frame as stored; None where the file has none there."""
        number = self._frames.get((row, column))
        if number is None:
            return None
        data = b"".join(self._read(one.offset, one.size) for one in self._ranges(number))
        return SourceTile(data, None, self._ycbcr, self.coding) if data else None

    def parts(self) -> Iterator[StoredPart]:
        """Give the frames row by row, as `dlpr_wsi.stored.StoredLevel` says."""
        for row, column in sorted(self._frames):
            ranges = self._ranges(self._frames[row, column])
            x, y = column * self._tile_width, row * self._tile_height
            yield StoredPart(PartKind.IMAGE, ranges, x, y, self._tile_width, self._tile_height)

    def _read(self, offset: int, size: int) -> bytes:
        """Return bytes of the file; all of them or an error."""
        if size > self._size:
            raise SourceError("a fragment is larger than the file")
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise SourceError("the file ends inside a frame")
        return data

    def _item(self, offset: int) -> int | None:
        """Return the size of the fragment whose item begins here; None at the end of the sequence."""
        head = self._read(offset, 8)
        size = int.from_bytes(head[4:], "little")
        if head[:4] == _END:
            return None
        if head[:4] != _ITEM or size > self._size - offset - 8:
            raise SourceError("its pixel data are no sequence of fragments")
        return size

    def _ranges(self, number: int) -> tuple[FileRange, ...]:
        """Return where a frame's fragments lie, without their heads."""
        at, end = int(self._begins[number]), int(self._begins[number + 1])
        found = []
        while not end or at < end:
            size = self._item(at)
            if size is None:
                break
            found.append(FileRange(self._number, at + 8, size))
            at += 8 + size
        if end and at != end:
            raise SourceError("a frame does not end where the next one begins")
        return tuple(found)

    def _positions(self, header: Any, count: int) -> dict[tuple[int, int], int]:
        """Return the number of the frame of each row and column."""
        groups = header.get(_SPARSE)
        if not groups or header.get("DimensionOrganizationType") == "TILED_FULL":
            return {divmod(number, self.columns): number for number in range(min(count, self.rows * self.columns))}
        found: dict[tuple[int, int], int] = {}
        for number, group in enumerate(groups[:count]):
            place = group.PlanePositionSlideSequence[0]
            x = int(place.ColumnPositionInTotalImagePixelMatrix) - 1
            y = int(place.RowPositionInTotalImagePixelMatrix) - 1
            where = (y // self._tile_height, x // self._tile_width)
            if x % self._tile_width or y % self._tile_height or where in found:
                raise SourceError("they do not lie on one grid of tiles")
            if 0 <= where[0] < self.rows and 0 <= where[1] < self.columns:
                found[where] = number
        return found

    def _table(self, at: int) -> tuple[int, bytes]:
        """Return where the first fragment's item begins, and the Basic Offset Table."""
        head = self._read(at, 12)
        if head[:4] != _PIXEL_DATA or head[4:6] != b"OB" or int.from_bytes(head[8:], "little") != _UNDEFINED:
            raise SourceError("its pixel data are not encapsulated")
        size = self._item(at + 12)
        if size is None:
            raise SourceError("its pixel data are empty")
        return at + 20 + size, self._read(at + 20, size)

    def _find(self, header: Any, table: bytes, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return where each frame begins, and where the last one ends or 0."""
        for found, width in ((header.get("ExtendedOffsetTable"), 8), (table, 4)):
            if not found or len(found) != width * count:
                continue
            begins = np.frombuffer(found, f"<u{width}")
            if (begins >= self._size).any() or (np.diff(begins.astype(np.int64)) <= 0).any():
                raise DamagedTableError("its table of offsets of frames is damaged: they do not ascend")
            if self._agrees(begins.astype(np.int64)):
                return np.append(begins.astype(np.int64) + self._first, 0)
        return self._walk(count)

    def _agrees(self, begins: np.ndarray[Any, np.dtype[np.int64]]) -> bool:
        """Tell whether a table can be right: at its beginning, middle and end stand items."""
        try:
            return begins[0] == 0 and all(
                self._item(int(begins[i]) + self._first) is not None for i in (0, len(begins) // 2, -1)
            )
        except SourceError:
            return False

    def _walk(self, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Go from fragment to fragment; frames begin with a start marker where there are more fragments than frames."""
        at, fragments, starts = self._first, [], []
        while (size := self._item(at)) is not None:
            fragments.append(at)
            if size >= 2 and self._file.read(2) == _START[self.coding]:
                starts.append(at)
            at += 8 + size
        for begins in (fragments, starts):
            if len(begins) == count and begins[:1] == fragments[:1]:
                return np.array([*begins, at], np.int64)
        raise SourceError(f"{len(fragments)} fragments for {count} frames, and no table that tells where they begin")


def _header(file: BinaryIO) -> Any:
    """Read a header, with the positions of frames that have some, and note where the pixels begin."""
    from pydicom import dcmread
    from pydicom.config import disable_value_validation

    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        header = dcmread(file, stop_before_pixels=True, specific_tags=_wanted(_TAGS))
        at = file.tell()
        if header.get("DimensionOrganizationType") != "TILED_FULL":
            file.seek(0)
            header = dcmread(file, stop_before_pixels=True, specific_tags=_wanted([*_TAGS, _SPARSE]))
    header.pixel_data_at = at
    return header


def _wanted(names: Sequence[str]) -> list[Any]:
    """Return tags by their keywords."""
    from pydicom.datadict import tag_for_keyword

    return [tag for tag in map(tag_for_keyword, names) if tag is not None]
