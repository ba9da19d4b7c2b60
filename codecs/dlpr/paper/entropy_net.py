"""Per-pixel networks of the residual compressors: RC for tau = 0 and SQRC for tau >= 1.

::

    u, C_r -- cat -- fusion 1x1 --+-- 3 x [1x1, LeakyReLU] --(+)-- 1x1, LeakyReLU -- 1x1 --> 10 K mixture parameters
                                  +--------------------------/

SQRC has the same layers; each is a ConditionalConv, scaled by softplus(W_s onehot(tau)) and shifted by W_b onehot(tau),
so that it corrects the bias that quantised contexts bring. What differs from the reference: tensors have their channels
last, so a 1x1 convolution is a linear layer and single pixels [n, c] take the same path as images [b, h, w, c]; SQRC
can start as an exact copy of RC (`start_from`), which is the uncorrected PMF.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlpr.paper.profile import PaperProfile


class ResidualCompressor(nn.Module):
    """RC: u [..., features] and context C_r [..., hidden] -> mixture parameters [..., 10 K]."""

    def __init__(self, cfg: PaperProfile) -> None:
        super().__init__()
        c = cfg.hidden
        self.fusion = nn.Linear(cfg.features + c, c)
        self.block = nn.ModuleList([nn.Linear(c, c) for _ in range(3)])
        self.hidden, self.out = nn.Linear(c, c), nn.Linear(c, cfg.outputs)

    def layers(self) -> list[nn.Linear]:
        """All layers in order."""
        block = [layer for layer in self.block if isinstance(layer, nn.Linear)]
        return [self.fusion, *block, self.hidden, self.out]

    def forward(self, u: Tensor, context: Tensor) -> Tensor:
        """Predict the distribution of every pixel."""
        h = self.fusion(torch.cat((u, context), -1))
        t = h
        for layer in self.block:
            t = F.leaky_relu(layer(t))
        out: Tensor = self.out(F.leaky_relu(self.hidden(t + h)))
        return out


class ConditionalConv(nn.Module):
    """1x1 convolution conditioned on tau: (W x) * softplus(W_s onehot(tau)) + W_b onehot(tau), channels last.

    The one-hot vector has ``classes`` entries for tau = 1..classes; a larger tau uses the last.
    """

    def __init__(self, classes: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.classes = classes
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.scale = nn.Linear(classes, outputs, bias=False)
        self.shift = nn.Linear(classes, outputs, bias=False)

    def folded(self, tau: int) -> tuple[Tensor, Tensor]:
        """Weight [outputs, inputs] and bias [outputs] of the plain 1x1 convolution that this is at ``tau``."""
        if tau < 1:
            raise ValueError("SQRC is for tau >= 1")
        onehot = torch.zeros(self.classes, dtype=self.scale.weight.dtype, device=self.scale.weight.device)
        onehot[min(tau, self.classes) - 1] = 1
        scale = F.softplus(self.scale(onehot))
        return self.linear.weight * scale[:, None], self.shift(onehot)

    def forward(self, x: Tensor, tau: int) -> Tensor:
        """Convolve x [..., inputs] -> [..., outputs]."""
        weight, bias = self.folded(tau)
        return F.linear(x, weight, bias)

    @torch.no_grad()
    def start_from(self, layer: nn.Linear) -> None:
        """Become ``layer``, whatever tau is."""
        self.linear.weight.copy_(layer.weight)
        self.scale.weight.fill_(math.log(math.expm1(1)))
        self.shift.weight.copy_(layer.bias[:, None].expand_as(self.shift.weight))


class ScalableResidualCompressor(nn.Module):
    """SQRC: u, context C_r^ of quantised residuals and tau -> mixture parameters [..., 10 K] of the residual."""

    def __init__(self, cfg: PaperProfile) -> None:
        super().__init__()
        c, classes = cfg.hidden, cfg.tau_classes
        self.fusion = ConditionalConv(classes, cfg.features + c, c)
        self.block = nn.ModuleList([ConditionalConv(classes, c, c) for _ in range(3)])
        self.hidden, self.out = ConditionalConv(classes, c, c), ConditionalConv(classes, c, cfg.outputs)

    def layers(self) -> list[ConditionalConv]:
        """All layers in order."""
        block = [layer for layer in self.block if isinstance(layer, ConditionalConv)]
        return [self.fusion, *block, self.hidden, self.out]

    def start_from(self, rc: ResidualCompressor) -> None:
        """Copy RC into every condition."""
        for mine, its in zip(self.layers(), rc.layers(), strict=True):
            mine.start_from(its)

    def forward(self, u: Tensor, context: Tensor, tau: int) -> Tensor:
        """Predict the distribution of every pixel."""
        h = self.fusion(torch.cat((u, context), -1), tau)
        t = h
        for layer in self.block:
            t = F.leaky_relu(layer(t, tau))
        out: Tensor = self.out(F.leaky_relu(self.hidden(t + h, tau)), tau)
        return out
