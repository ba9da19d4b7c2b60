"""Fields of a JPEG image that the stream's header names (docs/format section 15)."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ColourTransform", "Upsampling"]


class ColourTransform(IntEnum):
    """What the components are."""

    NONE = 0
    """Red, green, blue; or grey."""
    YCBCR = 1
    """Luma and two chroma components as in JFIF."""


class Upsampling(IntEnum):
    """How chroma is brought to the size of luma."""

    FANCY = 0
    """libjpeg's triangle filters."""
    BOX = 1
    """Every sample is repeated."""
