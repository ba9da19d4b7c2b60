"""Why a chunk is not what the slide's file holds behind it, though its level follows the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dlpr.modes.jpeg.synthesis import synthesise
from dlpr_wsi.pipeline.encode import jpeg_image
from dlpr_wsi.pipeline.jpeg2000 import j2k_pixels
from dlpr_wsi.sources import Coding, SourceTile

__all__ = ["LOST", "Unkept", "count_unkept", "why_unkept"]

LOST = SourceTile(b"", None, True)
"""Stands for a tile that could not be read from the file."""
_KEPT = frozenset({"jpeg", "j2k", "constant"})
_ALIKE = 0.75  # of the samples: then the tile was of use, and something else was smaller


class Unkept(StrEnum):
    """The reasons."""

    UNREADABLE = "their coded data is damaged, cannot be read, or is of a kind that the codec does not take"
    DIFFERENT = "their coded data does not give the reader's pixels"


def why_unkept(tile: SourceTile | None, mode: str, pixels: NDArray[np.uint8]) -> Unkept | None:
    """Return why a chunk is coded by its pixels; None where it is not, or where the file has nothing there.

    Parameters
    ----------
    tile : SourceTile or None
        What the file holds behind the chunk.
    mode : str
        How the chunk is coded.
    pixels : ndarray of uint8, (h, w, samples)
        The chunk's, without what lies beyond the level's edge.
    """
    if tile is None or mode in _KEPT:
        return None
    shown = _shown(tile, *pixels.shape[:2])
    if shown is None or shown.shape != pixels.shape:
        return Unkept.UNREADABLE
    return Unkept.DIFFERENT if float(np.mean(shown == pixels)) < _ALIKE else None


def _shown(tile: SourceTile, height: int, width: int) -> NDArray[np.uint8] | None:
    """Return what a tile shows in the codec's arithmetic, cut to a size in px; None where the codec cannot read it."""
    if tile.coding is Coding.JPEG2000:
        whole = j2k_pixels(tile)
        return None if whole is None else whole[:height, :width]
    image = jpeg_image(tile, height, width)
    return None if image is None else synthesise(image)


def count_unkept(reasons: Iterable[Unkept | None]) -> Mapping[str, int]:
    """Count chunks by reason, in the order of their names."""
    counts = Counter(reason.value for reason in reasons if reason is not None)
    return dict(sorted(counts.items()))
