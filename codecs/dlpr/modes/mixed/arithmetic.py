"""Adaptive binary arithmetic decoding with mixed contexts (docs/format section 17), in Python integers.

::

    contexts --slots: adaptive probabilities--> 8 predictions --two sets of weights--> one probability --> bit
                     ^------------------------------- bit ----------------------------------^
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from dlpr.arrays import Buffer
from dlpr.errors import CorruptError

__all__ = [
    "FRESH_SLOT",
    "INPUTS",
    "UNARY",
    "BitDecoder",
    "MixedDecoder",
    "learn_table",
    "odds",
    "squash_table",
]

INPUTS = 8
"""Predictions that are mixed for one bit."""
UNARY = 7
"""Bits of a magnitude before the Exp-Golomb code."""
FRESH_SLOT = (32767, 26000)
"""Probability of a 1 in 1/65536, and weight of the next bit in 1/65536."""
SLOWEST, DECAY = 200, 50000
FRESH_WEIGHT = 1024
LEARN_MAX = 4095
PRIOR_USES = 512
"""Uses that a set of weights of a prior counts as."""


@lru_cache(maxsize=1)
def squash_table() -> list[int]:
    """round(65536 / (1 + 2^(-x / 128))) at x = -2047..2047, limited to 32..65504."""
    values = [round(65536 / (1 + 2 ** (-x / 128))) for x in range(-2047, 2048)]
    return [min(max(v, 32), 65504) for v in values]


def learn_table() -> list[int]:
    """Learning rate of a set of weights that has been used n times."""
    return [4 + 4096 // (32 + n) for n in range(LEARN_MAX + 1)]


_LEARN = learn_table()


def _line(x: int) -> int:
    """256 log2 of x by straight lines between powers of two."""
    k = x.bit_length() - 1
    return k << 8 | ((x - (1 << k)) << 8 >> k)


def odds(p: int) -> int:
    """Return log2 of the odds of a probability in 1/65536, in 1/256: what is mixed."""
    return _line(2 * p + 1) - _line(131071 - 2 * p)


def _sat16(v: int) -> int:
    """Limit to 16 bits."""
    return min(max(v, -32768), 32767)


def learnt(slot: tuple[int, int], bit: int) -> tuple[int, int]:
    """Return a slot that has seen a bit."""
    p, rate = slot
    q = (65535 - p if bit else p) * (65535 - rate) >> 16
    slower = rate * (65535 - (rate * DECAY >> 16)) >> 16
    return (65535 - q if bit else q), max(slower, SLOWEST)


class BitDecoder:
    """Reads the bits of a lane, given the probability of each."""

    def __init__(self, lane: Buffer) -> None:
        self.data = bytes(lane)
        self.at, self.low, self.high, self.x = 0, 0, 0xFFFFFFFF, 0
        for _ in range(4):
            self._next()

    def _next(self) -> None:
        """Shift a byte in, zero behind the end."""
        if self.at > len(self.data) + 3:
            raise CorruptError("a lane ends before its symbols; fetch the stream again")
        self.x = (self.x << 8 | (self.data[self.at] if self.at < len(self.data) else 0)) & 0xFFFFFFFF
        self.at += 1

    def bit(self, one: int) -> int:
        """Read a bit that is 1 with probability one / 65536."""
        middle = self.low + ((self.high - self.low) * one >> 16)
        bit = int(self.x <= middle)
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while (self.low ^ self.high) >> 24 == 0:
            self.low = self.low << 8 & 0xFFFFFFFF
            self.high = (self.high << 8 | 255) & 0xFFFFFFFF
            self._next()
        return bit

    def finish(self) -> None:
        """Check that nothing is left."""
        if self.at != len(self.data) + 3:
            raise CorruptError("a lane does not end with its symbols; fetch the stream again")


class _Weights:
    """A set of weights of a mixer."""

    __slots__ = ("n", "w")

    def __init__(self, w: Sequence[int] | None) -> None:
        self.w, self.n = ([FRESH_WEIGHT] * INPUTS, 0) if w is None else (list(w), PRIOR_USES)

    def learn(self, x: list[int], error: int) -> None:
        """Move against the error of a bit."""
        e = min(max(error * _LEARN[self.n] >> 8, -32767), 32767)
        self.n = min(self.n + 1, LEARN_MAX)
        self.w = [_sat16(w + (v * e + (1 << 14) >> 15)) for w, v in zip(self.w, x, strict=True)]


class MixedDecoder:
    """Bits and numbers by the slots of 8 inputs each. Slots and weights come to be when they are first used.

    Parameters
    ----------
    bits : BitDecoder
    slots, weights : sequence, optional
        A prior's state: (p, rate) of each slot; weights of each set, the first family before the second.
    first_sets : int
        Sets of the first family.
    """

    def __init__(
        self,
        bits: BitDecoder,
        first_sets: int,
        slots: Sequence[tuple[int, int]] | None = None,
        weights: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.bits = bits
        self._first_sets, self._slots_before, self._weights_before = first_sets, slots, weights
        self._slots: dict[int, tuple[int, int]] = {}
        self._weights: dict[int, _Weights] = {}

    def _slot(self, i: int) -> tuple[int, int]:
        """Return the state of a slot."""
        start = FRESH_SLOT if self._slots_before is None else self._slots_before[i]
        return self._slots.get(i, start)

    def _set(self, i: int) -> _Weights:
        """Return a set of weights."""
        if i not in self._weights:
            self._weights[i] = _Weights(None if self._weights_before is None else self._weights_before[i])
        return self._weights[i]

    def bit(self, at: Sequence[int], first: int, second: int, mirror: Sequence[bool] = (False,) * INPUTS) -> int:
        """Read a bit from slot ``at`` of each input; those in ``mirror`` expect the other bit."""
        slots = [self._slot(i) for i in at]
        a, b = self._set(first), self._set(self._first_sets + second)
        x = [odds(65535 - p if m else p) for (p, _), m in zip(slots, mirror, strict=True)]
        dot = sum(_sat16(a.w[i] + b.w[i]) * x[i] for i in range(INPUTS)) >> 14
        one = squash_table()[min(max(dot, -2047), 2047) + 2047]
        bit = self.bits.bit(one)
        for w in (a, b):
            w.learn(x, (bit << 16) - one)
        for i, slot, m in zip(at, slots, mirror, strict=True):
            self._slots[i] = learnt(slot, bit ^ int(m))
        return bit

    def unary(self, at: Sequence[int], top: int, first: int, second: int) -> int:
        """Read a number 0..top from the slots at ``at`` and behind."""
        n = 0
        while n < top and self.bit([i + n for i in at], first + n, second):
            n += 1
        return n

    def magnitude(self, at: Sequence[int], first: int, second: int, rest: int) -> int:
        """Read a number >= 1; large ones go on with the slots at ``rest``."""
        n = 1 + self.unary(at, UNARY, first, second)
        return n + self.golomb(rest) if n > UNARY else n

    def golomb(self, at: int) -> int:
        """Read a number >= 0, Exp-Golomb."""
        bits, r = 0, 1
        while bits < 13 and self.plain(at + bits):
            bits += 1
        for i in reversed(range(bits)):
            r = r << 1 | self.plain(at + 16 + i)
        return r - 1

    def plain(self, i: int) -> int:
        """Read a bit from a slot alone."""
        slot = self._slot(i)
        bit = self.bits.bit(min(max(slot[0], 32), 65504))
        self._slots[i] = learnt(slot, bit)
        return bit
