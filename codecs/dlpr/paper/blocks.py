r"""Blocks of the paper's LIC: AnalysisBlock, SynthesisBlock, ResidualBlock and the sub-pixel convolution.

::

    AnalysisBlock    x -- conv3 - LeakyReLU - conv3 /2 - GDN -(+)- ResidualBlock -->
                       \--------- conv3 /2 ------------------/

    SynthesisBlock   x -- ResidualBlock --- subpel x2 - IGDN - conv3 - LeakyReLU -(+)-->
                                        \--------- subpel x2 --------------------/

Layers are those of the reference; LeakyReLU has slope 0.01.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dlpr.paper.gdn import GDN


def conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution that keeps the size (or halves it with stride 2)."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


def conv1(inputs: int, outputs: int) -> nn.Conv2d:
    """1x1 convolution."""
    return nn.Conv2d(inputs, outputs, 1)


def subpel_conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Sub-pixel convolution: [b, inputs, h, w] -> [b, outputs, 2h, 2w]."""
    return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, kernel, padding=kernel // 2), nn.PixelShuffle(2))


def down_conv(inputs: int, outputs: int) -> nn.Sequential:
    """Space-to-depth and a 1x1 convolution: [b, inputs, h, w] -> [b, outputs, h/2, w/2]."""
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * inputs, outputs, 1))


class ResidualBlock(nn.Module):
    """x + two 3x3 convolutions, each with LeakyReLU: [b, c, h, w] -> [b, c, h, w]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv3(channels, channels), conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Refine."""
        return x + F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(x))))


class AnalysisBlock(nn.Module):
    """Halve the resolution: [b, inputs, h, w] -> [b, outputs, h/2, w/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv3(inputs, outputs), conv3(outputs, outputs, 2)
        self.gdn = GDN(outputs)
        self.skip = conv3(inputs, outputs, 2)
        self.block = ResidualBlock(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Analyse; h and w are even."""
        t = self.gdn(self.conv2(F.leaky_relu(self.conv1(x))))
        out: Tensor = self.block(t + self.skip(x))
        return out


class SynthesisBlock(nn.Module):
    """Double the resolution: [b, c, h, w] -> [b, c, 2h, 2w]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = ResidualBlock(channels)
        self.up = subpel_conv(channels, channels)
        self.igdn = GDN(channels, inverse=True)
        self.conv = conv3(channels, channels)
        self.skip = subpel_conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Synthesise."""
        t = self.block(x)
        out: Tensor = F.leaky_relu(self.conv(self.igdn(self.up(t)))) + self.skip(t)
        return out
