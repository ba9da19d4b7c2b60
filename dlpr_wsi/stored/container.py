"""A slide as its reader sees it, and a store that knows nothing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlpr_wsi.sources import Selection
from dlpr_wsi.stored import StoredLevel

__all__ = ["EmptyStore", "SlideFile", "TiffSlide"]


@dataclass(frozen=True)
class SlideFile:
    """A slide as its reader sees it.

    Parameters
    ----------
    path : Path
        What was opened.
    vendor : str
        OpenSlide's name of the format.
    dimensions : sequence of (int, int)
        Width and height of each level as the reader gives them.
    selection : Selection
        Which picture of several.
    """

    path: Path
    vendor: str
    dimensions: Sequence[tuple[int, int]]
    selection: Selection


@dataclass(frozen=True)
class TiffSlide(SlideFile):
    """A slide that is one TIFF.

    Parameters
    ----------
    tiff : tifffile.TiffFile
        Open; it is the store's from here on.
    pages : sequence of tifffile.TiffPage
        All of them, in the order of the file.
    """

    tiff: Any
    pages: Sequence[Any]


class EmptyStore:
    """Nothing is known of the slide's files.

    Parameters
    ----------
    path : Path
        The slide.
    tiff : tifffile.TiffFile, optional
        To be closed.
    notes : tuple of str
        For the report.
    """

    def __init__(self, path: Path, tiff: Any = None, notes: tuple[str, ...] = ()) -> None:
        self._tiff, self.notes = tiff, notes
        self.files = (path,)
        self.levels: Mapping[int, StoredLevel] = {}

    def close(self) -> None:
        """Release the file."""
        if self._tiff is not None:
            self._tiff.close()
