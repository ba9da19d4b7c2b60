"""DeepZoom: the pyramid of levels by powers of two that OpenSeadragon and other viewers ask for.

The geometry is that of `openslide.deepzoom.DeepZoomGenerator`, without overlap and with tiles of the size of the
archive's chunks, so that a tile of level 0 is one chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from openslide import AbstractSlide
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image

from dlpr_wsi.errors import WsiError
from dlpr_wsi.viewer.pyramid import Sampling, best_level, sampling
from dlpr_wsi.viewer.stores import ChunkStore

__all__ = ["MAX_SOURCE_PIXELS", "DeepZoom", "DeepZoomTile", "NoSuchTileError", "TooLargeError"]

_TILE = 256  # px; where chunks are not square
MAX_SOURCE_PIXELS = 32 << 20  # of a level, to make one response: bounds memory and work


class NoSuchTileError(WsiError):
    """A level or tile that the image does not have."""


class TooLargeError(WsiError):
    """A response would need more pixels than the server reads for one."""


@dataclass(frozen=True)
class DeepZoomTile:
    """How to make a tile: sample a region of a level, then shrink it to ``width`` x ``height`` px."""

    level: int
    sampling: Sampling
    width: int
    height: int


class _Geometry:
    """What DeepZoomGenerator asks of a slide, except its pixels."""

    def __init__(self, store: ChunkStore) -> None:
        self._store = store
        self.level_dimensions = tuple((level.width, level.height) for level in store.levels)
        self.dimensions = self.level_dimensions[0]
        self.level_downsamples = tuple(level.downsample for level in store.levels)
        self.properties: Mapping[str, str] = {}

    def get_best_level_for_downsample(self, downsample: float) -> int:
        return best_level(self._store, downsample)


class DeepZoom:
    """The tiles of an image.

    Parameters
    ----------
    store : ChunkStore
        The image.
    """

    def __init__(self, store: ChunkStore) -> None:
        self._store = store
        grid = store.levels[0]
        self.tile = grid.tile_width if grid.tile_width == grid.tile_height else _TILE
        self._generator = DeepZoomGenerator(cast(AbstractSlide, _Geometry(store)), self.tile, overlap=0)
        self.levels: int = self._generator.level_count
        self.min_level = next(z for z in range(self.levels) if self._source_pixels(z) <= MAX_SOURCE_PIXELS)

    def _source_pixels(self, level: int) -> int:
        """Pixels that the first tile of a level is made from; no other needs more."""
        width, height = self._generator.get_tile_coordinates(level, (0, 0))[2]
        return int(width * height)

    def tile_at(self, level: int, column: int, row: int) -> DeepZoomTile:
        """Return how to make a tile.

        Raises
        ------
        NoSuchTileError
            The image has no such tile.
        TooLargeError
            It covers more than `MAX_SOURCE_PIXELS` px of the smallest level: the archive has no small levels.
        """
        if not 0 <= level < self.levels:
            raise NoSuchTileError(f"no level {level}: there are levels 0..{self.levels - 1}")
        columns, rows = self._generator.level_tiles[level]
        if not (0 <= column < columns and 0 <= row < rows):
            raise NoSuchTileError(f"no tile {column}_{row}: level {level} has {columns} x {rows} tiles")
        location, source, size = self._generator.get_tile_coordinates(level, (column, row))
        if size[0] * size[1] > MAX_SOURCE_PIXELS:
            raise TooLargeError(
                f"a tile of level {level} is made from {size[0]} x {size[1]} px, because the image has no smaller "
                f"level; the smallest that is served is level {self.min_level}"
            )
        width, height = self._generator.get_tile_dimensions(level, (column, row))
        return DeepZoomTile(source, sampling(self._store, source, location, size), width, height)

    def dzi(self, form: str) -> str:
        """Return the .dzi descriptor."""
        return str(self._generator.get_dzi(form))


def shrink(image: Image.Image, width: int, height: int) -> Image.Image:
    """Return an image no larger than a tile, by the filter that DeepZoomGenerator uses."""
    if image.size != (width, height):
        image.thumbnail((width, height), Image.Resampling.LANCZOS)
    return image
