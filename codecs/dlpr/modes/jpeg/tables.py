"""Zigzag order and standard quantisation tables (ITU-T T.81, annexes A and K; docs/format section 18)."""

from __future__ import annotations

import numpy as np

from dlpr.modes.jpeg.image import Table

__all__ = ["TABLE_AGAIN", "TABLE_EXPLICIT", "ZIGZAG", "standard_table"]

ZIGZAG = sorted(range(64), key=lambda z: (z // 8 + z % 8, (z % 8 if (z // 8 + z % 8) % 2 else z // 8) * -1))
"""Places in natural order, by increasing frequency."""

TABLE_AGAIN = 0
"""The table of the component before."""
TABLE_EXPLICIT = 201
"""The steps are in the lane."""

_LUMA = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""
_CHROMA = "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99" + 32 * " 99"


def standard_table(code: int) -> Table:
    """Table of a code: 1..100 that of luma at quality 1..100, 101..200 that of chroma, as libjpeg scales them.

    Returns
    -------
    numpy.ndarray
        uint16 [8, 8], natural order.

    Examples
    --------
    >>> standard_table(50)[0, :4].tolist(), standard_table(130)[0, :4].tolist()
    ([16, 11, 10, 16], [28, 30, 40, 78])
    """
    quality = code if code <= 100 else code - 100
    base = np.array((_LUMA if code <= 100 else _CHROMA).split(), np.int64)
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((base * scale + 50) // 100, 1, 255).astype(np.uint16).reshape(8, 8)
