"""Where a codec's tiles begin in a crop, from one component alone (docs/decisions/0018).

With the right parity one pass of the 9/7 wavelet gives coefficients that stand on a comb, half a step from zero, but
for those whose taps cross a border between tiles: there the wavelet starts anew, and they stand anywhere. A border is
found by three neighbouring lines of such coefficients, and hardly anything else looks like it. Where an axis has none,
the comb at one parity alone tells that something is there, and `recover_phase` finds the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from dlpr._native import tile_grid
from dlpr.arrays import Bytes8

__all__ = ["FAR", "MARGIN", "Axis", "Grid", "Span", "axis_of", "find_grid"]

TILE = 256
"""Side of a tile of which only one border is seen. Tiles of 240 px, too, are whole at this depth."""
FAR = 1024
"""Distance of a tile's edge that is not seen; a multiple of what 64 coefficients are at the last depth."""
MARGIN = 64
"""Samples beside what is seen of a tile that still reach it with four decompositions, and some more."""
_LEAST_COMB = 0.28
"""Strength of a comb that is searched without borders; what was never coded so shows 0.1 to 0.25."""
_LEAST_CONTRAST = 0.14
"""What the other parities' weakest must show less."""


class Grid(NamedTuple):
    """Borders between tiles: rows and columns of the crop where a tile begins."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    phase: tuple[int, int]
    """Coordinate of the crop's first row and column: the parity, or more bits of it."""


class Span(NamedTuple):
    """Rows or columns of the crop that lie in one tile."""

    first: int
    end: int
    at: int
    """Coordinate of the first one in its tile."""
    side: int
    """Coordinate behind the tile's last one."""

    @property
    def begins(self) -> bool:
        """The tile does not begin before."""
        return self.at == 0

    @property
    def ends(self) -> bool:
        """The tile does not go on."""
        return self.at + self.end - self.first == self.side


class Axis(NamedTuple):
    """Where rows or columns of a crop lie on the grid of tiles."""

    edges: tuple[int, ...]
    """0, the borders between tiles, the crop's size."""
    corner: int
    """Coordinate of the crop's first row or column in the first tile."""
    side: int
    """Of all tiles."""

    @property
    def spans(self) -> list[Span]:
        """What lies in each tile."""
        return [
            Span(first, end, 0 if i else self.corner, self.side) for i, (first, end) in enumerate(pairwise(self.edges))
        ]

    def moved(self, lines: int) -> Axis:
        """The same with its first row or column so many further."""
        return self._replace(corner=self.corner + lines, side=self.side + lines)


def find_grid(pixels: Bytes8) -> Grid | None:
    """Find the borders between tiles, natively: every chunk is asked.

    Parameters
    ----------
    pixels : numpy.ndarray
        uint8 [rows, columns, 3] (red, green, blue) or [rows, columns, 1].

    Returns
    -------
    Grid or None
        None without a comb: with borders along both axes a weaker one will do.
    """
    strengths, rows, columns = tile_grid(pixels)
    best = max(strengths)
    seen = rows and columns
    if not seen and (best < _LEAST_COMB or best - min(strengths) < _LEAST_CONTRAST):
        return None
    return Grid(tuple(rows), tuple(columns), divmod(strengths.index(best), 2))


def axis_of(borders: Sequence[int], size: int, phase: int = 0) -> Axis:
    """Return an axis by its borders, or of one tile that goes on at both sides.

    Parameters
    ----------
    borders : sequence of int
        Where tiles begin; 0 and ``size`` too, where tiles begin and end with the crop.
    size : int
        Rows or columns of the crop.
    phase : int
        Coordinate of the crop's first row or column where no tile begins at a border; a tile begins at multiples of 16
        of it.
    """
    inner = [b for b in borders if 0 < b < size]
    edges = 0, *inner, size
    if not inner:
        corner = 0 if 0 in borders else FAR + phase
        return Axis(edges, corner, corner + size + (0 if size in borders else FAR))
    known = [0, *inner] if 0 in borders else inner
    known = [*known, size] if size in borders else known
    if len(known) > 1:
        side = max(b - a for a, b in pairwise(known))
    else:
        side = -(-max(inner[0], size - inner[0], TILE) // TILE) * TILE
    return Axis(edges, side - inner[0], side)
