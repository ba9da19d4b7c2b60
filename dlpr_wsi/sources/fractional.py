"""Levels whose downsample is no whole number, with OpenSlide's own pixels.

OpenSlide takes positions in px of level 0 and divides them by the downsample. Where the quotient is no whole number
the region begins between two pixels, and Cairo interpolates: neither the level's pixels nor any other reader's. But
samples have 8 bits: where a region begins less than 1/1024 px right of a pixel, its neighbours add less than a half to
any value (255/1024 for either direction), and the pixels come out exactly. Such positions are called anchors here. 0 is
one; and a region of up to 4096 px (the size of OpenSlide's own blocks, each of which rounds its position again) that
begins at an anchor is exact all over.

So a level of up to 4096 px is one exact region. A larger one is read from its stored tiles, if these are proven to
agree with OpenSlide: equal in windows and strips that begin at anchors, and alike, after the same interpolation, at
corners and in the middle. Where there is no proof the level is read in blocks from anchors; where anchors are too far
apart it is read in OpenSlide's own blocks from 0 on: that is what OpenSlide shows when it is asked for the whole level,
drawn between its pixels, and the source says so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.stored.tiff import StoredTiles

__all__ = ["BLOCK", "FractionalLevel", "anchors", "blocks", "own_blocks"]

BLOCK = 4096
_SLACK = 1 / 1024
_STRIP, _STRIP_LENGTH = 16, 2048  # px: the strips from 0 that are compared
_SAMPLES = 3  # anchors along a side where windows are compared
_WINDOW = 48
_KEPT = 2  # blocks in memory, 50 MB each at most

Region = Callable[[tuple[int, int], int, int], NDArray[np.uint8]]


def anchors(downsample: float, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions along a side that OpenSlide addresses exactly.

    Parameters
    ----------
    downsample : float
        Of the level.
    size : int
        Of the level along that side, px.

    Returns
    -------
    at, location : ndarray of int64
        Px of the level, and of level 0 to ask for.

    Examples
    --------
    >>> anchors(2.5, 7)[0].tolist()
    [0, 2, 4, 6]
    """
    at = np.arange(size, dtype=np.int64)
    location = np.ceil(at * downsample - 1e-6).astype(np.int64)
    off = location / downsample - at
    exact = (off >= -1e-7) & (off < _SLACK)
    return at[exact], location[exact]


def blocks(downsample: float, size: int) -> list[tuple[int, int, int]]:
    """Cover a side with blocks that begin at anchors, as far as there are any.

    Returns
    -------
    list of (int, int, int)
        Begin and size of a block in px of the level, and its location in level 0; they do not overlap, and what lies
        between two of them cannot be read exactly.
    """
    at, location = anchors(downsample, size)
    index, chosen = 0, [0]
    while at[index] + BLOCK < size:
        after = max(int(np.searchsorted(at, at[index] + BLOCK, side="right")) - 1, index + 1)
        if after == len(at):
            break
        index = after
        chosen.append(index)
    begins = [int(at[i]) for i in chosen]
    ends = [min(begin + BLOCK, after) for begin, after in pairwise([*begins, size])]
    return [(begin, end - begin, int(location[i])) for begin, end, i in zip(begins, ends, chosen, strict=True)]


def own_blocks(downsample: float, size: int) -> list[tuple[int, int, int]]:
    """Return the blocks along a side in which OpenSlide itself reads a level that is asked for as a whole.

    It truncates their positions in level 0 (`openslide_read_region`).

    Examples
    --------
    >>> own_blocks(4.0001, 5000)
    [(0, 4096, 0), (4096, 904, 16384)]
    """
    return [(begin, min(BLOCK, size - begin), int(begin * downsample)) for begin in range(0, size, BLOCK)]


class FractionalLevel:
    """One such level.

    Parameters
    ----------
    region : callable
        Reads through OpenSlide: (location in px of level 0), width, height -> (h, w, 3).
    downsample : float
        Of the level.
    width, height : int
        Of the level in px.
    tiles : StoredTiles or None
        Its stored tiles, where they are of a kind that can agree with OpenSlide.
    missing : frozenset of (int, int)
        Rows and columns of tiles that OpenSlide draws itself; these always come from it.
    background : tuple of int
        RGB of what was not scanned.

    Attributes
    ----------
    by_tiles : bool
        Whether its stored tiles stand in for OpenSlide.
    interpolated : bool
        Whether it is what OpenSlide draws between pixels, for want of anything exact.
    """

    def __init__(
        self,
        region: Region,
        downsample: float,
        width: int,
        height: int,
        tiles: StoredTiles | None,
        missing: frozenset[tuple[int, int]],
        background: tuple[int, int, int],
    ) -> None:
        self._region, self._downsample, self._background = region, downsample, background
        self._width, self._height, self._missing = width, height, missing
        self._columns, self._rows = blocks(downsample, width), blocks(downsample, height)
        self._kept: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self.by_tiles = max(width, height) > BLOCK and tiles is not None and self._proven(tiles)
        self._tiles = tiles if self.by_tiles else None
        reached = [sum(wide for _, wide, _ in side) for side in (self._columns, self._rows)]
        between = reached != [width, height]
        if between:
            self._columns, self._rows = own_blocks(downsample, width), own_blocks(downsample, height)
        self.interpolated = between and not self.by_tiles

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region of the level, (height, width, 3) RGB."""
        if self._tiles is None:
            out = np.empty((height, width, 3), np.uint8)
            out[:] = self._background
            self._fill(out, x, y)
            return out
        out = self._tiles.read(x, y, width, height, self._background)
        for row, column in self._drawn(self._tiles, x, y, width, height):
            top, left = row * self._tiles.tile_height, column * self._tiles.tile_width
            y0, y1 = max(y, top), min(y + height, top + self._tiles.tile_height)
            x0, x1 = max(x, left), min(x + width, left + self._tiles.tile_width)
            self._fill(out[y0 - y : y1 - y, x0 - x : x1 - x], x0, y0)
        return out

    def _fill(self, out: NDArray[np.uint8], x: int, y: int) -> None:
        """Fill a region with OpenSlide's pixels, block by block; what lies outside the level is left."""
        height, width = out.shape[:2]
        for row, (top, tall, _) in enumerate(self._rows):
            for column, (left, wide, _) in enumerate(self._columns):
                y0, y1 = max(y, top), min(y + height, top + tall)
                x0, x1 = max(x, left), min(x + width, left + wide)
                if y0 < y1 and x0 < x1:
                    block = self._block(row, column)
                    out[y0 - y : y1 - y, x0 - x : x1 - x] = block[y0 - top : y1 - top, x0 - left : x1 - left]

    def _block(self, row: int, column: int) -> NDArray[np.uint8]:
        """Read a block through OpenSlide, or take it from memory."""
        key = (row, column)
        if key not in self._kept:
            (_, tall, y), (_, wide, x) = self._rows[row], self._columns[column]
            self._kept[key] = self._region((x, y), wide, tall)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _drawn(self, tiles: StoredTiles, x: int, y: int, width: int, height: int) -> list[tuple[int, int]]:
        """Return the tiles of a region that OpenSlide draws itself."""
        if not self._missing:
            return []
        rows = range(max(y, 0) // tiles.tile_height, -(-min(y + height, self._height) // tiles.tile_height))
        columns = range(max(x, 0) // tiles.tile_width, -(-min(x + width, self._width) // tiles.tile_width))
        return [place for place in product(rows, columns) if place in self._missing]

    def _proven(self, tiles: StoredTiles) -> bool:
        """Compare with OpenSlide: windows at anchors and strips from 0 for equality, windows elsewhere for likeness."""
        x_at = _some(*anchors(self._downsample, self._width))
        y_at = _some(*anchors(self._downsample, self._height))
        regions = [(x, y, _WINDOW, _WINDOW) for x, y in product(x_at, y_at)]
        regions += [((0, 0), (0, 0), _STRIP_LENGTH, _STRIP), ((0, 0), (0, 0), _STRIP, _STRIP_LENGTH)]
        for (x, x0), (y, y0), wide, tall in regions:
            width, height = min(wide, self._width - x), min(tall, self._height - y)
            if self._drawn(tiles, x, y, width, height):
                continue
            found = tiles.read(x, y, width, height, self._background)
            if not np.array_equal(found, self._region((x0, y0), width, height)):
                return False
        return all(
            self._alike(tiles, max(x, 0), max(y, 0))
            for x in (0, self._width // 2, self._width - _WINDOW)
            for y in (0, self._height // 2, self._height - _WINDOW)
        )

    def _alike(self, tiles: StoredTiles, x: int, y: int) -> bool:
        """Compare a window at any position, interpolated as OpenSlide does it, but for seams between tiles."""
        wide, tall = min(_WINDOW, self._width - x), min(_WINDOW, self._height - y)
        if min(wide, tall) < 2 or self._drawn(tiles, x, y, wide, tall):
            return True
        location = tuple(int(np.ceil(at * self._downsample)) for at in (x, y))
        off_x, off_y = (place / self._downsample - at for place, at in zip(location, (x, y), strict=True))
        pixels = tiles.read(x, y, wide, tall, self._background).astype(np.float64)
        rows = pixels[:-1] * (1 - off_y) + pixels[1:] * off_y
        wanted = rows[:, :-1] * (1 - off_x) + rows[:, 1:] * off_x
        found = self._region((location[0], location[1]), wide - 1, tall - 1)
        return bool(np.mean(np.abs(found - wanted) <= 4) > 0.85)


def _some(at: NDArray[np.int64], location: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the first anchor, and some more up to the last one, each with its location."""
    chosen = np.unique(np.linspace(0, len(at) - 1, _SAMPLES).astype(int))
    return [(int(at[index]), int(location[index])) for index in chosen]
