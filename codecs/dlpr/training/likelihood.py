"""Code length of samples under the per-pixel network and its mixture.

:func:`network_bits` is what training calls. On the CPU network, likelihood and their gradients are one native pass
(``native/training/pixel_net.hpp``), which keeps two cores several times busier than torch does; on other devices
:func:`mixture_bits` computes the same in torch.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlpr import _native
from dlpr.modes.networks.model.residual import Conditioned, ResidualCompressor

FLOOR = 1.0 / 65536
"""Least probability of a sample, so that no sample costs more than 16 bits in training."""


FAMILIES = ("logistic", "laplace", "gaussian")
"""Distributions of a component, in the order of the native pass."""


def cdf(family: str, t: Tensor) -> Tensor:
    """Distribution function of a component with mean 0 and scale 1."""
    if family == "gaussian":
        return 0.5 * torch.erfc(-t * 0.70710678)
    if family == "laplace":
        tail = 0.5 * torch.exp(-t.abs())
        return torch.where(t < 0, tail, 1 - tail)
    return torch.sigmoid(t)


def sample_bits(params: Tensor, e: Tensor, lower: Tensor, upper: Tensor, family: str = "logistic") -> Tensor:
    """Bits of samples under the mixture, in torch: [n,3].

    params [n,75]: mean, log-scale, mean and scale coefficients, logits, each 3 x 5; e, lower, upper [n,3]: the sample
    and the edges of its bin in levels relative to the prediction.
    """
    mean, log_scale, mean_by, scale_by, logit = params.view(-1, 5, 3, 5).unbind(1)
    activity = torch.log2(1 + e.abs())
    bits = []
    for c in range(3):
        mu, ls = mean[:, c] * 4, log_scale[:, c]
        for before in range(c):
            slot = before + (c == 2)
            mu = mu + mean_by[:, slot] * e[:, before, None]
            ls = ls + scale_by[:, slot] * activity[:, before, None]
        s = torch.exp(-ls.clamp(-4, 6))
        a = (s * (upper[:, c, None] - mu)).clamp(-40, 40)
        b = (s * (lower[:, c, None] - mu)).clamp(-40, 40)
        # the difference of two values near 1 is lost in float: take it on the small side
        p = torch.where(b > 0, cdf(family, -b) - cdf(family, -a), cdf(family, a) - cdf(family, b))
        bits.append(-torch.log2((torch.softmax(logit[:, c], -1) * p).sum(-1) + FLOOR))
    return torch.stack(bits, -1)


def mixture_bits(params: Tensor, e: Tensor, lower: Tensor, upper: Tensor, family: str = "logistic") -> Tensor:
    """Bits of `sample_bits`, summed."""
    return sample_bits(params, e, lower, upper, family).sum()


class FusedBits(torch.autograd.Function):
    """Bits under the per-pixel network, summed; forward and backward in one native pass."""

    @staticmethod
    def forward(
        ctx: Any, threads: int, family: str, causal: Tensor, position: Tensor, samples: tuple[Tensor, ...], *net: Tensor
    ) -> Tensor:
        """``net``: lossy features, trunk, then the fields of `dlpr.modes.networks.model.residual.Conditioned`."""
        lossy, trunk, *weights = (t.detach().contiguous().numpy() for t in net)
        inputs = (t.contiguous().numpy() for t in samples)
        wanted = any(ctx.needs_input_grad[5:7])
        nats, *grads = _native.pixel_net_nll(
            causal.numpy(), lossy, trunk, position.numpy(), *inputs, *weights, wanted, threads, FAMILIES.index(family)
        )
        ctx.wanted = wanted
        ctx.shapes = [t.shape for t in net]
        ctx.save_for_backward(*(torch.from_numpy(g) for g in grads))
        return torch.tensor(nats / math.log(2), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the stored gradients."""
        factor = grads[0] / math.log(2)
        out: list[Tensor | None] = [
            (g * factor).view(shape) if ctx.wanted or i > 1 else None
            for i, (g, shape) in enumerate(zip(ctx.saved_tensors, ctx.shapes, strict=True))
        ]
        return None, None, None, None, None, *out


def network_bits(
    net: ResidualCompressor,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor],
    samples: tuple[Tensor, Tensor, Tensor],
    condition: tuple[Tensor, Tensor | None],
    threads: int,
    family: str = "logistic",
) -> Tensor:
    """Bits of all samples, summed.

    inputs: causal int16 [b,cells,4,133], lossy [b,cells,4,15], trunk [b,cells,24], position int64 [b,cells,4];
    samples: e, lower, upper [b,cells,4,3]; condition: bank entry [b], tau class [b] or None.
    """
    causal, lossy, trunk, position = inputs
    if causal.device.type == "cpu":
        weights: Conditioned = net.conditioned(*condition)
        bits: Tensor = FusedBits.apply(threads, family, causal, position, samples, lossy, trunk, *weights)  # type: ignore[no-untyped-call]
        return bits
    first = net.first(torch.cat([causal.float() / 64, lossy], -1), trunk, position)
    params = net(first.flatten(1, 2), *condition)
    e, lower, upper = (s.reshape(-1, 3) for s in samples)
    return mixture_bits(params.flatten(0, 1), e, lower, upper, family)
