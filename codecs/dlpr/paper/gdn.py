"""Generalised divisive normalisation (GDN) and its inverse (IGDN), the nonlinearity of the paper's LIC.

::

    GDN:  y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2)        IGDN: y_i = x_i * sqrt(beta_i + sum_j gamma_ij x_j^2)

beta and gamma stay non-negative by the reparametrisation of Balle et al.: the stored value is the square root, bounded
below, and the bound lets gradients pass that lead away from it. Nothing differs from the paper.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PEDESTAL = 2.0**-36


class _Bound(torch.autograd.Function):
    """max(x, bound) whose gradient passes where x is above the bound or would rise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: Tensor) -> Tensor:
        ctx.save_for_backward(x, bound)
        return torch.maximum(x, bound)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None]:
        x, bound = ctx.saved_tensors
        (grad,) = grads
        return grad * ((x >= bound) | (grad < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound), any shape; the gradient passes where it leads upwards (compressai's LowerBound)."""
    out: Tensor = _Bound.apply(x, torch.full((), bound, dtype=x.dtype, device=x.device))  # type: ignore[no-untyped-call]
    return out


class NonNegative(nn.Module):
    """A parameter that stays >= ``minimum``: stores sqrt(value + pedestal), gives its square less the pedestal."""

    def __init__(self, value: Tensor, minimum: float = 0.0) -> None:
        super().__init__()
        self.bound = (minimum + PEDESTAL) ** 0.5
        self.root = nn.Parameter(torch.sqrt(value.clamp_min(0) + PEDESTAL))

    def forward(self) -> Tensor:
        """The value, of the shape given."""
        return lower_bound(self.root, self.bound) ** 2 - PEDESTAL


class GDN(nn.Module):
    """GDN, or IGDN with ``inverse``: [b, c, h, w] -> [b, c, h, w] float32."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = NonNegative(torch.ones(channels), 1e-6)
        self.gamma = NonNegative(0.1 * torch.eye(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel by the energy of its channels."""
        beta: Tensor = self.beta()
        gamma: Tensor = self.gamma()
        energy = F.conv2d(x * x, gamma[:, :, None, None], beta)
        return x * (torch.sqrt(energy) if self.inverse else torch.rsqrt(energy))
