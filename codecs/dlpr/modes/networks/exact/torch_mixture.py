"""Mixture, grid and cumulative frequencies in tensors (docs/format section 9); nothing leaves 32 bits.

Shapes: ``[..., n]`` for n samples of one channel, ``[..., n, 5]`` for their components. What is the same for all
samples of a chunk or patch (tau, interval) is a column ``[..., 1]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlpr.modes.networks.exact.mixture import CARRIED
from dlpr.modes.networks.exact.tables import PRED_MAX
from dlpr.modes.networks.exact.torch_parts import I32, I64, Model


@dataclass(frozen=True)
class Mixture:
    """Five logistics of each sample."""

    loc: Tensor
    mant: Tensor
    shift: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Grid:
    """Symbols of each sample: q stands for clamp(anchor + q step, 0, 255)."""

    anchor: Tensor
    tau: Tensor
    qmin: Tensor
    qmax: Tensor
    centre: Tensor
    lo: Tensor
    hi: Tensor

    @classmethod
    def of(cls, anchor: Tensor, tau: Tensor, interval: Tensor, pred: Tensor) -> Grid:
        """Build the grids of samples with these predictions (1/16 level)."""
        step = 2 * tau + 1
        qmin, qmax = -((anchor + tau) // step), (255 - anchor + tau) // step
        centre = nearest(((pred + 8) >> 4).clamp(0, 255), anchor, tau)
        lo, hi = torch.maximum(qmin, centre - interval), torch.minimum(qmax, centre + interval)
        return cls(anchor, tau, qmin, qmax, centre, lo, hi)

    def value(self, q: Tensor) -> Tensor:
        """Samples that symbols stand for."""
        return (self.anchor + q * (2 * self.tau + 1)).clamp(0, 255)


def nearest(value: Tensor, anchor: Tensor, tau: Tensor) -> Tensor:
    """Symbols nearest to samples."""
    away = value - anchor
    return torch.sign(away) * ((away.abs() + tau) // (2 * tau + 1))


class MixtureTables:
    """The tables of section 4 that section 9 reads, on a device."""

    def __init__(self, model: Model) -> None:
        self.log, self.exp = model.ints("table.log"), model.ints("table.exp")
        self.mant, self.shift = model.ints("table.scale_mant"), model.ints("table.scale_shift")
        logistic = model.tensor(model.weights["table.logistic"], I64)
        self.low, self.high = (logistic & 0xFFFF).to(I32), (logistic >> 16).to(I32)

    def logs(self, e: Tensor) -> Tensor:
        """Log magnitudes of residuals (1/16 level)."""
        return self.log[e.abs().clamp(max=PRED_MAX)]

    def mixture(self, out: Tensor, c: int, pred: Tensor, e: Sequence[Tensor], g: Sequence[Tensor]) -> Mixture:
        """Build the mixtures of channel c from outputs [..., n, 5, 3, 5] and residuals and logs of channels before."""
        mean, log_scale, mean_coef, scale_coef, logit = out.unbind(-3)
        loc, scale = 4 * pred[..., None] + mean[..., c, :], log_scale[..., c, :]
        for row, channel in CARRIED[c]:
            loc = loc + ((mean_coef[..., row, :] * e[channel][..., None]) >> 6)
            scale = scale + ((scale_coef[..., row, :] * g[channel][..., None]) >> 6)
        own = logit[..., c, :]
        best = own.amax(-1, keepdim=True)
        weight = self.exp[((best - own) >> 3).clamp(max=511)]
        weight = (weight * ((1 << 30) // weight.sum(-1, keepdim=True, dtype=I32))) >> 15
        is_best = own == best
        top = is_best & (is_best.cumsum(-1) == 1)  # the first of the largest
        weight = weight + torch.where(top, 32768 - weight.sum(-1, keepdim=True, dtype=I32), 0)
        index = ((scale + 1028) >> 3).clamp(0, 320)
        return Mixture(loc.clamp(-16384, 32767), self.mant[index], self.shift[index], weight)

    def cumulative(self, mixture: Mixture, grid: Grid, q: Tensor) -> Tensor:
        """F at symbols q [..., n, m]: 0 up to lo, 65536 beyond hi."""
        lo, hi = grid.lo[..., None], grid.hi[..., None]
        step = (2 * grid.tau + 1)[..., None]
        bound = 64 * (grid.anchor[..., None] + q * step - grid.tau[..., None]) - 32
        product = (bound[..., None] - mixture.loc[..., None, :]) * mixture.mant[..., None, :]
        t = (product >> mixture.shift[..., None, :]).clamp(-12288, 12287) + 12288
        part = t >> 5
        logistic = self.low[part] + ((self.high[part] * (t & 31)) >> 5)
        s = (logistic * mixture.weight[..., None, :]).sum(-1, dtype=I32) >> 15
        # (s (65536 - n)) >> 16 without leaving 32 bits
        f = s + ((-s * (hi - lo + 1)) >> 16) + (q - lo)
        return torch.where(q > hi, 65536, torch.where(q <= lo, 0, f))


def interval(tables: MixtureTables, mixture: Mixture, grid: Grid, q: Tensor) -> tuple[Tensor, Tensor]:
    """Start and frequency of symbols lo..hi; frequency 0 where lo = hi, since nothing is written then."""
    f = tables.cumulative(mixture, grid, torch.stack([q, q + 1], -1))
    start, end = f.unbind(-1)
    return start, torch.where(grid.lo == grid.hi, 0, end - start)


def escape(grid: Grid, symbol: Tensor) -> tuple[Tensor, Tensor]:
    """Start and frequency of what follows a symbol at an end of the interval; frequency 0 where nothing does."""
    q = torch.minimum(torch.maximum(symbol, grid.lo), grid.hi)
    down, up = (q == grid.lo) & (grid.lo > grid.qmin), (q == grid.hi) & (grid.hi < grid.qmax)
    up = up & ~down
    value = torch.where(down, grid.lo - symbol, torch.where(up, symbol - grid.hi, 0))
    count = torch.where(down, grid.lo - grid.qmin + 1, torch.where(up, grid.qmax - grid.hi + 1, 1))
    start = 65536 * value // count
    return start, torch.where(down | up, 65536 * (value + 1) // count - start, 0)
