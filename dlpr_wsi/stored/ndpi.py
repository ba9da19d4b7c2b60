"""Hamamatsu NDPI: which of its pages OpenSlide reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlpr_wsi.sources import Selection
from dlpr_wsi.sources.choose import choose
from dlpr_wsi.sources.picture import refuse

__all__ = ["focal_planes"]

_LENS, _FOCUS = 65421, 65424


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
