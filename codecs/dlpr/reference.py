"""The reference decoder of streams of any mode: the specification made executable (docs/format), slow on purpose."""

from __future__ import annotations

from typing import Any

from dlpr import bitstream
from dlpr.arrays import Buffer, Bytes8
from dlpr.modes.table import MODES

__all__ = ["decode"]


def decode(data: Buffer, weights: Any = None) -> Bytes8:
    """Decode a stream with the weights it names, unless others are given.

    Parameters
    ----------
    data : bytes-like
    weights : dlpr.modes.networks.weights.Weights, optional
        For streams that need weights.

    Returns
    -------
    numpy.ndarray
        uint8, shaped as it was encoded.

    Raises
    ------
    BitstreamError
    """
    stream = bitstream.parse(data)
    array = MODES[stream.header.mode].decode_reference(stream, weights)
    bitstream.check_pixels(stream.header, array)
    return array
