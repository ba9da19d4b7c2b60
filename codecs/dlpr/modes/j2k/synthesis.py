"""Pixels of a JPEG 2000 image, in integers: exactly those of any decoder with 5/3, almost always OpenJPEG's with 9/7.

::

    coefficients --middle of what is open, times the step--> bands --inverse wavelet, level by level--> components
                 --RCT or ICT--> --level shift, cut to 0 .. 255--> --chroma repeated, YCbCr to RGB--> pixels
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dlpr.modes.j2k.fields import Fields
from dlpr.modes.j2k.image import J2kImage

__all__ = ["native_fields", "synthesise"]

U8 = npt.NDArray[np.uint8]


def synthesise(image: J2kImage) -> U8:
    """Compute the pixels of a JPEG 2000 image.

    Parameters
    ----------
    image : J2kImage

    Returns
    -------
    numpy.ndarray
        uint8 [height, width, components]; red, green, blue where there are three.
    """
    from dlpr._native import j2k_synthesise  # the rest of this module works in a tree without the extension

    arrays = tuple(
        tuple(np.ascontiguousarray(a) for a in group) for group in (image.coefficients, image.passes, image.missing)
    )
    pixels: U8 = j2k_synthesise(native_fields(image.fields), arrays)
    return pixels


def native_fields(fields: Fields) -> tuple[object, ...]:
    """Return fields as the native code takes them."""
    components = tuple(
        (c.sampling, int(c.wavelet), c.blocks, c.steps, c.guard, int(c.causal)) for c in fields.components
    )
    return fields.area, fields.tiles, components, int(fields.transform), int(fields.colour)
