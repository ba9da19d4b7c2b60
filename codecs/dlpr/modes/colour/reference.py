"""The reference decoder of mode colour: docs/format/colour-layer.md made executable.

::

    planes --mode coded, mode jpeg--> Y, Cb, Cr --C3 (chroma.py)--> full size --C2 (lattice.py)--> pixels
    residual part --section 19 (mixed/residual.py)--> symbols of 2 tau + 1 levels -----------------------+
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlpr.arrays import Bytes8
from dlpr.errors import CorruptError
from dlpr.frame import Stream
from dlpr.layout import CODING_ORDER
from dlpr.modes.colour.payload import COLOUR_SIZE, payload_of, plane_streams, three_planes
from dlpr.modes.jpeg import reference as jpeg_reference
from dlpr.modes.jpeg.payload import JpegPayload
from dlpr.modes.mixed.residual import decode_residual
from dlpr.modes.networks import weights as weights_store
from dlpr.modes.networks.exact import reference
from dlpr.modes.networks.payload import payload_of as coded_payload_of

__all__ = ["decode_planes", "pixels"]


def decode_planes(stream: Stream, weights: weights_store.Weights | None = None) -> Bytes8:
    """Decode a stream of mode colour, without the check of the samples' checksum.

    Parameters
    ----------
    stream : Stream
        As `dlpr.bitstream.parse` returns it.
    weights : Weights, optional
        Instead of those that the stream names.

    Returns
    -------
    numpy.ndarray
        uint8 [H, W, 3], coding order.
    """
    p = payload_of(stream)
    known = weights or weights_store.find(p.weights_id)
    decoded = []
    for plane in plane_streams(stream):
        if not isinstance(plane, Stream):
            header, value = plane
            decoded.append(np.full((header.height, header.width, 1), value, np.uint8))
            continue
        if isinstance(plane.payload, JpegPayload):
            decoded.append(jpeg_reference.decode_planes(plane))
            continue
        entry = coded_payload_of(plane).bank_entry
        if entry >= known.sizes.bank:
            raise CorruptError(f"bank entry {entry} does not exist", offset=COLOUR_SIZE)
        decoded.append(reference.decode_payload(plane, known))
    made = pixels(stream, three_planes(decoded))
    symbols = decode_residual(p.residual_part, made, (0, 0))
    sums = made.astype(np.int64) + symbols * (2 * stream.header.tau + 1)
    return np.asarray(np.clip(sums, 0, 255), np.uint8)


def pixels(stream: Stream, planes: Sequence[Bytes8]) -> Bytes8:
    """Pixels of decoded planes without the residual, uint8 [H, W, 3], coding order."""
    p, h = payload_of(stream), stream.header
    full = [p.shape.upsample(plane, h.height, h.width) for plane in planes[1:]]
    return np.ascontiguousarray(p.lattice.pixels(planes[0], *full)[..., list(CODING_ORDER)])
