"""Fixed tables of the format (docs/format section 4): orders, the log table, the logistic table, scales."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CODING_ORDER = (1, 0, 2)
"""Channel of the image coded at each place: green, red, blue."""

PRED_MIN, PRED_MAX = -128, 4208
"""Bounds of a prediction in 1/16 level."""


def log_table() -> npt.NDArray[np.int16]:
    """``round(64 log2(1 + a/16))`` for a = 0..4208, int16 [4209]: magnitude of a residual of a/16 levels."""
    a = np.arange(PRED_MAX + 1, dtype=np.float64)
    return np.rint(64 * np.log2(1 + a / 16)).astype(np.int16)
