"""Residual compressors of the slide profile: RC for tau = 0, SQRC for tau >= 1.

The masked context M_7^3, u and x~ are fused by one linear layer; 1x1 layers follow, conditioned by a bank entry and, in
SQRC, by tau; the output is a mixture of 5 logistics per channel.

What differs from the paper and why: masked convolution, u head and fusion have no activation between them, so they are
one linear layer here; the location of the mixture is the chunk's own linear predictor (docs/format section 7); every
layer's output is scaled and shifted by a conditioning vector that the encoder picks for the chunk; the scale of a
channel also depends on the residuals of the channels before it::

    causal features [.,133] (decoded pixels) --+
    x~ around the pixel [.,15] ----------------+-- first layer -> h -> 3 x (1x1, LeakyReLU) -+-> 1x1, LeakyReLU
    trunk [.,24], weights by pixel parity -----+                  |__________________________|        |
    position in the 8x8 grid ------------------+                                                  1x1 -> 75
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlpr.config import SlideProfile
from dlpr.modes.networks.exact.geometry import NEAR, TAPS
from dlpr.modes.networks.model.lic import leaky

CAUSAL_FEATURES = 133
LOSSY_FEATURES = 15


@dataclass(frozen=True)
class Switches:
    """Parts of the residual compressor that an ablation takes out; what is off stays zero in training and export."""

    u: bool = True
    """Features u of the lossy layer."""
    x_tilde: bool = True
    """x~ around the pixel."""
    components: int = 5
    """Components of the mixture that may carry weight, 1..5; 1 is the paper's single logistic."""
    family: str = "logistic"
    """Distribution of a component: "logistic", "gaussian" or "laplace"."""
    context: int = 3
    """n of the masked context: 3 is M_7^3, the format's; 2 leaves those of its taps that M_7^2 has too (18 of 22)."""


OFF_LOGIT = -12.0


def masked_columns(n: int) -> list[int]:
    """Causal features (docs/format section 8) that M_7^n lacks: its missing taps and their residuals."""
    missing = [t for t, (dy, dx) in enumerate(TAPS) if (n - 1) * dy + dx >= 0]
    near = [3 * len(TAPS) + 6 * t + k for t in missing if t < NEAR for k in range(6)]
    return [3 * t + c for t in missing for c in range(3)] + near


class Conditioned(NamedTuple):
    """Weights of b crops with their conditioning folded in; C = hidden.

    first [b,148,C], u [b,4,24,C] by pixel parity, place [b,64,C] by position in the 8x8 grid, w [b,blocks+1,C,C],
    bias [b,blocks+1,C], out [b,C,75], out_bias [b,75].
    """

    first: Tensor
    u: Tensor
    place: Tensor
    w: Tensor
    bias: Tensor
    out: Tensor
    out_bias: Tensor


def rounded(weight: Tensor, top: Tensor) -> Tensor:
    """Weights in 127 steps up to ``top``, the largest of their row; the gradient goes straight through."""
    step = (top / 127).clamp(min=1e-12).detach()
    return weight + (torch.round(weight / step) * step - weight).detach()


class ResidualCompressor(nn.Module):
    """Per-pixel network. ``tau_classes`` = 0 makes RC, >= 1 makes SQRC with that many conditions.

    ``causal`` is the number of features from decoded pixels; another one than the format's cannot be exported.
    """

    def __init__(self, cfg: SlideProfile, tau_classes: int = 0, causal: int = CAUSAL_FEATURES) -> None:
        super().__init__()
        c, self.cfg, self.causal = cfg.hidden, cfg, causal
        self.masked = nn.Linear(causal + LOSSY_FEATURES, c, bias=False)
        self.u_head = nn.Linear(cfg.widths[3], 4 * c, bias=False)
        self.position = nn.Parameter(torch.zeros(8, 8, c))
        self.hidden = nn.ModuleList([nn.Linear(c, c) for _ in range(cfg.blocks + 1)])
        self.out = nn.Linear(c, cfg.outputs)
        self.rounded = False
        """Weights rounded to int8 in the forward pass, straight through in the backward one."""
        n = cfg.blocks + 2
        self.bank_scale = nn.Parameter(torch.zeros(cfg.bank, n, c))
        self.bank_shift = nn.Parameter(torch.zeros(cfg.bank, n, c))
        self.bank_out = nn.Parameter(torch.zeros(cfg.bank, cfg.outputs))
        self.tau_classes = tau_classes
        if tau_classes:
            self.tau_scale = nn.Parameter(torch.ones(tau_classes, n, c))
            self.tau_shift = nn.Parameter(torch.zeros(tau_classes, n, c))
            self.tau_out_scale = nn.Parameter(torch.ones(tau_classes, cfg.outputs))
            self.tau_out_shift = nn.Parameter(torch.zeros(tau_classes, cfg.outputs))
        with torch.no_grad():
            self.masked.weight.mul_(0.7)
            self.u_head.weight.mul_(0.3)
            self.out.weight.mul_(0.3)
            k = torch.arange(15) % 5
            self.out.bias.zero_()
            self.out.bias[:15] = (k - 2) * 0.2
            self.out.bias[15:30] = k * 0.6 - 0.3
            self.bank_shift[1:].normal_(0, 0.01)

    @torch.no_grad()
    def restrict(self, switches: Switches) -> None:
        """Zero what is switched off, in place."""
        if not switches.u:
            self.u_head.weight.zero_()
        if not switches.x_tilde:
            self.masked.weight[:, self.causal :] = 0
        self.masked.weight[:, masked_columns(switches.context)] = 0
        k = self.cfg.components
        if switches.components < k:
            off = torch.arange(12 * k, 15 * k).view(3, k)[:, switches.components :].flatten()
            self.out.weight[off], self.out.bias[off], self.bank_out[:, off] = 0, OFF_LOGIT, 0
            if self.tau_classes:
                self.tau_out_scale[:, off], self.tau_out_shift[:, off] = 1, 0

    def first(self, features: Tensor, trunk: Tensor, position: Tensor) -> Tensor:
        """First layer before conditioning.

        features [b,cells,4,148] (four pixels of each 2x2 cell), trunk [b,cells,24], position [b,cells,4] in 0..63.
        """
        b, cells = trunk.shape[:2]
        masked, u_head, _, _ = self._weights()
        u = (trunk @ u_head.flatten(0, 1).T).view(b, cells, 4, -1)
        out: Tensor = features @ masked.T + u + self.position.view(64, -1)[position]
        return out

    def _weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights masked [C,148], u [4,C,24], hidden [blocks+1,C,C] and out [75,C]; rounded if asked to be."""
        masked, u = self.masked.weight, self.u_head.weight.view(4, self.cfg.hidden, -1)
        hidden = torch.stack([layer.weight for layer in self.hidden if isinstance(layer, nn.Linear)])
        out: Tensor = self.out.weight
        if self.rounded:
            top = torch.maximum(masked.abs().amax(1), u.abs().amax((0, 2)))
            masked, u = rounded(masked, top[:, None]), rounded(u, top[:, None])
            hidden = rounded(hidden, hidden.abs().amax(2, keepdim=True))
            out = rounded(out, out.abs().amax(1, keepdim=True))
        return masked, u, hidden, out

    def conditioned(self, entry: Tensor, tau_class: Tensor | None = None) -> Conditioned:
        """Weights of each crop, conditioning folded in; bank entry [b] and, for SQRC, tau class [b]."""
        scale, shift = 1 + self.bank_scale[entry], self.bank_shift[entry]
        out_scale: Tensor | None = None
        out_shift = self.bank_out[entry]
        if tau_class is not None:
            scale = scale * self.tau_scale[tau_class]
            shift = shift * self.tau_scale[tau_class] + self.tau_shift[tau_class]
            out_scale = self.tau_out_scale[tau_class]
            out_shift = out_shift * out_scale + self.tau_out_shift[tau_class]
        b = scale.shape[0]
        masked, u, w, out = self._weights()
        w, u = w.transpose(1, 2), u.transpose(1, 2)
        bias = torch.stack([layer.bias for layer in self.hidden if isinstance(layer, nn.Linear)])
        out = out.T[None].expand(b, -1, -1)
        out_bias = self.out.bias[None].expand(b, -1)
        if out_scale is not None:
            out, out_bias = out * out_scale[:, None], out_bias * out_scale
        return Conditioned(
            first=masked.T * scale[:, None, 0],
            u=u * scale[:, None, None, 0],
            place=self.position.view(64, -1) * scale[:, None, 0] + shift[:, None, 0],
            w=w * scale[:, 1:, None],
            bias=bias * scale[:, 1:] + shift[:, 1:],
            out=out,
            out_bias=out_bias + out_shift,
        )

    def forward(self, first: Tensor, entry: Tensor, tau_class: Tensor | None = None) -> Tensor:
        """Mixture parameters [b,n,75] from :meth:`first` [b,n,C], bank entry [b] and, for SQRC, tau class [b]."""
        scale, shift = 1 + self.bank_scale[entry, 0], self.bank_shift[entry, 0]
        if tau_class is not None:
            scale = scale * self.tau_scale[tau_class, 0]
            shift = shift * self.tau_scale[tau_class, 0] + self.tau_shift[tau_class, 0]
        k = self.conditioned(entry, tau_class)
        h = torch.addcmul(shift[:, None], first, scale[:, None])
        t = leaky(h)
        for i in range(self.cfg.blocks):
            t = leaky(torch.baddbmm(k.bias[:, None, i], t, k.w[:, i]))
        t = leaky(torch.baddbmm(k.bias[:, None, -1], t + h, k.w[:, -1]))
        return torch.baddbmm(k.out_bias[:, None], t, k.out)
