"""The lossy image codec (LIC) of the slide profile: paper section "LIC", small and without attention.

What differs from the paper and why: widths are a tenth (slides are decoded on CPUs), GDN is LeakyReLU with slope 1/8
(exact in integers by a shift), the heads stand at half resolution (a 2x2 pixel shuffle follows)::

    x -space-to-depth- AnalysisTransform g_e -> y (1/16) -- HyperAnalysis h_e -> z (1/64)
                                               |                                |
                                            round: y_hat <- mu, sigma <- HyperSynthesis h_d <- z_hat
                                               |
                                        SynthesisTrunk g_d -> trunk (1/2) --+-- x~ head
                                                                            +-- u head (first layer of the RC)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlpr.config import SlideProfile

SLOPE = 0.125
LATENT_LIMIT = 127.0


def leaky(t: Tensor) -> Tensor:
    """LeakyReLU with slope 1/8."""
    return F.leaky_relu(t, SLOPE)


class AnalysisTransform(nn.Module):
    """g_e: x [b,3,h,w] in levels, centred -> y [b,N,h/16,w/16]."""

    def __init__(self, cfg: SlideProfile) -> None:
        super().__init__()
        self.c0 = nn.Conv2d(48, 48, 3, padding=1)
        self.c1 = nn.Conv2d(48, 64, 3, 2, padding=1)
        self.c2 = nn.Conv2d(64, 64, 3, padding=1)
        self.c3 = nn.Conv2d(64, 96, 3, 2, padding=1)
        self.c4 = nn.Conv2d(96, cfg.latent, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Analyse; h and w are multiples of 16."""
        t = leaky(self.c0(F.pixel_unshuffle(x / 64, 4)))
        t = leaky(self.c1(t))
        t = t + leaky(self.c2(t))
        t = leaky(self.c3(t))
        y: Tensor = self.c4(t).clamp(-LATENT_LIMIT, LATENT_LIMIT)
        return y


class HyperAnalysis(nn.Module):
    """h_e: y -> z [b,Nz,h/64,w/64] by 1x1 layers and 2x2 space-to-depth."""

    def __init__(self, cfg: SlideProfile) -> None:
        super().__init__()
        n = cfg.latent
        self.c0, self.c1, self.c2 = nn.Conv2d(n, n, 1), nn.Conv2d(4 * n, n, 1), nn.Conv2d(4 * n, cfg.hyper, 1)

    def forward(self, y: Tensor) -> Tensor:
        """Analyse; sides of y are multiples of 4."""
        t = leaky(self.c0(y))
        t = leaky(self.c1(F.pixel_unshuffle(t, 2)))
        z: Tensor = self.c2(F.pixel_unshuffle(t, 2)).clamp(-LATENT_LIMIT, LATENT_LIMIT)
        return z


class HyperSynthesis(nn.Module):
    """h_d: z_hat -> mean and log of the standard deviation of y, [b,N,h/16,w/16] each."""

    def __init__(self, cfg: SlideProfile) -> None:
        super().__init__()
        n = cfg.latent
        self.c0, self.c1, self.c2 = nn.Conv2d(cfg.hyper, 4 * n, 1), nn.Conv2d(n, 4 * n, 1), nn.Conv2d(n, 2 * n, 1)

    def forward(self, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the Gaussian of every latent."""
        t = leaky(F.pixel_shuffle(self.c0(z_hat), 2))
        t = leaky(F.pixel_shuffle(self.c1(t), 2))
        mu, log_sigma = self.c2(t).chunk(2, 1)
        return mu, log_sigma


class SynthesisTrunk(nn.Module):
    """g_d: y_hat -> trunk [b,24,h/2,w/2], shared by the x~ and u heads."""

    def __init__(self, cfg: SlideProfile) -> None:
        super().__init__()
        w16, w8, w4, w2 = cfg.widths
        self.c0 = nn.Conv2d(cfg.latent, w16, 3, padding=1)
        self.up0, self.c1 = nn.Conv2d(w16, 4 * w8, 1), nn.Conv2d(w8, w8, 3, padding=1)
        self.up1, self.c2 = nn.Conv2d(w8, 4 * w4, 1), nn.Conv2d(w4, w4, 3, padding=1)
        self.up2, self.c3 = nn.Conv2d(w4, 4 * w2, 1), nn.Conv2d(w2, w2, 3, padding=1)

    def forward(self, y_hat: Tensor) -> Tensor:
        """Synthesise."""
        t = leaky(self.c0(y_hat))
        for up, conv in ((self.up0, self.c1), (self.up1, self.c2), (self.up2, self.c3)):
            t = leaky(F.pixel_shuffle(up(t), 2))
            t = t + leaky(conv(t))
        return t


@dataclass
class LossyResult:
    """What one pass of the LIC gives: x~ in levels, trunk features and the bits of y and z (sums)."""

    x_tilde: Tensor
    trunk: Tensor
    bits_y: Tensor
    bits_z: Tensor


def gaussian_bits(sym: Tensor, log_sigma: Tensor) -> Tensor:
    """Bits of symbols rounded from a zero-mean Gaussian (sum)."""
    sigma = torch.exp(log_sigma.clamp(-3.0, 4.5))
    d = sym.abs()
    p = 0.5 * (torch.erfc((d - 0.5) / sigma * 0.70710678) - torch.erfc((d + 0.5) / sigma * 0.70710678))
    return -torch.log2(p + 1.0 / 65536).sum()


class LossyCodec(nn.Module):
    """LIC: x [b,3,h,w] in coding order, levels 0..255; h and w multiples of 64."""

    def __init__(self, cfg: SlideProfile) -> None:
        super().__init__()
        self.g_e, self.h_e = AnalysisTransform(cfg), HyperAnalysis(cfg)
        self.h_d, self.g_d = HyperSynthesis(cfg), SynthesisTrunk(cfg)
        self.z_mean = nn.Parameter(torch.zeros(cfg.hyper))
        self.z_log_sigma = nn.Parameter(torch.zeros(cfg.hyper))
        self.x_head = nn.Conv2d(cfg.widths[3], 12, 1)

    def forward(self, x: Tensor, noisy: bool) -> LossyResult:
        """Code and decode; ``noisy`` replaces rounding by uniform noise (training)."""
        y = self.g_e(x - 128)
        z = self.h_e(y)
        zm = self.z_mean.view(1, -1, 1, 1)

        def quantise(t: Tensor) -> Tensor:
            return t + torch.rand_like(t) - 0.5 if noisy else torch.round(t)

        z_sym = quantise(z - zm)
        mu, log_sigma = self.h_d(z_sym + zm)
        y_sym = quantise(y - mu)
        bits_z = gaussian_bits(z_sym, self.z_log_sigma.view(1, -1, 1, 1).expand_as(z_sym))
        bits_y = gaussian_bits(y_sym, log_sigma)
        trunk = self.g_d(y_sym + mu)
        x_tilde = F.pixel_shuffle(self.x_head(trunk), 2) * 64 + 128
        return LossyResult(x_tilde, trunk, bits_y, bits_z)
