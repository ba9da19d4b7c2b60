"""What can be configured: the slide profile's sizes and the encoder's options."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from types import NoneType
from typing import Any

from dlpr.errors import UnsupportedInputError


@dataclass(frozen=True)
class SlideProfile:
    """Sizes of the slide profile's networks (docs/format section 5; decode cost in :meth:`macs_per_pixel`)."""

    hidden: int = 48
    """C, width of the per-pixel network."""
    components: int = 5
    """K, logistic components per channel."""
    blocks: int = 3
    """Hidden layers inside the per-pixel network's skip connection."""
    bank: int = 32
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


PROFILES = {
    "slide": SlideProfile(),
    "large": SlideProfile(hidden=160, bank=64, latent=48, hyper=24, widths=(128, 96, 64, 24)),
}
"""Sizes by name: those that are shipped, about 25,000 multiply-adds a pixel; six times as many, for GPUs, for which no
weights are shipped (docs/guide/training.md)."""

DEFAULT_PATCH = 256
"""docs/decisions/0002: smaller patches decode in parallel within a chunk, but cost size."""


_CHOICES: dict[str, tuple[Any, ...]] = {
    "anchor": ("base", "lossy"),
    "jpeg": ("auto", "given", "never"),
    "j2k": (None, "auto", "given", "never"),
    "colour": ("auto", "never"),
    "patch": (None, 32, 64, 128, 256),
    "lanes": (1, 2, 4, 8, 16, 32),
    "linear_classes": (1, 2, 4),
    "linear_context": (2, 3),
}
"""What an option may be, where that is a list."""


@dataclass(frozen=True)
class EncoderOptions:
    """What an encoder may choose. None of it changes what a decoder needs to know."""

    lossy_layer: bool = True
    """Write the lossy layer, so that a preview can be decoded from the first bytes (its cost: docs/decisions/0004)."""
    anchor: str = "base"
    """Where the grid of 2 tau + 1 levels stands: "base" (one colour per chunk) or "lossy" (x~, as in the paper)."""
    patch: int | None = None
    """Side of the independently coded patches, 32, 64, 128 or 256; None chooses (256)."""
    lanes: int = 1
    """Entropy coder lanes in a patch, 1..32, a power of two: more decode faster on a GPU, each costs about 6 bytes."""
    linear_stage: bool = True
    """Use taps in the chunk's own linear predictor (off only to measure what it brings)."""
    linear_classes: int = 4
    """Most pixel phases with a predictor of their own: 1, 2 (columns) or 4 (rows and columns)."""
    linear_context: int = 3
    """n of the context M_7^n whose taps the linear predictor may use: 3, or 2 to measure what that costs."""
    coefficient_bits: int = 8
    """Fractional bits of the linear stage's coefficients, 4..12."""
    coefficient_price: float = 6.0
    """Bits a coefficient is taken to cost when the predictor's size is chosen."""
    search: bool = True
    """Compare predictors of several sizes and all bank entries on a sample of the chunk; off: one and entry 0."""
    bank_entry: int | None = None
    """Conditioning vector to use; None tries them all on a sample of the chunk."""
    weights_id: bytes | None = None
    """Weights to code with; None takes the default set."""
    min_lossy_side: int = 32
    """Chunks with a shorter side get no lossy layer."""
    jpeg: str = "auto"
    """Carry pixels as the JPEG they were decoded from where that is smaller: "auto" searches it in the pixels where no
    source is given, "given" takes a given source only, "never" codes pixels."""
    j2k: str | None = None
    """Carry pixels as the JPEG 2000 image they were decoded from: "auto" searches it in the pixels where no source is
    given (half a millisecond for a tile of 256 px that shows none, 0.2 to 0.7 s for one that does), "given" takes a
    given source only, "never" codes pixels. None is "auto" where ``jpeg`` is, else "given"."""
    colour: str = "auto"
    """Code the planes Y, Cb, Cr that pixels were made from: "auto" where they are found, "never" red, green, blue."""
    keep_source: bool = False
    """Carry a source that is given wherever the pixels are its own, even where another mode is smaller: for whoever
    wants the source's bytes back as well, and needs its coefficients for that."""
    prior: Any = None
    """Of mode jpeg: a `dlpr.Prior`, or its bytes, that was learnt from the slide. Decoders need it too."""
    tuned: Any = None
    """The networks' weights, tuned to the slide, as a `dlpr.Tuned` or its bytes, in place of ``weights_id``. Decoders
    need them too."""

    def __post_init__(self) -> None:
        """Refuse what the format cannot hold."""
        if not isinstance(self.prior, (bytes, NoneType)) and type(self.prior).__name__ != "Prior":
            raise UnsupportedInputError(f"prior must be a Prior or its bytes, not {self.prior!r}", reason="input")
        if not isinstance(self.tuned, (bytes, NoneType)) and type(self.tuned).__name__ != "Tuned":
            raise UnsupportedInputError(f"tuned must be a Tuned or its bytes, not {self.tuned!r}", reason="input")
        whole = (
            "patch",
            "lanes",
            "linear_classes",
            "linear_context",
            "coefficient_bits",
            "bank_entry",
            "min_lossy_side",
        )
        for name in whole:
            value = getattr(self, name)
            if value is not None and type(value) is not int:
                raise UnsupportedInputError(f"{name} must be an integer, not {value!r}", reason="input")
        if not isinstance(self.coefficient_price, (int, float)):
            raise UnsupportedInputError(
                f"coefficient_price must be a number, not {self.coefficient_price!r}", reason="input"
            )
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                shown = ", ".join(str(choice) for choice in allowed if choice is not None)
                raise UnsupportedInputError(f"{name} must be one of {shown}, not {value!r}", reason="input")
        if not 4 <= self.coefficient_bits <= 12:
            raise UnsupportedInputError("coefficient_bits must be in 4..12", reason="input")
        if not 0 <= self.coefficient_price <= 1e6:
            raise UnsupportedInputError("coefficient_price must be in 0..1000000", reason="input")

    @property
    def searches_j2k(self) -> bool:
        """Whether a JPEG 2000 image is searched in pixels."""
        return self.j2k == "auto" or (self.j2k is None and self.jpeg == "auto")

    @classmethod
    def of(cls, options: EncoderOptions | None, changes: dict[str, Any]) -> EncoderOptions:
        """Options with some fields changed; an unknown name is refused."""
        known = {f.name for f in fields(cls)}
        for name in changes:
            if name not in known:
                raise UnsupportedInputError(
                    f"unknown encoder option {name!r}; known: {', '.join(sorted(known))}", reason="input"
                )
        return replace(options or cls(), **changes)
