"""Residual symbols of the paper profile to and from one rANS lane, with their escapes.

A `Writer` is told the symbols, a `Reader` finds them; both are driven by the same code, which computes every
probability, so that encoder and decoder cannot differ in it. The coder itself is
:mod:`dlpr.modes.networks.exact.rans`, integer and exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dlpr.arrays import Buffer
from dlpr.errors import CorruptError
from dlpr.modes.networks.exact.rans import TOTAL, LaneDecoder, LaneEncoder, uniform
from dlpr.paper.mixture import MixtureParameters, bin_edges, last_symbol

Ints = npt.NDArray[np.int64]


class Coder(Protocol):
    """One direction of the lane."""

    def symbol(self, frequencies: Sequence[int], known: int) -> int:
        """Code one symbol by its cumulative frequencies; ``known`` is ignored when reading."""
        ...


class Writer:
    """Collects symbols."""

    def __init__(self) -> None:
        self.lane = LaneEncoder()

    def symbol(self, frequencies: Sequence[int], known: int) -> int:
        """Append ``known``."""
        self.lane.symbol(frequencies, known)
        return known

    def bits(self) -> float:
        """Bits that the symbols will take."""
        return sum(16 - math.log2(end - begin) for begin, end in self.lane.intervals)


class Reader:
    """Reads symbols."""

    def __init__(self, data: Buffer) -> None:
        self.lane = LaneDecoder(data)

    def symbol(self, frequencies: Sequence[int], known: int) -> int:
        """Read the next symbol."""
        return self.lane.symbol(frequencies)


class Interval:
    """The adaptive interval of one image: symbols low..high are coded directly, others of -end..end by an escape.

    Residuals within ``m`` levels of ``centre`` are inside. What differs from the paper: it has a centre, since with
    lambda = 0 the lossy reconstruction is black and the residual is the image.
    """

    def __init__(self, centre: int, m: int, tau: int, device: torch.device) -> None:
        step = 2 * tau + 1
        self.end = last_symbol(tau)
        self.low = max(-self.end, -((m - centre + tau) // step))
        self.high = min(self.end, (m + centre + tau) // step)
        if self.low > self.high:
            raise CorruptError("an interval without symbols")
        self.escapes = self.low > -self.end or self.high < self.end
        self.edges = bin_edges(self.low, self.high, tau, device)
        self.count = self.high - self.low + 1
        self.symbols = self.count + self.escapes
        self.plain = uniform(2 * self.end + 1)

    def frequencies(self, parameters: MixtureParameters, channel: int, previous: Tensor) -> npt.NDArray[np.int32]:
        """Cumulative frequencies [n, symbols + 1] of one channel of n pixels: 0 .. 65536, each symbol at least 1.

        The escape takes what lies outside the interval; at -end and end the outermost bins take the tails.
        """
        at = parameters.channel_cdf(channel, previous, self.edges)
        if self.low == -self.end:
            at[:, 0] = 0
        if self.high == self.end:
            at[:, -1] = 1
        # Rounding may break the order of a CDF by a last bit: make it monotone.
        at = torch.cummax((at - at[:, :1]).clamp(0, 1), 1).values
        counts = torch.floor(at * (TOTAL - self.symbols)).to(torch.int32)
        counts = counts + torch.arange(at.shape[1], dtype=torch.int32, device=at.device)
        out = np.full((at.shape[0], self.symbols + 1), TOTAL, np.int32)
        out[:, : at.shape[1]] = counts.cpu().numpy()
        return out

    def code(self, coder: Coder, frequencies: npt.NDArray[np.int32], known: Ints | None) -> Ints:
        """Code one symbol [n] per row of ``frequencies`` [n, symbols + 1]."""
        width, out = self.symbols + 1, np.empty(len(frequencies), np.int64)
        flat = np.ascontiguousarray(frequencies).reshape(-1).data
        for i in range(len(frequencies)):
            row: Sequence[int] = flat[i * width : i * width + width]
            value = 0 if known is None else int(known[i])
            at = coder.symbol(row, value - self.low if self.low <= value <= self.high else self.count)
            out[i] = at + self.low if at < self.count else coder.symbol(self.plain, value + self.end) - self.end
        return out


def adaptive_interval(r: Ints, spread: float) -> tuple[int, int]:
    """Centre, the mean of an image's residuals in -255..255, and m = ceil(spread * standard deviation) in 1..255."""
    return round(float(r.mean())), int(min(255, max(1, math.ceil(spread * float(r.std())))))
