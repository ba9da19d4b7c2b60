"""Mode stored: the samples as they are, where nothing else is smaller (docs/format section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlpr.arrays import Buffer, Bytes8
from dlpr.config import EncoderOptions
from dlpr.frame import HEADER_SIZE, Header, Mode, Stream, check_end, finished
from dlpr.layout import from_planes
from dlpr.modes.protocol import Chunk, ChunkMode, Decoded, Description

__all__ = ["StoredMode"]


class StoredMode(ChunkMode):
    """The payload is the array's bytes in C order."""

    mode = Mode.STORED

    def pack(self, out: bytearray, payload: Buffer) -> None:
        """Append the samples."""
        out += payload

    def parse(self, view: memoryview, header: Header) -> memoryview:
        """Read the samples."""
        check_end(view, HEADER_SIZE + header.samples)
        return view[HEADER_SIZE:]

    def describe(self, stream: Stream, size: int) -> Description:
        """Header and payload."""
        return Description({"header": HEADER_SIZE, "payload": size - HEADER_SIZE}, False, size)

    def can_beat(self, chunk: Chunk, size: int) -> bool:
        """Compare sizes: this one is known beforehand."""
        return HEADER_SIZE + chunk.header.samples < size

    def encode_batch(self, chunks: Sequence[Chunk], options: EncoderOptions, threads: int) -> list[Stream | None]:
        """Store chunks."""
        out: list[Stream | None] = []
        for chunk in chunks:
            array = from_planes(chunk.planes, chunk.header.layout)
            out.append(Stream(finished(chunk.header, Mode.STORED, array), array.tobytes()))
        return out

    def decode_batch(self, streams: Sequence[Stream], threads: int) -> list[Decoded]:
        """Copy samples."""
        return [self.decode_reference(stream) for stream in streams]

    def decode_reference(self, stream: Stream, weights: object = None) -> Bytes8:
        """Copy samples."""
        assert isinstance(stream.payload, (bytes, bytearray, memoryview))
        return np.frombuffer(stream.payload, np.uint8).reshape(stream.header.shape).copy()
