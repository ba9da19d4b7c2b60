"""Array and buffer types of the exact decoders, and `clamp`, as the specification writes it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes to read from."""

Bytes8: TypeAlias = npt.NDArray[np.uint8]
"""Samples."""

Ints: TypeAlias = npt.NDArray[np.int64]
"""Everything the reference decoder computes."""

AnyInts: TypeAlias = npt.NDArray[Any]
"""Integers of any width, as a weights file holds them."""


def clamp(v: Ints, low: int, high: int) -> Ints:
    """Limit to low..high."""
    return np.minimum(np.maximum(v, low), high)  # np.clip costs five times as much on a few values
