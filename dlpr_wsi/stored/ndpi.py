"""Hamamatsu NDPI: a level is one JPEG, cut into strips by restart markers; small levels may have none.

Places of the markers stand in tag 65426, their upper halves in 65432; where they are missing they are searched for, as
OpenSlide does. Sizes are the directory's: a JPEG cannot say more than 65,535 px.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.sources import Selection
from dlpr_wsi.sources.choose import choose
from dlpr_wsi.sources.picture import refuse
from dlpr_wsi.stored.container import TiffSlide
from dlpr_wsi.stored.scan import JpegScan, WholeScan
from dlpr_wsi.stored.strips import StripLevel, StripStore

__all__ = ["focal_planes", "open_ndpi"]

_LENS, _FOCUS, _STARTS, _STARTS_HIGH = 65421, 65424, 65426, 65432
_OFFSET, _SIZE = 273, 279
_MOST_SAID = 65500  # px; libjpeg reads no larger size from a JPEG


def open_ndpi(slide: TiffSlide) -> StripStore:
    """Find the JPEGs of an NDPI's levels in the focal plane 0.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        Another focal plane is chosen, or none of several.
    OSError
        The file cannot be read.
    """
    notes = focal_planes(slide.path, slide.pages, slide.selection)
    file = slide.path.open("rb")
    store = StripStore((slide.path,), (file, slide.tiff), notes)
    try:
        found = _found(slide.pages, file, slide.dimensions)
    except Exception:  # damaged in a way that OpenSlide does not mind
        found = {}
    store.fill(
        slide.dimensions, {level: partial(_level, *one, *slide.dimensions[level]) for level, one in found.items()}
    )
    return store


def _found(
    pages: Sequence[Any], file: BinaryIO, dimensions: Sequence[tuple[int, int]]
) -> dict[int, tuple[JpegScan | str, NDArray[np.int64] | None]]:
    """Find the page of each level that is in the file: its JPEG or why it is of no use, and the places it names."""
    found: dict[int, tuple[JpegScan | str, NDArray[np.int64] | None]] = {}
    sizes = {size: level for level, size in enumerate(dimensions)}
    for page in pages:
        if float(_value(page, _LENS, 0)) <= 0 or int(_value(page, _FOCUS, 0)) != 0:
            continue
        size = (int(page.imagewidth), int(page.imagelength))
        offset, count = int(_value(page, _OFFSET, 0)), int(_value(page, _SIZE, 0))
        scan: JpegScan | str
        try:
            scan = JpegScan(file, 0, offset, count)
            if not scan.header.interval:
                scan = WholeScan(file, 0, offset, count)
                if size not in sizes:  # OpenSlide goes by the JPEG
                    size = (scan.header.width, scan.header.height)
        except ValueError as error:
            scan = str(error)
        if size in sizes:
            found.setdefault(sizes[size], (scan, _starts(page, offset)))
    return found


def _value(page: Any, tag: int, default: float) -> Any:
    """Return a tag's only value."""
    value = page.tags.valueof(tag, default)
    return value[0] if isinstance(value, tuple) else value


def _starts(page: Any, offset: int) -> NDArray[np.int64] | None:
    """Return where the file says that strips begin, in the file; None where it says nothing."""
    low, high = page.tags.valueof(_STARTS), page.tags.valueof(_STARTS_HIGH)
    if low is None:
        return None
    starts = np.atleast_1d(np.asarray(low, np.int64))
    if high is not None:
        with suppress(ValueError):
            starts = starts + (np.atleast_1d(np.asarray(high, np.int64)) << 32)
    return starts + offset


def _level(scan: JpegScan | str, starts: NDArray[np.int64] | None, width: int, height: int) -> StripLevel:
    """Cut a level's JPEG into its strips."""
    if isinstance(scan, str):
        raise ValueError(scan)
    header = scan.header
    if max(width, height) <= _MOST_SAID and (header.width, header.height) != (width, height):
        raise ValueError("its JPEG has another size than its directory says")
    if isinstance(scan, WholeScan):
        return StripLevel([[scan]], (width, header.mcu_height), width, height)
    strip = (header.interval * header.mcu_width, header.mcu_height)
    if width % strip[0]:
        raise ValueError("strips that do not fill a row")
    scan.cut((width // strip[0]) * (height // strip[1]), starts)
    return StripLevel([[scan]], strip, width, height)


def focal_planes(path: Path, pages: Sequence[Any], selection: Selection) -> tuple[str, ...]:
    """Refuse an NDPI of several focal planes unless the one that OpenSlide reads, at offset 0, is chosen.

    Returns
    -------
    tuple of str
        What is left out, for the report.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        Another plane is chosen, or none of several.
    """
    offsets = set()
    for page in pages:
        lens, focus = page.tags.get(_LENS), page.tags.get(_FOCUS)
        if lens is not None and float(lens.value) > 0 and focus is not None:
            offsets.add(int(focus.value))
    planes = sorted(offsets or {0})
    chosen = choose(path, "plane", selection.plane, len(planes), "focal planes")
    if planes[chosen] != 0:
        raise refuse(
            path,
            f"--plane {chosen}: OpenSlide reads the focal plane at offset 0 only"
            + (f", --plane {planes.index(0)}" if 0 in planes else ""),
        )
    return (f"{len(planes)} focal planes, of which the one at offset 0 was chosen",) if len(planes) > 1 else ()
