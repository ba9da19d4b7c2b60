"""Discretised mixtures with channel autoregression: the distribution of a residual pixel (paper, RC and SQRC).

Parameters of a pixel, 10 K values from the per-pixel network: means 3 K, log scales 3 K, channel coefficients 3 K
(after tanh), weights K shared by the channels. Means and scales are in units of 127.5 levels, all else in levels::

    mu~_1 = mu_1     mu~_2 = mu_2 + b1 r_1     mu~_3 = mu_3 + b2 r_1 + b3 r_2           (component by component)
    P(r_c = v) = sum_k pi_k [S((v + tau + .5 - mu~_ck) / s_ck) - S((v - tau - .5 - mu~_ck) / s_ck)]

S is the CDF of a logistic (the paper's choice), Gaussian or Laplace component; K = 1 gives the single distribution. The
outermost bins take the tails. With tau >= 1 a bin holds the 2 tau + 1 residuals that quantise to v. What differs from
the reference: log probabilities are exact however small (the reference bounds them by 1e-9), so gradients never vanish.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dlpr.paper.profile import Family

UNIT = 127.5
"""Levels in one unit of the network's means and scales."""
LOG_SCALE_RANGE = (-7.0, 7.0)
"""Of the reference below; above, so that an overshooting step cannot overflow."""


def quantise(r: Tensor, tau: int) -> Tensor:
    """r^ = sgn(r) (2 tau + 1) floor((|r| + tau) / (2 tau + 1)), any shape, levels; |r - r^| <= tau for integers.

    Examples
    --------
    >>> quantise(torch.tensor([-5, -2, -1, 0, 1, 2, 4, 5]), 1).tolist()
    [-6, -3, 0, 0, 0, 3, 3, 6]
    """
    step = 2 * tau + 1
    return torch.sign(r) * step * torch.div(r.abs() + tau, step, rounding_mode="floor")


def last_symbol(tau: int) -> int:
    """Largest |r^| / (2 tau + 1) that a residual in -255..255 quantises to."""
    return (255 + tau) // (2 * tau + 1)


@dataclass
class MixtureParameters:
    """Mixtures of pixels [...]: mean and scale in levels, coefficient [..., 3, K] each, log_weight [..., K]."""

    family: Family
    mean: Tensor
    scale: Tensor
    coefficient: Tensor
    log_weight: Tensor

    @classmethod
    def of(cls, raw: Tensor, family: Family) -> MixtureParameters:
        """From the network's output [..., 10 K]."""
        k = raw.shape[-1] // 10
        mean, log_scale, coefficient = (t.unflatten(-1, (3, k)) for t in raw[..., : 9 * k].split(3 * k, -1))
        scale = torch.exp(log_scale.clamp(*LOG_SCALE_RANGE)) * UNIT
        return cls(family, mean * UNIT, scale, torch.tanh(coefficient), raw[..., 9 * k :].log_softmax(-1))

    def locations(self, previous: Tensor) -> Tensor:
        """mu~ [..., 3, K] given the residuals [..., 3] of the channels before; each uses only those before it."""
        r1, r2 = previous[..., 0, None], previous[..., 1, None]
        b1, b2, b3 = self.coefficient.unbind(-2)
        shift = torch.stack((torch.zeros_like(b1), b1 * r1, b2 * r1 + b3 * r2), -2)
        return self.mean + shift

    def log_likelihood(self, r: Tensor, tau: int = 0, previous: Tensor | None = None) -> Tensor:
        """Natural log of the probability of r [..., 3], a bin of half width tau + 0.5.

        Parameters
        ----------
        r : Tensor
            Residuals in levels, or quantised residuals for ``tau`` >= 1.
        tau : int
            Half width of the bins; 0 for the residual itself.
        previous : Tensor, optional
            Residuals [..., 3] that the channel autoregression sees; by default ``r``.

        Returns
        -------
        Tensor
            [..., 3], at most 0.
        """
        half, edge = tau + 0.5, 255 - 1e-3
        d = r[..., None] - self.locations(r if previous is None else previous)
        outer = r.abs()[..., None] + tau >= edge
        upper = torch.where(outer & (r > 0)[..., None], math.inf, (d + half) / self.scale)
        lower = torch.where(outer & (r < 0)[..., None], -math.inf, (d - half) / self.scale)
        return torch.logsumexp(log_mass(self.family, lower, upper) + self.log_weight[..., None, :], -1)

    def channel_cdf(self, channel: int, previous: Tensor, edges: Tensor) -> Tensor:
        """CDF of one channel at edges [e] in levels: [n, e] for n pixels, ``previous`` [n, 3] as in `locations`."""
        location = self.locations(previous)[..., channel, :, None]
        t = (edges - location) / self.scale[..., channel, :, None]
        return (self.log_weight.exp()[..., None] * cdf(self.family, t)).sum(-2)

    def pmf(self, channel: int, previous: Tensor, tau: int = 0) -> Tensor:
        """Probabilities [n, 2 J + 1] of r^ / (2 tau + 1) = -J .. J, J = ``last_symbol(tau)``; they sum to 1."""
        last = last_symbol(tau)
        at = self.channel_cdf(channel, previous, bin_edges(-last, last, tau, self.mean.device)[1:-1])
        return torch.diff(F.pad(F.pad(at, (1, 0), value=0.0), (0, 1), value=1.0))


def bin_edges(low: int, high: int, tau: int, device: torch.device | None = None) -> Tensor:
    """Edges [high - low + 2] in levels of the bins low..high of width 2 tau + 1."""
    return (torch.arange(low, high + 2, device=device, dtype=torch.float32) - 0.5) * (2 * tau + 1)


def cdf(family: Family, t: Tensor) -> Tensor:
    """Standard CDF, any shape."""
    if family is Family.LOGISTIC:
        return torch.sigmoid(t)
    if family is Family.GAUSSIAN:
        normal: Tensor = torch.special.ndtr(t)
        return normal
    tail = 0.5 * torch.exp(-t.abs())
    return torch.where(t < 0, tail, 1 - tail)


def _log_cdf(family: Family, t: Tensor) -> Tensor:
    """Log of the standard CDF, precise in the lower tail."""
    if family is Family.LOGISTIC:
        return F.logsigmoid(t)
    if family is Family.GAUSSIAN:
        normal: Tensor = torch.special.log_ndtr(t)
        return normal
    low = t.clamp_max(0)
    return torch.where(t < 0, low - math.log(2), torch.log1p(-0.5 * torch.exp(-t.clamp_min(0))))


def log_mass(family: Family, lower: Tensor, upper: Tensor) -> Tensor:
    """log(CDF(upper) - CDF(lower)), any shape, lower < upper, infinite ends allowed; finite gradients everywhere."""
    # The smaller tail is the precise one: mirror intervals that lie to the right.
    mirror = lower + upper > 0
    a, b = torch.where(mirror, -upper, lower), torch.where(mirror, -lower, upper)
    open_below = torch.isneginf(a)
    log_b = _log_cdf(family, b)
    # log(F(b) - F(a)) = log F(b) + log(1 - exp(log F(a) - log F(b))); the ratio is kept away from 1 for the gradient.
    gap = _log_cdf(family, torch.where(open_below, b - 1, a)) - log_b
    inner = torch.log(-torch.expm1(gap.clamp_max(-1e-7)))
    return log_b + torch.where(open_below, 0.0, inner)
