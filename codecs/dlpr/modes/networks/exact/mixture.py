"""Mixture, reconstruction grid and symbol probabilities (docs/format section 9), NumPy int64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlpr.arrays import Ints, clamp
from dlpr.modes.networks.exact.layers import as_int
from dlpr.modes.networks.weights import Weights

COMPONENTS = 5
CARRIED = {0: (), 1: ((0, 0),), 2: ((1, 0), (2, 1))}
"""By channel: (row of the coefficients, channel whose residual they carry)."""


@dataclass(frozen=True)
class Mixture:
    """Five logistics of one sample."""

    loc: Ints
    """1/64 level."""
    scale: Ints
    """Index into the scale tables."""
    weight: Ints
    """Sum 32768."""


@dataclass(frozen=True)
class Grid:
    """Symbols of one sample: q stands for clamp(anchor + q step, 0, 255)."""

    anchor: int
    tau: int
    qmin: int
    qmax: int
    lo: int
    hi: int

    @classmethod
    def of(cls, anchor: int, tau: int, interval: int, pred: int) -> Grid:
        """Build the grid of a sample with this prediction (1/16 level)."""
        step = 2 * tau + 1
        qmin, qmax = -((anchor + tau) // step), (255 - anchor + tau) // step
        centre = nearest(min(max((pred + 8) >> 4, 0), 255), anchor, tau)
        return cls(anchor, tau, qmin, qmax, max(qmin, centre - interval), min(qmax, centre + interval))

    def value(self, q: int) -> int:
        """Sample that a symbol stands for."""
        return min(max(self.anchor + q * (2 * self.tau + 1), 0), 255)


def nearest(value: int, anchor: int, tau: int) -> int:
    """Symbol nearest to a sample."""
    away = value - anchor
    size = (abs(away) + tau) // (2 * tau + 1)
    return -size if away < 0 else size


class MixtureTables:
    """The tables of section 4 that this section reads."""

    def __init__(self, weights: Weights) -> None:
        self.log = as_int(weights, "table.log")
        logistic = as_int(weights, "table.logistic")
        self.low, self.high = logistic & 0xFFFF, logistic >> 16
        self.mant, self.shift = as_int(weights, "table.scale_mant"), as_int(weights, "table.scale_shift")
        self.exp = as_int(weights, "table.exp")

    def mixture(self, out: Ints, c: int, pred: int, e: list[int], g: list[int]) -> Mixture:
        """Build the mixture of channel c from the network's output [75] and what is known of the channels before."""
        mean, log_scale, mean_coef, scale_coef, logit = out.reshape(5, 3, COMPONENTS)
        loc, scale = 4 * pred + mean[c], log_scale[c]
        for row, channel in CARRIED[c]:
            loc = loc + ((mean_coef[row] * e[channel]) >> 6)
            scale = scale + ((scale_coef[row] * g[channel]) >> 6)
        weight = self.exp[np.minimum((logit[c].max() - logit[c]) >> 3, 511)]
        weight = (weight * ((1 << 30) // weight.sum())) >> 15
        weight[logit[c].argmax()] += 32768 - weight.sum()
        return Mixture(clamp(loc, -16384, 32767), clamp((scale + 1028) >> 3, 0, 320), weight)

    def cumulative(self, mixture: Mixture, grid: Grid) -> list[int]:
        """Cumulative frequencies F(lo), ..., F(hi + 1)."""
        n = grid.hi - grid.lo + 1
        q = np.arange(grid.lo + 1, grid.hi + 1)
        bound = 64 * (grid.anchor + q * (2 * grid.tau + 1) - grid.tau) - 32
        away = bound[:, None] - mixture.loc
        t = clamp((away * self.mant[mixture.scale]) >> self.shift[mixture.scale], -12288, 12287) + 12288
        logistic = self.low[t >> 5] + ((self.high[t >> 5] * (t & 31)) >> 5)
        s = logistic @ mixture.weight
        f = (((s >> 15) * (65536 - n)) >> 16) + (q - grid.lo)
        return [0, *f.tolist(), 65536]
