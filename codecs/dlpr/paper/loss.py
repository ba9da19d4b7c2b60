"""Training objectives of the paper: rate of the latents and of the residual plus lambda times distortion; SQRC's own.

::

    L      = R_y,z + R_r + lambda MSE(x, x~)                  LIC, masked convolution, RC     (lambda 0 or 0.03)
    L_SQRC = E[-log p(r | u, C_r^, tau)]                      SQRC alone, tau random in 1..classes for each batch

Rates are in bits per pixel. The two share one backward pass: u and the contexts reach SQRC detached, so no gradient
of L_SQRC leaves it. A third, auxiliary loss fits the quantiles of z's density, with an optimiser of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from dlpr.paper.model import Dlpr, DlprResult

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


def rate_distortion(result: DlprResult, x: Tensor, lam: float) -> Loss:
    """Objectives of one forward pass in training mode.

    Parameters
    ----------
    result : DlprResult
        What the model gave for ``x``.
    x : Tensor
        Image [b, 3, h, w], levels 0..255.
    lam : float
        lambda: 0 is best for lossless, 0.03 for near-lossless coding.
    """
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    rate_y = bits_per_pixel(torch.log(result.y_likelihood), pixels)
    rate_z = bits_per_pixel(torch.log(result.z_likelihood), pixels)
    rate_r = bits_per_pixel(result.rc, pixels)
    # Beyond the range x~ is clamped; half a level more keeps a gradient for the saturated pixels at its edge.
    mse = torch.mean((result.x_tilde.clamp(-0.5, 255.5) - x) ** 2)
    sqrc = rate_r.new_zeros(()) if result.sqrc is None else bits_per_pixel(result.sqrc, pixels)
    return Loss(rate_y + rate_z + rate_r + lam * mse, sqrc, rate_y, rate_z, rate_r, mse)


@dataclass
class Optimisers:
    """Three Adams: the main one (1e-4), SQRC's, and the quantiles' (1e-3)."""

    main: torch.optim.Optimizer
    sqrc: torch.optim.Optimizer
    auxiliary: torch.optim.Optimizer


def parameter_groups(model: Dlpr) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Parameters that the main, SQRC's and the auxiliary loss train: every one in exactly one group."""

    def named(start: str, skip: tuple[str, ...] = ()) -> Iterator[nn.Parameter]:
        for name, parameter in model.named_parameters():
            if name.startswith(start) and not name.startswith(skip):
                yield parameter

    quantiles = "lic.z_model.quantiles"
    return list(named("", (quantiles, "sqrc."))), list(named("sqrc.")), list(named(quantiles))


def optimisers(model: Dlpr, lr: float = 1e-4, auxiliary_lr: float = 1e-3) -> Optimisers:
    """Optimisers as in the paper."""
    main, sqrc, auxiliary = parameter_groups(model)
    return Optimisers(torch.optim.Adam(main, lr), torch.optim.Adam(sqrc, lr), torch.optim.Adam(auxiliary, auxiliary_lr))


def train_step(model: Dlpr, opt: Optimisers, x: Tensor, lam: float = 0.0, tau: int | None = None) -> Loss:
    """One step on a batch x [b, 3, h, w]; gradients that are not finite change nothing.

    ``tau`` None draws SQRC's from 1..classes (torch's global generator).
    """
    model.train()
    if tau is None:
        tau = int(torch.randint(1, model.cfg.tau_classes + 1, ()))
    parts = (opt.main, opt.sqrc, opt.auxiliary)
    for part in parts:
        part.zero_grad()
    loss = rate_distortion(model(x, tau), x, lam)
    auxiliary = model.lic.z_model.loss()
    torch.autograd.backward([loss.total + loss.sqrc + auxiliary])
    for part, group in zip(parts, parameter_groups(model), strict=True):
        if nn.utils.clip_grad_norm_(group, CLIP).isfinite():
            part.step()
    return loss
