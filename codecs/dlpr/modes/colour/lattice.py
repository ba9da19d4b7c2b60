"""Lattices of colours: pixels made from whole-numbered Y, Cb, Cr by one matrix in integers (colour-layer C2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import numpy as np

from dlpr.arrays import Bytes8, Ints

__all__ = ["MATRICES", "MAX_STEP", "Lattice", "Products", "Rounding"]

MAX_STEP = 1 << 18
"""Largest magnitude of a step."""
MAX_INNER = 2047


class Rounding(IntEnum):
    """How a quotient becomes whole."""

    NEAREST = 0
    FLOOR = 1
    CEIL = 2
    TRUNCATE = 3


class Products(IntEnum):
    """What is rounded."""

    SUM = 0
    """The sum of all products of a channel."""
    EACH = 1
    """Each product; their sum is whole."""
    GREEN_OF_ROUNDED = 2
    """The sum; green's chroma products are multiples of the rounded ones of blue and red."""


@dataclass(frozen=True)
class Lattice:
    """Steps as whole numbers over a denominator, and how they are rounded.

    Examples
    --------
    >>> import numpy as np
    >>> MATRICES[0].pixels(np.array([100]), np.array([128]), np.array([140])).tolist()
    [[117, 91, 100]]
    """

    denominator: int
    """1..65536."""
    luma: int
    red: int
    """Of Cr, in red."""
    blue: int
    """Of Cb, in blue."""
    green_blue: int
    """Of Cb, in green."""
    green_red: int
    """Of Cr, in green."""
    offset: int = 0
    """Luma of black, 0..255; chroma of grey is 128."""
    rounding: Rounding = Rounding.NEAREST
    products: Products = Products.SUM

    @property
    def number(self) -> int:
        """Place of the matrix in `MATRICES`, from 1; 0 if it is not there."""
        plain = replace(self, rounding=Rounding.NEAREST, products=Products.SUM)
        return MATRICES.index(plain) + 1 if plain in MATRICES else 0

    @property
    def fields(self) -> tuple[int, ...]:
        """Fields for the native code."""
        steps = (self.luma, self.red, self.blue, self.green_blue, self.green_red)
        return (self.denominator, *steps, self.offset, int(self.rounding), int(self.products))

    def divide(self, n: Ints) -> Ints:
        """Quotients by the denominator, rounded."""
        d = self.denominator
        if self.rounding is Rounding.NEAREST:
            return (n + d // 2) // d
        if self.rounding is Rounding.FLOOR:
            return n // d
        if self.rounding is Rounding.CEIL:
            return -(-n // d)
        whole: Ints = np.sign(n) * (np.abs(n) // d)
        return whole

    def spread(self, luma: int, chroma: int) -> int:
        """Largest difference of a sample when luma is off by up to ``luma`` and chroma by up to ``chroma`` (C5)."""

        def up(n: int) -> int:
            return -(-n // self.denominator)

        blue, red = abs(self.blue) * chroma, abs(self.red) * chroma
        if self.products is Products.GREEN_OF_ROUNDED:
            green = [abs(self.green_blue) * up(blue), abs(self.green_red) * up(red)]
        else:
            green = [abs(self.green_blue) * chroma, abs(self.green_red) * chroma]
        grey = abs(self.luma) * luma
        if self.products is Products.EACH:
            return up(grey) + max(up(blue), up(red), up(green[0]) + up(green[1]))
        return max(up(grey + blue), up(grey + red), up(grey + sum(green)))

    def pixels(self, luma: Bytes8 | Ints, cb: Bytes8 | Ints, cr: Bytes8 | Ints) -> Bytes8:
        """Make pixels.

        Parameters
        ----------
        luma, cb, cr : numpy.ndarray
            Integers 0..255, all of one shape.

        Returns
        -------
        numpy.ndarray
            uint8 [..., 3]: red, green, blue.
        """
        y, u, v = luma.astype(np.int64) - self.offset, cb.astype(np.int64) - 128, cr.astype(np.int64) - 128
        if self.products is Products.EACH:
            grey = self.divide(self.luma * y)
            red, blue = grey + self.divide(self.red * v), grey + self.divide(self.blue * u)
            green = grey + self.divide(self.green_blue * u) + self.divide(self.green_red * v)
        else:
            red, blue = self.divide(self.luma * y + self.red * v), self.divide(self.luma * y + self.blue * u)
            if self.products is Products.GREEN_OF_ROUNDED:
                u = np.clip(self.divide(self.blue * u), -MAX_INNER, MAX_INNER)
                v = np.clip(self.divide(self.red * v), -MAX_INNER, MAX_INNER)
            green = self.divide(self.luma * y + self.green_blue * u + self.green_red * v)
        return np.asarray(np.clip(np.stack([red, green, blue], -1), 0, 255), np.uint8)


MATRICES: Final = (
    Lattice(65536, 65536, 91881, 116130, -22554, -46802),
    Lattice(256, 256, 360, 452, -88, -184),
    Lattice(256, 256, 359, 454, -88, -183),
    Lattice(1000, 1000, 1402, 1772, -344, -714),
    Lattice(256, 298, 409, 516, -100, -208, 16),
    Lattice(65536, 76309, 104597, 132201, -25675, -53279, 16),
    Lattice(65536, 65536, 103206, 121609, -12276, -30679),
    Lattice(65536, 76309, 117489, 138438, -13975, -34925, 16),
    Lattice(10000, 13584, 18215, 22179, -1940, -5090),
)
"""JFIF (libjpeg's integers; rounded down: OpenSlide's for JPEG 2000), the same coarsely in 8 bits, in 8 bits, in
thousandths; BT.601 in video range, in 8 and 16 bits; BT.709, full and video range; PhotoYCC."""
