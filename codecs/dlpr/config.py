"""What can be configured: the slide profile's sizes and the encoder's options."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SlideProfile:
    """Sizes of the slide profile's networks (docs/format section 5; decode cost in :meth:`macs_per_pixel`)."""

    hidden: int = 48
    """C, width of the per-pixel network."""
    components: int = 5
    """K, logistic components per channel."""
    blocks: int = 3
    """Hidden layers inside the per-pixel network's skip connection."""
    bank: int = 16
    """Conditioning vectors the encoder chooses from for each chunk; entry 0 is the neutral one."""
    latent: int = 32
    """N, channels of y at 1/16 resolution."""
    hyper: int = 16
    """Channels of z at 1/64 resolution."""
    widths: tuple[int, int, int, int] = (64, 48, 32, 24)
    """Channels of the synthesis trunk at 1/16, 1/8, 1/4 and 1/2 resolution."""
    tau_classes: int = 8
    """SQRC has one condition for each tau in 1..tau_classes; larger tau use the last."""

    @property
    def outputs(self) -> int:
        """Parameters per pixel: mean, log-scale, mean and scale coefficients, logit; 3 channels x K each."""
        return 15 * self.components

    def macs_per_pixel(self) -> dict[str, float]:
        """Multiply-adds of decoding one pixel, by part."""
        w16, w8, w4, w2 = self.widths
        trunk = (
            self.latent * w16 * 9 / 256
            + w16 * 4 * w8 / 256
            + w8 * w8 * 9 / 64
            + w8 * 4 * w4 / 64
            + w4 * w4 * 9 / 16
            + w4 * 4 * w2 / 16
            + w2 * w2 * 9 / 4
        )
        return {
            "trunk": trunk,
            "x_tilde head": w2 * 12 / 4,
            "context and u": (148 + w2) * self.hidden,
            "per-pixel network": (self.blocks + 1) * self.hidden**2 + self.hidden * self.outputs,
            "linear stage": 3 * 66 + 3,
        }
