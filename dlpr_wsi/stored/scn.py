"""Leica SCN: the pages of each scanned area, and where OpenSlide lays them.

One file holds several images, each with its own pyramid; the XML of the first page says where they lie, in nm. Level by
level OpenSlide divides by the finest nm per px of all areas and cuts to whole px, so that tiles of an area have one
block grid, which begins anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from dlpr_wsi.sources import SourceTile
from dlpr_wsi.sources.ome_xml import MAX_XML
from dlpr_wsi.sources.photometric import CannotReadError
from dlpr_wsi.stored import StoredLevel, StoredPart
from dlpr_wsi.stored.container import TiffSlide
from dlpr_wsi.stored.placed import Place, PlacedLevel, tiles_as_chunks
from dlpr_wsi.stored.tiff import StoredTiles

__all__ = ["ScnStore", "TiledAreas"]

_NAMESPACES = (
    "{http://www.leica-microsystems.com/scn/2010/03/10}",
    "{http://www.leica-microsystems.com/scn/2010/10/01}",
)


@dataclass(frozen=True)
class _Dimension:
    """A level of an image: its directory and what a px of it is."""

    page: int
    width: int
    height: int
    nm: float


@dataclass(frozen=True)
class _Image:
    """An image of the collection that is part of the slide; places in nm."""

    x: int
    y: int
    dimensions: tuple[_Dimension, ...]


class TiledAreas:
    """Pages whose tiles lie edge to edge, each with its place in a level.

    Parameters
    ----------
    areas : sequence of (StoredTiles, int, int)
        Tiles of an area, x and y of its corner in px; those that hide others first.
    width, height : int
        Of the level in px.
    """

    def __init__(self, areas: Sequence[tuple[StoredTiles, int, int]], width: int, height: int) -> None:
        self._areas = areas
        self._keys: list[tuple[int, int, int]] = []
        places = []
        for number in range(len(areas) - 1, -1, -1):
            tiles, x, y = areas[number]
            for row in range(tiles.rows):
                for column in range(tiles.columns):
                    left, top = column * tiles.tile_width, row * tiles.tile_height
                    size = (min(tiles.tile_width, tiles.width - left), min(tiles.tile_height, tiles.height - top))
                    places.append(Place(x + left, y + top, *size, 0, 0, len(self._keys)))
                    self._keys.append((number, row, column))
        first = areas[0][0]
        self.level = PlacedLevel(
            places,
            width,
            height,
            chunk=tiles_as_chunks(places, (first.tile_width, first.tile_height)),
            tile=(first.tile_width, first.tile_height),
            read=self._read,
            parts=self._parts,
        )

    def _read(self, key: int) -> SourceTile | None:
        """Return a tile."""
        number, row, column = self._keys[key]
        return self._areas[number][0].tile(row, column)

    def _parts(self) -> Iterator[StoredPart]:
        """Give all tiles, area by area."""
        for tiles, x, y in self._areas:
            for part in tiles.parts():
                yield StoredPart(part.kind, part.ranges, part.x + x, part.y + y, part.width, part.height, part.shared)


class ScnStore:
    """The areas of a slide.

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
        size, images = _described(pages[0].description)
        if any(len(image.dimensions) != len(dimensions) for image in images):
            raise ValueError("images with different numbers of levels")
        levels: dict[int, StoredLevel] = {}
        notes = []
        for level, (width, height) in enumerate(dimensions):
            nm = min(image.dimensions[level].nm for image in images)
            if (math.ceil(size[0] / nm), math.ceil(size[1] / nm)) != (width, height):
                raise ValueError("a level of another size than its description gives")
            try:
                areas = [
                    (_tiles(pages, image.dimensions[level]), int(image.x / nm), int(image.y / nm)) for image in images
                ]
            except CannotReadError as error:
                notes.append(f"level {level}: its tiles are not kept: {error}")
                continue
            levels[level] = TiledAreas(areas, width, height).level
        self.levels: Mapping[int, StoredLevel] = levels
        self.notes = tuple(notes)

    def close(self) -> None:
        """Release the file."""
        self._tiff.close()


def _tiles(pages: Sequence[Any], dimension: _Dimension) -> StoredTiles:
    """Return the tiles of an area's level."""
    page = pages[dimension.page]
    if not StoredTiles.fits(page):
        raise CannotReadError("a page without tiles of 8-bit colour")
    tiles = StoredTiles(page)
    if not tiles.is_jpeg:
        raise CannotReadError("tiles that are no JPEG of three components")
    return tiles


def _described(text: str) -> tuple[tuple[int, int], list[_Image]]:
    """Return the slide's size in nm, and the images that are not the macro, as OpenSlide takes them."""
    if len(text) > MAX_XML or "<!DOCTYPE" in text:
        raise ValueError("a description that is not read")
    root = ElementTree.fromstring(text)
    prefix = next((name for name in _NAMESPACES if root.tag == f"{name}scn"), None)
    collection = None if prefix is None else root.find(f"{prefix}collection")
    if prefix is None or collection is None:
        raise ValueError("no collection in its description")
    size = (_int(collection, "sizeX"), _int(collection, "sizeY"))
    found = []
    for element in collection.findall(f"{prefix}image"):
        view = element.find(f"{prefix}view")
        path = f"{prefix}scanSettings/{prefix}illuminationSettings/{prefix}illuminationSource"
        if view is None or element.findtext(path) != "brightfield":
            continue
        across, x, y = _int(view, "sizeX"), _int(view, "offsetX"), _int(view, "offsetY")
        if (x, y) == (0, 0) and (across, _int(view, "sizeY")) == size:
            continue
        levels = []
        for dimension in element.findall(f"{prefix}pixels/{prefix}dimension"):
            if dimension.get("z", "0") == "0":
                width, height = _int(dimension, "sizeX"), _int(dimension, "sizeY")
                levels.append(_Dimension(_int(dimension, "ifd"), width, height, across / width))
        found.append(_Image(x, y, tuple(sorted(levels, key=lambda level: -level.width))))
    if not found:
        raise ValueError("no image in its description")
    return size, found


def _int(element: ElementTree.Element, name: str) -> int:
    """Return an attribute as a number."""
    return int(element.get(name, ""))
