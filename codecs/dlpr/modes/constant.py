"""Mode constant: one colour within tau of every sample (docs/format section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlpr.arrays import Buffer, Bytes8, Ints
from dlpr.config import EncoderOptions
from dlpr.frame import HEADER_SIZE, Header, Mode, Stream, check_end, finished
from dlpr.layout import CODING_ORDER, from_planes
from dlpr.modes.protocol import Chunk, ChunkMode, Decoded, Description

__all__ = ["ConstantMode"]


class ConstantMode(ChunkMode):
    """The payload is a byte for each channel, red first."""

    mode = Mode.CONSTANT
    keeps_sources = True

    def pack(self, out: bytearray, payload: Buffer) -> None:
        """Append the colour."""
        out += payload

    def parse(self, view: memoryview, header: Header) -> memoryview:
        """Read the colour."""
        check_end(view, HEADER_SIZE + header.layout.channels)
        return view[HEADER_SIZE:]

    def describe(self, stream: Stream, size: int) -> Description:
        """Header and payload."""
        return Description({"header": HEADER_SIZE, "payload": size - HEADER_SIZE}, False, size)

    def encode_batch(self, chunks: Sequence[Chunk], options: EncoderOptions, threads: int) -> list[Stream | None]:
        """Code chunks that have such a colour."""
        return [_encode(chunk) for chunk in chunks]

    def decode_batch(self, streams: Sequence[Stream], threads: int) -> list[Decoded]:
        """Fill arrays."""
        return [self.decode_reference(stream) for stream in streams]

    def decode_reference(self, stream: Stream, weights: object = None) -> Bytes8:
        """Fill an array."""
        return _array(stream.header, stream.payload)


SPARSE = 13
"""Every so many rows and columns of a chunk are looked at first."""


def _range(planes: Bytes8) -> tuple[Ints, Ints]:
    """Smallest and largest sample of each channel."""
    flat = planes.reshape(-1, planes.shape[2])
    return flat.min(0).astype(int), flat.max(0).astype(int)


def _encode(chunk: Chunk) -> Stream | None:
    """Code a chunk with the colour in the middle of its range, if that is within tau."""
    low, high = _range(chunk.planes[::SPARSE, ::SPARSE])
    if int((high - low).max()) > 2 * chunk.header.tau:  # almost all chunks that are not constant: few pixels tell
        return None
    low, high = _range(chunk.planes)
    if int((high - low).max()) > 2 * chunk.header.tau:
        return None
    colour = [int(v) for v in (low + high) // 2]
    payload = bytes(colour if len(colour) == 1 else (colour[CODING_ORDER.index(c)] for c in range(3)))
    return Stream(finished(chunk.header, Mode.CONSTANT, _array(chunk.header, payload)), payload)


def _array(header: Header, payload: object) -> Bytes8:
    """Array of one colour."""
    assert isinstance(payload, (bytes, bytearray, memoryview))
    rgb = np.frombuffer(payload, np.uint8)
    colour = rgb if header.layout.channels == 1 else rgb[list(CODING_ORDER)]
    shape = (header.height, header.width, header.layout.channels)
    return from_planes(np.ascontiguousarray(np.broadcast_to(colour, shape)), header.layout)
