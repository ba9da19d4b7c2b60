r"""Blocks of the paper's LIC: AnalysisBlock and SynthesisBlock, on CompressAI's layers.

::

    AnalysisBlock    x -- conv3 - LeakyReLU - conv3 /2 - GDN -(+)- ResidualBlock -->
                       \--------- conv3 /2 ------------------/

    SynthesisBlock   x -- ResidualBlock --- subpel x2 - IGDN - conv3 - LeakyReLU -(+)-->
                                        \--------- subpel x2 --------------------/

GDN, ResidualBlock, the 3x3 and the sub-pixel convolutions are `compressai.layers`; LeakyReLU has slope 0.01.
"""

from __future__ import annotations

import torch.nn.functional as F
from compressai.layers import GDN, ResidualBlock, conv3x3, subpel_conv3x3
from torch import Tensor, nn


def subpel_conv1x1(inputs: int, outputs: int) -> nn.Sequential:
    """Sub-pixel convolution of 1x1: [b, inputs, h, w] -> [b, outputs, 2h, 2w]."""
    return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2))


def down_conv(inputs: int, outputs: int) -> nn.Sequential:
    """Space-to-depth and a 1x1 convolution: [b, inputs, h, w] -> [b, outputs, h/2, w/2]."""
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * inputs, outputs, 1))


class AnalysisBlock(nn.Module):
    """Halve the resolution: [b, inputs, h, w] -> [b, outputs, h/2, w/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv3x3(inputs, outputs), conv3x3(outputs, outputs, 2)
        self.gdn = GDN(outputs)
        self.skip = conv3x3(inputs, outputs, 2)
        self.block = ResidualBlock(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Analyse; h and w are even."""
        t = self.gdn(self.conv2(F.leaky_relu(self.conv1(x))))
        out: Tensor = self.block(t + self.skip(x))
        return out


class SynthesisBlock(nn.Module):
    """Double the resolution: [b, c, h, w] -> [b, c, 2h, 2w]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = ResidualBlock(channels, channels)
        self.up = subpel_conv3x3(channels, channels, 2)
        self.igdn = GDN(channels, inverse=True)
        self.conv = conv3x3(channels, channels)
        self.skip = subpel_conv3x3(channels, channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Synthesise."""
        t = self.block(x)
        out: Tensor = F.leaky_relu(self.conv(self.igdn(self.up(t)))) + self.skip(t)
        return out
