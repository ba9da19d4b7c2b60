"""Swin attention of the paper's LIC: window attention (W-MSA), shifted windows (SW-MSA) and the gated block.

::

    SwinAttention   x --+-- 3 x [1x1 N->N/2, GELU, 3x3, GELU, 1x1, + id, GELU] --> a
                        +-- W-MSA - 1x1 - SW-MSA - 1x1 ---------------------------> b
                        +------------------------------------------------ out = x + a * sigmoid(b)

W-MSA and SW-MSA each add their input; there is no LayerNorm and no MLP, as in the reference. What differs: pairs of
pixels that a cyclic shift made neighbours are masked with -inf (the reference: -100), so their weight is exactly 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from compressai.layers import conv1x1, conv3x3
from torch import Tensor, nn


def partition(x: Tensor, window: int) -> Tensor:
    """Cut [b, h, w, c] into windows [b, h/s * w/s, s * s, c], s = ``window``."""
    b, h, w, c = x.shape
    t = x.reshape(b, h // window, window, w // window, window, c).transpose(2, 3)
    return t.reshape(b, -1, window * window, c)


def join(windows: Tensor, window: int, h: int, w: int) -> Tensor:
    """Undo :func:`partition`: windows [b, h/s * w/s, s * s, c] -> [b, h, w, c]."""
    b, _, _, c = windows.shape
    t = windows.reshape(b, h // window, w // window, window, window, c).transpose(2, 3)
    return t.reshape(b, h, w, c)


def shifted_mask(h: int, w: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Pairs that may not attend after a shift, bool [windows, s * s, s * s]: they were not neighbours before it."""

    def region(n: int) -> Tensor:
        at = torch.arange(n, device=device)
        return (at >= n - window).long() + (at >= n - shift).long()

    ids = (3 * region(h)[:, None] + region(w)[None, :])[None, :, :, None]
    flat = partition(ids, window)[0, :, :, 0]
    return flat[:, :, None] != flat[:, None, :]


class WindowAttention(nn.Module):
    """x + multi-head attention inside windows, shifted cyclically by ``shift``: [b, c, h, w] -> [b, c, h, w].

    h and w are multiples of ``window``. Each head adds a learned bias for the 2-D offset between two pixels.
    """

    index: Tensor

    def __init__(self, channels: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        at = torch.arange(window)
        yx = torch.stack(torch.meshgrid(at, at, indexing="ij")).flatten(1)
        offset = yx[:, :, None] - yx[:, None, :] + window - 1
        self.register_buffer("index", offset[0] * (2 * window - 1) + offset[1], persistent=False)

    def attend(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """Attention inside windows [b, n, s * s, c]; ``mask`` [n, s * s, s * s] is true where forbidden."""
        b, n, s, c = windows.shape
        qkv = self.qkv(windows).reshape(b, n, s, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)
        score = (q * (c // self.heads) ** -0.5) @ k.transpose(-1, -2) + self.bias[self.index].permute(2, 0, 1)
        if mask is not None:
            score = score.masked_fill(mask[:, None], float("-inf"))
        out: Tensor = self.proj((score.softmax(-1) @ v).transpose(2, 3).reshape(b, n, s, c))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        h, w = x.shape[2:]
        t = x.permute(0, 2, 3, 1)
        mask = None
        if self.shift:
            t = torch.roll(t, (-self.shift, -self.shift), (1, 2))
            mask = shifted_mask(h, w, self.window, self.shift, x.device)
        t = join(self.attend(partition(t, self.window), mask), self.window, h, w)
        if self.shift:
            t = torch.roll(t, (self.shift, self.shift), (1, 2))
        return x + t.permute(0, 3, 1, 2)


class ResidualUnit(nn.Module):
    """Bottleneck of the block's branch a: [b, c, h, w] -> [b, c, h, w]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.conv2, self.conv3 = conv1x1(channels, half), conv3x3(half, half), conv1x1(half, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Refine."""
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class SwinAttention(nn.Module):
    """The gated attention block, x + a * sigmoid(b): [b, c, h, w] -> [b, c, h, w]; sides multiples of ``window``."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.a = nn.Sequential(*(ResidualUnit(channels) for _ in range(3)))
        self.b = nn.Sequential(
            WindowAttention(channels, heads, window, 0),
            conv1x1(channels, channels),
            WindowAttention(channels, heads, window, window // 2),
            conv1x1(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine."""
        out: Tensor = x + self.a(x) * torch.sigmoid(self.b(x))
        return out
