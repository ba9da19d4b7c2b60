"""Coefficients of one decomposition of what is seen of a component, and which of them samples give exactly."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from dlpr._native import wave_forward
from dlpr.modes.j2k.recover_grid import Grid, Span, axis_of
from dlpr.modes.j2k.recover_steps import Block, Quantiser
from dlpr.modes.j2k.recover_tile import NORMS, Floats

__all__ = ["SIDE", "Ints", "Samples", "first_blocks", "known"]

Ints = npt.NDArray[np.int64]

SIDE = 32
"""Coefficients of a side that are looked at together: code blocks may begin anywhere."""


def _lines(span: Span, depth: int, high: int) -> Ints:
    """Coordinates in samples of a band's rows or columns."""
    start, stop = span.at, span.at + span.end - span.first
    half = high << depth >> 1
    first, end = (-((half - edge) >> depth) for edge in (start, stop))
    return np.arange(first, end) * (1 << depth) + half


def _reach(depth: int, high: int) -> int:
    """Samples on each side that a coefficient is made of."""
    half = 1 << depth >> 1
    return 4 * (half - 1) + 3 * half if high else 4 * (2 * half - 1)


def _around(places: Ints, span: Span, depth: int, high: int) -> tuple[Ints, Ints]:
    """First and behind the last of the crop's samples that lines are made of."""
    at, reach = places - span.at + span.first, _reach(depth, high)
    return np.clip(at - reach, span.first, span.end), np.clip(at + reach + 1, span.first, span.end)


def known(places: Ints, span: Span, depth: int, high: int, share: float = 1.0) -> npt.NDArray[np.bool_]:
    """Lines of which that share of the reach is seen, or lies behind a tile's edge."""
    reach, stop = share * _reach(depth, high), span.at + span.end - span.first
    inside = np.ones(len(places), np.bool_)
    if not span.begins:
        inside &= places - reach >= span.at
    if not span.ends:
        inside &= places + reach < stop
    return inside


class Samples:
    """The first component, and where it says nothing.

    Parameters
    ----------
    values : numpy.ndarray
        float64 [rows, columns], level 128 taken off.
    valid : numpy.ndarray
        bool, the same shape: False where a sample was cut off at 0 or 255.
    """

    def __init__(self, values: Floats, valid: npt.NDArray[np.bool_]) -> None:
        self.values, self._valid = values, valid
        self.shape = values.shape
        self._sums = None if valid.all() else np.pad(np.cumsum(np.cumsum(~valid, 0), 1), ((1, 0), (1, 0)))

    @property
    def turned(self) -> Samples:
        """Rows for columns."""
        return Samples(self.values.T, self._valid.T)

    def bands(self, rows: Span, columns: Span, depth: int, masked: bool = False) -> list[tuple[Floats, Ints, Ints]]:
        """Normed magnitudes of HL, LH and HH, with where their rows and columns lie; 0 where samples were cut off.

        The spans' ends are taken for tiles' edges.
        """
        x = np.ascontiguousarray(self.values[rows.first : rows.end, columns.first : columns.end], np.float32)
        c = wave_forward((rows.at, columns.at, rows.at + x.shape[0], columns.at + x.shape[1]), depth, x)
        places = [(_lines(rows, depth, o >> 1), _lines(columns, depth, o & 1)) for o in (1, 2, 3)]
        sizes = [len(y) * len(x) for y, x in places]
        parts = np.split(np.abs(c[len(c) - sum(sizes) :]), np.cumsum(sizes)[:2])
        out = []
        for o, part, (down, across) in zip((1, 2, 3), parts, places, strict=True):
            u = part.reshape(len(down), len(across)) * NORMS[depth, o]
            if (
                masked and depth == 1 and self._sums is not None
            ):  # deeper ones are made of so many samples that few would be left
                y0, y1 = _around(down, rows, depth, o >> 1)
                x0, x1 = _around(across, columns, depth, o & 1)
                at = self._sums
                u[at[np.ix_(y1, x1)] - at[np.ix_(y0, x1)] - at[np.ix_(y1, x0)] + at[np.ix_(y0, x0)] > 0] = 0
            out.append((u, down, across))
        return out


def first_blocks(samples: Samples, grid: Grid, depth: int, quantiser: Quantiser) -> list[Block]:
    """Return normed magnitudes of a decomposition, as `find_base` takes them, but for those beside borders."""
    out = []
    rows, columns = (axis_of((), n, p).spans[0] for n, p in zip(samples.shape, grid.phase, strict=True))
    for o, (u, y, x) in zip((1, 2, 3), samples.bands(rows, columns, depth, masked=True), strict=True):
        lines_of = []
        for places, span, borders, high in ((y, rows, grid.rows, o >> 1), (x, columns, grid.columns, o & 1)):
            lines = known(places, span, depth, high)
            for border in borders:
                lines &= np.abs(places - span.at - border) > _reach(depth, high) + 2
            lines_of.append(lines)
        here = u[lines_of[0]][:, lines_of[1]]
        for i, k in product(*(range(0, n, SIDE) for n in here.shape)):
            block = quantiser.block(here[i : i + SIDE, k : k + SIDE].ravel(), depth, o)
            if len(block.magnitudes) >= 12:
                out.append(block)
    return out
