"""The form of a JPEG in whole MCUs, and its blocks in the order of the scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dlpr.modes.jpeg.image import Coefficients, ColourTransform, JpegImage, Table, Upsampling

__all__ = ["Grid"]

Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class Grid:
    """A JPEG's form in whole MCUs.

    Parameters
    ----------
    rows, columns : int
        MCUs.
    sampling : tuple of int
        Blocks of component 0 in an MCU, vertically and horizontally.
    components : int
    """

    rows: int
    columns: int
    sampling: tuple[int, int]
    components: int

    @classmethod
    def of(cls, image: JpegImage) -> Grid:
        """Return that of an image."""
        rows, columns = image.blocks(0)
        v, h = image.sampling
        return cls(rows // v, columns // h, (v, h), image.components)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return 8 * self.sampling[0] * self.rows, 8 * self.sampling[1] * self.columns

    @property
    def transform(self) -> ColourTransform:
        """What three components are taken to be; no byte depends on it."""
        return ColourTransform.YCBCR if self.components == 3 else ColourTransform.NONE

    def image(self, tables: tuple[Table, ...], coefficients: tuple[Coefficients, ...]) -> JpegImage:
        """Make an image of all MCUs.

        Raises
        ------
        UnsupportedInputError
            No JPEG image has these.
        """
        phase, plain = (0, 0), Upsampling.FANCY
        return JpegImage(*self.size, phase, self.transform, self.sampling, plain, True, tables, coefficients)

    def shape(self, component: int) -> tuple[int, int]:
        """Rows and columns of blocks of a component."""
        v, h = self.sampling if component == 0 else (1, 1)
        return self.rows * v, self.columns * h

    def scan(self, component: int, blocks: npt.NDArray[Value]) -> npt.NDArray[Value]:
        """Bring [rows, columns, ...] of blocks into the order of the scan, [n, ...]."""
        v, h = self.sampling if component == 0 else (1, 1)
        rest = blocks.shape[2:]
        ordered = blocks.reshape(self.rows, v, self.columns, h, *rest).swapaxes(1, 2)
        return np.ascontiguousarray(ordered).reshape(self.rows * self.columns * v * h, *rest)

    def raster(self, component: int, blocks: npt.NDArray[np.int16]) -> Coefficients:
        """Bring blocks from the order of the scan into [rows, columns, 8, 8]."""
        v, h = self.sampling if component == 0 else (1, 1)
        ordered = blocks.reshape(self.rows, self.columns, v, h, 64).swapaxes(1, 2)
        return np.ascontiguousarray(ordered).reshape(self.rows * v, self.columns * h, 8, 8)
