"""The reference decoder of mode jpeg: docs/format sections 15 to 19 made executable.

::

    lossy part --18 (coefficients.py), entropy decoder 17 (arithmetic.py)--> coefficients --16 (synthesis.py)--> samples
    residual part --19 (residual.py)--> symbols of 2 tau + 1 levels ------------------------------------------------+
"""

from __future__ import annotations

import numpy as np

from dlpr.arrays import Bytes8
from dlpr.frame import Stream
from dlpr.layout import CODING_ORDER
from dlpr.modes.jpeg.coefficients import decode_coefficients
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.payload import payload_of
from dlpr.modes.jpeg.prior import find
from dlpr.modes.jpeg.synthesis import synthesise_reference
from dlpr.modes.mixed.residual import decode_residual

__all__ = ["decode_image", "decode_planes"]


def decode_image(stream: Stream) -> JpegImage:
    """Decode the JPEG image of a stream of mode jpeg."""
    header, payload = stream.header, payload_of(stream)
    n, (v, h) = header.layout.channels, payload.sampling
    rows = -(-(payload.phase[0] + header.height) // (8 * v))
    columns = -(-(payload.phase[1] + header.width) // (8 * h))
    shapes = [(rows * v, columns * h), (rows, columns), (rows, columns)][:n]
    fields = JpegImage(
        header.height,
        header.width,
        payload.phase,
        payload.transform,
        payload.sampling,
        payload.upsampling,
        payload.crop_edges,
        (np.ones((8, 8), np.uint16),) * n,
        tuple(np.zeros((*shape, 8, 8), np.int16) for shape in shapes),
    )
    start = find(payload.prior).expanded(n) if payload.prior else None
    return decode_coefficients(fields, payload.lossy_part, start)


def decode_planes(stream: Stream, *, lossy: bool = False) -> Bytes8:
    """Decode a stream of mode jpeg, without the check of the samples' checksum.

    Parameters
    ----------
    stream : Stream
        As `dlpr.bitstream.parse` returns it.
    lossy : bool
        Give the JPEG's samples, without residual.

    Returns
    -------
    numpy.ndarray
        uint8 [H, W, channels], coding order.
    """
    image = decode_image(stream)
    pixels = synthesise_reference(image)
    jpeg = pixels[..., list(CODING_ORDER)] if image.components == 3 else pixels
    if lossy:
        return np.ascontiguousarray(jpeg)
    symbols = decode_residual(payload_of(stream).residual_part, jpeg, image.phase)
    sums = jpeg.astype(np.int64) + symbols * (2 * stream.header.tau + 1)
    return np.asarray(np.clip(sums, 0, 255), np.uint8)
