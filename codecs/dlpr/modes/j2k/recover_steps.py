"""The quantiser behind coefficients: a step for each band, bit planes for each code block (docs/decisions/0018).

A decoder gives (k + 1/2) 2**p steps for a coefficient of k known down to bit plane p, and 0 for those that are 0; the
one that rounds to whole numbers k 2**p steps, rounded. The steps of nearly all encoders follow from one *base*: divided
by the length of a band's basis functions they give the band's. OpenJPEG's base is 1, with lengths of its own; rate
control then leaves out low planes block by block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dlpr._native import comb_gains
from dlpr.modes.j2k.recover_tile import LEVELS, NORMS, WHOLE_GAIN, Floats, SeenPart

__all__ = [
    "HALF_PRIOR",
    "Block",
    "Quantiser",
    "Steps",
    "band_steps",
    "base_gain",
    "choose_planes",
    "exact_blocks",
    "find_base",
    "finer_base",
    "gains",
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
WHOLE_LEVELS = 2
"""Decompositions of a decoder of whole numbers that are found."""
_NOISE = 0.3
"""Deviation of a normed coefficient by the rounding of pixels."""
HALF_PRIOR = 6.0
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


class Block(NamedTuple):
    """Normed magnitudes of coefficients that are not 0, of which planes are alike."""

    magnitudes: Floats
    noise: float
    """Their deviation."""
    unit: float
    """Distance of whole numbers where the decoder rounds to them, else 0."""


@dataclass(frozen=True)
class Quantiser:
    """Steps, and the values that a decoder makes of coefficients.

    Parameters
    ----------
    steps : dict
        Of each band but LL; none as long as the base is not known.
    whole : bool
        The decoder's values and samples are whole numbers at every resolution.
    """

    steps: Steps
    whole: bool = False

    @property
    def levels(self) -> int:
        """Decompositions to be found."""
        return WHOLE_LEVELS if self.whole else LEVELS

    @property
    def phases(self) -> int:
        """Decompositions of which luma's phase must be known: one more where chroma may be half as wide."""
        return min(self.levels + self.whole, LEVELS)

    @cached_property
    def kinds(self) -> npt.NDArray[np.uint8]:
        """Combs to try for each plane, as the native code numbers them."""
        return np.array([2] if self.whole else [0, 1], np.uint8)

    @cached_property
    def powers(self) -> Floats:
        """Of the planes that are tried, each with all kinds."""
        return np.repeat(2.0 ** np.arange(_PLANES), len(self.kinds))

    @cached_property
    def tried(self) -> npt.NDArray[np.uint8]:
        """Kinds of combs, by `powers`."""
        return np.tile(self.kinds, _PLANES)

    @cached_property
    def priors(self) -> Floats:
        """Nats that each must explain more, by `powers`."""
        return np.asarray(HALF_PRIOR * (self.tried == 1), np.float64)

    def normed(self, depth: int, orientation: int) -> float:
        """Return the step of a band times the length of its basis functions."""
        return step_of(self.steps[depth, orientation]) * NORMS[depth, orientation]

    def noise(self, depth: int) -> float:
        """Deviation of a normed coefficient that is seen whole: by the rounding of pixels, or of each resolution."""
        return _NOISE * (1.15 * 2.0 ** (depth - 1) if self.whole else 1)

    def unit(self, depth: int, orientation: int) -> float:
        """Distance of whole numbers, normed, where the decoder rounds to them, else 0."""
        return NORMS[depth, orientation] / WHOLE_GAIN[orientation] if self.whole else 0.0

    def block(self, magnitudes: Floats, depth: int, orientation: int) -> Block:
        """Return normed magnitudes of a band, without those that may be 0."""
        noise = self.noise(depth)
        return Block(magnitudes[magnitudes > 4 * noise], noise, self.unit(depth, orientation))


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
    if part.whole:
        below, above = whole_values(part, np.floor(m)), whole_values(part, np.ceil(m))
        nearer = np.where(np.abs(value) - below <= above - np.abs(value), below, above)
        return np.asarray(np.sign(value) * nearer - part.base)
    near = np.where(part.half, _nearest(m, True), _nearest(m, False))
    near = np.where(m < 0.75, 0, near)
    near = np.where(part.shape.orientation == 0, np.rint(m), near)
    return np.asarray(np.sign(value) * near * part.step - part.base)


def whole_values(part: SeenPart, m: Floats) -> Floats:
    """Return what the decoder of whole numbers makes of m >= 0 steps, in grey levels."""
    gain = np.array(WHOLE_GAIN)[part.shape.orientation]
    return np.asarray(np.floor(m * part.step * gain + 0.5) / gain)


def gains(block: Block, steps: npt.ArrayLike, kinds: npt.ArrayLike) -> Floats:
    """Nats by which "on the comb, noise, few outliers" explains magnitudes better than "anywhere".

    Parameters
    ----------
    block : Block
    steps : array_like
        Normed.
    kinds : array_like
        Of the combs: 0 the middle of what is open, 1 likewise with a plane of a significance pass alone, 2 points.
    """
    lengths = np.ascontiguousarray(steps, np.float32)
    combs = np.ascontiguousarray(np.broadcast_to(np.asarray(kinds, np.uint8), lengths.shape))
    u = np.ascontiguousarray(block.magnitudes, np.float32)
    return np.asarray(comb_gains(u, lengths, combs, block.noise, block.unit))


def exact_blocks(parts: Sequence[SeenPart], quantiser: Quantiser) -> list[Block]:
    """Return each block, of depth 3 at most, with what is exactly known, where that is at least a dozen."""
    out = []
    for part in parts:
        for depth, orientation, block in part.shape.blocks:
            if depth <= 3:  # what is deeper is few, and seldom known
                known = block[part.exact[block]]
                norm = NORMS[depth, orientation]
                u = quantiser.block(np.abs(part.values[known]) * norm, depth, orientation)
                if len(u.magnitudes) >= 12:
                    out.append(u)
    return out


def shows_base(blocks: Sequence[Block]) -> bool:
    """Tell from some of the blocks' magnitudes whether a base may fit: cheap, to search further only then."""
    return base_gain(blocks, _FEW) > 0


def base_gain(blocks: Sequence[Block], most: int) -> float:
    """Nats for each of at most so many coefficients (and a block) that the best base explains."""
    return _rough_base(blocks, most)[1]


def find_base(blocks: Sequence[Block]) -> tuple[float, float]:
    """Find the base, up to a power of two, and how well it fits: nats for each coefficient; 0 for nothing to see."""
    base, gain = _rough_base(blocks, _MANY)
    return (finer_base(blocks, base) if gain > 0 else base), gain


def _kinds(block: Block) -> list[int]:
    """Combs that may be behind a block."""
    return [2] if block.unit else [0, 1]


def _rough_base(blocks: Sequence[Block], most: int) -> tuple[float, float]:
    """Find the base to 1 % from ``most`` coefficients, and nats for each."""
    bases = np.geomspace(1, 2, 91)[:-1]
    planes = 2.0 ** np.arange(1, 7)
    total, count = np.zeros(len(bases)), 0
    for block in blocks:
        if count > most:
            break
        kinds = _kinds(block)
        steps = np.concatenate([np.outer(bases, planes)] * len(kinds), 1)
        combs = np.broadcast_to(np.repeat(kinds, len(planes)), steps.shape)
        some = block._replace(magnitudes=block.magnitudes[:: len(block.magnitudes) // 120 + 1])
        total += gains(some, steps.ravel(), combs.ravel()).reshape(steps.shape).max(1)
        count += len(some.magnitudes)
    best = int(total.argmax())
    return float(bases[best]), float(total[best] / count) if count else 0.0


def finer_base(blocks: Sequence[Block], base: float) -> float:
    """Return a base within 1 % under which large coefficients, too, stand on the comb."""
    near = base * np.linspace(0.99, 1.01, 161)
    total = np.zeros(len(near))
    for block in blocks:
        u = block.magnitudes[:: len(block.magnitudes) // 200 + 1]
        best = -np.inf, 1, 0
        for plane in range(1, 7):
            small = block._replace(magnitudes=u[u < 12 * base * 2.0**plane])
            for kind in _kinds(block):
                best = max(best, (float(gains(small, [base * 2.0**plane], kind)[0]), plane, kind), key=lambda g: g[0])
        total += gains(block._replace(magnitudes=u), near * 2.0 ** best[1], best[2])
    return float(near[int(total.argmax())])


def choose_planes(parts: Sequence[SeenPart], quantiser: Quantiser, known: Sequence[np.ndarray]) -> float:
    """Choose each block's lowest plane, and whether it had its significance pass alone; return the nats in all.

    Parameters
    ----------
    parts : sequence of SeenPart
        ``plane``, ``half``, ``step`` and ``guessed`` are written.
    quantiser : Quantiser
    known : sequence of numpy.ndarray
        bool for each part: coefficients that are to be believed.
    """
    total = 0.0
    votes: dict[tuple[int, ...], Counter[int]] = {}
    open_blocks = []
    powers, kinds = quantiser.powers, quantiser.tried
    for part, believed in zip(parts, known, strict=True):
        s = part.shape
        for depth, orientation, here in s.blocks:
            norm, step = NORMS[depth, orientation], step_of(quantiser.steps[depth + part.above, orientation])
            u = quantiser.block(np.abs(part.values[here[believed[here]]]) * norm, depth, orientation)
            # Of all of it: what is seen may be parts of several blocks.
            u = u._replace(magnitudes=u.magnitudes[:: len(u.magnitudes) // _SOME + 1])
            nats = gains(u, step * norm * powers, kinds) - quantiser.priors
            best = int(nats.argmax())
            gain, plane, half = float(nats[best]), int(np.log2(powers[best])), bool(kinds[best] == 1)
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
