"""Planes that are the planes of a JPEG: its coefficients instead of samples, for each plane by itself.

Whatever made pixels of the planes, and whatever brought chroma to size: a plane that mode colour found holds a
decoder's own samples, so that coefficients can be read off it. Mode jpeg needs all three planes from one JPEG,
libjpeg's colours and upsampling; here none of that matters (docs/decisions/0014-jpeg-behind-planes.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dlpr.arrays import Bytes8
from dlpr.errors import CorruptError
from dlpr.frame import Header, Mode, Stream
from dlpr.modes.jpeg.payload import JpegPayload, payload_of
from dlpr.modes.jpeg.recover import Kind, recover_batch
from dlpr.modes.jpeg.stream import JpegCandidate, decode_planes, jpeg_streams

__all__ = ["find_jpegs", "samples_of"]

MOST_RESIDUAL = 0.5
"""Share of samples with a residual above which a plane is not coded as a JPEG."""


def find_jpegs(
    planes: Sequence[tuple[Header, Bytes8]], kinds: Sequence[Kind], threads: int = 1
) -> list[JpegPayload | None]:
    """Search and code the JPEG behind each plane.

    Parameters
    ----------
    planes : sequence of tuple
        A header of one channel, with the plane's tau, and its samples, uint8 [H, W].
    kinds : sequence of Kind
        What the planes are.
    threads : int
        Planes searched at once.

    Returns
    -------
    list of JpegPayload or None
        None where no JPEG is found, or too much of it is residual.
    """
    images = [np.ascontiguousarray(plane[..., None]) for _, plane in planes]
    found = recover_batch(images, threads, kinds=kinds)
    have = [i for i, f in enumerate(found) if f is not None]
    candidates = [JpegCandidate(planes[i][0], images[i], f.image) for i, f in enumerate(found) if f is not None]
    out: list[JpegPayload | None] = [None] * len(planes)
    for i, stream in zip(have, jpeg_streams(candidates, threads, most_residual=MOST_RESIDUAL), strict=True):
        out[i] = None if stream is None else payload_of(stream)
    return out


def samples_of(header: Header, plane: JpegPayload) -> Bytes8:
    """What a decoder will have of a plane: uint8 [H, W, 1]."""
    (array,) = decode_planes([Stream(replace(header, mode=Mode.JPEG), plane)])
    if isinstance(array, CorruptError):
        raise array
    return array
