"""From a slide to the store that knows its container; by what the file is, never by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources import Selection
from dlpr_wsi.sources.header import Kind, sniff
from dlpr_wsi.sources.picture import refuse
from dlpr_wsi.stored import SlideStore, StoredLevel
from dlpr_wsi.stored.ndpi import focal_planes
from dlpr_wsi.stored.pages import SlidePages

__all__ = ["EmptyStore", "SlideFile", "TiffSlide", "open_store"]


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


def _pages(slide: TiffSlide) -> SlideStore:
    """Open a TIFF whose pages are its levels."""
    return SlidePages(slide.path, slide.tiff, slide.pages, slide.vendor, slide.dimensions)


def _ndpi(slide: TiffSlide) -> SlideStore:
    """Open an NDPI."""
    return EmptyStore(slide.path, slide.tiff, focal_planes(slide.path, slide.pages, slide.selection))


_TIFF: dict[str, Callable[[TiffSlide], SlideStore]] = {"hamamatsu": _ndpi}
"""By OpenSlide's name of the format, those whose levels are not the tiled pages of the same size."""


def open_store(
    path: Path, vendor: str, dimensions: Sequence[tuple[int, int]], selection: Selection | None = None
) -> SlideStore:
    """Open what lies in a slide's files.

    Parameters
    ----------
    path : Path
        The slide.
    vendor : str
        OpenSlide's name of the format.
    dimensions : sequence of (int, int)
        Width and height of each level as the reader gives them.
    selection : Selection, optional
        Which picture of several.

    Returns
    -------
    SlideStore
        One without levels where nothing is known, or where the file is damaged in a way that its reader does not mind.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        The slide holds what its reader would cut: more than 8 bits a sample, focal planes that it passes over.
    """
    slide = SlideFile(path, vendor, dimensions, selection or Selection())
    if not path.is_file():
        return EmptyStore(path)
    with path.open("rb") as file:
        head = file.read(16)
    return _open_tiff(slide) if sniff(head) is Kind.TIFF else EmptyStore(path)


def _open_tiff(slide: SlideFile) -> SlideStore:
    """Open a TIFF through tifffile."""
    try:
        import tifffile

        tiff = tifffile.TiffFile(slide.path)
    except Exception:  # not installed, or damaged in a way that OpenSlide does not mind
        return EmptyStore(slide.path)
    try:
        pages = [entry.aspage() for entry in tiff.pages]
        _refuse_depth(slide, pages)
        opener = _TIFF.get(slide.vendor, _pages)
        return opener(TiffSlide(slide.path, slide.vendor, slide.dimensions, slide.selection, tiff, pages))
    except SourceError:
        tiff.close()
        raise
    except Exception:  # of use to OpenSlide all the same
        return EmptyStore(slide.path, tiff)


def _refuse_depth(slide: SlideFile, pages: Sequence[Any]) -> None:
    """Refuse level 0 of more than 8 bits by its own tag."""
    for page in pages:
        if (page.imagewidth, page.imagelength) != tuple(slide.dimensions[0]):
            continue
        tag = page.tags.get("BitsPerSample")
        values = (tag.value if isinstance(tag.value, tuple) else (tag.value,)) if tag is not None else (1,)
        if (bits := max(int(value) for value in values)) > 8:
            raise refuse(slide.path, f"{bits} bits a sample; 8 are kept, and cutting them is not lossless")
        return
