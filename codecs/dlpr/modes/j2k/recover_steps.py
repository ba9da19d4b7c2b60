"""The quantiser behind coefficients: a step for each band, bit planes for each code block (docs/decisions/0018).

A decoder gives (k + 1/2) 2**p steps for a coefficient of k known down to bit plane p, and 0 for those that are 0. The
steps of nearly all encoders follow from one *base*: divided by the length of a band's basis functions they give the
band's. OpenJPEG's base is 1, with lengths of its own; rate control then leaves out low planes block by block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dlpr._native import comb_gains
from dlpr.modes.j2k.recover_tile import LEVELS, NORMS, Floats, SeenPart

__all__ = [
    "Steps",
    "band_steps",
    "base_gain",
    "choose_planes",
    "exact_blocks",
    "find_base",
    "rounded",
    "shows_base",
    "step_of",
]

Steps = dict[tuple[int, int], tuple[int, int]]
"""(exponent, mantissa) by depth and orientation."""

_OPENJPEG: Steps = {
    **{(1, 1): (10, 2003), (1, 3): (10, 1890), (2, 1): (10, 5), (2, 3): (10, 71)},
    **{(3, 1): (12, 1872), (3, 3): (12, 1896), (4, 1): (13, 1792), (4, 3): (13, 1760)},
}
_NOISE = 0.3
"""Deviation of a normed coefficient by the rounding of pixels."""
_HALF_PRIOR = 6.0
"""Nats by which a plane with a significance pass alone must fit better than a complete one."""
_ENOUGH = 4.0
"""Nats that settle a block's planes."""
_PLANES = 9
_SOME = 800
"""Coefficients of a block that are looked at for its planes."""
_MANY = 6000
"""Coefficients that are enough for the base."""
_FEW = 1000
"""Coefficients that tell whether there is one: 1.3 to 1.7 nats for each where there is, -0.3 to -2.2 elsewhere."""


def step_of(pair: tuple[int, int]) -> float:
    """Return the step of an exponent and a mantissa, in grey levels as the native code counts coefficients."""
    return float(2.0 ** (8 - pair[0]) * (1 + pair[1] / 2048))


def band_steps(base: float) -> Steps:
    """Return each band's step for a base; LL is not among them."""
    out = {}
    for depth in range(1, LEVELS + 1):
        for orientation in (1, 2, 3):
            if abs(base - 1) < 0.006:
                out[depth, orientation] = _OPENJPEG[depth, 1 if orientation == 2 else orientation]
                continue
            step = base / NORMS[depth, orientation]
            power = int(np.floor(np.log2(step)))
            mantissa = round((step / 2.0**power - 1) * 2048)
            out[depth, orientation] = (8 - power, mantissa) if mantissa < 2048 else (7 - power, 0)
    return out


def _nearest(m: Floats, half: bool) -> Floats:
    """The values a decoder gives, nearest to m steps that are not 0."""
    if half:
        return np.where(m < 2.25, 1.5, np.maximum(2 * np.rint((m - 1) / 2) + 1, 3))
    return np.asarray(np.maximum(np.rint(m - 0.5), 1) + 0.5)


def rounded(part: SeenPart) -> Floats:
    """Return the coefficients, less the base, at values that a decoder gives; LL at whole steps."""
    value = part.values + part.base
    m = np.abs(value) / part.step
    near = np.where(part.half, _nearest(m, True), _nearest(m, False))
    near = np.where(m < 0.75, 0, near)
    near = np.where(part.shape.orientation == 0, np.rint(m), near)
    return np.asarray(np.sign(value) * near * part.step - part.base)


def _gains(u: Floats, steps: npt.ArrayLike, half: bool | npt.ArrayLike = False) -> Floats:
    """Nats by which "on the comb, noise, few outliers" explains normed magnitudes better than "anywhere"."""
    lengths = np.ascontiguousarray(steps, np.float32)
    halves = np.broadcast_to(np.asarray(half, np.uint8), lengths.shape)
    return np.asarray(comb_gains(np.ascontiguousarray(u, np.float32), lengths, np.ascontiguousarray(halves), _NOISE))


def _magnitudes(values: Floats, norm: float) -> Floats:
    """Normed magnitudes that are clearly not 0."""
    u = np.abs(values) * norm
    return np.asarray(u[u > 4 * _NOISE])


def exact_blocks(parts: Sequence[SeenPart]) -> list[Floats]:
    """Magnitudes of each block, of depth 3 at most, that are exactly known, where they are at least a dozen."""
    out = []
    for part in parts:
        for depth, orientation, block in part.shape.blocks:
            if depth <= 3:  # what is deeper is few, and seldom known
                known = block[part.exact[block]]
                u = _magnitudes(part.values[known], NORMS[depth, orientation])
                if len(u) >= 12:
                    out.append(u)
    return out


def shows_base(blocks: Sequence[Floats]) -> bool:
    """Tell from some of the blocks' normed magnitudes whether a base may fit: cheap, to search further only then."""
    return base_gain(blocks, _FEW) > 0


def base_gain(blocks: Sequence[Floats], most: int) -> float:
    """Nats for each of at most so many coefficients (and a block) that the best base explains."""
    return _rough_base(blocks, most)[1]


def find_base(blocks: Sequence[Floats]) -> tuple[float, float]:
    """Find the base, up to a power of two, and how well it fits: nats for each coefficient; 0 for nothing to see."""
    base, gain = _rough_base(blocks, _MANY)
    return (_finer(blocks, base) if gain > 0 else base), gain


def _rough_base(blocks: Sequence[Floats], most: int) -> tuple[float, float]:
    """Find the base to 1 % from ``most`` coefficients, and nats for each."""
    bases = np.geomspace(1, 2, 91)[:-1]
    planes = 2.0 ** np.arange(1, 7)
    steps = np.concatenate([np.outer(bases, planes)] * 2, 1)
    halves = np.broadcast_to(np.arange(12) >= 6, steps.shape)
    total, count = np.zeros(len(bases)), 0
    for block in blocks:
        if count > most:
            break
        u = block[:: len(block) // 120 + 1]
        total += _gains(u, steps.ravel(), halves.ravel()).reshape(steps.shape).max(1)
        count += len(u)
    best = int(total.argmax())
    return float(bases[best]), float(total[best] / count) if count else 0.0


def _finer(blocks: Sequence[Floats], base: float) -> float:
    """Return a base within 1 % under which large coefficients, too, stand on the comb."""
    near = base * np.linspace(0.99, 1.01, 161)
    total = np.zeros(len(near))
    for block in blocks:
        u = block[:: len(block) // 200 + 1]
        gains = [
            (float(gain), plane, half)
            for plane in range(1, 7)
            for half, gain in enumerate(_gains(u[u < 12 * base * 2.0**plane], [base * 2.0**plane] * 2, [0, 1]))
        ]
        _, plane, half = max(gains, key=lambda g: g[0])
        total += _gains(u, near * 2.0**plane, bool(half))
    return float(near[int(total.argmax())])


def choose_planes(parts: Sequence[SeenPart], steps: Steps, known: Sequence[np.ndarray]) -> float:
    """Choose each block's lowest plane, and whether it had its significance pass alone; return the nats in all.

    Parameters
    ----------
    parts : sequence of SeenPart
        ``plane``, ``half``, ``step`` and ``guessed`` are written.
    steps : dict
    known : sequence of numpy.ndarray
        bool for each part: coefficients that are to be believed.
    """
    total = 0.0
    votes: dict[tuple[int, ...], Counter[int]] = {}
    open_blocks = []
    powers, halves = np.repeat(2.0 ** np.arange(_PLANES), 2), np.tile([0, 1], _PLANES)
    for part, believed in zip(parts, known, strict=True):
        s = part.shape
        for depth, orientation, here in s.blocks:
            norm, step = NORMS[depth, orientation], step_of(steps[depth, orientation])
            u = _magnitudes(part.values[here[believed[here]]], norm)
            u = u[:: len(u) // _SOME + 1]  # of all of it: what is seen may be parts of several blocks
            gains = _gains(u, step * norm * powers, halves) - _HALF_PRIOR * halves
            best = int(gains.argmax())
            gain, plane, half = float(gains[best]), best // 2, bool(best % 2)
            if gain < _ENOUGH:
                open_blocks.append((part, depth, orientation, here, step))
                continue
            total += gain
            _set(part, here, step, plane, half)
            votes.setdefault((part.component, depth, orientation), Counter())[plane] += 1
            votes.setdefault((part.component, depth), Counter())[plane] += 1
            votes.setdefault((part.component,), Counter())[plane] += 1
    for part, depth, orientation, here, step in open_blocks:
        keys = ((part.component, depth, orientation), (part.component, depth), (part.component,))
        vote = next((votes[key] for key in keys if key in votes), Counter({2: 1}))
        _set(part, here, step, min(vote, key=lambda p: (-vote[p], p)), False)
        part.guessed[here] = True
    return total


def _set(part: SeenPart, here: np.ndarray, step: float, plane: int, half: bool) -> None:
    part.plane[here], part.half[here], part.step[here] = plane, half, step * 2.0**plane
    part.guessed[here] = False
