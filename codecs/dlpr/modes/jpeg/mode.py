"""Mode jpeg: a chunk as the JPEG it was decoded from, given or found in its pixels, and a residual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from dlpr.arrays import Bytes8
from dlpr.config import EncoderOptions
from dlpr.frame import Header, Mode, Stream
from dlpr.layout import CODING_ORDER, from_planes
from dlpr.modes.jpeg import payload as fields
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.parse import SourceJpeg, SourcePieces, images_of
from dlpr.modes.jpeg.payload import JPEG_SIZE, JpegPayload, payload_of
from dlpr.modes.jpeg.prior import remember
from dlpr.modes.jpeg.recover import recover_batch
from dlpr.modes.jpeg.stream import JpegCandidate, decode_planes, jpeg_streams
from dlpr.modes.protocol import Chunk, ChunkMode, Decoded, Description

__all__ = ["SOURCE_KINDS", "JpegMode", "Source"]

Source: TypeAlias = bytes | SourceJpeg | SourcePieces | JpegImage
"""What a chunk's JPEG can be given as."""
SOURCE_KINDS = (SourceJpeg, SourcePieces, JpegImage)
MOST_RESIDUAL_SEARCHED = 0.8
"""Share of samples with a residual up to which a JPEG found in the pixels is coded and its size compared."""


class JpegMode(ChunkMode):
    """The door of ``modes/jpeg``."""

    mode = Mode.JPEG
    keeps_sources = True

    def pack(self, out: bytearray, payload: JpegPayload) -> None:
        """Append section 15."""
        fields.pack(out, payload)

    def parse(self, view: memoryview, header: Header) -> JpegPayload:
        """Read section 15."""
        return fields.parse(view, header)

    def parse_lossy(self, view: memoryview, header: Header) -> JpegPayload:
        """Read section 15 without the residual part: the first 34 + A bytes are enough."""
        return fields.parse_lossy(view, header)

    def describe(self, stream: Stream, size: int) -> Description:
        """Header, coefficients with their tables, residual."""
        p = payload_of(stream)
        a, head = len(p.lossy_part), p.lossy_start
        return Description({"header": head, "coefficients": a, "residual": size - head - a}, True, head + a)

    def can_beat(self, chunk: Chunk, size: int) -> bool:
        """Compare with the smallest stream there is."""
        return size > JPEG_SIZE + 2

    def encode_batch(self, chunks: Sequence[Chunk], options: EncoderOptions, threads: int) -> list[Stream | None]:
        """Code chunks from the sources given; search the JPEG in the pixels of the others."""
        out: list[Stream | None] = [None] * len(chunks)
        if options.jpeg == "never":
            return out
        prior = None if options.prior is None else remember(options.prior)
        named = [i for i, chunk in enumerate(chunks) if chunk.source is not None]
        images = images_of([_given(chunks[i]) for i in named], threads)
        given = {i: image for i, image in zip(named, images, strict=True) if image is not None}
        for i, stream in zip(given, jpeg_streams(_candidates(chunks, given), threads, prior=prior), strict=True):
            out[i] = stream
        if options.jpeg != "auto":
            return out
        unknown = [i for i, stream in enumerate(out) if stream is None]
        found = recover_batch([_rgb(chunks[i].planes) for i in unknown], threads)
        searched = {i: r.image for i, r in zip(unknown, found, strict=True) if r is not None}
        candidates = _candidates(chunks, searched)
        streams = jpeg_streams(candidates, threads, most_residual=MOST_RESIDUAL_SEARCHED, prior=prior)
        for i, stream in zip(searched, streams, strict=True):
            out[i] = stream
        return out

    def decode_batch(self, streams: Sequence[Stream], threads: int) -> list[Decoded]:
        """Decode natively."""
        return [
            planes if isinstance(planes, Exception) else from_planes(planes, s.header.layout)
            for s, planes in zip(streams, decode_planes(streams, threads), strict=True)
        ]

    def decode_lossy(self, stream: Stream) -> Bytes8:
        """Decode the JPEG's pixels."""
        (planes,) = decode_planes([stream], lossy=True)
        if isinstance(planes, Exception):
            raise planes
        return from_planes(planes, stream.header.layout)

    def decode_reference(self, stream: Stream, weights: object = None) -> Bytes8:
        """Decode by sections 15 to 19."""
        from dlpr.modes.jpeg import reference

        return from_planes(reference.decode_planes(stream), stream.header.layout)


def _given(chunk: Chunk) -> tuple[object, int, int]:
    """Return the source that a chunk comes with, and the chunk's height and width."""
    return chunk.source, chunk.header.height, chunk.header.width


def _candidates(chunks: Sequence[Chunk], images: dict[int, JpegImage]) -> list[JpegCandidate]:
    """Pair chunks with their JPEGs."""
    return [JpegCandidate(chunks[i].header, chunks[i].planes, image) for i, image in images.items()]


def _rgb(planes: Bytes8) -> Bytes8:
    """Red, green, blue from coding order; grey as it is."""
    if planes.shape[2] == 1:
        return planes
    return np.ascontiguousarray(planes[..., [CODING_ORDER.index(c) for c in range(3)]])
