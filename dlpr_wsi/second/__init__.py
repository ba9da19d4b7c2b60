"""A second opinion on a slide's pixels, for `dlpr_wsi.pipeline.verify`.

Nothing here shares code with `dlpr_wsi.sources`, so that a mistake there is not made here again: containers are parsed
by this package or by another library than conversion's, and samples are decoded by other libraries where there are any.

======================  ==========================================  ====================================================
what it is              conversion reads it through                 the second reader
======================  ==========================================  ====================================================
TIFF, slides in TIFF    OpenSlide, tifffile                         `tiff`: directories parsed here, Pillow's decoders
NDPI                    OpenSlide                                   `ndpi`: tifffile's pages, Pillow's decoders
DICOM                   OpenSlide, pydicom                          `dicom`: pydicom's datasets, Pillow's decoders
Zarr                    zarr                                        `zarr`: metadata parsed here, numcodecs
PNG, JPEG, ...          Pillow                                      `image`: imagecodecs, or parsed here
MIRAX, VMS, CZI         OpenSlide                                   none: no other library reads them
our own archives        dlpr                                        none: no other decoder of DLPR streams
======================  ==========================================  ====================================================

A second reader that is not certain what a region should look like says so (`Unjudged`) and never guesses: a false alarm
would teach people to ignore a true one. Where two libraries must round the same way (integer decoders, libjpeg's) it
demands equality; where they need not it says by how much they may differ (`Reading.tolerance`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["NoSecond", "Reading", "SecondReader", "Unjudged"]


@dataclass(frozen=True)
class Reading:
    """What a second reader saw.

    Parameters
    ----------
    pixels : ndarray of uint8, (height, width, samples)
        Samples as `dlpr_wsi.sources.PixelSource.read` gives them.
    tolerance : int
        Largest difference that two right decoders may have; 0 where both are exact.
    """

    pixels: NDArray[np.uint8]
    tolerance: int = 0


@dataclass(frozen=True)
class Unjudged:
    """A region that a second reader cannot judge.

    Parameters
    ----------
    reason : str
        Why, in words that are the same for all regions of the kind.
    """

    reason: str


class NoSecond(Exception):  # noqa: N818 - no error: an answer
    """There is no second reader for a slide; the message says why."""


class SecondReader(Protocol):
    """Something that reads a slide by a path of its own. Threads may share it."""

    @property
    def name(self) -> str:
        """What reads, with versions."""

    def read(self, x: int, y: int, width: int, height: int, level: int) -> Reading | Unjudged:
        """Return a region inside a level, in px of that level.

        May raise any exception: libraries raise many kinds. The caller counts it as unjudged.
        """

    def close(self) -> None:
        """Release the file."""
