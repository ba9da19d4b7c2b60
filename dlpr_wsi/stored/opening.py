"""From a slide to the store that knows its container; by what the file is, never by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources import Selection
from dlpr_wsi.sources.header import Kind, sniff
from dlpr_wsi.sources.picture import refuse
from dlpr_wsi.stored import SlideStore
from dlpr_wsi.stored.bif import BifStore, is_bif
from dlpr_wsi.stored.container import EmptyStore, SlideFile, TiffSlide
from dlpr_wsi.stored.dicom import DicomStore
from dlpr_wsi.stored.mirax import MiraxStore
from dlpr_wsi.stored.ndpi import open_ndpi
from dlpr_wsi.stored.pages import SlidePages
from dlpr_wsi.stored.scn import ScnStore
from dlpr_wsi.stored.vms import open_vms

__all__ = ["open_store"]


def _pages(slide: TiffSlide) -> SlideStore:
    """Open a TIFF whose pages are its levels."""
    return SlidePages(slide.path, slide.tiff, slide.pages, slide.vendor, slide.dimensions)


def _bif(slide: TiffSlide) -> SlideStore:
    """Open a BIF; or a TIFF of the same scanner, whose tiles lie edge to edge."""
    if not is_bif(slide.pages):
        return _pages(slide)
    return BifStore(slide)


def _mirax(slide: SlideFile) -> SlideStore:
    """Open a MIRAX slide."""
    return MiraxStore(slide.path, slide.dimensions)


_TIFF: dict[str, Callable[[TiffSlide], SlideStore]] = {"hamamatsu": open_ndpi, "leica": ScnStore, "ventana": _bif}
"""By OpenSlide's name of the format, those whose levels are not the tiled pages of the same size."""
_OTHER: dict[str, Callable[[SlideFile], SlideStore]] = {
    "dicom": DicomStore,
    "hamamatsu": open_vms,
    "mirax": _mirax,
}
"""Those that are no TIFF."""
_UNKNOWN = ("its own image data is not kept: its container is not laid out as expected",)


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
    if sniff(head) is Kind.TIFF:
        return _open_tiff(slide)
    opener = _OTHER.get(vendor)
    try:
        return EmptyStore(path) if opener is None else opener(slide)
    except SourceError:
        raise
    except Exception:  # of use to OpenSlide all the same
        return EmptyStore(path, notes=_UNKNOWN)


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
        return EmptyStore(slide.path, tiff, _UNKNOWN)


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
