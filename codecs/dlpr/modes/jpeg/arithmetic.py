"""Adaptive binary arithmetic decoding with mixed contexts (docs/format section 17), in Python integers.

::

    contexts --slots: adaptive probabilities--> 8 predictions --two mixers--> one probability --> bit
                     ^----------------------- bit ------------------^
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from dlpr.arrays import Buffer
from dlpr.errors import CorruptError

__all__ = ["INPUTS", "BitDecoder", "MixedDecoder", "adapt_table", "learn_table", "squash_table", "stretch_table"]

INPUTS = 8
"""Predictions that are mixed for one bit."""
SLOTS = 16
"""Slots of a context: zero, sign, 7 of the magnitude when the sign is as expected, 7 when it is not."""
UNARY = 7
WEIGHT_MAX = 1 << 20


@lru_cache(maxsize=1)
def stretch_table() -> list[int]:
    """round(256 ln(p / (1 - p))) at p = (2 i + 1) / 8192, i = 0..4095."""
    return [round(256 * math.log((2 * i + 1) / (8191 - 2 * i))) for i in range(4096)]


@lru_cache(maxsize=1)
def squash_table() -> list[int]:
    """round(65536 / (1 + exp(-x / 256))) at x = -2047..2047, limited to 32..65504."""
    values = [round(65536 / (1 + math.exp(-x / 256))) for x in range(-2047, 2048)]
    return [min(max(v, 32), 65504) for v in values]


def adapt_table() -> list[int]:
    """Weight of a bit for a slot that has seen n, in 1/65536."""
    return [131072 // (2 * n + 3) for n in range(256)]


def learn_table() -> list[int]:
    """Learning rate of a set of weights that has been used n times."""
    return [8 + 2048 // (16 + n) for n in range(1024)]


_ADAPT, _LEARN = adapt_table(), learn_table()


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


class _Slot:
    """An adaptive probability of a 1."""

    __slots__ = ("n", "one")

    def __init__(self) -> None:
        self.one, self.n = 32768, 0

    def see(self, bit: int, limit: int) -> None:
        """Learn from a bit."""
        self.one += ((65535 if bit else 0) - self.one) * _ADAPT[self.n] >> 16
        self.n = min(self.n + 1, limit)


class _Weights:
    """A set of weights of a mixer."""

    __slots__ = ("n", "w")

    def __init__(self) -> None:
        self.w, self.n = [8192] * INPUTS, 0

    def learn(self, x: list[int], error: int) -> None:
        """Move against the error of a bit."""
        rate = error * _LEARN[self.n]
        self.n = min(self.n + 1, 1023)
        for i in range(INPUTS):
            w = self.w[i] + (x[i] * rate + (1 << 19) >> 20)
            self.w[i] = min(max(w, -WEIGHT_MAX), WEIGHT_MAX)


class MixedDecoder:
    """Numbers and counts by 8 contexts each. Slots and weights come to be when they are first used."""

    def __init__(self, bits: BitDecoder) -> None:
        self.bits = bits
        self.context: Sequence[int] = [0] * INPUTS
        """Context of each input."""
        self.mirror = [False] * INPUTS
        """Inputs that expect a negative number."""
        self._slots: dict[tuple[int, int], _Slot] = {}
        self._weights: dict[tuple[int, int], _Weights] = {}
        self._golomb: dict[tuple[int, int], _Slot] = {}

    def number(self, may_be_zero: bool, first: int, second: int, kind: int) -> int:
        """Read a number; its Exp-Golomb code, for large ones, is that of ``kind``."""
        none = [False] * INPUTS
        if may_be_zero and not self._bit([0] * INPUTS, none, first, second):
            return 0
        negative = bool(self._bit([1] * INPUTS, self.mirror, first + 1, second))
        at = [2 + UNARY if negative != m else 2 for m in self.mirror]
        n = 1
        while n <= UNARY and self._bit([a + n - 1 for a in at], none, first + 1 + n, second):
            n += 1
        if n > UNARY:
            n += self.golomb(kind)
        return -n if negative else n

    def count(self, depth: int, first: int, second: int) -> int:
        """Read a number of ``depth`` bits."""
        node = 1
        for _ in range(depth):
            node = node << 1 | self._bit([node] * INPUTS, [False] * INPUTS, first + node, second)
        return node - (1 << depth)

    def flag(self, first: int, second: int) -> int:
        """Read a bit."""
        return self._bit([0] * INPUTS, [False] * INPUTS, first, second)

    def golomb(self, kind: int) -> int:
        """Read a number >= 0, Exp-Golomb."""
        bits, r = 0, 1
        while bits < 13 and self._plain(kind, bits):
            bits += 1
        for i in reversed(range(bits)):
            r = r << 1 | self._plain(kind, 16 + i)
        return r - 1

    def _bit(self, at: Sequence[int], turned: Sequence[bool], first: int, second: int) -> int:
        """Read a bit from slot ``at`` of each input's context."""
        slots = [self._slots.setdefault((i, SLOTS * self.context[i] + at[i]), _Slot()) for i in range(INPUTS)]
        a = self._weights.setdefault((0, first), _Weights())
        b = self._weights.setdefault((1, second), _Weights())
        stretch = stretch_table()
        x = [-stretch[s.one >> 4] if t else stretch[s.one >> 4] for s, t in zip(slots, turned, strict=True)]
        dot = sum((a.w[i] + b.w[i]) * x[i] for i in range(INPUTS)) >> 16
        p = squash_table()[min(max(dot, -2047), 2047) + 2047]
        bit = self.bits.bit(p)
        for w in (a, b):
            w.learn(x, (bit << 16) - p)
        for s, t in zip(slots, turned, strict=True):
            s.see(bit ^ int(t), 255)
        return bit

    def _plain(self, kind: int, index: int) -> int:
        """Read a bit from a slot of its own."""
        slot = self._golomb.setdefault((kind, index), _Slot())
        bit = self.bits.bit(min(max(slot.one, 32), 65504))
        slot.see(bit, 60)
        return bit
