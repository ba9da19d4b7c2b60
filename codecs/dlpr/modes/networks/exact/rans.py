"""Entropy coder (docs/format section 10): rANS with a 32-bit state over bytes, both directions.

Invariant: between symbols 2^23 <= x < 2^31. The encoder codes the symbols in reverse; its last state is the first
that the decoder sees, and the decoder must end in the state the encoder began with, 2^23.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

from dlpr.arrays import Buffer
from dlpr.errors import CorruptError
from dlpr.modes.networks.weights import Weights

LOW = 1 << 23
TOTAL = 1 << 16


class LaneDecoder:
    """Reads one lane."""

    def __init__(self, lane: Buffer) -> None:
        data = bytes(lane)
        if len(data) < 4:
            raise CorruptError("a lane below 4 bytes; fetch the stream again")
        self.x = int.from_bytes(data[:4], "little")
        self.rest = iter(data[4:])
        if not LOW <= self.x < 1 << 31:
            raise CorruptError("a lane begins with an impossible state; fetch the stream again")

    def symbol(self, f: Sequence[int]) -> int:
        """Decode the index of a symbol from its cumulative frequencies: f[0] = 0, increasing, f[-1] = 65536."""
        slot = self.x & (TOTAL - 1)
        q = bisect_right(f, slot) - 1
        start, end = f[q], f[q + 1]
        self.x = (end - start) * (self.x >> 16) + slot - start
        while self.x < LOW:
            byte = next(self.rest, None)
            if byte is None:
                raise CorruptError("a lane ends before its symbols; fetch the stream again")
            self.x = self.x << 8 | byte
        return q

    def finish(self) -> None:
        """Check that nothing is left."""
        if self.x != LOW or next(self.rest, None) is not None:
            raise CorruptError("a lane goes on after its symbols; fetch the stream again")


class LaneEncoder:
    """Collects the symbols of one lane."""

    def __init__(self) -> None:
        self.intervals: list[tuple[int, int]] = []

    def symbol(self, f: Sequence[int], q: int) -> None:
        """Append a symbol by its index."""
        self.intervals.append((f[q], f[q + 1]))

    def finish(self) -> bytes:
        """Write the lane."""
        x, out = LOW, bytearray()
        for start, end in reversed(self.intervals):
            frequency = end - start
            while x >= frequency << 15:
                out.append(x & 255)
                x >>= 8
            x = (x // frequency << 16) + x % frequency + start
        return x.to_bytes(4, "little") + bytes(reversed(out))


@lru_cache(maxsize=512)
def uniform(n: int) -> list[int]:
    """Cumulative frequencies of a uniform number in 0..n-1, n <= 65536."""
    return [TOTAL * j // n for j in range(n + 1)]


class Latents:
    """Latent symbols: -R..R by a Gaussian's table, an escape beyond."""

    def __init__(self, weights: Weights) -> None:
        cdf: list[int] = weights["gauss.cdf"].tolist()
        self.range: list[int] = weights["gauss.range"].tolist()
        offsets: list[int] = weights["gauss.offset"].tolist()
        self.tables = [cdf[at : at + 2 * r + 3] for at, r in zip(offsets, self.range, strict=True)]
        self.any = uniform(TOTAL)

    def decode(self, lane: LaneDecoder, scale: int) -> int:
        """Read a symbol with this scale index."""
        r = self.range[scale]
        q = lane.symbol(self.tables[scale])
        return q - r if q <= 2 * r else lane.symbol(self.any) - 32768

    def encode(self, lane: LaneEncoder, scale: int, symbol: int) -> None:
        """Write a symbol with this scale index."""
        r = self.range[scale]
        if -r <= symbol <= r:
            lane.symbol(self.tables[scale], symbol + r)
        else:
            lane.symbol(self.tables[scale], 2 * r + 1)
            lane.symbol(self.any, symbol + 32768)
