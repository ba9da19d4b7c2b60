"""Chroma planes at their own size: which, and how they are brought to full size (colour-layer C3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from dlpr.arrays import Bytes8, Ints

__all__ = ["ChromaShape", "Filter"]


class Filter(IntEnum):
    """How a smaller plane becomes a plane at full size."""

    NONE = 0
    TRIANGLE = 1
    """3/4 of the nearest sample, 1/4 of the next one: libjpeg's."""
    REPETITION = 2
    MEAN = 3
    """Every other row or column is the mean of its neighbours: Photo CD's."""


@dataclass(frozen=True)
class ChromaShape:
    """Size and filter of the planes Cb and Cr.

    Examples
    --------
    >>> import numpy as np
    >>> shape = ChromaShape(Filter.MEAN, 1, 2)
    >>> shape.upsample(np.array([[10, 20]], np.uint8), 1, 3).tolist()
    [[10, 15, 20]]
    """

    filter: Filter = Filter.NONE
    vertical: int = 1
    horizontal: int = 1
    """Rows and columns of the chunk for each row and column of the planes, 1 or 2."""
    row: int = 0
    column: int = 0
    """Parity of the chunk's first row and column; 0 where the factor is 1."""

    @property
    def fields(self) -> tuple[int, ...]:
        """Fields for the native code."""
        return int(self.filter), self.vertical, self.horizontal, self.row, self.column

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the planes of a chunk."""
        return (
            self._size(height, self.vertical, self.row),
            self._size(width, self.horizontal, self.column),
        )

    def upsample(self, plane: Bytes8, height: int, width: int) -> Bytes8:
        """Bring a plane of `size` to full size, uint8 [height, width]."""
        if self.filter is Filter.NONE:
            return plane
        rows, columns = self._taps(height, self.vertical, self.row), self._taps(width, self.horizontal, self.column)
        p = plane.astype(np.int64)
        t = rows[2][:, None] * p[rows[0]] + rows[3][:, None] * p[rows[1]]
        t = columns[2] * t[:, columns[0]] + columns[3] * t[:, columns[1]]
        both = self.vertical * self.horizontal == 4
        odd_row = ((np.arange(height) + self.row) & 1)[:, None]
        odd_column = (np.arange(width) + self.column) & 1
        if self.filter is Filter.REPETITION:
            return np.asarray(t, np.uint8)
        if self.filter is Filter.MEAN:
            return np.asarray((t + 2) >> 2 if both else (t + 1) >> 1, np.uint8)
        if both:
            return np.asarray((t + 8 - odd_column) >> 4, np.uint8)
        return np.asarray((t + 1 + (odd_row if self.horizontal == 1 else odd_column)) >> 2, np.uint8)

    def _start(self, parity: int) -> int:
        """Place of the chunk's first row or column, in the numbering in which sample j stands at 2j."""
        return 2 - parity if self.filter is Filter.TRIANGLE else parity

    def _size(self, n: int, factor: int, parity: int) -> int:
        if factor == 1:
            return n
        s = self._start(parity)
        return (n - 1 + s) // 2 + 1 if self.filter is Filter.REPETITION else (n + s) // 2 + 1

    def _taps(self, n: int, factor: int, parity: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Two samples for each row or column, and their weights."""
        i = np.arange(n)
        if factor == 1:
            return i, i, np.ones(n, np.int64), np.zeros(n, np.int64)
        k = i + self._start(parity)
        j, odd = k // 2, k % 2
        if self.filter is Filter.REPETITION:
            return j, j, np.ones(n, np.int64), np.zeros(n, np.int64)
        if self.filter is Filter.MEAN:
            return j, j + odd, np.ones(n, np.int64), np.ones(n, np.int64)
        return j, np.where(odd == 1, j + 1, j - 1), np.full(n, 3), np.ones(n, np.int64)
