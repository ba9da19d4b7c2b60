"""OpenSlide as the second reader, where conversion reads through another library."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from dlpr_wsi.second import NoSecond, Reading, Unjudged
from dlpr_wsi.sources import SlideFacts

__all__ = ["OpenSlideReader"]


class OpenSlideReader:
    """Reads levels of the sizes that it has too, at whole downsamples."""

    def __init__(self, path: Path, facts: SlideFacts) -> None:
        import openslide

        self.name = f"OpenSlide {openslide.__library_version__}"
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise NoSecond("OpenSlide does not open the slide") from error
        self._lock = threading.Lock()
        sizes = list(self._slide.level_dimensions)
        self._own = [
            sizes.index((level.width, level.height)) if (level.width, level.height) in sizes else None
            for level in facts.levels
        ]
        self._colour = np.array(facts.background, np.uint32)

    def read(self, x: int, y: int, width: int, height: int, level: int) -> Reading | Unjudged:
        """Return a region of a level."""
        own = self._own[level]
        if own is None:
            return Unjudged("OpenSlide has no level of this size")
        downsample = float(self._slide.level_downsamples[own])
        if not downsample.is_integer():
            return Unjudged("OpenSlide would interpolate at this downsample")
        with self._lock:
            region = self._slide.read_region((int(x * downsample), int(y * downsample)), own, (width, height))
        rgba = np.asarray(region)
        alpha = rgba[..., 3:].astype(np.uint32)
        if int(alpha.min()) == 255:
            return Reading(np.ascontiguousarray(rgba[..., :3]))
        mixed = (rgba[..., :3] * alpha + self._colour * (255 - alpha) + 127) // 255
        return Reading(mixed.astype(np.uint8), 1)

    def close(self) -> None:
        """Release the file."""
        self._slide.close()
