"""TIFF through tifffile: OME-TIFF, QPTIFF and plain TIFF in tiles or strips; and who reads which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import MissingDependencyError, SourceError
from dlpr_wsi.sources import Level, PixelSource, Selection, SlideFacts, SourceTile, TileGrid
from dlpr_wsi.sources.codec import tiff_codec
from dlpr_wsi.sources.icc import fitting
from dlpr_wsi.sources.ome_xml import is_ome_xml
from dlpr_wsi.sources.ometiff import ome_picture
from dlpr_wsi.sources.pages import Layout, is_qptiff, plain_layout, plain_picture, qptiff_picture
from dlpr_wsi.sources.photometric import refusal
from dlpr_wsi.sources.picture import Picture, refuse
from dlpr_wsi.stored import StoredLevel

__all__ = ["PageStore", "TiffSource", "open_tiff"]

_DLPR = 65471


def _tifffile() -> ModuleType:
    """Import tifffile; it knows DLPR tiles, see `dlpr_wsi._tifffile_hook`."""
    try:
        import tifffile
    except ImportError as error:
        raise MissingDependencyError("tifffile", "wsi") from error
    return tifffile


def open_tiff(path: Path, selection: Selection) -> PixelSource:
    """Open a TIFF through the reader that is right about it.

    OpenSlide reads the slide formats that it knows by their structure, and the plain tiled pyramids that it takes
    whole. tifffile reads OME-TIFF, QPTIFF, pyramids in sub-directories, strips, and single pages of several.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        OpenSlide or tifffile is not installed.
    dlpr_wsi.errors.SourceError
        It is damaged, cannot be kept whole, or several pictures are there and none was chosen.
    """
    vendor = _vendor(path)
    if vendor not in (None, "generic-tiff"):
        from dlpr_wsi.sources.openslide import OpenSlideSource

        return OpenSlideSource(path, selection)
    tiff = _open(path, vendor)
    try:
        layout, picture = _examine(path, tiff, selection)
        if layout is not None and vendor == "generic-tiff":
            slide = _through_openslide(path, selection, layout)
            if slide is not None:
                tiff.close()
                return slide
        return TiffSource(path, tiff, picture or plain_picture(path, _required(layout)))
    except SourceError:
        tiff.close()
        raise
    except Exception as error:  # tifffile raises many kinds for damaged directories
        tiff.close()
        raise refuse(path, f"its directories are damaged ({type(error).__name__})") from error


def _required(layout: Layout | None) -> Layout:
    """Return a layout that is there."""
    assert layout is not None
    return layout


def _vendor(path: Path) -> str | None:
    """Return OpenSlide's name of the format; None where it knows none."""
    try:
        import openslide
    except ImportError as error:  # without it nobody can tell a scanner's format from a plain TIFF
        raise MissingDependencyError("openslide-python (with openslide-bin)", "wsi") from error
    try:
        found = openslide.OpenSlide.detect_format(path)
    except (openslide.OpenSlideError, OSError, ValueError):
        return None
    return None if found is None else str(found)


def _open(path: Path, vendor: str | None) -> Any:
    """Open with tifffile."""
    try:
        tiff = _tifffile().TiffFile(path)
        if len(tiff.pages) == 0:
            tiff.close()
            raise ValueError("it has no pages")
    except MissingDependencyError:
        raise
    except Exception as error:  # tifffile raises many kinds
        by = "OpenSlide cannot open it, and tifffile neither" if vendor is None else "tifffile cannot open it"
        raise SourceError(f"{path}: {by}; no slide or image ({error})") from error
    return tiff


def _examine(path: Path, tiff: Any, selection: Selection) -> tuple[Layout | None, Picture | None]:
    """Return the pages of a plain TIFF, or the picture of one that says more about itself."""
    first = tiff.pages[0].aspage()
    if is_ome_xml(first.description):
        return None, ome_picture(path, tiff, selection)
    if is_qptiff(first):
        return None, qptiff_picture(path, tiff, selection)
    layout = plain_layout(path, tiff, selection)
    for page in layout.pages:
        reason = refusal(page)
        if reason is not None:
            raise refuse(path, reason)
    return layout, None


def _through_openslide(path: Path, selection: Selection, layout: Layout) -> PixelSource | None:
    """Open a plain TIFF through OpenSlide, if that reads all of its levels and nothing else; else None."""
    first = layout.directories[0]
    if first != 0 or not layout.marked or int(layout.pages[0].compression) == _DLPR:
        return None
    from dlpr_wsi.sources.openslide import OpenSlideSource

    try:
        slide = OpenSlideSource(path, Selection(page=0 if selection.page is not None else None), notes=layout.notes)
    except SourceError:
        return None
    sizes = [(int(page.imagewidth), int(page.imagelength)) for page in layout.pages]
    try:
        if [(level.width, level.height) for level in slide.facts.levels] == sizes:
            for index, (width, height) in enumerate(sizes):
                slide.read(width // 2, height // 2, 1, 1, index)
            return slide
    except SourceError:
        pass  # of a kind that its libtiff does not decode
    slide.close()
    return None


@dataclass(frozen=True)
class PageStore:
    """A `dlpr_wsi.stored.SlideStore` of the pages that a `TiffSource` reads; closed with it."""

    files: tuple[Path, ...]
    levels: Mapping[int, StoredLevel]
    notes: tuple[str, ...] = ()

    def close(self) -> None:
        """Release nothing: the file is the source's."""


class TiffSource:
    """A TIFF read by tifffile.

    Parameters
    ----------
    path : Path
        The file.
    tiff : tifffile.TiffFile
        The open file; closed by `close`.
    picture : Picture
        What of it is read.
    """

    def __init__(self, path: Path, tiff: Any, picture: Picture) -> None:
        self._path, self._tiff, self._picture = path, tiff, picture
        self._facts = self._describe()

    def _describe(self) -> SlideFacts:
        picture = self._picture
        pages = [level[0] for level in picture.levels]
        first = pages[0]
        levels = tuple(
            Level(
                page.width,
                page.height,
                (first.width / page.width + first.height / page.height) / 2,
                tiff_codec(page.compression),
            )
            for page in pages
        )
        icc, icc_notes = fitting(picture.icc, rgb=picture.channels is None)
        empty = any(page.missing() for level in picture.levels for page in level)
        empty_notes = ("tiles that the file lacks are background",) if empty else ()
        return SlideFacts(
            name=self._path.name,
            vendor=picture.vendor,
            file_bytes=self._path.stat().st_size,
            codec=levels[0].codec,
            levels=levels,
            tile_width=first.tile_width if first.is_tiled else None,
            tile_height=first.tile_height if first.is_tiled else None,
            mpp_x=picture.mpp_x,
            mpp_y=picture.mpp_y,
            objective_power=None,
            associated=(),
            background=(255, 255, 255) if picture.channels is None else (0, 0, 0),
            icc_profile=icc,
            channels=picture.channels,
            reader=f"tifffile {_tifffile().__version__}",
            notes=(*picture.notes, *icc_notes, *empty_notes),
        )

    @property
    def facts(self) -> SlideFacts:
        """What the file says about itself."""
        return self._facts

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """Return a region of a level as (height, width, samples): RGB, or one sample for each channel."""
        try:
            return self._picture.read(level, x, y, width, height, self._facts.background)
        except Exception as error:  # tifffile and imagecodecs raise many kinds
            raise SourceError(
                f"{self._path}: reading {width}x{height} px at x={x} y={y} of level {level} failed ({error})"
            ) from error

    def _kept(self, level: int) -> Any | None:
        """Return the page of a level that is made of JPEG or JPEG 2000 tiles of RGB px, or None."""
        pages = self._picture.levels[level]
        return pages[0] if self._facts.channels is None and len(pages) == 1 and pages[0].is_kept else None

    @property
    def store(self) -> PageStore:
        """What lies in the file behind the levels that are made of JPEG or JPEG 2000 tiles."""
        found = {level: page for level in range(len(self._picture.levels)) if (page := self._kept(level)) is not None}
        return PageStore((self._path,), found)

    def tile_grid(self, level: int) -> TileGrid | None:
        """Return the JPEG or JPEG 2000 tiles of a level, or None."""
        page = self._kept(level)
        return None if page is None else page.grid()

    def source_tile(self, level: int, row: int, column: int) -> SourceTile | None:
        """Return a stored JPEG or JPEG 2000 tile, or None."""
        page = self._kept(level)
        try:
            return None if page is None else page.tile(row, column)
        except Exception as error:
            raise SourceError(
                f"{self._path}: the stored tile at level {level} row {row} column {column} cannot be read ({error})"
            ) from error

    def associated(self, name: str) -> NDArray[np.uint8]:
        """Raise: such a file has no associated images."""
        raise SourceError(f"{self._path}: no associated image {name!r}")

    def close(self) -> None:
        """Release the file."""
        self._tiff.close()
