"""Lossy image codec (docs/format section 5): latents to trunk and x~, NumPy int64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dlpr.arrays import Buffer, Ints, clamp
from dlpr.modes.networks.exact.layers import LIMIT, as_int, convolve, leaky, shuffle2
from dlpr.modes.networks.exact.rans import LaneDecoder, Latents
from dlpr.modes.networks.weights import Weights

CodeLatent = Callable[[tuple[str, int, int, int], int], int]
"""(which latent: "y" or "z", channel, row, column; its scale index) -> its symbol, after reading or writing it."""


@dataclass(frozen=True)
class LossyLayer:
    """What the lossy layer gives the residual coder."""

    x_tilde: Ints
    """[H, W, 3], 0..255, coding order; with one channel three copies of the first."""
    trunk: Ints
    """[24, ceil(H/2), ceil(W/2)] or more."""


def decode_lossy_part(part: Buffer, weights: Weights, height: int, width: int, channels: int) -> LossyLayer:
    """Decode the lossy part of a stream."""
    lane, latents = LaneDecoder(part), Latents(weights)
    y_hat = code_latents(weights, height, width, lambda _, scale: latents.decode(lane, scale))
    lane.finish()
    return synthesise(weights, y_hat, height, width, channels)


def code_latents(weights: Weights, height: int, width: int, code: CodeLatent) -> Ints:
    """Steps 1 to 3: z, its hyper-synthesis, y. Returns y^ in 1/16, [N, 4GH, 4GW]."""
    gh, gw = -(-height // 64), -(-width // 64)
    z_mean, z_scale = as_int(weights, "lic.z_mean"), as_int(weights, "lic.z_scale")
    z_hat = np.zeros((len(z_mean), gh, gw), np.int64)
    for k, i, j in np.ndindex(*z_hat.shape):
        z_hat[k, i, j] = 16 * code(("z", k, i, j), int(z_scale[k])) + z_mean[k]
    z_hat = clamp(z_hat, -LIMIT, LIMIT)

    t = leaky(shuffle2(convolve(weights, "lic.h_d.c0", z_hat)))
    t = leaky(shuffle2(convolve(weights, "lic.h_d.c1", t)))
    mu, g = np.split(convolve(weights, "lic.h_d.c2", t), 2)
    scale = clamp(g, 0, 63)

    y_hat = np.zeros_like(mu)
    for k, i, j in np.ndindex(*mu.shape):
        y_hat[k, i, j] = 16 * code(("y", k, i, j), int(scale[k, i, j])) + mu[k, i, j]
    return clamp(y_hat, -LIMIT, LIMIT)


def synthesise(weights: Weights, y_hat: Ints, height: int, width: int, channels: int) -> LossyLayer:
    """Steps 4 and 5: trunk and x~."""
    t = leaky(convolve(weights, "lic.g_d.c0", y_hat))
    for i in range(3):
        t = leaky(shuffle2(convolve(weights, f"lic.g_d.up{i}", t)))
        t = clamp(t + leaky(convolve(weights, f"lic.g_d.c{i + 1}", t)), -LIMIT, LIMIT)
    x_tilde = clamp(shuffle2(convolve(weights, "lic.x_head", t)) + 128, 0, 255)
    if channels == 1:
        x_tilde = x_tilde[[0, 0, 0]]
    return LossyLayer(np.moveaxis(x_tilde, 0, -1)[:height, :width], t)
