"""3DHISTECH MIRAX: the JPEGs of its data files, and where OpenSlide lays them.

A photograph is cut into images, edge to edge; photographs lie where a table says, or at a fixed overlap. An image of a
level is made of 2 x 2 of the level below, so that from some level on it holds parts of several photographs, which
OpenSlide cuts out again and lays at their places. A part that does not lie at whole px is drawn between px and cannot
be kept, which is most of them on lower levels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.sources import SourceTile
from dlpr_wsi.sources.header import jpeg_header
from dlpr_wsi.stored import FileRange, PartKind, StoredLevel, StoredPart
from dlpr_wsi.stored.placed import Place, PlacedLevel, chunk_size, one_grid, tiles_as_chunks

__all__ = ["MiraxStore"]

_VERSION = b"01.02"
_MOST_INI, _MOST_INDEX, _MOST_IMAGES, _MOST_PARTS = 1 << 20, 1 << 28, 1 << 22, 1 << 25
_MOST_EXPONENT = 24
_POSITION = struct.Struct("<Bii")
_ZOOM, _PLACES, _STITCHING = "Slide zoom level", "VIMSLIDE_POSITION_BUFFER", "StitchingIntensityLayer"
_GENERAL, _HIERARCHY, _DATA = "GENERAL", "HIERARCHICAL", "DATAFILE"

Ini = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class _Image:
    """An image as the index names it."""

    column: int
    row: int
    offset: int
    size: int
    file: int


@dataclass(frozen=True)
class _Geometry:
    """What Slidedat.ini says about the whole slide; counts are of images of level 0."""

    across: int
    down: int
    divisions: int
    overlap: tuple[float, float]
    places: NDArray[np.int64] | None
    """x and y of each photograph, row by row; None where they lie edge to edge or at the overlap."""
    size: tuple[int, int]
    """Of an image of level 0 in px."""

    @property
    def columns(self) -> int:
        """Photographs in a row."""
        return self.across // self.divisions

    @property
    def cut(self) -> bool:
        """Whether images of several photographs are cut."""
        return self.places is not None or self.overlap != (0.0, 0.0)

    def place(self, column: int, row: int) -> tuple[int, int]:
        """Return x and y of an image in px of level 0."""
        photo_column, photo_row = column // self.divisions, row // self.divisions
        inside = (self.size[0] * (column % self.divisions), self.size[1] * (row % self.divisions))
        if self.places is not None:
            x, y = (int(value) for value in self.places[photo_row * self.columns + photo_column])
        else:
            x = int(photo_column * (self.size[0] * self.divisions - self.overlap[0]))
            y = int(photo_row * (self.size[1] * self.divisions - self.overlap[1]))
        return x + inside[0], y + inside[1]


class MiraxStore:
    """The images of a slide.

    Parameters
    ----------
    path : Path
        The slide, ``*.mrxs``; its folder lies beside it.
    dimensions : sequence of (int, int)
        Width and height of each level as OpenSlide gives them.
    background : tuple of int
        RGB where nothing was photographed.

    Raises
    ------
    ValueError
        The slide is of another kind than OpenSlide reads.
    OSError
        A file cannot be read.
    """

    def __init__(
        self,
        path: Path,
        dimensions: Sequence[tuple[int, int]],
        background: tuple[int, int, int] = (255, 255, 255),
    ) -> None:
        folder = path.with_suffix("")
        ini = _ini(folder / "Slidedat.ini")
        count = _int(ini, _DATA, "FILE_COUNT")
        data = tuple(folder / _name(_value(ini, _DATA, f"FILE_{n}")) for n in range(count))
        index = folder / _name(_value(ini, _HIERARCHY, "INDEXFILE"))
        self.files = (path, folder / "Slidedat.ini", index, *data)
        self._open: tuple[int, BinaryIO] | None = None
        number = _int(ini, _HIERARCHY, "HIER_0_COUNT")
        if _value(ini, _HIERARCHY, "HIER_0_NAME") != _ZOOM or number != len(dimensions):
            raise ValueError("another number of levels than OpenSlide finds")
        sections = [_value(ini, _HIERARCHY, f"HIER_0_VAL_{level}_SECTION") for level in range(number)]
        if index.stat().st_size > _MOST_INDEX:
            raise ValueError("an index that is too large to be read")
        reader = _Index(index.read_bytes(), _value(ini, _GENERAL, "SLIDE_ID"), data)
        geometry = _geometry(ini, sections[0], reader)
        levels: dict[int, StoredLevel] = {}
        notes = []
        active: set[tuple[int, int]] = set()
        exponent = 0
        for level, (section, size) in enumerate(zip(sections, dimensions, strict=True)):
            exponent += _int(ini, section, "IMAGE_CONCAT_FACTOR")
            if not 0 <= exponent <= _MOST_EXPONENT:
                raise ValueError("levels of an impossible size")
            images = reader.images(level, geometry.across)
            image_size = (_int(ini, section, "DIGITIZER_WIDTH"), _int(ini, section, "DIGITIZER_HEIGHT"))
            places, between = _laid(images, geometry, image_size, 1 << exponent, active, level)
            if _value(ini, section, "IMAGE_FORMAT") != "JPEG":
                notes.append(f"level {level}: its images are not kept: they are no JPEG")
                continue
            if between:
                share = round(100 * between / (between + len(places)))
                notes.append(
                    f"level {level}: {share} % of its images are not kept: "
                    "OpenSlide draws them between px, as their photographs do not lie at whole px"
                )
            if places:
                levels[level] = self._level(places, images, size, image_size, background)
        self.levels: Mapping[int, StoredLevel] = levels
        self.notes = tuple(notes)

    def _level(
        self,
        places: list[Place],
        images: Sequence[_Image],
        size: tuple[int, int],
        image_size: tuple[int, int],
        background: tuple[int, int, int],
    ) -> PlacedLevel:
        """Build a level."""
        chunk = tiles_as_chunks(places, image_size) if one_grid(places) else chunk_size(_runs(places), image_size)
        return PlacedLevel(
            places,
            *size,
            chunk=chunk,
            tile=image_size,
            read=lambda key: self._read(images[key]),
            parts=lambda: _parts(places, images, image_size),
            background=background,
        )

    def _read(self, image: _Image) -> SourceTile | None:
        """Read an image's JPEG."""
        number = 3 + image.file
        if self._open is None or self._open[0] != number:
            self._close_data()
            self._open = (number, self.files[number].open("rb"))
        file = self._open[1]
        file.seek(image.offset)
        if image.size > self.files[number].stat().st_size:
            raise ValueError("an image that is larger than its file")
        data = file.read(image.size)
        if len(data) != image.size:
            raise ValueError("a data file ends inside an image")
        said = jpeg_header(data)
        return SourceTile(data, None, said is None or said.ycbcr is not False) if data else None

    def _close_data(self) -> None:
        """Close the data file that was read last."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def close(self) -> None:
        """Release the files."""
        self._close_data()


def _laid(
    images: Sequence[_Image],
    geometry: _Geometry,
    size: tuple[int, int],
    step: int,
    active: set[tuple[int, int]],
    level: int,
) -> tuple[list[Place], int]:
    """Return the parts of a level's images that lie at whole px, those that hide others last; and how many do not.

    Level 0 adds the photographs that there are to ``active``; lower levels show no others.
    """
    divisions = geometry.divisions
    several = max(1, step // divisions)
    cuts = several if geometry.cut else 1
    divisor = min(step, divisions) if geometry.cut else step
    reach = 1 if geometry.cut else several
    wide, high = size[0] / cuts, size[1] / cuts
    cuts, reach = min(cuts, geometry.across), min(reach, geometry.across)
    found: dict[tuple[int, int], Place | None] = {}
    tried = 0
    for key, image in enumerate(images):
        if image.column % step or image.row % step:
            raise ValueError("an image that does not begin at a whole number of images")
        across = min(cuts, -(-(geometry.across - image.column) // divisions))
        down = min(cuts, -(-(geometry.down - image.row) // divisions))
        tried += across * down * reach * reach
        if tried > _MOST_PARTS:
            raise ValueError("more parts of images than a slide has")
        for v in range(down):
            for h in range(across):
                column, row = image.column + h * divisions, image.row + v * divisions
                photo = (row // divisions, column // divisions)
                if column >= geometry.across or row >= geometry.down or photo[1] >= geometry.columns:
                    continue
                x, y = geometry.place(column, row)
                if level == 0:
                    if geometry.places is not None and photo != (0, 0) and not _taken(geometry, photo):
                        continue
                    active.add(photo)
                elif not any((photo[0] + i, photo[1] + j) in active for i in range(reach) for j in range(reach)):
                    continue
                at = (image.row // divisor + v, image.column // divisor + h)
                if x % step or y % step or wide != int(wide) or high != int(high):
                    found[at] = None
                else:
                    found[at] = Place(x // step, y // step, int(wide), int(high), int(wide) * h, int(high) * v, key)
    places = [place for _, place in sorted(found.items(), key=lambda item: item[0]) if place is not None]
    return places, len(found) - len(places)


def _taken(geometry: _Geometry, photo: tuple[int, int]) -> bool:
    """Tell whether a photograph has a place; OpenSlide takes one at the very corner for none."""
    assert geometry.places is not None
    return bool(geometry.places[photo[0] * geometry.columns + photo[1]].any())


def _runs(places: Sequence[Place]) -> NDArray[np.int64]:
    """Join places that go on in the next one of their row at the same block grid."""
    rows: dict[tuple[int, int], list[Place]] = {}
    for place in places:
        rows.setdefault((place.y, place.height), []).append(place)
    bands: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (y, height), row in rows.items():
        row.sort(key=lambda place: place.x)
        start = row[0]
        for place, after in zip(row, [*row[1:], None], strict=True):
            if after is None or after.x != place.x + place.width or place.width % 16:
                bands.setdefault((start.x, place.x + place.width), []).append((y, height))
                start = after or place
    out = []
    for (left, right), parts in bands.items():
        parts.sort()
        top = parts[0][0]
        for (y, height), below in zip(parts, [*parts[1:], None], strict=True):
            if below is None or below[0] != y + height or height % 16:
                out.append((left, top, right - left, y + height - top))
                top = below[0] if below is not None else top
    return np.array(out, np.int64)


def _parts(places: Sequence[Place], images: Sequence[_Image], size: tuple[int, int]) -> Iterator[StoredPart]:
    """Give each image once, where its first part that is laid says that it lies."""
    seen = set()
    for place in places:
        if place.key not in seen:
            seen.add(place.key)
            image = images[place.key]
            where = (FileRange(3 + image.file, image.offset, image.size),)
            yield StoredPart(PartKind.IMAGE, where, place.x - place.left, place.y - place.top, *size)


class _Index:
    """Index.dat."""

    def __init__(self, data: bytes, name: str, files: Sequence[Path]) -> None:
        self._data, self._files = data, files
        self._root = len(_VERSION) + len(name.encode())
        if not data.startswith(_VERSION + name.encode()):
            raise ValueError("an index of another slide or version")

    def _ints(self, offset: int, count: int) -> tuple[int, ...]:
        """Read numbers."""
        if offset < 0 or count < 0 or offset + 4 * count > len(self._data):
            raise ValueError("an index that ends early")
        return struct.unpack_from(f"<{count}i", self._data, offset)

    def images(self, level: int, across: int) -> list[_Image]:
        """Return the images of a level."""
        (levels,) = self._ints(self._root, 1)
        (head,) = self._ints(levels + 4 * level, 1)
        zero, at = self._ints(head, 2)
        found: list[_Image] = []
        while zero == 0:
            count, following = self._ints(at, 2)
            numbers = self._ints(at + 8, 4 * count)
            for index, offset, size, file in zip(*(iter(numbers),) * 4, strict=True):
                if min(index, offset, size, file) < 0 or file >= len(self._files):
                    raise ValueError("an image at an impossible place")
                found.append(_Image(index % across, index // across, offset, size, file))
            if len(found) > _MOST_IMAGES:
                raise ValueError("too many images")
            if not following:
                return found
            at += 8 + 16 * count  # OpenSlide reads on, wherever the next page is said to be
        raise ValueError("an index of another layout")

    def record(self, number: int) -> bytes:
        """Return the content of a record that belongs to no level."""
        (records,) = self._ints(self._root + 4, 1)
        (head,) = self._ints(records + 4 * number, 1)
        _, at = self._ints(head, 2)
        _, _, _, _, offset, size, file = self._ints(at, 7)
        if min(offset, size) < 0 or not 0 <= file < len(self._files) or size > _POSITION.size * _MOST_IMAGES:
            raise ValueError("a record at an impossible place")
        with self._files[file].open("rb") as opened:
            opened.seek(offset)
            return opened.read(size)


def _geometry(ini: Ini, section: str, index: _Index) -> _Geometry:
    """Read what all levels share."""
    across, down = _int(ini, _GENERAL, "IMAGENUMBER_X"), _int(ini, _GENERAL, "IMAGENUMBER_Y")
    divisions = int(ini.get(_GENERAL, {}).get("CameraImageDivisionsPerSide", "1"))
    size = (_int(ini, section, "DIGITIZER_WIDTH"), _int(ini, section, "DIGITIZER_HEIGHT"))
    if min(across, down, divisions, *size) < 1 or across * down > _MOST_IMAGES:
        raise ValueError("an impossible number of images")
    overlap = (float(_value(ini, section, "OVERLAP_X")), float(_value(ini, section, "OVERLAP_Y")))
    scale = 1 << max(0, min(_int(ini, section, "IMAGE_CONCAT_FACTOR"), _MOST_EXPONENT))
    count = (across // divisions) * (down // divisions)
    places = None
    for name in (_PLACES, _STITCHING):
        number = _record_number(ini, name)
        if number is None:
            continue
        data = index.record(number)
        if name == _STITCHING:
            data = zlib.decompressobj().decompress(data, _POSITION.size * count)
        if len(data) != _POSITION.size * count:
            raise ValueError("a table of places of another size")
        places = np.array([place[1:] for place in _POSITION.iter_unpack(data)], np.int64).reshape(-1, 2) * scale
        break
    return _Geometry(across, down, divisions, overlap, places, size)


def _record_number(ini: Ini, name: str) -> int | None:
    """Return the number of the first record of a name; None where there is none."""
    number = 0
    for layer in range(_int(ini, _HIERARCHY, "NONHIER_COUNT")):
        if _value(ini, _HIERARCHY, f"NONHIER_{layer}_NAME") == name:
            return number
        number += _int(ini, _HIERARCHY, f"NONHIER_{layer}_COUNT")
    return None


def _ini(path: Path) -> Ini:
    """Read Slidedat.ini."""
    if path.stat().st_size > _MOST_INI:
        raise ValueError("a Slidedat.ini that is too large to be read")
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in path.read_text("utf-8-sig", "replace").splitlines():
        text = line.strip()
        if text.startswith("[") and text.endswith("]"):
            current = sections.setdefault(text[1:-1], {})
        elif "=" in text:
            key, _, value = text.partition("=")
            current[key.strip()] = value.strip()
    return sections


def _value(ini: Ini, section: str, key: str) -> str:
    """Return a value."""
    try:
        return ini[section][key]
    except KeyError:
        raise ValueError("Slidedat.ini lacks what OpenSlide reads") from None


def _int(ini: Ini, section: str, key: str) -> int:
    """Return a value as a number."""
    return int(_value(ini, section, key))


def _name(text: str) -> str:
    """Return a file's name, if it is one and no path."""
    if not text or Path(text).name != text or "\0" in text:
        raise ValueError("a file name that is none")
    return text
