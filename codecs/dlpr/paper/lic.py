"""The paper's lossy image compressor (LIC): encoder g_e, decoder g_d with the heads x~ and u, hyperprior.

::

    x/255 -- g_e --> y (1/16) -- h_e --> z (1/64)
                     |                   |
                   round               round: z^ (factorised)
                     |                   |
                     y^ <-- mu, sigma -- h_d
                     |
                     g_d trunk (1/2) --+-- subpel conv3 -> x~ / 255 (3 channels)
                                       +-- subpel conv3 -> u (256 channels)

There is no context model over y^, so that it decodes in parallel. Layers are those of the reference. What differs: the
coder runs it over the whole image, not on isolated patches.
"""

from __future__ import annotations

from dataclasses import dataclass

from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.layers import conv1x1, conv3x3, subpel_conv3x3
from torch import Tensor, nn

from dlpr.paper.blocks import AnalysisBlock, SynthesisBlock, down_conv, subpel_conv1x1
from dlpr.paper.profile import PaperProfile
from dlpr.paper.swin import SwinAttention


def attention(cfg: PaperProfile, window: int) -> nn.Module:
    """Swin attention, or nothing where the profile ablates it."""
    return SwinAttention(cfg.channels, cfg.heads, window) if cfg.attention else nn.Identity()


class Encoder(nn.Sequential):
    """g_e: x in 0..1 [b, 3, h, w] -> y [b, N, h/16, w/16]; h and w are multiples of 64."""

    def __init__(self, cfg: PaperProfile) -> None:
        n = cfg.channels
        super().__init__(
            AnalysisBlock(3, n),
            AnalysisBlock(n, n),
            attention(cfg, 8),
            AnalysisBlock(n, n),
            conv3x3(n, n, 2),
            attention(cfg, 4),
        )


class Decoder(nn.Module):
    """g_d: y_hat [b, N, h/16, w/16] -> x_tilde in levels [b, 3, h, w] and u [b, features, h, w]."""

    def __init__(self, cfg: PaperProfile) -> None:
        super().__init__()
        n = cfg.channels
        self.trunk = nn.Sequential(
            attention(cfg, 4), SynthesisBlock(n), SynthesisBlock(n), attention(cfg, 8), SynthesisBlock(n)
        )
        self.x_head = subpel_conv3x3(n, 3, 2)
        self.u_head = subpel_conv3x3(n, cfg.features, 2)

    def forward(self, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Synthesise; x_tilde is neither rounded nor clamped."""
        t = self.trunk(y_hat)
        return self.x_head(t) * 255, self.u_head(t)


class HyperEncoder(nn.Sequential):
    """h_e: y [b, N, h, w] -> z [b, N, h/4, w/4] by 1x1 layers and space-to-depth."""

    def __init__(self, cfg: PaperProfile) -> None:
        n = cfg.channels
        layers = (conv1x1(n, n), down_conv(n, n), down_conv(n, n), conv1x1(n, n), conv1x1(n, n))
        super().__init__(*[part for layer in layers for part in (layer, nn.LeakyReLU())][:-1])


class HyperDecoder(nn.Module):
    """h_d: z_hat [b, N, h, w] -> mu and sigma of y, [b, N, 4h, 4w] each, by a net of 1x1 layers each."""

    def __init__(self, cfg: PaperProfile) -> None:
        super().__init__()
        n = cfg.channels

        def net() -> nn.Sequential:
            layers = (conv1x1(n, n), conv1x1(n, n), subpel_conv1x1(n, n), subpel_conv1x1(n, n), conv1x1(n, n))
            return nn.Sequential(*[part for layer in layers for part in (layer, nn.LeakyReLU())][:-1])

        self.mu, self.sigma = net(), net()

    def forward(self, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the Gaussian of every latent; sigma is bounded below where it is used."""
        return self.mu(z_hat), self.sigma(z_hat)


@dataclass
class LossyResult:
    """x_tilde in levels [b, 3, h, w] (not rounded), u [b, features, h, w], likelihoods of y_hat and z_hat."""

    x_tilde: Tensor
    u: Tensor
    y_likelihood: Tensor
    z_likelihood: Tensor


class LossyImageCompressor(nn.Module):
    """LIC: the lossy reconstruction x~ and the features u of an image; entropy models are CompressAI's."""

    def __init__(self, cfg: PaperProfile) -> None:
        super().__init__()
        self.g_e, self.g_d = Encoder(cfg), Decoder(cfg)
        self.h_e, self.h_d = HyperEncoder(cfg), HyperDecoder(cfg)
        self.entropy_bottleneck = EntropyBottleneck(cfg.channels)
        self.gaussian_conditional = GaussianConditional(None)

    def forward(self, x: Tensor) -> LossyResult:
        """Code x [b, 3, h, w] in 0..1; noise in training mode, rounding otherwise."""
        y = self.g_e(x)
        z_hat, z_likelihood = self.entropy_bottleneck(self.h_e(y))
        mu, sigma = self.h_d(z_hat)
        y_hat, y_likelihood = self.gaussian_conditional(y, sigma, mu)
        x_tilde, u = self.g_d(y_hat)
        return LossyResult(x_tilde, u, y_likelihood, z_likelihood)
