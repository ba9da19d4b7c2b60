"""The tiled pages of a slide's TIFF, where each page is one level: SVS, generic TIFF and the like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from dlpr_wsi.sources.photometric import CannotReadError
from dlpr_wsi.stored import StoredLevel
from dlpr_wsi.stored.tiff import StoredTiles

__all__ = ["SlidePages", "aperio_missing"]

_ONE_GRID = frozenset({"aperio", "generic-tiff", "argos", "huron"})


class SlidePages:
    """Finds the page of each level by its size.

    Parameters
    ----------
    path : Path
        The slide.
    tiff : tifffile.TiffFile
        Open; `close` closes it.
    pages : sequence of tifffile.TiffPage
        All pages of the file.
    vendor : str
        OpenSlide's name of the format.
    dimensions : sequence of (int, int)
        Width and height of each level as OpenSlide gives them.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self, path: Path, tiff: Any, pages: Sequence[Any], vendor: str, dimensions: Sequence[tuple[int, int]]
    ) -> None:
        self._tiff, self._vendor = tiff, vendor
        self.files = (path,)
        self.tiles = _match(pages, vendor, dimensions)
        """By level, those whose page was found, JPEG or not."""
        self.levels: Mapping[int, StoredLevel] = {level: tiles for level, tiles in self.tiles.items() if tiles.is_kept}
        complete = len(self.tiles) == len(dimensions)
        self.missing: dict[int, frozenset[tuple[int, int]]] = {}
        """By level, (row, column) of the tiles that OpenSlide draws itself."""
        if complete and vendor == "aperio":
            self.missing = aperio_missing([self.tiles[level] for level in range(len(self.tiles))])

    def standing_in(self, level: int) -> StoredTiles | None:
        """Return a level's tiles if they may have OpenSlide's pixels; whether they have is to be proven."""
        tiles = self.tiles.get(level)
        if tiles is None or self._vendor not in _ONE_GRID:
            return None
        drawn = self._vendor == "generic-tiff" or (self._vendor == "aperio" and level in self.missing)
        return tiles if drawn or not tiles.missing() else None

    def lacking(self) -> bool:
        """Tell whether any level has tiles that the file does not have."""
        return any(tiles.missing() for tiles in self.tiles.values())

    def close(self) -> None:
        """Release the file."""
        self._tiff.close()


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
