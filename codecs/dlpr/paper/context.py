"""Causal contexts M_k^n of the residual compressor and their parallel scans (paper section on parallelisation).

A pixel at row i, column j of a P x P patch is decoded at step a i + j with a = n - 1: a line tilted by atan(1 / a)
sweeps the patch and all pixels on it are decoded at once::

    M_7^5  5P-4 steps  14.04 degrees  24 taps        o o o o o o o     o  tap of M_7^5
    M_7^4  4P-3        18.43          23             o o o o o o o
    M_7^3  3P-2        26.57          22             o o o o o . .     .  not a tap of M_7^3 (the paper's choice)
    M_7^2  2P-1        45             21             o o o X
    M_7^1  P           90             21

A tap at (dy, dx) is decoded before the pixel when a dy + dx < 0. For n >= 3 the taps are those among the pixels before
X in raster order; n <= 2 also take pixels of rows below, as the reference does. General in k and P: the largest useful
n is (k + 3) / 2, where the whole raster neighbourhood is available.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Ints = npt.NDArray[np.int64]


def taps(kernel: int, n: int) -> list[tuple[int, int]]:
    """Offsets (dy, dx) of M_k^n in raster order.

    Examples
    --------
    >>> [len(taps(7, n)) for n in (5, 4, 3, 2, 1)]
    [24, 23, 22, 21, 21]
    """
    if kernel % 2 == 0 or not 1 <= n <= (kernel + 3) // 2:
        raise ValueError(f"no context M_{kernel}^{n}: k is odd and n in 1..(k + 3) / 2")
    half = kernel // 2
    offsets = [(dy, dx) for dy in range(-half, half + 1) for dx in range(-half, half + 1)]
    earlier = [(dy, dx) for dy, dx in offsets if (n - 1) * dy + dx < 0]
    return earlier if n <= 2 else [(dy, dx) for dy, dx in earlier if (dy, dx) < (0, 0)]


def tap_mask(kernel: int, n: int) -> npt.NDArray[np.bool_]:
    """Mask [k, k] of the taps of M_k^n; the pixel itself is in the middle."""
    mask = np.zeros((kernel, kernel), bool)
    for dy, dx in taps(kernel, n):
        mask[dy + kernel // 2, dx + kernel // 2] = True
    return mask


def step_count(n: int, patch: int) -> int:
    """Steps that decode a P x P patch with M_k^n, n P - (n - 1).

    Examples
    --------
    >>> [step_count(n, 9) for n in (5, 4, 3, 2, 1)]
    [41, 33, 25, 17, 9]
    """
    return n * patch - (n - 1)


def scan_angle(n: int) -> float:
    """Angle of the scan line in degrees.

    Examples
    --------
    >>> [round(scan_angle(n), 2) for n in (5, 4, 3, 2, 1)]
    [14.04, 18.43, 26.57, 45.0, 90.0]
    """
    return math.degrees(math.atan2(1, n - 1))


def scan_order(n: int, patch: int) -> Ints:
    """Step at which each pixel of a patch is decoded, [P, P] in 0..step_count - 1."""
    at = np.arange(patch, dtype=np.int64)
    return (n - 1) * at[:, None] + at[None, :]


def scan_steps(n: int, patch: int) -> list[tuple[Ints, Ints]]:
    """Rows and columns of the pixels decoded at each step, in raster order within a step."""
    order = scan_order(n, patch)
    steps = range(step_count(n, patch))
    return [(where[:, 0], where[:, 1]) for where in (np.argwhere(order == step) for step in steps)]


def check_scan(kernel: int, n: int, patch: int) -> None:
    """Check that every tap inside the patch is decoded at an earlier step than its pixel.

    Raises
    ------
    ValueError
        If one is not.
    """
    order = scan_order(n, patch)
    for dy, dx in taps(kernel, n):
        here = order[max(0, -dy) : patch - max(0, dy), max(0, -dx) : patch - max(0, dx)]
        there = order[max(0, dy) : patch - max(0, -dy), max(0, dx) : patch - max(0, -dx)]
        if here.size and not (there < here).all():
            raise ValueError(f"tap ({dy}, {dx}) of M_{kernel}^{n} is decoded after its pixel")


class MaskedConv(nn.Module):
    """The masked convolution that gives the context C_r, shared by RC and SQRC.

    :meth:`forward` takes whole patches (training); :meth:`rows` takes the taps of single pixels (coding).
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, n: int) -> None:
        super().__init__()
        self.kernel, self.taps = kernel, taps(kernel, n)
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.register_buffer("mask", torch.tensor(tap_mask(kernel, n), dtype=torch.float32), persistent=False)

    def forward(self, r: Tensor) -> Tensor:
        """Contexts [b, outputs, h, w] of residuals r [b, 3, h, w]; outside the patch residuals are 0."""
        return F.conv2d(r, self.conv.weight * self.mask, self.conv.bias, padding=self.kernel // 2)

    def tap_weight(self) -> Tensor:
        """Weights of the taps alone, [outputs, 3 * taps], for :meth:`rows`."""
        half = self.kernel // 2
        columns = [self.conv.weight[:, :, dy + half, dx + half] for dy, dx in self.taps]
        return torch.stack(columns, 2).flatten(1).contiguous()

    def rows(self, neighbours: Tensor, tap_weight: Tensor) -> Tensor:
        """Contexts [n, outputs] of pixels by their taps [n, 3 * taps] (channel slowest)."""
        return F.linear(neighbours, tap_weight, self.conv.bias)

    def gather(self, padded: Tensor, patch: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Taps [n, 3 * taps] of n pixels from residuals [p, 3, P + k - 1, P + k - 1] with a margin of zeros."""
        half = self.kernel // 2
        offsets = torch.tensor(self.taps, device=padded.device)
        rows, columns = row[:, None] + offsets[:, 0] + half, column[:, None] + offsets[:, 1] + half
        return padded[patch[:, None], :, rows, columns].transpose(1, 2).flatten(1)
