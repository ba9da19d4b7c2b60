"""The TIFF inside a slide that OpenSlide reads: the pages of its levels, and what OpenSlide passes over in silence."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources import Selection
from dlpr_wsi.sources.choose import choose
from dlpr_wsi.sources.header import Kind, sniff
from dlpr_wsi.sources.photometric import CannotReadError
from dlpr_wsi.sources.picture import refuse
from dlpr_wsi.stored.tiff import StoredTiles

__all__ = ["SlidePages", "aperio_missing", "open_pages"]

_ONE_GRID = frozenset({"aperio", "generic-tiff", "argos", "huron"})
_NDPI_LENS, _NDPI_FOCUS = 65421, 65424


@dataclass
class SlidePages:
    """What was found.

    Parameters
    ----------
    tiff : tifffile.TiffFile or None
        To be closed by `close`; None where the slide is no TIFF or tifffile is not installed.
    tiles : dict of int to StoredTiles
        By level, those whose page was found.
    missing : dict of int to frozenset
        By level, (row, column) of the tiles that OpenSlide draws itself.
    notes : tuple of str
        What OpenSlide leaves out.
    """

    tiff: Any = None
    tiles: dict[int, StoredTiles] = field(default_factory=dict)
    missing: dict[int, frozenset[tuple[int, int]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def standing_in(self, level: int, vendor: str) -> StoredTiles | None:
        """Return a level's tiles if they may have OpenSlide's pixels; whether they have is to be proven."""
        tiles = self.tiles.get(level)
        if tiles is None or vendor not in _ONE_GRID:
            return None
        drawn = vendor == "generic-tiff" or (vendor == "aperio" and level in self.missing)
        return tiles if drawn or not tiles.missing() else None

    def lacking(self) -> bool:
        """Tell whether any level has tiles that the file does not have."""
        return any(tiles.missing() for tiles in self.tiles.values())

    def close(self) -> None:
        """Release the file."""
        if self.tiff is not None:
            self.tiff.close()


def open_pages(path: Path, vendor: str, dimensions: Sequence[tuple[int, int]], selection: Selection) -> SlidePages:
    """Open a slide's TIFF and find the tiled pages of its levels.

    Parameters
    ----------
    path : Path
        The slide.
    vendor : str
        OpenSlide's name of the format.
    dimensions : sequence of (int, int)
        Width and height of each level as OpenSlide gives them.
    selection : Selection
        The focal plane, of a slide that has several.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        The slide has more than 8 bits a sample, which OpenSlide would cut, or focal planes that it passes over.
    """
    with path.open("rb") as file:
        if sniff(file.read(16)) is not Kind.TIFF:
            return SlidePages()
    try:
        import tifffile

        tiff = tifffile.TiffFile(path)
    except Exception:  # not installed, or damaged in a way that OpenSlide does not mind
        return SlidePages()
    try:
        pages = [entry.aspage() for entry in tiff.pages]
        _refuse_depth(path, [page for page in pages if (page.imagewidth, page.imagelength) == tuple(dimensions[0])])
        notes = _focal_planes(path, pages, selection) if vendor == "hamamatsu" else ()
        found = _match(pages, vendor, dimensions)
    except SourceError:
        tiff.close()
        raise
    except Exception:  # of use to OpenSlide all the same
        return SlidePages(tiff)
    complete = len(found) == len(dimensions)
    missing = aperio_missing([found[level] for level in range(len(found))]) if complete and vendor == "aperio" else {}
    return SlidePages(tiff, found, missing, notes)


def _refuse_depth(path: Path, pages: Sequence[Any]) -> None:
    """Refuse pages of more than 8 bits by their own tag."""
    for page in pages[:1]:
        tag = page.tags.get("BitsPerSample")
        values = (tag.value if isinstance(tag.value, tuple) else (tag.value,)) if tag is not None else (1,)
        if max(int(value) for value in values) > 8:
            bits = max(int(value) for value in values)
            raise refuse(path, f"{bits} bits a sample; 8 are kept, and cutting them is not lossless")


def _focal_planes(path: Path, pages: Sequence[Any], selection: Selection) -> tuple[str, ...]:
    """Refuse an NDPI of several focal planes unless the one that OpenSlide reads, at offset 0, is chosen."""
    offsets = set()
    for page in pages:
        lens, focus = page.tags.get(_NDPI_LENS), page.tags.get(_NDPI_FOCUS)
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


def _match(pages: Sequence[Any], vendor: str, dimensions: Sequence[tuple[int, int]]) -> dict[int, StoredTiles]:
    """Find the page of each level; Philips pads pages to whole tiles, OpenSlide takes the padding off."""
    found: dict[int, StoredTiles] = {}
    for page in pages:
        if not StoredTiles.fits(page):
            continue
        for level, (width, height) in enumerate(dimensions):
            extra = (int(page.imagewidth) - width, int(page.imagelength) - height)
            if vendor == "philips":
                same = 0 <= extra[0] < page.tilewidth and 0 <= extra[1] < page.tilelength
            else:
                same = extra == (0, 0)
            if same and level not in found:
                with suppress(CannotReadError):
                    found[level] = StoredTiles(page, width=width, height=height, slide=vendor == "aperio")
                break
    return found


def aperio_missing(levels: Sequence[StoredTiles]) -> dict[int, frozenset[tuple[int, int]]]:
    """Return the tiles of each level that OpenSlide draws from the level above.

    Those of no length; and below each of them the tile that was made from it, which scanners write damaged.
    """
    missing = [set(tiles.missing()) for tiles in levels]
    for level, (above, below) in enumerate(pairwise(levels)):
        step_x, step_y = _round(above.columns / below.columns), _round(above.rows / below.rows)
        if step_x and step_y:
            missing[level + 1] |= {(row // step_y, column // step_x) for row, column in missing[level]}
    return {level: frozenset(places) for level, places in enumerate(missing)}


def _round(value: float) -> int:
    """Round halves up, as C does."""
    return int(value + 0.5)
