"""Lower levels for a source that has one.

Level k + 1 has the means of 2 x 2 px of level k, rounded: ``(a + b + c + d + 2) // 4``, computed from exact source
pixels. At an odd right or lower edge the last column or row counts twice. Levels are added until one fits into a tile.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.sources import Level, PixelSource, SlideFacts, SourceTile, TileGrid
from dlpr_wsi.stored import SlideStore

__all__ = ["FILTER", "PyramidSource", "box_mean"]

FILTER = "mean of 2x2 px of the level above, (a+b+c+d+2)//4, from source pixels"
_MAX_PIXELS = 1 << 20  # of one region at once: what a read holds in memory is bounded


def box_mean(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Halve an image of even height and width.

    Examples
    --------
    >>> box_mean(np.array([[[0], [1]], [[2], [3]]], np.uint8)).tolist()
    [[[2]]]
    """
    rows = pixels[0::2].astype(np.uint16)
    rows += pixels[1::2]
    total = rows[:, 0::2] + rows[:, 1::2]
    total += 2
    total >>= 2
    return total.astype(np.uint8)


class PyramidSource:
    """A source of one level with further levels computed on demand.

    Parameters
    ----------
    source : PixelSource
        The source.
    levels : int
        Levels in all.
    """

    def __init__(self, source: PixelSource, levels: int) -> None:
        self._source = source
        base = source.facts.levels[0]
        made = [base]
        while len(made) < levels:
            last = made[-1]
            made.append(Level(-(-last.width // 2), -(-last.height // 2), float(2 ** len(made)), base.codec))
        self._facts = replace(source.facts, levels=tuple(made))

    @property
    def store(self) -> SlideStore | None:
        """What lies in the slide's files, where the source knows it."""
        return getattr(self._source, "store", None)

    @property
    def facts(self) -> SlideFacts:
        """Those of the source, with the levels that were added."""
        return self._facts

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """Return a region of a level as (height, width, samples); what lies outside is background, of channels 0."""
        if level == 0:
            return self._source.read(x, y, width, height)
        place = self._facts.levels[level]
        out = np.empty((height, width, self._facts.samples), np.uint8)
        out[:] = self._facts.background if self._facts.channels is None else 0
        top, bottom = max(y, 0), min(y + height, place.height)
        left, right = max(x, 0), min(x + width, place.width)
        if top < bottom and left < right:
            self._fill(out[top - y : bottom - y, left - x : right - x], left, top, level)
        return out

    def _fill(self, out: NDArray[np.uint8], x: int, y: int, level: int) -> None:
        """Compute a region inside a level, in parts of bounded size."""
        height, width = out.shape[:2]
        if 4 * height * width > _MAX_PIXELS and max(height, width) > 1:
            if height >= width:
                half = height // 2
                self._fill(out[:half], x, y, level)
                self._fill(out[half:], x, y + half, level)
            else:
                half = width // 2
                self._fill(out[:, :half], x, y, level)
                self._fill(out[:, half:], x + half, y, level)
            return
        above = self._facts.levels[level - 1]
        right, bottom = min(2 * (x + width), above.width), min(2 * (y + height), above.height)
        pixels = self.read(2 * x, 2 * y, right - 2 * x, bottom - 2 * y, level - 1)
        missing = (2 * height - pixels.shape[0], 2 * width - pixels.shape[1])
        if any(missing):
            pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        out[:] = box_mean(pixels)

    @property
    def source(self) -> PixelSource:
        """What level 0 comes from."""
        return self._source

    def tile_grid(self, level: int) -> TileGrid | None:
        """Return the stored tiles of level 0; the others have none."""
        return self._source.tile_grid(0) if level == 0 else None

    def source_tile(self, level: int, row: int, column: int) -> SourceTile | None:
        """Return a stored tile of level 0; the others have none."""
        return self._source.source_tile(0, row, column) if level == 0 else None

    def associated(self, name: str) -> NDArray[np.uint8]:
        """Return an associated image of the source."""
        return self._source.associated(name)

    def close(self) -> None:
        """Close the source."""
        self._source.close()
