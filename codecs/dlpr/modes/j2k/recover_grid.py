"""Where a codec's tiles begin in a crop, from one component alone (docs/decisions/0018).

With the right parity one pass of the 9/7 wavelet gives coefficients that stand on a comb, half a step from zero, but
for those whose taps cross a border between tiles: there the wavelet starts anew, and they stand anywhere. A border is
found by three neighbouring lines of such coefficients, and hardly anything else looks like it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dlpr.modes.j2k.recover_tile import Floats

__all__ = ["Grid", "find_grid"]

_LIFTING = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
_K = 1.230174104914001
_STEPS = np.geomspace(0.7, 24, 160)
_NOISE = 0.8
"""Levels below which a coefficient may be the rounding of pixels."""
LEAST_BORDER = 0.75
"""Score of a border, 4 at most; 0.1 to 0.5 is chance."""
LEAST_COMB = 0.3
"""Strength of the comb below which borders are not looked for."""
EDGE = 6
"""A border so near to the crop's edge is not told from it."""


class Grid(NamedTuple):
    """Borders between tiles: rows and columns of the crop where a tile begins."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]


def find_grid(plane: Floats) -> Grid | None:
    """Find the borders between tiles.

    Parameters
    ----------
    plane : numpy.ndarray
        float64 [rows, columns], a component.

    Returns
    -------
    Grid or None
        None without a comb, or without a border along each axis: what lies in one tile alone is not searched.
    """
    if min(plane.shape) < 64:
        return None
    best = max((_at_parity(plane, down, across) for down in (0, 1) for across in (0, 1)), key=lambda found: found[0])
    strength, parity, lows, highs = best
    if strength < LEAST_COMB:
        return None
    rows = _borders(highs[1], highs[0], parity[0], 0)
    columns = _borders(lows[1], lows[0], parity[1], 1)
    return Grid(rows, columns) if rows and columns else None


_Band = tuple[float, Floats]
"""Step of the comb, coefficients."""


def _at_parity(plane: Floats, down: int, across: int) -> tuple[float, tuple[int, int], _Band, _Band]:
    low, high = _forward(plane, down)
    bands = _forward(low.T, across)[1].T, _forward(high.T, across)[0].T  # HL, LH
    combs = [_comb(band[4:-4, 4:-4]) for band in bands]
    return max(c[0] for c in combs), (down, across), (combs[0][1], bands[0]), (combs[1][1], bands[1])


def _forward(x: Floats, parity: int) -> tuple[Floats, Floats]:
    """One 9/7 pass along the first axis, low lines where index + parity is even."""
    x, n = x.copy(), len(x)
    low, high = slice(parity, None, 2), slice(1 - parity, None, 2)
    at = np.arange(n)
    for lines, factor in zip((high, low, high, low), _LIFTING, strict=True):
        here = at[lines]
        after = np.where(here + 1 >= n, n - 2, here + 1)
        x[lines] += factor * (x[np.abs(here - 1)] + x[after])
    return x[low] / _K, x[high] * (_K / 2)


def _comb(band: Floats) -> tuple[float, float]:
    """Strength, 1 at most, and step of the best comb of a band."""
    v = np.abs(band).ravel()
    v = v[v > _NOISE]
    if len(v) < 30:
        return 0.0, 0.0
    v = v[:: len(v) // 1500 + 1]
    steps = _STEPS[np.median(v) * 1.1 > _STEPS]
    if not len(steps):
        return 0.0, 0.0
    strength = np.cos(2 * np.pi * (v / steps[:, None] - 0.5)).mean(1)
    best = int(strength.argmax())
    return float(strength[best]), float(steps[best])


def _borders(band: Floats, step: float, parity: int, axis: int) -> tuple[int, ...]:
    """Rows (axis 0) or columns where tiles begin."""
    if step == 0:
        return ()
    m = np.abs(band) / step
    away = np.where(m < 0.75, m, np.abs(m - 0.5 - np.maximum(np.rint(m - 0.5), 1))) * step
    share = (away > min(0.5, 0.3 * step)).mean(1 - axis)
    above = share - np.median(share)
    score = np.zeros(len(share))
    score[1:-1] = above[:-2] + 2 * above[1:-1] + above[2:]
    size = 2 * len(share)
    found: list[int] = []
    for i in np.argsort(-score, kind="stable")[:8]:
        border = 2 * int(i) + 2 - parity  # the high coefficient before it is the middle one of three
        near = border < EDGE or border > size - EDGE or any(abs(border - other) < 2 * EDGE for other in found)
        if score[i] >= LEAST_BORDER and not near:
            found.append(border)
    return tuple(sorted(found))
