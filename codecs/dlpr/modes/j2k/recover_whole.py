"""The coefficients of a decoder that rounds every resolution to whole numbers: one decomposition after the other.

Its samples are whole numbers at every depth, so what lies inside is found exactly, LL too, and is what the next
decomposition is found from. What the decoder's rounding adds in the mean is taken off the samples first. LL of the
second depth is kept as it is: of whole numbers that costs little, and what a crop cuts through reaches less far
(docs/decisions/0018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dlpr.modes.j2k.recover_solve import settle
from dlpr.modes.j2k.recover_steps import Block, Quantiser, band_steps, choose_planes, finer_base, rounded
from dlpr.modes.j2k.recover_tile import NORMS, Floats, SeenPart

__all__ = ["solve_whole"]

Rect = tuple[int, int, int, int]
_NOISE = 0.1
"""Deviation of samples from what coefficients give: small, for the rounding's mean is taken off and LL is whole."""
_LEAST_SHARE = 0.5
"""Share of a basis function's energy that must be seen for LL to be of use to the next decomposition."""


class _Samples(NamedTuple):
    """What is known of a resolution of a tile."""

    tile: Rect
    seen: Rect
    values: Floats
    weights: Floats
    """1: exactly known; else how much they are to be believed."""


def solve_whole(parts: Mapping[tuple[int, int, int], SeenPart], quantiser: Quantiser, base: float) -> None:
    """Find the coefficients.

    Parameters
    ----------
    parts : mapping
        All of an image; ``values`` and planes are written.
    quantiser : Quantiser
        Its steps are made finer.
    base : float
    """
    known = {key: _Samples(p.shape.tile, p.shape.seen, *p.given) for key, p in parts.items()}
    for depth in range(1, quantiser.levels + 1):
        found = {key: SeenPart(key[0], *samples, _NOISE, 1, True, depth - 1) for key, samples in known.items()}
        level = list(found.values())
        _begin(level, quantiser)
        if depth > 1:
            base = _base(level, quantiser, base, depth)
            steps = band_steps(base)
            quantiser.steps.update({(depth, o): steps[depth, o] for o in (1, 2, 3)})
        settle(level, quantiser)
        for key, part in found.items():
            _take(parts[key], part, depth)
            known[key] = _next(part)


def _begin(parts: Sequence[SeenPart], quantiser: Quantiser) -> None:
    """Take off the samples what the decoder adds to them in the mean."""
    for part in parts:
        part.step[part.shape.orientation == 0] = 1
    choose_planes(parts, quantiser, [part.exact for part in parts])
    for part in parts:
        part.correct(rounded(part))


def _base(parts: Sequence[SeenPart], quantiser: Quantiser, base: float, depth: int) -> float:
    """Find the base more exactly from one decomposition."""
    blocks = []
    for part in parts:
        for _, orientation, here in part.shape.blocks:
            known = np.abs(part.values[here[part.exact[here]]]) * NORMS[1, orientation]
            block = quantiser.block(known, 1, orientation)
            if len(block.magnitudes) >= 12:
                scale = NORMS[depth, orientation] / NORMS[1, orientation]
                blocks.append(Block(block.magnitudes * scale, block.noise * scale, block.unit * scale))
    return finer_base(blocks, base) if blocks else base


def _take(whole: SeenPart, part: SeenPart, depth: int) -> None:
    """Write what was found of a depth to the coefficients of all of them."""
    places = [((depth, o), (1, o)) for o in (1, 2, 3)]
    if depth == whole.shape.levels:
        places.append(((depth, 0), (1, 0)))
    for to, of in places:
        here, there = whole.shape.bands[to], part.shape.bands[of]
        for name in ("plane", "half", "step"):
            getattr(whole, name)[here] = getattr(part, name)[there]
        whole.values[here] = (part.values + part.base)[there] - whole.base[here]


def _next(part: SeenPart) -> _Samples:
    """LL as the samples of the next decomposition."""
    s = part.shape
    low, shape = s.bands[1, 0], s.shapes[1, 0]
    share, inside = s.share[low].reshape(shape), s.inside[low].reshape(shape)
    values = (part.values + part.base)[low].reshape(shape)
    useful = share >= _LEAST_SHARE
    rows, columns = (np.flatnonzero(useful.any(axis)) for axis in (1, 0))
    tile = tuple((edge + 1) >> 1 for edge in s.tile)
    top, bottom = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, shape[0])
    left, right = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, shape[1])
    weights = np.where(inside, 1.0, np.where(useful, share**2, 0.0))[top:bottom, left:right]
    seen = tile[0] + top, tile[1] + left, tile[0] + bottom, tile[1] + right
    return _Samples((tile[0], tile[1], tile[2], tile[3]), seen, values[top:bottom, left:right], weights)
