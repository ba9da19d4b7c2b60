"""DLPR, the whole model of the paper: LIC, masked convolution, RC and SQRC, in one forward pass for training.

::

    x --> LIC --> x~ --round--> r = x - x~ --+--------------> masked conv -> C_r --> RC (u, C_r) ---------> p(r)
           |                                 +-- Q_tau -> r^ -> the same -> C_r^ -> SQRC (u, C_r^, tau) -> p(r) or P(r^)
           +--> u

In training mode x~, y^ and z^ are relaxed by uniform noise, SQRC sees u and its contexts detached and gives log p(r)
(loss.py). In eval mode everything is rounded and SQRC gives log P(r^), so the sum is what an ideal coder would spend.
What differs from the reference: the channel autoregression of SQRC sees r^ in training too, all that the decoder has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlpr.paper.context import MaskedConv
from dlpr.paper.entropy_net import ResidualCompressor, ScalableResidualCompressor
from dlpr.paper.lic import LossyImageCompressor
from dlpr.paper.mixture import UNIT, MixtureParameters, quantise
from dlpr.paper.profile import PaperProfile


@dataclass
class DlprResult:
    """Result of a forward pass; likelihoods of the latents as they are, those of residuals as natural logs."""

    x_tilde: Tensor
    """Lossy reconstruction in levels [b, 3, h, w], not rounded."""
    y_likelihood: Tensor
    z_likelihood: Tensor
    rc: Tensor
    """log p(r) [b, 3, h, w]; in patches, so compare sums only."""
    sqrc: Tensor | None
    """log p(r) (training) or log P(r^) (eval) by SQRC, None for tau = 0."""


def to_patches(t: Tensor, patch: int) -> Tensor:
    """Cut [b, c, h, w] into patches [b * h/P * w/P, c, P, P] in raster order."""
    b, c, h, w = t.shape
    cut = t.reshape(b, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(-1, c, patch, patch)


def from_patches(t: Tensor, h: int, w: int) -> Tensor:
    """Undo :func:`to_patches`: [n, c, P, P] -> [b, c, h, w]."""
    _, c, patch, _ = t.shape
    grid = t.reshape(-1, h // patch, w // patch, c, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(-1, c, h, w)


class Dlpr(nn.Module):
    """Deep lossy plus residual coding, float, as in the paper."""

    def __init__(self, cfg: PaperProfile | None = None) -> None:
        super().__init__()
        self.cfg = cfg = cfg or PaperProfile()
        self.lic = LossyImageCompressor(cfg)
        self.masked_conv = MaskedConv(3, cfg.hidden, cfg.kernel, cfg.context)
        self.rc, self.sqrc = ResidualCompressor(cfg), ScalableResidualCompressor(cfg)

    def context(self, r: Tensor) -> Tensor:
        """C_r [n, P, P, hidden] of residual patches [n, 3, P, P] in levels."""
        c: Tensor = self.masked_conv(r / UNIT)
        return c.permute(0, 2, 3, 1)

    def forward(self, x: Tensor, tau: int = 0) -> DlprResult:
        """Code x.

        Parameters
        ----------
        x : Tensor
            [b, 3, h, w] float32, levels 0..255; h and w multiples of 64 and of the patch (64 x 64 crops train).
        tau : int
            Bound of the near-lossless residual that SQRC codes; 0 leaves SQRC out.
        """
        lossy = self.lic(x)
        noisy = lossy.x_tilde + torch.rand_like(x) - 0.5 if self.training else torch.round(lossy.x_tilde)
        r, u = (to_patches(t, self.cfg.patch) for t in (x - noisy.clamp(0, 255), lossy.u))
        u = u.permute(0, 2, 3, 1)
        parameters = MixtureParameters.of(self.rc(u, self.context(r)), self.cfg.family)
        last = r.permute(0, 2, 3, 1)
        rc = parameters.log_likelihood(last)
        sqrc = self._sqrc(u, r.detach(), tau) if tau else None
        return DlprResult(lossy.x_tilde, lossy.y_likelihood, lossy.z_likelihood, rc, sqrc)

    def _sqrc(self, u: Tensor, r: Tensor, tau: int) -> Tensor:
        """Log likelihood [n, P, P, 3] by SQRC from u [n, P, P, features] and residual patches r [n, 3, P, P]."""
        r_hat = quantise(r, tau)
        raw = self.sqrc(u.detach(), self.context(r_hat).detach(), tau)
        parameters = MixtureParameters.of(raw, self.cfg.family)
        last, last_hat = r.permute(0, 2, 3, 1), r_hat.permute(0, 2, 3, 1)
        if self.training:
            return parameters.log_likelihood(last, 0, last_hat)
        return parameters.log_likelihood(last_hat, tau)

    def parts(self) -> Iterator[tuple[str, nn.Module]]:
        """Parts by their names in the paper."""
        lic = self.lic
        yield from (("g_e", lic.g_e), ("h_e", lic.h_e), ("h_d", lic.h_d), ("g_d trunk", lic.g_d.trunk))
        yield from (("g_d x~ head", lic.g_d.x_head), ("g_d u head", lic.g_d.u_head))
        yield from (("z^ factorised density", lic.z_model), ("masked conv", self.masked_conv))
        yield from (("RC", self.rc), ("SQRC", self.sqrc))

    def parameter_table(self) -> list[tuple[str, int]]:
        """Parameters of each part, and their total."""
        rows = [(name, sum(p.numel() for p in part.parameters())) for name, part in self.parts()]
        return [*rows, ("total", sum(p.numel() for p in self.parameters()))]
