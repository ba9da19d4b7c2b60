"""The reference decoder of mode j2k: docs/format J1 to J6, sections 17 and 19 made executable.

::

    lossy part --J3 (coefficients.py), entropy decoder 17 (mixed/)--> coefficients --J2 (synthesis.py)--> samples
    residual part --19 (mixed/residual.py)--> symbols of 2 tau + 1 levels ----------------------------------+
"""

from __future__ import annotations

import numpy as np

from dlpr.arrays import Bytes8
from dlpr.frame import Stream
from dlpr.layout import CODING_ORDER
from dlpr.modes.j2k.coefficients import decode_coefficients
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.payload import payload_of
from dlpr.modes.j2k.synthesis import synthesise_with_doubts
from dlpr.modes.mixed.residual import decode_residual

__all__ = ["decode_image", "decode_planes"]


def decode_image(stream: Stream) -> J2kImage:
    """Decode the JPEG 2000 image of a stream of mode j2k."""
    payload = payload_of(stream)
    return decode_coefficients(payload.fields, payload.lane)


def decode_planes(stream: Stream, *, lossy: bool = False) -> Bytes8:
    """Decode a stream of mode j2k, without the check of the samples' checksum.

    Parameters
    ----------
    stream : Stream
        As `dlpr.bitstream.parse` returns it.
    lossy : bool
        Give the image's samples, without residual.

    Returns
    -------
    numpy.ndarray
        uint8 [H, W, channels], coding order.
    """
    pair = synthesise_with_doubts(decode_image(stream))
    image, doubts = (p[..., list(CODING_ORDER)] if p.shape[2] == 3 else p for p in pair)
    if lossy:
        return np.ascontiguousarray(image)
    symbols = decode_residual(payload_of(stream).residual_part, image, (0, 0), doubts)
    sums = image.astype(np.int64) + symbols * (2 * stream.header.tau + 1)
    return np.asarray(np.clip(sums, 0, 255), np.uint8)
