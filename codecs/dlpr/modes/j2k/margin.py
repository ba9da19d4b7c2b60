"""Coefficients beside a window that are worth less than they cost: an encoder may leave them out (docs/format J6).

What lies in the margin reaches the window with the tails of its basis functions only. Where that moves samples by much
less than rounding does, a residual now and then is cheaper, for it is expected where a sample was in doubt.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dlpr.modes.j2k.fields import BandPlace, Fields
from dlpr.modes.j2k.image import J2kImage

__all__ = ["TOLERANCE", "thinned"]

TOLERANCE = 0.4
"""Grey levels that a coefficient one decomposition away from the samples may move them by."""
DEEPER = 2.5
"""How much less it is for each further decomposition: tails get longer, and there are fewer coefficients."""

# Largest size of the 9/7 wavelet's basis functions at a distance of n / 4 samples of the band, and beyond.
_LOW = (1.21, 0.97, 0.6, 0.22, 0.154, 0.148, 0.099, 0.049, 0.013, 0.009, 0.0011, 0.0001, 0.0)
_HIGH = (1.56, 0.79, 0.79, 0.54, 0.146, 0.068, 0.068, 0.068, 0.059, 0.029, 0.0076, 0.0053, 0.0007, 0.0)


def thinned(image: J2kImage, tolerance: float = TOLERANCE) -> J2kImage:
    """Return a window with the coefficients beside it zeroed that hardly move its samples.

    Parameters
    ----------
    image : J2kImage
        With a window and the 9/7 wavelet.
    tolerance : float
        Grey levels, as `TOLERANCE`.

    Returns
    -------
    J2kImage
        Whose samples differ from the image's here and there, hardly ever by more than one.
    """
    kept = []
    for band, q in zip(image.fields.bands, image.coefficients, strict=True):
        levels = image.fields.components[band.component].levels
        depth = levels - max(band.resolution - 1, 0)
        weight = np.outer(*(_tail(image.fields, band, depth, axis) for axis in (0, 1)))
        step = 2.0 ** (8 - band.exponent) * (1 + band.mantissa / 2048)
        weak = np.abs(q) * step * weight < tolerance * DEEPER ** (1 - depth)
        top, left, bottom, right = (max(edge, 0) for edge in band.inner)
        weak[top:bottom, left:right] = False
        kept.append(np.where(weak, 0, q).astype(np.int32))
    return J2kImage(image.fields, tuple(kept), image.passes, image.missing)


def _tail(fields: Fields, band: BandPlace, depth: int, axis: int) -> npt.NDArray[np.float64]:
    """How much of a band's row or column (axis 1) at most reaches the window."""
    first, end = fields.kept_samples(band.tile, band.component, axis)
    high = band.orientation >> 1 - axis & 1
    at = np.arange(max(band.shape[axis], 0)) + (band.top, band.left)[axis] + high / 2
    scale = 1 << depth
    away = np.maximum(np.maximum(first / scale - at, at - (end - 1) / scale), 0)
    table = np.array(_HIGH if high else _LOW)
    return np.asarray(table[np.minimum(4 * away, len(table) - 1).astype(np.int64)])
