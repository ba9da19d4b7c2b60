"""JPEG 2000 tiles of a slide in the codec's terms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlpr.errors import DlprError
from dlpr.modes.j2k.fields import Colour
from dlpr.modes.j2k.parse import parse
from dlpr.modes.j2k.stream import SourceJ2k
from dlpr.modes.j2k.synthesis import synthesise
from dlpr_wsi.sources import SourceTile

__all__ = ["j2k_pixels", "source_j2k"]


def source_j2k(tile: SourceTile) -> SourceJ2k:
    """Return a stored tile in the codec's terms."""
    return SourceJ2k(tile.data, Colour.YCBCR if tile.ycbcr else Colour.NONE)


def j2k_pixels(tile: SourceTile) -> NDArray[np.uint8] | None:
    """Decode a stored tile in the codec's own arithmetic; None where it is of a kind that the codec does not read."""
    try:
        return synthesise(parse(*source_j2k(tile)))
    except DlprError:
        return None
