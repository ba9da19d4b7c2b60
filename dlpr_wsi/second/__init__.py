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
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.sources import Selection, SlideFacts

__all__ = ["NoSecond", "Reading", "SecondReader", "Unjudged", "open_second"]


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


def open_second(path: Path, facts: SlideFacts, selection: Selection, levels: int) -> SecondReader:
    """Open the second reader for a slide.

    Parameters
    ----------
    path : Path
        The slide.
    facts : SlideFacts
        What conversion's reader says about it: sizes of levels, channels, background, its name.
    selection : Selection
        Which picture of the slide.
    levels : int
        Levels of the archive; those that the slide lacks are made from level 0.

    Raises
    ------
    NoSecond
        There is none; says why.
    """
    reader = _open(path, facts, selection)
    if levels > len(facts.levels):
        from dlpr_wsi.second.made import MadeLevels

        return MadeLevels(reader, facts.levels[0].width, facts.levels[0].height, len(facts.levels), levels)
    return reader


def _open(path: Path, facts: SlideFacts, selection: Selection) -> SecondReader:
    """Choose by the first bytes of the file, never by its name or by what conversion took it for."""
    try:
        if path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup")):
            from dlpr_wsi.second.zarr import ZarrReader

            return ZarrReader(path, facts, selection)
        head = b""
        if not path.is_dir():
            with path.open("rb") as file:
                head = file.read(132)
        if path.is_dir() or head[128:] == b"DICM":
            from dlpr_wsi.second.dicom import DicomReader

            return DicomReader(path, facts)
        if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            if facts.vendor == "hamamatsu":
                from dlpr_wsi.second.ndpi import NdpiReader

                return NdpiReader(path, facts)
            from dlpr_wsi.second.tiff import TiffReader

            return TiffReader(path, facts, selection)
        if facts.vendor == "image":
            from dlpr_wsi.second.image import ImageReader

            return ImageReader(path, facts)
    except NoSecond:
        raise
    except ImportError as error:
        raise NoSecond(f"{error.name or 'a package'} is not installed") from error
    except Exception as error:  # what libraries raise, and files of a kind that this package's parsers do not know
        raise NoSecond(f"it cannot open the slide ({type(error).__name__})") from error
    raise NoSecond(f"slides of the kind {facts.vendor!r} are read by {facts.reader or 'one library'} alone")
