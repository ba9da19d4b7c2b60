"""Where pixels come from.

A slide is anything with the methods of `SlideSource`. `open_slide` picks the implementation; finished
archives are read by `dlpr_wsi.sources.archive`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.sources.codec import SourceCodec

__all__ = ["Level", "SlideFacts", "SlideSource", "SourceCodec", "open_slide"]


@dataclass(frozen=True)
class Level:
    """One resolution of a slide; sizes in px."""

    width: int
    height: int
    downsample: float


@dataclass(frozen=True)
class SlideFacts:
    """What a slide says about itself, chosen by allow-list.

    Free text, barcodes, dates and user names of the file are never here: they can show who the patient is.

    Parameters
    ----------
    name : str
        File name without its folder.
    vendor : str
        OpenSlide's name of the format.
    file_bytes : int
        Size on disk.
    codec : SourceCodec
        How the pixels are compressed inside, as far as it can be told.
    levels : tuple of Level
        Largest first.
    tile_width, tile_height : int or None
        Stored tiles of level 0, px.
    mpp_x, mpp_y : float or None
        Micrometres per px.
    objective_power : float or None
        Magnification of the scanner's objective.
    associated : tuple of str
        Names of the images beside the slide (label, macro, thumbnail).
    background : tuple of int
        Colour of pixels that were not scanned, RGB.
    """

    name: str
    vendor: str
    file_bytes: int
    codec: SourceCodec
    levels: tuple[Level, ...]
    tile_width: int | None
    tile_height: int | None
    mpp_x: float | None
    mpp_y: float | None
    objective_power: float | None
    associated: tuple[str, ...]
    background: tuple[int, int, int]

    def to_json(self) -> dict[str, Any]:
        """Return all facts."""
        return {"kind": "slide", **asdict(self)}


class SlideSource(Protocol):
    """A slide that is open for reading. One thread uses one source."""

    @property
    def facts(self) -> SlideFacts:
        """What the slide says about itself."""

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region of level 0 as (height, width, 3) RGB, background filled in."""

    def close(self) -> None:
        """Release the file."""


def open_slide(path: Path) -> SlideSource:
    """Open a slide.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        OpenSlide is not installed.
    dlpr_wsi.errors.SourceError
        The file is missing or no slide.
    """
    from dlpr_wsi.sources.openslide import OpenSlideSource

    return OpenSlideSource(path)
