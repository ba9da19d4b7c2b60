"""A JPEG image as numbers: quantised coefficients, tables and how samples become pixels (docs/format section 15)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlpr.errors import UnsupportedInputError
from dlpr.layout import MAX_PIXELS
from dlpr.modes.jpeg.fields import ColourTransform, Upsampling

__all__ = ["COEFFICIENT_MAX", "Coefficients", "ColourTransform", "JpegImage", "Table", "Upsampling"]

Table = npt.NDArray[np.uint16]
"""Quantisation steps [8, 8], natural order (rows: vertical frequency), 1..255."""

Coefficients = npt.NDArray[np.int16]
"""Quantised coefficients [block rows, block columns, 8, 8], natural order."""

COEFFICIENT_MAX = 2047
"""Largest magnitude of a quantised coefficient."""


@dataclass(frozen=True, eq=False)
class JpegImage:
    """Coefficients of a JPEG and the window of it that is seen.

    The window may begin anywhere in the first MCU, so that a part of a larger JPEG is a `JpegImage` too. An MCU is 8
    pixels times ``sampling``. Blocks of component 0 that the window does not touch have no influence on the pixels.

    Parameters
    ----------
    height, width : int
        Size of the window in pixels.
    phase : tuple of int
        Row and column of the window's top left pixel in the first MCU, below the MCU's size.
    transform : ColourTransform
        What the components are.
    sampling : tuple of int
        Vertical and horizontal factor of component 0 relative to the others, 1 or 2 each; (1, 1) with one component
        and without transform.
    upsampling : Upsampling
        How the others are brought to size.
    crop_edges : bool
        Replicate chroma beyond the window's right and lower edge (libjpeg, at an image's edge); else beyond the edge
        of the blocks. At the upper and left edge it is always that of the blocks.
    tables : tuple of numpy.ndarray
        uint16 [8, 8] for each component, natural order, 1..255.
    coefficients : tuple of numpy.ndarray
        int16 [block rows, block columns, 8, 8] for each component: whole MCUs, ``blocks`` says how many.

    Raises
    ------
    UnsupportedInputError
        A field is out of its range or arrays do not fit each other.

    Examples
    --------
    >>> steps, flat = np.full((8, 8), 16, np.uint16), np.zeros((2, 3, 8, 8), np.int16)
    >>> image = JpegImage(10, 20, (3, 0), ColourTransform.NONE, (1, 1), Upsampling.FANCY, True, (steps,), (flat,))
    >>> image.components, image.mcu, image.blocks(0)
    (1, (8, 8), (2, 3))
    """

    height: int
    width: int
    phase: tuple[int, int]
    transform: ColourTransform
    sampling: tuple[int, int]
    upsampling: Upsampling
    crop_edges: bool
    tables: tuple[Table, ...]
    coefficients: tuple[Coefficients, ...]

    def __post_init__(self) -> None:
        """Refuse what is no image."""
        self._check_fields()
        self._check_arrays()

    def _check_fields(self) -> None:
        """Check all but the arrays' content."""
        if self.height < 1 or self.width < 1 or self.height * self.width > MAX_PIXELS:
            _refuse(f"a window of {self.height} x {self.width} pixels")
        if len(self.tables) not in (1, 3) or len(self.coefficients) != len(self.tables):
            _refuse(f"{len(self.coefficients)} components with {len(self.tables)} tables")
        for name, kind in (("transform", ColourTransform), ("upsampling", Upsampling)):
            if not isinstance(getattr(self, name), kind):
                _refuse(f"{name} {getattr(self, name)!r} instead of a {kind.__name__}")
        if self.transform is ColourTransform.YCBCR and len(self.tables) != 3:
            _refuse("a colour transform with one component")
        if not all(s in (1, 2) for s in self.sampling):
            _refuse(f"sampling {self.sampling}")
        if self.transform is ColourTransform.NONE and tuple(self.sampling) != (1, 1):
            _refuse(f"sampling {self.sampling} without colour transform")
        if not all(0 <= p < m for p, m in zip(self.phase, self.mcu, strict=True)):
            _refuse(f"phase {self.phase} in an MCU of {self.mcu}")

    def _check_arrays(self) -> None:
        """Check tables and coefficients."""
        for table in self.tables:
            if table.shape != (8, 8) or table.dtype != np.uint16 or table.min() < 1 or table.max() > 255:
                _refuse("a quantisation table that is not uint16 [8, 8] with values in 1..255")
        for c, blocks in enumerate(self.coefficients):
            if blocks.dtype != np.int16 or blocks.shape != (*self.blocks(c), 8, 8):
                _refuse(f"coefficients of {blocks.dtype} {blocks.shape}; int16 {(*self.blocks(c), 8, 8)} are needed")
            if blocks.min() < -COEFFICIENT_MAX or blocks.max() > COEFFICIENT_MAX:
                _refuse(f"a coefficient beyond {COEFFICIENT_MAX}")

    @property
    def components(self) -> int:
        """Components, 1 or 3."""
        return len(self.tables)

    @property
    def mcu(self) -> tuple[int, int]:
        """Height and width of an MCU in pixels."""
        return 8 * self.sampling[0], 8 * self.sampling[1]

    def blocks(self, component: int) -> tuple[int, int]:
        """Rows and columns of blocks of a component."""
        v, h = self.sampling if component == 0 else (1, 1)
        rows = -(-(self.phase[0] + self.height) // self.mcu[0])
        columns = -(-(self.phase[1] + self.width) // self.mcu[1])
        return rows * v, columns * h


def _refuse(what: str) -> None:
    """Raise for something that no JPEG image has."""
    raise UnsupportedInputError(f"{what}: not a JPEG image that the codec takes; code the pixels alone")
