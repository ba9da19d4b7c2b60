"""The paper's Q_tau: samples to the grid of 2 tau + 1 levels around an anchor (docs/format section 12)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def quantise(
    x: npt.NDArray[np.uint8], anchor: npt.NDArray[np.integer], tau: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Reconstruction (uint8, no sample off by more than tau) and the centre of each sample's bin before clamping.

    ``x`` and ``anchor`` (0..255) broadcast against each other.

    >>> quantise(np.array([9, 10, 11, 12], np.uint8), np.array([10]), 1)[0].tolist()
    [10, 10, 10, 13]
    """
    step, wide = 2 * tau + 1, anchor.astype(np.int32)
    r = x.astype(np.int32) - wide
    centre = wide + np.sign(r) * ((np.abs(r) + tau) // step) * step
    return np.clip(centre, 0, 255).astype(np.uint8), centre
