"""What can be configured in the paper profile: sizes, context, mixture family (paper sections 3 to 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from enum import Enum
from typing import Any

from dlpr.errors import UnsupportedInputError

LATENT_STRIDE = 64
"""Sides of what the networks see are multiples of this: y stands at 1/16 and z at 1/64 resolution."""


class Family(Enum):
    """Distribution of a residual; with one component it stands alone, with K it is a mixture."""

    LOGISTIC = "logistic"
    GAUSSIAN = "gaussian"
    LAPLACE = "laplace"


@dataclass(frozen=True)
class PaperProfile:
    """Sizes of the reference (22.24 M parameters, and 0.42 M of SQRC); change one to ablate it.

    Examples
    --------
    >>> PaperProfile().outputs
    50
    >>> PaperProfile(components=1, family=Family.LAPLACE).outputs
    10
    """

    channels: int = 192
    """N, channels of the lossy image compressor, of y and of z."""
    heads: int = 8
    """Heads of window attention; divides ``channels``."""
    attention: bool = True
    """Swin attention in g_e and g_d; off to ablate it."""
    features: int = 256
    """Channels of u, the lossy decoder's second output."""
    hidden: int = 256
    """Channels of the context C_r and of the per-pixel network."""
    kernel: int = 7
    """k, side of the masked convolution (odd)."""
    context: int = 3
    """n of the context M_k^n, 1..(k + 3) / 2: a P x P patch takes n P - (n - 1) steps."""
    patch: int = 64
    """P, side of the patches whose residuals are coded independently."""
    components: int = 5
    """K, components of the mixture for each channel."""
    family: Family = Family.LOGISTIC
    """Distribution of each component."""
    tau_classes: int = 5
    """SQRC's condition is one-hot of this many; larger tau use the last."""

    def __post_init__(self) -> None:
        """Refuse what no network can be made of."""
        if self.channels % (2 * self.heads) or self.channels < 2:
            raise UnsupportedInputError("channels must be a multiple of 2 * heads")
        if self.kernel % 2 == 0 or self.kernel < 3:
            raise UnsupportedInputError("kernel must be odd and at least 3")
        if not 1 <= self.context <= (self.kernel + 3) // 2:
            raise UnsupportedInputError(f"context must be in 1..{(self.kernel + 3) // 2} for kernel {self.kernel}")
        if min(self.features, self.hidden, self.patch, self.components, self.tau_classes) < 1:
            raise UnsupportedInputError("sizes must be positive")

    @property
    def outputs(self) -> int:
        """Mixture parameters of a pixel: 3 K means, 3 K log scales, 3 K channel coefficients, K weights."""
        return 10 * self.components

    def numbers(self) -> list[int]:
        """All fields as whole numbers, for a state dict."""
        values = astuple(self)
        return [list(Family).index(v) if isinstance(v, Family) else int(v) for v in values]

    @classmethod
    def of_numbers(cls, numbers: Sequence[int]) -> PaperProfile:
        """Undo `numbers`."""
        families = list(Family)
        kinds = [type(v) for v in astuple(cls())]
        if len(numbers) != len(kinds) or not 0 <= numbers[-2] < len(families):
            raise UnsupportedInputError("a checkpoint of another paper profile than this version's")
        fields: list[Any] = [families[n] if k is Family else k(n) for k, n in zip(kinds, numbers, strict=True)]
        return cls(*fields)
