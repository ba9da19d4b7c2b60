"""Where a codec's tiles begin in a crop, from one component alone (docs/decisions/0018).

With the right parity one pass of the 9/7 wavelet gives coefficients that stand on a comb, half a step from zero, but
for those whose taps cross a border between tiles: there the wavelet starts anew, and they stand anywhere. A border is
found by three neighbouring lines of such coefficients, and hardly anything else looks like it.
"""

from __future__ import annotations

from typing import NamedTuple

from dlpr._native import tile_grid
from dlpr.arrays import Bytes8

__all__ = ["Grid", "find_grid"]


class Grid(NamedTuple):
    """Borders between tiles: rows and columns of the crop where a tile begins."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]


def find_grid(pixels: Bytes8) -> Grid | None:
    """Find the borders between tiles, natively: every chunk is asked.

    Parameters
    ----------
    pixels : numpy.ndarray
        uint8 [rows, columns, 3] (red, green, blue) or [rows, columns, 1].

    Returns
    -------
    Grid or None
        None without a comb, or without a border along each axis: what lies in one tile alone is not searched.
    """
    _, rows, columns = tile_grid(pixels)
    return Grid(tuple(rows), tuple(columns)) if rows and columns else None
