"""Array and buffer types of the exact decoders."""

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
