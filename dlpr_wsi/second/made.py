"""Levels that a conversion made: computed again, from what the second reader sees of level 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.second import Reading, SecondReader, Unjudged

__all__ = ["MadeLevels"]

_BLOCK = 256  # px along a side computed at once


class MadeLevels:
    """A second reader with further levels: each px is the rounded mean of 2 x 2 of the level above.

    At an odd right or lower edge the last column or row counts twice.
    """

    def __init__(self, reader: SecondReader, width: int, height: int, stored: int, levels: int) -> None:
        self._reader, self._stored = reader, stored
        self._sizes = [(width, height)]
        while len(self._sizes) < levels:
            across, down = self._sizes[-1]
            self._sizes.append(((across + 1) // 2, (down + 1) // 2))

    @property
    def name(self) -> str:
        """What reads level 0."""
        return self._reader.name

    def read(self, x: int, y: int, width: int, height: int, level: int) -> Reading | Unjudged:
        """Return a region of a level."""
        if level < self._stored:
            return self._reader.read(x, y, width, height, level)
        out: NDArray[np.uint8] | None = None
        tolerance = 0
        for top in range(0, height, _BLOCK):
            for left in range(0, width, _BLOCK):
                block = self._block(x + left, y + top, min(_BLOCK, width - left), min(_BLOCK, height - top), level)
                if isinstance(block, Unjudged):
                    return block
                if out is None:
                    out = np.empty((height, width, block.pixels.shape[-1]), np.uint8)
                out[top : top + _BLOCK, left : left + _BLOCK] = block.pixels
                tolerance = max(tolerance, block.tolerance)
        return Unjudged("an empty region") if out is None else Reading(out, tolerance)

    def _block(self, x: int, y: int, width: int, height: int, level: int) -> Reading | Unjudged:
        """Return a block of a made level."""
        across, down = self._sizes[level - 1]
        right, bottom = min(2 * (x + width), across), min(2 * (y + height), down)
        above = self.read(2 * x, 2 * y, right - 2 * x, bottom - 2 * y, level - 1)
        if isinstance(above, Unjudged):
            return above
        rows = np.minimum(np.arange(2 * height), bottom - 2 * y - 1)
        columns = np.minimum(np.arange(2 * width), right - 2 * x - 1)
        wide = above.pixels[rows][:, columns].astype(np.uint16)
        total = wide.reshape(height, 2, width, 2, -1).sum(axis=(1, 3), dtype=np.uint16)
        return Reading(((total + 2) // 4).astype(np.uint8), above.tolerance)

    def close(self) -> None:
        """Release the file."""
        self._reader.close()
