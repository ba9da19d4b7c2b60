"""Mode j2k: a chunk as the JPEG 2000 image that it was decoded from, and a residual."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from dlpr._native import prediction_bits
from dlpr.arrays import Bytes8
from dlpr.config import EncoderOptions
from dlpr.frame import Header, Mode, Stream
from dlpr.layout import Layout, from_planes
from dlpr.modes.j2k import payload as fields
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.payload import J2K_SIZE, J2kPayload, payload_of
from dlpr.modes.j2k.recover import recover
from dlpr.modes.j2k.stream import (
    J2kCandidate,
    SourceJ2k,
    decode_planes,
    image_of,
    is_quantised,
    j2k_streams,
    looks_like_j2k,
)
from dlpr.modes.protocol import Chunk, ChunkMode, Decoded, Description

__all__ = ["SOURCE_KINDS", "J2kMode", "Source"]

Source: TypeAlias = bytes | SourceJ2k | J2kImage
"""What a chunk's JPEG 2000 image can be given as."""
SOURCE_KINDS = (SourceJ2k, J2kImage)
LEAST = 2048
"""Bytes of a codestream that may be in vain; of smaller ones markers are a large share."""
MANY_BITS = 3
"""Bits for each pixel of a codestream that may be in vain; those with fewer lost more than networks could win."""
VAIN = 0.85
"""Price of the pixels, as a share of the codestream's bytes, below which the source is of no use."""
MOST_RESIDUAL_SEARCHED = 0.7
"""Share of samples with a residual above which an image that was searched is given up."""


class J2kMode(ChunkMode):
    """The door of ``modes/j2k``."""

    mode = Mode.J2K
    keeps_sources = True

    def pack(self, out: bytearray, payload: J2kPayload) -> None:
        """Append J1."""
        fields.pack(out, payload)

    def parse(self, view: memoryview, header: Header) -> J2kPayload:
        """Read J1."""
        return fields.parse(view, header)

    def parse_lossy(self, view: memoryview, header: Header) -> J2kPayload:
        """Read J1 without the residual part: the first 33 + A bytes are enough."""
        return fields.parse_lossy(view, header)

    def describe(self, stream: Stream, size: int) -> Description:
        """Header, coefficients with their fields, residual."""
        p = payload_of(stream)
        end = size - len(p.residual_part)
        return Description({"header": J2K_SIZE, "coefficients": end - J2K_SIZE, "residual": size - end}, True, end)

    def can_beat(self, chunk: Chunk, size: int) -> bool:
        """Compare with the smallest stream there is."""
        return chunk.source is not None and size > J2K_SIZE + 5

    def encode_batch(self, chunks: Sequence[Chunk], options: EncoderOptions, threads: int) -> list[Stream | None]:
        """Code the chunks that come with a JPEG 2000 image, or in whose pixels one is found."""
        out: list[Stream | None] = [None] * len(chunks)
        if options.j2k == "never":
            return out
        named = [i for i, c in enumerate(chunks) if c.source is not None and (options.keep_source or not _is_vain(c))]
        with ThreadPoolExecutor(threads) as pool:  # parsing is native and frees the interpreter
            images = list(pool.map(lambda i: image_of(chunks[i].source), named))
        given = {i: image for i, image in zip(named, images, strict=True) if image is not None}
        candidates = [J2kCandidate(chunks[i].header, chunks[i].planes, image) for i, image in given.items()]
        for i, stream in zip(given, j2k_streams(candidates, threads), strict=True):
            out[i] = stream
        if not options.searches_j2k:
            return out
        missing = [i for i, chunk in enumerate(chunks) if chunk.source is None]
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(lambda i: recover(_pixels(chunks[i])), missing))
        searched = {i: image for i, image in zip(missing, found, strict=True) if image is not None}
        candidates = [J2kCandidate(chunks[i].header, chunks[i].planes, image) for i, image in searched.items()]
        streams = j2k_streams(candidates, threads, most_residual=MOST_RESIDUAL_SEARCHED)
        for i, stream in zip(searched, streams, strict=True):
            out[i] = stream
        return out

    def supersedes(self, chunk: Chunk, stream: Stream, size: int) -> frozenset[Mode]:
        """Spare the others where the image was given and quantised.

        What is nearly lossless may hold a JPEG, or suit networks; and a search may be wrong.
        """
        sure = chunk.source is not None and is_quantised(stream, size)
        return frozenset((Mode.JPEG, Mode.COLOUR, Mode.CODED)) if sure else frozenset()

    def decode_batch(self, streams: Sequence[Stream], threads: int) -> list[Decoded]:
        """Decode natively."""
        return [
            planes if isinstance(planes, Exception) else from_planes(planes, s.header.layout)
            for s, planes in zip(streams, decode_planes(streams, threads), strict=True)
        ]

    def decode_lossy(self, stream: Stream) -> Bytes8:
        """Decode the JPEG 2000 image's pixels."""
        (planes,) = decode_planes([stream], lossy=True)
        if isinstance(planes, Exception):
            raise planes
        return from_planes(planes, stream.header.layout)

    def decode_reference(self, stream: Stream, weights: object = None) -> Bytes8:
        """Decode by J1 to J3, sections 17 and 19."""
        from dlpr.modes.j2k import reference

        return from_planes(reference.decode_planes(stream), stream.header.layout)


def _is_vain(chunk: Chunk) -> bool:
    """Whether networks will need less than any image of the source, so that it need not be read.

    They need at most 0.84 of what a simple predictor would, an image at least 0.77 of its codestream (0017).
    """
    source = chunk.source.data if isinstance(chunk.source, SourceJ2k) else chunk.source
    if not isinstance(source, bytes) or not looks_like_j2k(source):
        return False
    header, bits = chunk.header, 8 * len(source)
    if len(source) < LEAST or bits < MANY_BITS * header.height * header.width:
        return False
    return float(prediction_bits(chunk.planes, header.tau)) < VAIN * bits


def _pixels(chunk: Chunk) -> Bytes8:
    """Samples as [H, W, channels], red first."""
    layout, _, _ = Layout.of(chunk.planes.shape)
    return from_planes(chunk.planes, layout)
