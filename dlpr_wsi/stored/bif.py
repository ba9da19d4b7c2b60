"""Ventana BIF: the tiles of a level's page, and where OpenSlide lays them.

Tiles of an area overlap. OpenSlide takes one advance for all, the mean of what the joints between tiles say, weighted
by their confidence, and draws the lower right one over its neighbours; a tile of a lower level is cut into the parts
that belong to tiles of level 0. A part whose place is no whole px is drawn between px: it cannot be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np

from dlpr_wsi.sources import SourceTile
from dlpr_wsi.sources.ome_xml import MAX_XML
from dlpr_wsi.sources.photometric import CannotReadError
from dlpr_wsi.stored import StoredLevel, StoredPart
from dlpr_wsi.stored.container import TiffSlide
from dlpr_wsi.stored.placed import Place, PlacedLevel, chunk_size, one_grid, tiles_as_chunks
from dlpr_wsi.stored.tiff import StoredTiles

__all__ = ["BifStore", "is_bif"]

_XML = 700
_MOST_TILES = 1 << 22
_WHOLE = 1e-6


@dataclass(frozen=True)
class _Area:
    """Tiles that were scanned together: where in the table, how many, and where in px of level 0."""

    column: int
    row: int
    columns: int
    rows: int
    x: int
    y: int


@dataclass(frozen=True)
class _Stitching:
    """What the XML of level 0 comes to."""

    areas: tuple[_Area, ...]
    advance: tuple[float, float]


def is_bif(pages: Sequence[Any]) -> bool:
    """Tell whether level 0 says how its tiles are stitched; without that its tiles lie edge to edge."""
    return any(_level_of(page) == 0 and page.tags.get(_XML) is not None for page in pages)


class BifStore:
    """The tiles of a slide.

    Parameters
    ----------
    slide : TiffSlide
        The file; `close` closes it.

    Raises
    ------
    ValueError
        Its description is of another kind than OpenSlide reads.
    """

    def __init__(self, slide: TiffSlide) -> None:
        self.files, self._tiff = (slide.path,), slide.tiff
        pages, dimensions = slide.pages, slide.dimensions
        named = sorted((level, page) for page in pages if (level := _level_of(page)) is not None)
        described = [page for _, page in named]
        if len(described) != len(dimensions):
            raise ValueError("another number of levels than OpenSlide finds")
        first = described[0]
        stitching = _stitching(first.tags[_XML].value, (int(first.tilewidth), int(first.tilelength)))
        levels: dict[int, StoredLevel] = {}
        notes = []
        power = _magnification(first)
        for number, (page, size) in enumerate(zip(described, dimensions, strict=True)):
            try:
                levels[number] = _Level(page, stitching, power / _magnification(page), size).level
            except CannotReadError as error:
                notes.append(f"level {number}: its tiles are not kept: {error}")
        self.levels: Mapping[int, StoredLevel] = levels
        self.notes = tuple(notes)

    def close(self) -> None:
        """Release the file."""
        self._tiff.close()


class _Level:
    """Builds the level of a page."""

    def __init__(self, page: Any, stitching: _Stitching, downsample: float, size: tuple[int, int]) -> None:
        if not StoredTiles.fits(page):
            raise CannotReadError("a page without tiles of 8-bit colour")
        self._tiles = StoredTiles(page)
        if not self._tiles.is_jpeg:
            raise CannotReadError("tiles that are no JPEG of three components")
        self._cuts = int(downsample)  # parts of a tile, along a side
        part = (self._tiles.tile_width / downsample, self._tiles.tile_height / downsample)
        if self._cuts != downsample or not all(side.is_integer() for side in part):
            raise CannotReadError("tiles of level 0 that are no whole px of it")
        wide, high = int(part[0]), int(part[1])
        places, between = [], 0
        for (row, column), (x, y) in sorted(_laid(stitching, downsample).items()):
            if abs(x - round(x)) > _WHOLE or abs(y - round(y)) > _WHOLE:
                between += 1
                continue
            key = row // self._cuts * self._tiles.columns + column // self._cuts
            left, top = column % self._cuts * wide, row % self._cuts * high
            if row // self._cuts < self._tiles.rows and column // self._cuts < self._tiles.columns:
                places.append(Place(round(x), round(y), wide, high, left, top, key))
        if between > len(places):
            raise CannotReadError(
                "its tiles overlap by parts of a px on average, and OpenSlide draws them between its px"
            )
        advance = (stitching.advance[0] / downsample, stitching.advance[1] / downsample)
        self.level = PlacedLevel(
            places,
            *size,
            chunk=self._chunk(places, advance, (wide, high)),
            tile=(self._tiles.tile_width, self._tiles.tile_height),
            read=self._read,
            parts=self._parts,
        )

    def _chunk(self, places: Sequence[Place], advance: tuple[float, float], part: tuple[int, int]) -> tuple[int, int]:
        """Choose chunks: the tiles' size where all have one block grid, else what holds most chunks in one tile."""
        tile = (self._tiles.tile_width, self._tiles.tile_height)
        if one_grid(places):
            return tiles_as_chunks(places, tile)
        pieces = np.array([(place.x, place.y, place.width, place.height) for place in places], np.int64)
        return chunk_size(pieces, part, advance)

    def _read(self, key: int) -> SourceTile | None:
        """Return a tile."""
        return self._tiles.tile(*divmod(key, self._tiles.columns))

    def _parts(self) -> Iterator[StoredPart]:
        """Give the tiles of the page, at their places in the table of tiles."""
        yield from self._tiles.parts()


def _laid(stitching: _Stitching, downsample: float) -> dict[tuple[int, int], tuple[float, float]]:
    """Return x and y of each tile of level 0 in px of a level, in OpenSlide's own sums; by row and column."""
    out = {}
    advance_x, advance_y = stitching.advance[0] / downsample, stitching.advance[1] / downsample
    for area in stitching.areas:
        offset_x = (area.x - area.column * stitching.advance[0]) / downsample
        offset_y = (area.y - area.row * stitching.advance[1]) / downsample
        for row in range(area.row, area.row + area.rows):
            for column in range(area.column, area.column + area.columns):
                out[row, column] = (column * advance_x + offset_x, row * advance_y + offset_y)
    return out


def _fields(page: Any) -> dict[str, str]:
    """Return the ``key=value`` words of a page's description."""
    text = page.description if isinstance(page.description, str) else ""
    if "level=" not in text:
        return {}
    return dict(word.split("=", 1) for word in text.split(" ") if "=" in word)


def _level_of(page: Any) -> int | None:
    """Return the number of the level that a page is; None for one that is none."""
    number = _fields(page).get("level", "")
    return int(number) if number.isascii() and number.isdigit() else None


def _magnification(page: Any) -> float:
    """Return a level's magnification."""
    found = float(_fields(page).get("mag", "nan"))
    if not 0 < found < 1e6:
        raise ValueError("a level without its magnification")
    return found


def _stitching(xml: Any, tile: tuple[int, int]) -> _Stitching:
    """Read the areas, and sum up what their joints say."""
    text = xml if isinstance(xml, str) else bytes(xml).rstrip(b"\0").decode("utf-8", "replace")
    if len(text) > MAX_XML or "<!DOCTYPE" in text:
        raise ValueError("a description that is not read")
    root = ElementTree.fromstring(text)
    infos, origins = root.findall("SlideStitchInfo/ImageInfo"), root.findall("AoiOrigin/*")
    if root.tag != "EncodeInfo" or not infos or len(infos) != len(origins):
        raise ValueError("areas without their places")
    areas, total = [], 0
    sums, weights = [0.0, 0.0], [0, 0]
    for info, origin in zip(infos, origins, strict=True):
        if not _int(info, "AOIScanned"):
            continue
        columns, rows = _int(info, "NumCols"), _int(info, "NumRows")
        total += columns * rows
        if columns < 1 or rows < 1 or total > _MOST_TILES or (_int(info, "Width"), _int(info, "Height")) != tile:
            raise ValueError("an area of other tiles than its page has")
        start = (_int(origin, "OriginX") // tile[0], _int(origin, "OriginY") // tile[1])
        place = (int(float(info.get("Pos-X", ""))), int(float(info.get("Pos-Y", ""))))
        areas.append(_Area(*start, columns, rows, *place))
        for joint in info.findall("TileJointInfo"):
            axis = {"RIGHT": 0, "UP": 1}[joint.get("Direction", "")]
            confidence = _int(joint, "Confidence")
            sums[axis] -= confidence * float(joint.get(("OverlapX", "OverlapY")[axis], ""))
            weights[axis] += confidence
    if not areas or not weights[0] or not weights[1]:
        raise ValueError("areas without joints")
    advance = (tile[0] + sums[0] / weights[0], tile[1] + sums[1] / weights[1])
    heights = [int((area.rows - 1) * advance[1] + tile[1]) for area in areas]
    top = max(0, *(area.y + height for area, height in zip(areas, heights, strict=True)))
    turned = tuple(
        _Area(area.column, area.row, area.columns, area.rows, area.x, top - area.y - height)
        for area, height in zip(areas, heights, strict=True)
    )
    return _Stitching(turned, advance)


def _int(element: ElementTree.Element, name: str) -> int:
    """Return an attribute as a number."""
    return int(element.get(name, ""))
