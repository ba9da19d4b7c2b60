"""Entropy models of the paper's LIC: z^ under a factorised density, y^ under a Gaussian conditional.

Names and behaviour are the standard ones (Balle et al. 2018, Minnen et al. 2018; compressai's modules of the same
name): training replaces rounding by uniform noise, likelihoods are bounded below by 1e-9, standard deviations by 0.11.
What differs: nothing in the mathematics; the coder's tables are lists of cumulative frequencies for dlpr's rANS.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlpr.modes.networks.exact.rans import TOTAL
from dlpr.paper.gdn import lower_bound

SCALE_MIN, SCALE_MAX = 0.11, 256.0
LIKELIHOOD_MIN = 1e-9
TAIL_MASS = 1e-9
FILTERS = (3, 3, 3, 3)
INIT_SCALE = 10.0
MAX_RADIUS = 2048


def cumulative_frequencies(mass: Tensor) -> list[int]:
    """Cumulative frequencies 0..65536 of symbols with these probabilities [n] plus an escape; every one >= 1."""
    total = torch.cumsum(mass.double().clamp_min(0), 0).clamp_max(1)
    n = mass.numel() + 1
    counts: list[int] = (torch.floor(total * (TOTAL - n)).long() + torch.arange(1, n)).tolist()
    return [0, *counts, TOTAL]


class SymbolTable:
    """Symbols low .. low + count - 1 and an escape beyond them, with their cumulative frequencies."""

    def __init__(self, low: int, mass: Tensor) -> None:
        self.low, self.count = low, mass.numel()
        self.frequencies = cumulative_frequencies(mass)


class EntropyBottleneck(nn.Module):
    """Non-parametric factorised density of z: a monotone network per channel gives the logit of its CDF.

    ``quantiles`` [c, 1, 3] hold the ends and the median of each channel; they learn from :meth:`loss` alone (their own
    optimiser, as everywhere).
    """

    target: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (1, *FILTERS, 1)
        scale = INIT_SCALE ** (1 / (len(FILTERS) + 1))
        self.matrices, self.biases, self.factors = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        for i in range(len(FILTERS) + 1):
            start = math.log(math.expm1(1 / scale / widths[i + 1]))
            self.matrices.append(nn.Parameter(torch.full((channels, widths[i + 1], widths[i]), start)))
            self.biases.append(nn.Parameter(torch.empty(channels, widths[i + 1], 1).uniform_(-0.5, 0.5)))
            if i < len(FILTERS):
                self.factors.append(nn.Parameter(torch.zeros(channels, widths[i + 1], 1)))
        self.quantiles = nn.Parameter(torch.tensor([-INIT_SCALE, 0.0, INIT_SCALE]).repeat(channels, 1, 1))
        edge = math.log(2 / TAIL_MASS - 1)
        self.register_buffer("target", torch.tensor([-edge, 0.0, edge]), persistent=False)

    def logits(self, x: Tensor, frozen: bool = False) -> Tensor:
        """Logit of the CDF at x [c, 1, n]; ``frozen`` keeps gradients from the density."""
        t = x
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            m, b = (matrix.detach(), bias.detach()) if frozen else (matrix, bias)
            t = F.softplus(m) @ t + b
            if i < len(FILTERS):
                factor = self.factors[i].detach() if frozen else self.factors[i]
                t = t + torch.tanh(factor) * torch.tanh(t)
        return t

    def probability(self, x: Tensor, frozen: bool = False) -> Tensor:
        """Mass of the unit interval around x [c, 1, n]."""
        lower, upper = self.logits(x - 0.5, frozen), self.logits(x + 0.5, frozen)
        sign = -torch.sign(lower + upper).detach()
        return (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()

    def medians(self) -> Tensor:
        """Medians [1, c, 1, 1], detached."""
        return self.quantiles[:, 0, 1].detach().view(1, -1, 1, 1)

    def loss(self) -> Tensor:
        """Auxiliary loss that draws the quantiles to the density's tails and median."""
        return (self.logits(self.quantiles, frozen=True) - self.target).abs().sum()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z_hat and likelihoods, [b, c, h, w] each; noise in training mode, rounding otherwise."""
        medians = self.medians()
        z_hat = z + torch.rand_like(z) - 0.5 if self.training else torch.round(z - medians) + medians
        b, c, h, w = z.shape
        flat = z_hat.transpose(0, 1).reshape(c, 1, -1)
        likelihood = lower_bound(self.probability(flat), LIKELIHOOD_MIN)
        return z_hat, likelihood.reshape(c, b, h, w).transpose(0, 1)

    @torch.no_grad()
    def tables(self) -> list[SymbolTable]:
        """One table per channel for the symbols round(z - median)."""
        q = self.quantiles[:, 0].cpu()
        low = torch.ceil(q[:, 1] - q[:, 0]).clamp(0, MAX_RADIUS).long().tolist()
        high = torch.ceil(q[:, 2] - q[:, 1]).clamp(0, MAX_RADIUS).long().tolist()
        samples = torch.arange(-max(low), max(high) + 1, device=self.quantiles.device)
        mass = self.probability(samples + self.quantiles[:, :, 1:2]).cpu()[:, 0]
        return [
            SymbolTable(-a, row[max(low) - a : max(low) + b + 1]) for a, b, row in zip(low, high, mass, strict=True)
        ]


def scale_table(levels: int) -> Tensor:
    """Standard deviations, log-spaced in 0.11..256 [levels]."""
    return torch.exp(torch.linspace(math.log(SCALE_MIN), math.log(SCALE_MAX), levels))


def standard_normal_cdf(t: Tensor) -> Tensor:
    """CDF of the standard normal distribution, precise in the lower tail."""
    return 0.5 * torch.erfc(-(2**-0.5) * t)


class GaussianConditional(nn.Module):
    """y^ under a Gaussian with mean mu and standard deviation sigma, integrated over unit intervals."""

    scales: Tensor

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.register_buffer("scales", scale_table(levels), persistent=False)

    def likelihood(self, symbol: Tensor, sigma: Tensor) -> Tensor:
        """Mass of the unit interval around ``symbol`` = y^ - mu, any shape."""
        d, s = symbol.abs(), lower_bound(sigma, SCALE_MIN)
        mass = standard_normal_cdf((0.5 - d) / s) - standard_normal_cdf((-0.5 - d) / s)
        return lower_bound(mass, LIKELIHOOD_MIN)

    def forward(self, y: Tensor, mu: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """y_hat and likelihoods, [b, c, h, w] each; noise in training mode, rounding of y - mu otherwise."""
        y_hat = y + torch.rand_like(y) - 0.5 if self.training else torch.round(y - mu) + mu
        return y_hat, self.likelihood(y_hat - mu, sigma)

    def indexes(self, sigma: Tensor) -> Tensor:
        """Index of the smallest scale that is not below sigma; any shape, int64."""
        return torch.bucketize(sigma.contiguous(), self.scales[:-1].contiguous())

    @torch.no_grad()
    def tables(self) -> list[SymbolTable]:
        """One table per scale for the symbols y^ - mu."""
        reach = float(-torch.special.ndtri(torch.tensor(TAIL_MASS / 2, dtype=torch.float64)))
        out = []
        for sigma in self.scales.cpu().double():
            r = min(math.ceil(float(sigma) * reach), MAX_RADIUS)
            d = torch.arange(-r, r + 1).double().abs()
            mass = standard_normal_cdf((0.5 - d) / sigma) - standard_normal_cdf((-0.5 - d) / sigma)
            out.append(SymbolTable(-r, mass))
        return out
