"""Where the pixels of a chunk lie whose samples are all known: patches with their borders, side by side; NumPy.

::

    chunk [H, W] --pixel id y W + x--> place in [patches, rows, stride]   3 rows above, 3 columns on both sides
                                       order: ids as lanes code them, patch after patch, lane after lane
                                       parities: ids by (row, column) of the patch, even or odd
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dlpr.arrays import Ints
from dlpr.modes.networks.exact.geometry import BORDER, TAP_DX, TAP_DY


@dataclass(frozen=True)
class Geometry:
    """Places of the pixels of chunks of one size; the same object for the same sizes."""

    height: int
    width: int
    places: int
    """Places of a chunk."""
    place: Ints
    """[H W]: of each pixel."""
    taps: Ints
    """[22]: what to add to a place."""
    border: tuple[Ints, Ints]
    """Places outside that repeat a pixel, and that pixel's place."""
    order: Ints
    """[H W]: pixel ids as the lanes of all patches code them."""
    ends: Ints
    """[lanes]: where each lane ends in it."""
    parities: tuple[Ints, Ints, Ints, Ints]
    """Ids of pixels by 2 (row & 1) + (column & 1) of the patch."""
    steps: tuple[Ints, ...]
    """Ids of each step of each patch, patch after patch."""

    def sample(self, pixels: int) -> tuple[int, Ints]:
        """Ids of every n-th step, so that about so many pixels are met: (n, ids)."""
        every = max(1, (self.height * self.width // pixels) | 1)  # odd: both parities of x occur
        return every, np.concatenate(self.steps[every // 2 :: every] or (np.zeros(0, np.int64),))


@lru_cache(maxsize=8)
def geometry(height: int, width: int, patch_exp: int, lane_exp: int) -> Geometry:
    """Lay out chunks of a size in patches."""
    side = 1 << patch_exp
    rows, stride = min(side, height) + BORDER, min(side, width) + 2 * BORDER
    ids = np.arange(height * width).reshape(height, width)
    yy, xx = np.divmod(ids, width)
    patch = (yy >> patch_exp) * -(-width // side) + (xx >> patch_exp)
    y, x = yy & (side - 1), xx & (side - 1)
    place = (patch * rows + y + BORDER) * stride + x + BORDER
    last = (x == side - 1) | (xx == width - 1)
    first = (x == 0) & (y < side - 1) & (yy < height - 1)
    outside = [place[last] + k for k in (1, 2, 3)] + [place[first] + stride - k for k in (1, 2, 3)]
    repeated = [place[last]] * 3 + [place[first]] * 3
    step = x + 2 * y
    lane = y & ((1 << lane_exp) - 1)
    flat = [v.ravel() for v in (y, step, lane, patch)]
    order = np.lexsort(flat)  # by patch, lane, step, row
    lanes = np.bincount((flat[3] << lane_exp) + flat[2], minlength=int(patch[-1, -1] + 1) << lane_exp)
    in_steps = np.lexsort((flat[0], flat[1], flat[3]))
    cuts = np.flatnonzero(np.diff((flat[3] * 4 * side + flat[1])[in_steps])) + 1
    parity = 2 * (y & 1) + (x & 1)
    return Geometry(
        height,
        width,
        int(patch[-1, -1] + 1) * rows * stride,
        place.ravel(),
        TAP_DY * stride + TAP_DX,
        (np.concatenate(outside), np.concatenate(repeated)),
        order,
        np.cumsum(lanes),
        (ids[parity == 0], ids[parity == 1], ids[parity == 2], ids[parity == 3]),
        tuple(_with_gaps(np.split(in_steps, cuts), flat[3], flat[1])),
    )


def _with_gaps(steps: Sequence[Ints], patch: Ints, step: Ints) -> list[Ints]:
    """Steps in order, with empty ones where a patch has no pixel in a step: those one pixel wide."""
    out: list[Ints] = []
    before = (-1, -1)
    for ids in steps:
        here = (int(patch[ids[0]]), int(step[ids[0]]))
        missing = here[1] - before[1] - 1 if here[0] == before[0] else 0
        out += [np.zeros(0, np.int64)] * missing
        out.append(ids)
        before = here
    return out
