"""How a chunk's axes map to height, width and channels (docs/format section 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from dlpr.errors import UnsupportedInputError

__all__ = ["CODING_ORDER", "MAX_LEADING", "MAX_PIXELS", "Axes", "Layout", "from_planes", "to_planes"]

CODING_ORDER = (1, 0, 2)
"""Channel of the image coded at each place: green, red, blue."""

MAX_PIXELS = 1 << 26
"""Largest H * W of one chunk."""

MAX_LEADING = 7
"""Largest number of leading axes of length 1."""


class Axes(IntEnum):
    """Order of a chunk's last axes."""

    HWC = 0
    CHW = 1
    HW = 2


@dataclass(frozen=True)
class Layout:
    """Layout of a chunk: order of its axes, leading axes of length 1, channels.

    Examples
    --------
    >>> layout, height, width = Layout.of((1, 3, 40, 50))
    >>> layout
    Layout(axes=<Axes.CHW: 1>, leading=1, channels=3)
    >>> layout.shape(height, width)
    (1, 3, 40, 50)
    """

    axes: Axes
    leading: int
    channels: int

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> tuple[Layout, int, int]:
        """Find the layout of an array, with its height and width in pixels.

        A last axis of 3 is the channel; else a third last axis of 3; else the array has one channel and is
        (H, W), or (H, W, 1) where that does not read as the former. Leading axes must have length 1.

        Raises
        ------
        UnsupportedInputError
            The shape is not that of an image of one or three channels, or is too large.
        """
        ones = [n == 1 for n in shape]
        if len(shape) >= 3 and shape[-1] == 3 and all(ones[:-3]):
            layout, height, width = cls(Axes.HWC, len(shape) - 3, 3), shape[-3], shape[-2]
        elif len(shape) >= 3 and shape[-3] == 3 and all(ones[:-3]):
            layout, height, width = cls(Axes.CHW, len(shape) - 3, 3), shape[-2], shape[-1]
        elif len(shape) >= 2 and all(ones[:-2]):
            layout, height, width = cls(Axes.HW, len(shape) - 2, 1), shape[-2], shape[-1]
        elif len(shape) >= 3 and ones[-1] and all(ones[:-3]):
            layout, height, width = cls(Axes.HWC, len(shape) - 3, 1), shape[-3], shape[-2]
        else:
            raise UnsupportedInputError(
                f"a chunk of shape {shape} is not an image of one or three channels; pass "
                "(H, W, 3), (3, H, W), (H, W), (1, H, W) or (H, W, 1), with leading axes of length 1 only"
            )
        if layout.leading > MAX_LEADING:
            raise UnsupportedInputError(
                f"shape {shape} has more than {MAX_LEADING} leading axes of length 1; remove some"
            )
        if math.prod(shape) == 0:
            raise UnsupportedInputError(f"a chunk of shape {shape} holds no pixels; chunks have at least one")
        if height * width > MAX_PIXELS:
            raise UnsupportedInputError(
                f"a chunk of {width} x {height} px is larger than {MAX_PIXELS} px; cut it into smaller chunks"
            )
        return layout, height, width

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """Shape of an array of this layout."""
        core = {
            Axes.HWC: (height, width, self.channels),
            Axes.CHW: (self.channels, height, width),
            Axes.HW: (height, width),
        }[self.axes]
        return (1,) * self.leading + core


def to_planes(array: npt.NDArray[np.uint8], layout: Layout) -> npt.NDArray[np.uint8]:
    """Bring an array of a layout into coding order.

    Parameters
    ----------
    array : numpy.ndarray
        uint8, of ``layout.shape(H, W)``, any strides.
    layout : Layout
        Its layout.

    Returns
    -------
    numpy.ndarray
        uint8 [H, W, channels], contiguous; green, red, blue where there are three.

    Examples
    --------
    >>> pixel = np.array([[[1, 2, 3]]], np.uint8)
    >>> to_planes(pixel, Layout(Axes.HWC, 0, 3)).ravel().tolist()
    [2, 1, 3]
    """
    core = array.reshape(array.shape[layout.leading :])
    if layout.axes is Axes.HW:
        core = core[..., None]
    elif layout.axes is Axes.CHW:
        core = np.moveaxis(core, 0, -1)
    if layout.channels == 1:
        return np.ascontiguousarray(core)
    planes = np.empty(core.shape, np.uint8)
    for coded, channel in enumerate(CODING_ORDER):
        planes[..., coded] = core[..., channel]
    return planes


def from_planes(planes: npt.NDArray[np.uint8], layout: Layout) -> npt.NDArray[np.uint8]:
    """Undo `to_planes`: uint8 [H, W, channels] in coding order to a contiguous array of the layout."""
    height, width, channels = planes.shape
    out = np.empty(layout.shape(height, width), np.uint8)
    core = out.reshape(out.shape[layout.leading :])
    if layout.axes is Axes.HW:
        core = core[..., None]
    elif layout.axes is Axes.CHW:
        core = np.moveaxis(core, 0, -1)
    order = CODING_ORDER if channels == 3 else (0,)
    for coded, channel in enumerate(order):
        core[..., channel] = planes[..., coded]
    return out
