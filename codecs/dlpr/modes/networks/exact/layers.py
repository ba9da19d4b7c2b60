"""Integer layers (docs/format sections 4 and 8) on NumPy int64."""

from __future__ import annotations

import numpy as np

from dlpr.arrays import Ints, clamp
from dlpr.modes.networks.weights import Weights

LIMIT = 2047
"""Bound of every activation."""
OUT_LIMIT = 8191
"""Bound of the per-pixel network's outputs."""


def as_int(weights: Weights, name: str) -> Ints:
    """Return a tensor of the weights file as int64."""
    return weights[name].astype(np.int64)


def leaky(v: Ints) -> Ints:
    """LeakyReLU with slope 1/8."""
    return np.where(v < 0, v >> 3, v)


def sat16(v: Ints) -> Ints:
    """Limit to 16 bits signed."""
    return clamp(v, -32768, 32767)


def requantise(acc: Ints, shift: Ints, mult: Ints, bias: Ints, limit: int = LIMIT) -> Ints:
    """From a layer's sums to its output; the last axis is the channel."""
    t = sat16((acc + ((1 << shift) >> 1)) >> shift)
    return clamp(((t * mult + 2048) >> 12) + bias, -limit, limit)


def convolve(weights: Weights, layer: str, a: Ints) -> Ints:
    """Evaluate a layer of the lossy codec: [in, h, w] to [out, h, w]; beyond the grid are zeros."""
    weight = as_int(weights, f"{layer}.weight")
    k = weight.shape[2]
    h, w = a.shape[1:]
    padded = np.pad(a, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    acc = np.zeros((h, w, weight.shape[0]), np.int64) + as_int(weights, f"{layer}.acc_bias")
    for i in range(k):
        for j in range(k):
            acc += np.moveaxis(padded[:, i : i + h, j : j + w], 0, -1) @ weight[:, :, i, j].T
    shift, mult, bias = (as_int(weights, f"{layer}.{part}") for part in ("shift", "mult", "bias"))
    return np.moveaxis(requantise(acc, shift, mult, bias), -1, 0)


def shuffle2(a: Ints) -> Ints:
    """[4c, h, w] to [c, 2h, 2w]: four channels become the pixels of a 2x2 cell."""
    c, h, w = a.shape[0] // 4, *a.shape[1:]
    return a.reshape(c, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(c, 2 * h, 2 * w)


class PixelNetwork:
    """RC (tau = 0) or SQRC (tau >= 1) under one bank entry (section 8)."""

    def __init__(self, weights: Weights, tau: int, bank_entry: int) -> None:
        self.net = net = "rc" if tau == 0 else "sqrc"
        self.weights = weights
        self.blocks = weights.sizes.blocks
        self.masked = as_int(weights, f"{net}.masked.weight")
        self.u_head = as_int(weights, f"{net}.u_head.weight").reshape(2, 2, weights.sizes.hidden, -1)
        self.position = as_int(weights, f"{net}.position")
        mult, out_mult = (as_int(weights, f"{net}.bank{out}_mult")[bank_entry] for out in ("", "_out"))
        bias, out_bias = (as_int(weights, f"{net}.bank{out}_bias")[bank_entry] for out in ("", "_out"))
        if tau >= 1:
            j = min(tau, weights.sizes.tau_classes) - 1
            tau_mult, tau_out_mult = (as_int(weights, f"{net}.tau{out}_mult")[j] for out in ("", "_out"))
            tau_bias, tau_out_bias = (as_int(weights, f"{net}.tau{out}_bias")[j] for out in ("", "_out"))
            mult, bias = _condition(mult, bias, tau_mult, tau_bias)
            out_mult, out_bias = _condition(out_mult, out_bias, tau_out_mult, tau_out_bias)
        self.mult, self.bias, self.out_mult, self.out_bias = mult, bias, out_mult, out_bias

    def __call__(self, features: Ints, trunk: Ints, y: Ints, x: Ints) -> Ints:
        """Mixture parameters [n, 75] from features [n, 148], trunk [n, 24] and the pixels' place in the chunk."""
        acc = features @ self.masked.T + self.position[y % 8, x % 8]
        acc += np.einsum("nci,ni->nc", self.u_head[y % 2, x % 2], trunk)
        h = requantise(acc, as_int(self.weights, f"{self.net}.first.shift"), self.mult[0], self.bias[0])
        t = leaky(h)
        for i in range(self.blocks):
            t = leaky(self._layer(f"hidden.{i}", t, self.mult[i + 1], self.bias[i + 1]))
        t = clamp(t + h, -LIMIT, LIMIT)
        t = leaky(self._layer(f"hidden.{self.blocks}", t, self.mult[self.blocks + 1], self.bias[self.blocks + 1]))
        return self._layer("out", t, self.out_mult, self.out_bias, OUT_LIMIT)

    def _layer(self, name: str, t: Ints, mult: Ints, bias: Ints, limit: int = LIMIT) -> Ints:
        """Evaluate a layer whose multiplier and bias are conditioned."""
        weight, acc_bias, shift = (
            as_int(self.weights, f"{self.net}.{name}.{part}") for part in ("weight", "acc_bias", "shift")
        )
        return requantise(t @ weight.T + acc_bias, shift, mult, bias, limit)


def _condition(mult: Ints, bias: Ints, tau_mult: Ints, tau_bias: Ints) -> tuple[Ints, Ints]:
    """Combine a bank entry with the condition of tau."""
    return sat16((mult * tau_mult + 2048) >> 12), sat16(((bias * tau_mult + 2048) >> 12) + tau_bias)
