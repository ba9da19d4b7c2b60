"""A level made of JPEG tiles that lie where the scanner put them: SCN's areas, BIF's overlaps, MIRAX's photographs.

::

    places: x, y in the level <- part of a tile         chunk --which places it meets--> its tile, a window of it, or
    grid of chunks: as many of them as can be                    the pieces of several

A chunk that meets tiles of one block grid is kept, wherever it begins; where block grids differ, chunks inside one tile
(or one photograph) are kept, and the size of chunks is chosen so that these are many.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.sources import SourceTile, TileGrid, TilePiece
from dlpr_wsi.stored import StoredPart

__all__ = ["Place", "PlacedLevel", "chunk_size", "one_grid", "tiles_as_chunks"]

_CACHE_BYTES = 1 << 26
_LEAST, _MOST = 64, 1024
"""px; sides that chunks may have."""
_MOST_SIDE, _MOST_MEETINGS = 65535, 1 << 25
_UNIT = 16
_WIDE = 512
"""px; about the side of chunks that cut tiles wherever they begin."""
_SAMPLE = 1024
"""Pieces that are looked at."""
_EDGE = 4
"""px along the edges of a chunk that cost twice, as their blocks are cut."""


@dataclass(frozen=True)
class Place:
    """Where a part of a tile is seen in a level.

    Parameters
    ----------
    x, y : int
        Of the part's top left px in the level.
    width, height : int
        Of the part in px.
    left, top : int
        Where the part begins in the tile, px.
    key : int
        Names the tile.
    """

    x: int
    y: int
    width: int
    height: int
    left: int
    top: int
    key: int


class PlacedLevel:
    """The tiles of a level.

    Parameters
    ----------
    places : sequence of Place
        Those that hide others last.
    width, height : int
        Of the level in px.
    chunk : tuple of int
        Width and height of a chunk, see `chunk_size`.
    tile : tuple of int
        Width and height of a tile in px.
    read : callable
        Returns the tile of a key; None where the file has none.
    parts : callable
        As `StoredLevel.parts`.
    background : tuple of int
        RGB where no tile is.
    """

    def __init__(
        self,
        places: Sequence[Place],
        width: int,
        height: int,
        *,
        chunk: tuple[int, int],
        tile: tuple[int, int],
        read: Callable[[int], SourceTile | None],
        parts: Callable[[], Iterator[StoredPart]],
        background: tuple[int, int, int] = (255, 255, 255),
    ) -> None:
        self._places, self._read, self.parts = places, read, parts
        self.width, self.height = width, height
        self._chunk, self._tile_size, self._background = chunk, tile, background
        self._bins: dict[tuple[int, int], list[int]] | None = None
        self._cache: OrderedDict[int, SourceTile | None] = OrderedDict()
        self._cached = 0

    def grid(self) -> TileGrid:
        """Return the chunks."""
        wide, high = self._chunk
        return TileGrid(wide, high, -(-self.height // high), -(-self.width // wide))

    def tile(self, row: int, column: int) -> SourceTile | None:
        """Return what lies behind a chunk: a tile, or the pieces of several."""
        wide, high = self._chunk
        y, x = row * high, column * wide
        pieces, size = [], 0
        for index in self._binned.get((row, column), ()):
            place = self._places[index]
            tile = self._tile(place.key)
            if tile is None:
                continue
            at = (place.y - place.top - y, place.x - place.left - x)
            pieces.append(TilePiece(tile, at, (place.top, place.left, place.height, place.width)))
            inside = (min(place.x + place.width, x + wide) - max(place.x, x)) * (
                min(place.y + place.height, y + high) - max(place.y, y)
            )
            size += max(1, tile.bytes * inside // (self._tile_size[0] * self._tile_size[1]))
        if not pieces:
            return None
        only = pieces[-1]
        needed = (min(high, self.height - y), min(wide, self.width - x))
        if all(
            begin <= -start and -start + length <= begin + extent
            for begin, extent, start, length in zip(only.shown[:2], only.shown[2:], only.at, needed, strict=True)
        ):  # one tile has all of the chunk
            top, left = only.at
            tile = only.tile
            return SourceTile(tile.data, tile.tables, tile.ycbcr, tile.coding, (-top, -left), True, size)
        first = pieces[0].tile
        return SourceTile(b"", None, first.ycbcr, size=size, pieces=tuple(pieces), background=self._background)

    @property
    def _binned(self) -> dict[tuple[int, int], list[int]]:
        """By chunk, the places that it meets."""
        if self._bins is None:
            bins: dict[tuple[int, int], list[int]] = defaultdict(list)
            wide, high = self._chunk
            met = 0
            for index, place in enumerate(self._places):
                right, bottom = min(place.x + place.width, self.width), min(place.y + place.height, self.height)
                rows = range(max(place.y, 0) // high, -(-bottom // high))
                columns = range(max(place.x, 0) // wide, -(-right // wide))
                met += len(rows) * len(columns)
                if met > _MOST_MEETINGS:
                    raise ValueError("tiles that lie over each other all too often")
                for row in rows:
                    for column in columns:
                        bins[row, column].append(index)
            self._bins = dict(bins)
        return self._bins

    def _tile(self, key: int) -> SourceTile | None:
        """Read a tile; those used last are kept, so that neighbouring chunks share one object."""
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        tile = self._read(key)
        self._cache[key] = tile
        self._cached += 0 if tile is None else len(tile.data)
        while self._cached > _CACHE_BYTES and len(self._cache) > 1:
            _, old = self._cache.popitem(last=False)
            self._cached -= 0 if old is None else len(old.data)
        return tile


def one_grid(places: Sequence[Place]) -> bool:
    """Tell whether all tiles have their MCUs on one grid."""
    corners = _corners(places)
    return not (corners % _UNIT - corners[:1] % _UNIT).any()


def tiles_as_chunks(places: Sequence[Place], tile: tuple[int, int]) -> tuple[int, int]:
    """Return the size of chunks of a level whose tiles lie edge to edge in areas of one block grid each.

    Where all tiles begin at multiples of their size from x = y = 0, a chunk is a tile, or a part of a very large one.
    Else chunks cut tiles, and blocks at their edges are coded twice: they are larger then, if the areas' grids are one.

    Examples
    --------
    >>> tiles_as_chunks([Place(256 * i, 0, 256, 256, 0, 0, i) for i in range(3)], (256, 256))
    (256, 256)
    >>> tiles_as_chunks([Place(256 * i + 5, 9, 256, 256, 0, 0, i) for i in range(3)], (256, 256))
    (512, 512)
    """
    across, down = (_parted(side) for side in tile)
    if not (_corners(places) % np.array(tile)).any() or not one_grid(places):
        return across, down
    return across * max(1, _WIDE // across), down * max(1, _WIDE // down)


def _corners(places: Sequence[Place]) -> NDArray[np.int64]:
    """Return x and y of the top left px of each place's tile."""
    return np.array([(place.x - place.left, place.y - place.top) for place in places], np.int64).reshape(-1, 2)


def chunk_size(
    pieces: NDArray[np.int64], tile: tuple[int, int], pitch: tuple[float, float] | None = None
) -> tuple[int, int]:
    """Choose the size of chunks where pieces with block grids of their own lie side by side.

    Most of the level shall lie in chunks within one piece; of sizes that keep nearly as much, the larger.

    Parameters
    ----------
    pieces : ndarray of int64, (n, 4)
        x, y, width and height of the parts of the level that have one block grid: photographs or tiles.
    tile : tuple of int
        Width and height of a tile in px.
    pitch : tuple of float, optional
        From one tile to the next in px, where they overlap.

    Examples
    --------
    >>> tiles = np.array([[5 + 240 * i, 9 + 240 * j, 240, 240] for i in range(20) for j in range(20)])
    >>> chunk_size(tiles - [5, 9, 0, 0], (256, 256), (240, 240))
    (240, 240)
    >>> chunk_size(tiles, (256, 256), (240, 240))
    (64, 64)
    """
    sizes = {tile}
    for base in (tile, pitch or tile):
        if all(float(side).is_integer() for side in base):
            sizes |= {(int(base[0]) // n, int(base[1]) // n) for n in (1, 2, 3, 4)}
    sizes |= {(side, side) for side in (512, 256, 128, 64) if side <= max(tile)}
    least = max(_LEAST, max(tile) // 8)
    whole = {tile, pitch}  # may be small: they cut nothing
    fitting = [s for s in sizes if min(s) >= (_LEAST // 2 if s in whole else least) and max(s) <= _MOST]
    if not fitting or not len(pieces):
        return (_parted(tile[0]), _parted(tile[1]))
    seen = _seen(pieces)
    return max(sorted(fitting, reverse=True), key=lambda size: _worth(seen, size))


def _seen(pieces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut pieces to what their neighbours leave of them: of two that overlap the lower right one is seen."""
    sample = pieces[np.lexsort((pieces[:, 0], pieces[:, 1]))][:_SAMPLE].copy()
    x, y, width, height = sample.T
    ahead_x, ahead_y = x[None] - x[:, None], y[None] - y[:, None]
    beside = (np.abs(ahead_y) < height[:, None] // 2) & (ahead_x > width[:, None] // 2)
    below = (np.abs(ahead_x) < width[:, None] // 2) & (ahead_y > height[:, None] // 2)
    sample[:, 2] = np.minimum(width, np.where(beside, ahead_x, width[:, None]).min(axis=1))
    sample[:, 3] = np.minimum(height, np.where(below, ahead_y, height[:, None]).min(axis=1))
    return sample


def _parted(side: int) -> int:
    """Return a side of a tile, or the largest whole part of it that a chunk may have."""
    if side > _MOST_SIDE:
        raise ValueError("tiles larger than a JPEG can be")
    return next((side // n for n in range(-(-side // _MOST), side // _LEAST + 1) if side % n == 0), side)


def _worth(pieces: NDArray[np.int64], size: tuple[int, int]) -> float:
    """Return the share of pieces' px that whole chunks hold, less what the edges of chunks cost."""
    wide, high = size
    x, y, width, height = pieces.T
    across = (x + width) // wide - -(-x // wide)
    down = (y + height) // high - -(-y // high)
    kept = float((np.maximum(across, 0) * np.maximum(down, 0)).sum()) * wide * high
    whole = float((width * height).sum())
    uneven = 0.002 if wide % _UNIT or high % _UNIT else 0.0  # which a TIFF archive cannot hold
    return kept / max(whole, 1) - _EDGE * (1 / wide + 1 / high) - uneven
