"""DICOM whole slides: pydicom parses, Pillow decodes; or OpenSlide, where conversion itself reads through pydicom."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dlpr_wsi.second import NoSecond, Reading, SecondReader, Unjudged
from dlpr_wsi.second.segments import NAME, jpeg_samples, reversible
from dlpr_wsi.second.tiff import SegmentCache, assemble
from dlpr_wsi.sources import SlideFacts

__all__ = ["DicomReader"]

_MICROSCOPY = "1.2.840.10008.5.1.4.1.1.77.1.6"
_RAW = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
_JPEG = "1.2.840.10008.1.2.4.50"
_J2K = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_PHOTOMETRIC = {"RGB": 2, "YBR_FULL_422": 6, "YBR_FULL": 6, "MONOCHROME2": 1}
_MAX_FILES = 4096


def DicomReader(path: Path, facts: SlideFacts) -> SecondReader:  # noqa: N802 - stands for the class
    """Return OpenSlide's reader where conversion reads through pydicom, else pydicom's."""
    if "pydicom" in facts.reader:
        from dlpr_wsi.second.opened import OpenSlideReader

        files = _instances(path)
        return OpenSlideReader(max(files, key=lambda file: file.stat().st_size), facts)
    return _PydicomReader(path, facts)


def _instances(path: Path) -> list[Path]:
    """Return the DICOM files of a folder, or of the folder that a file is in."""
    folder = path if path.is_dir() else path.parent
    found = []
    for number, file in enumerate(sorted(folder.iterdir())):
        if number >= _MAX_FILES:
            raise NoSecond(f"a folder of more than {_MAX_FILES} files")
        if file.is_file():
            with file.open("rb") as handle:
                if handle.read(132)[128:] == b"DICM":
                    found.append(file)
    return found


class _PydicomReader:
    """Reads the instances that have the size of a level."""

    def __init__(self, path: Path, facts: SlideFacts) -> None:
        import pydicom

        self.name = f"pydicom {pydicom.__version__} with {NAME}"
        self._lock = threading.Lock()
        self._cache = SegmentCache()
        heads = [(file, pydicom.dcmread(file, stop_before_pixels=True)) for file in _instances(path)]
        heads = [(file, head) for file, head in heads if str(head.get("SOPClassUID", "")) == _MICROSCOPY]
        if path.is_file():
            series = {str(head.get("SeriesInstanceUID", "")) for file, head in heads if file == path}
            heads = [(file, head) for file, head in heads if str(head.get("SeriesInstanceUID", "")) in series]
        volumes = [
            (file, head)
            for file, head in heads
            if "VOLUME" in head.get("ImageType", ()) or "THUMBNAIL" in head.get("ImageType", ())
        ]
        self._levels: list[_Level | Unjudged] = []
        for level in facts.levels:
            size = (level.width, level.height)
            fitting = [
                (file, head)
                for file, head in volumes
                if (head.get("TotalPixelMatrixColumns"), head.get("TotalPixelMatrixRows")) == size
            ]
            if len(fitting) != 1:
                self._levels.append(
                    Unjudged("several instances of this size" if fitting else "no instance of this size")
                )
            else:
                self._levels.append(_level(*fitting[0]))
        if all(isinstance(level, Unjudged) for level in self._levels):
            raise NoSecond("; ".join(sorted({level.reason for level in self._levels if isinstance(level, Unjudged)})))

    def read(self, x: int, y: int, width: int, height: int, level: int) -> Reading | Unjudged:
        """Return a region of a level."""
        place = self._levels[level]
        if isinstance(place, Unjudged):
            return place
        return assemble(
            (x, y, width, height),
            place.tile,
            3,
            lambda row, column: self._cache.get((level, row, column), lambda: self._frame(place, row, column)),
        )

    def _frame(self, place: _Level, row: int, column: int) -> Reading | Unjudged:
        """Decode the frame at a place of the grid."""
        number = place.frames.get((row, column))
        if number is None:
            return Unjudged("no frame is stored there")
        across, down = place.tile
        with self._lock:
            data = place.data(number)
        tolerance = 0
        if place.syntax in _RAW:
            decoded = np.frombuffer(data, np.uint8, across * down * place.samples).reshape(down, across, place.samples)
        elif place.syntax == _JPEG:
            found = jpeg_samples(data, None, place.photometric, place.samples)
            if isinstance(found, Unjudged):
                return found
            decoded = found
        else:
            with Image.open(io.BytesIO(data)) as image:
                if image.mode not in ("L", "RGB") or image.size != place.tile:
                    return Unjudged("JPEG 2000 of a kind that Pillow does not decode")
                decoded = np.asarray(image).reshape(image.height, image.width, -1)
            tolerance = 0 if reversible(data) else 1
        return Reading(decoded.repeat(3, axis=-1) if decoded.shape[-1] == 1 else decoded, tolerance)

    def close(self) -> None:
        """Release the files."""
        for level in self._levels:
            if isinstance(level, _Level):
                level.close()


class _Level:
    """One instance: where its frames lie, and their bytes."""

    def __init__(self, file: Path) -> None:
        import pydicom

        self._file = file.open("rb")
        head: Any = pydicom.dcmread(self._file, stop_before_pixels=True)
        self.tile = (int(head.Columns), int(head.Rows))
        self.syntax = str(head.file_meta.TransferSyntaxUID)
        self.samples = int(head.SamplesPerPixel)
        self.photometric = _PHOTOMETRIC.get(str(head.PhotometricInterpretation), 2)
        self.frames = _positions(head)
        self._places = self._find(int(head.get("NumberOfFrames", 1) or 1))

    def _find(self, count: int) -> list[tuple[int, int]]:
        """Return offset and size of each frame; the file stands before its pixel data."""
        begin = self._file.tell()
        size = self.tile[0] * self.tile[1] * self.samples
        head = self._file.read(12)
        if head[:4] != b"\xe0\x7f\x10\0":
            raise NoSecond("pixel data that are not the last element")
        if self.syntax in _RAW:
            begin += 8 if self.syntax == _RAW[0] else 12
            return [(begin + number * size, size) for number in range(count)]
        begin += 12
        items: list[tuple[int, int]] = []
        while len(items) <= count:
            self._file.seek(begin)
            item = self._file.read(8)
            if item[:4] != b"\xfe\xff\0\xe0":
                break
            length = int.from_bytes(item[4:], "little")
            items.append((begin + 8, length))
            begin += 8 + length
        if len(items) != count + 1:  # the first one is the table of offsets
            raise NoSecond("frames in several fragments")
        return items[1:]

    def data(self, number: int) -> bytes:
        """Return a frame as stored."""
        offset, size = self._places[number]
        self._file.seek(offset)
        return self._file.read(size)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def _level(  # noqa: PLR0911 - a list of cases
    file: Path, head: Any
) -> _Level | Unjudged:
    """Return an instance as a level, or why it cannot be judged."""
    syntax = str(head.file_meta.TransferSyntaxUID)
    colours = str(head.PhotometricInterpretation)
    if head.BitsAllocated != 8 or int(head.SamplesPerPixel) not in (1, 3):
        return Unjudged("samples of other than 8 bits")
    if syntax not in (*_RAW, _JPEG, *_J2K):
        return Unjudged("a transfer syntax that is not decoded here")
    known = {"RGB", "MONOCHROME2"} | {_JPEG: {"YBR_FULL_422", "YBR_FULL"}}.get(syntax, set())
    if colours not in known | ({"YBR_ICT", "YBR_RCT"} if syntax in _J2K else set()):
        return Unjudged("colours of a kind that it does not know")
    if int(head.get("PlanarConfiguration", 0) or 0) != 0 and syntax in _RAW:
        return Unjudged("planes stored apart")
    if int(head.get("TotalPixelMatrixFocalPlanes", 1) or 1) != 1 or int(head.get("NumberOfOpticalPaths", 1) or 1) != 1:
        return Unjudged("several focal planes or optical paths")
    if head.get("ConcatenationUID") is not None:
        return Unjudged("a concatenation of instances")
    return _Level(file)


def _positions(head: Any) -> dict[tuple[int, int], int]:
    """Return the number of the frame at each row and column of the grid."""
    across, down = int(head.Columns), int(head.Rows)
    columns, rows = -(-int(head.TotalPixelMatrixColumns) // across), -(-int(head.TotalPixelMatrixRows) // down)
    count = int(head.get("NumberOfFrames", 1) or 1)
    found: dict[tuple[int, int], int] = {}
    if str(head.get("DimensionOrganizationType", "")) == "TILED_FULL" or "PerFrameFunctionalGroupsSequence" not in head:
        return {divmod(number, columns): number for number in range(min(count, rows * columns))}
    for number, group in enumerate(head.PerFrameFunctionalGroupsSequence):
        place = group.PlanePositionSlideSequence[0]
        x = int(place.ColumnPositionInTotalImagePixelMatrix) - 1
        y = int(place.RowPositionInTotalImagePixelMatrix) - 1
        if x % across or y % down or (y // down, x // across) in found:
            raise NoSecond("frames that overlap or lie on no grid")
        found[y // down, x // across] = number
    return found
