"""Training objectives of the paper: rate of the latents and of the residual plus lambda times distortion; SQRC's own.

::

    L      = R_y,z + R_r + lambda MSE(x, x~)                  LIC, masked convolution, RC     (lambda 0 or 0.03)
    L_SQRC = E[-log p(r | u, C_r^, tau)]                      SQRC alone, tau random in 1..classes for each batch

Rates are in bits per pixel. The two share one backward pass: u and the contexts reach SQRC detached, so no gradient
of L_SQRC leaves it. CompressAI's auxiliary loss fits the quantiles of z's density, with an optimiser of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from compressai.optimizers import net_aux_optimizer
from torch import Tensor, nn

if TYPE_CHECKING:
    from dlpr.paper.model import Dlpr

CLIP = 1.0
"""Largest norm of the gradient of each objective."""


@dataclass
class Loss:
    """Scalars; rates in bits per pixel, mse in squared levels."""

    total: Tensor
    """R_y,z + R_r + lambda MSE."""
    sqrc: Tensor
    """SQRC's objective; 0 where it did not run."""
    rate_y: Tensor
    rate_z: Tensor
    rate_residual: Tensor
    mse: Tensor


def bits_per_pixel(log_likelihood: Tensor, pixels: int) -> Tensor:
    """Sum of natural log likelihoods as bits per pixel."""
    return log_likelihood.sum() / (-math.log(2) * pixels)


def rate_distortion(result: Mapping[str, Any], x: Tensor, lam: float) -> Loss:
    """Objectives of one forward pass in training mode.

    `compressai.losses.RateDistortionLoss(lmbda=lam)` on the same pass is the same total but for two things: here the
    rate of the residual is not bounded, and x~ is clamped.

    Parameters
    ----------
    result : mapping
        What the model gave for ``x``.
    x : Tensor
        Image [b, 3, h, w] in 0..1.
    lam : float
        lambda: 0 is best for lossless, 0.03 for near-lossless coding.
    """
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    rate_y, rate_z = (bits_per_pixel(torch.log(result["likelihoods"][k]), pixels) for k in "yz")
    logs = result["log_likelihoods"]
    rate_r = bits_per_pixel(logs["rc"], pixels)
    # Beyond the range x~ is clamped; half a level more keeps a gradient for the saturated pixels at its edge.
    mse = torch.mean((result["x_tilde"].clamp(-0.5, 255.5) - 255 * x) ** 2)
    sqrc = bits_per_pixel(logs["sqrc"], pixels) if "sqrc" in logs else rate_r.new_zeros(())
    return Loss(rate_y + rate_z + rate_r + lam * mse, sqrc, rate_y, rate_z, rate_r, mse)


def optimisers(model: Dlpr, lr: float = 1e-4, auxiliary_lr: float = 1e-3) -> dict[str, torch.optim.Optimizer]:
    """CompressAI's pair: "net" for all parameters but the quantiles, "aux" for these."""
    settings = {"net": {"type": "Adam", "lr": lr}, "aux": {"type": "Adam", "lr": auxiliary_lr}}
    pair: dict[str, torch.optim.Optimizer] = net_aux_optimizer(model, settings)
    return pair


def parameter_groups(model: Dlpr) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Parameters that the main, SQRC's and the auxiliary loss train: every one in exactly one group."""
    named = list(model.named_parameters())
    quantiles = [p for name, p in named if name.endswith(".quantiles")]
    sqrc = [p for name, p in named if name.startswith("sqrc.")]
    rest = [p for name, p in named if not name.endswith(".quantiles") and not name.startswith("sqrc.")]
    return rest, sqrc, quantiles


def train_step(
    model: Dlpr, pair: Mapping[str, torch.optim.Optimizer], x: Tensor, lam: float = 0.0, tau: int | None = None
) -> Loss:
    """One step on a batch x [b, 3, h, w] in 0..1; gradients that are not finite change nothing.

    ``tau`` None draws SQRC's from 1..classes (torch's global generator).
    """
    model.train()
    if tau is None:
        tau = int(torch.randint(1, model.cfg.tau_classes + 1, ()))
    for optimiser in pair.values():
        optimiser.zero_grad()
    loss = rate_distortion(model(x, tau), x, lam)
    torch.autograd.backward([loss.total + loss.sqrc])
    main, sqrc, _ = parameter_groups(model)
    norms = [nn.utils.clip_grad_norm_(group, CLIP) for group in (main, sqrc)]  # two objectives, clipped each by itself
    if all(norm.isfinite() for norm in norms):
        pair["net"].step()
    auxiliary = model.aux_loss()
    auxiliary.backward()
    pair["aux"].step()
    return loss
