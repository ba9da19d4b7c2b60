"""Streams of mode j2k: from pixels and their JPEG 2000 image to fields and back (docs/format J1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from dlpr._native import j2k_coefficients, j2k_decode_batch, j2k_encode_batch
from dlpr.arrays import Bytes8
from dlpr.errors import CorruptError, UnsupportedInputError
from dlpr.frame import Header, Mode, Stream, finished
from dlpr.layout import from_planes
from dlpr.modes.j2k.fields import Colour, Fields, Wavelet
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.parse import fields_of, parse
from dlpr.modes.j2k.payload import J2kPayload, is_taken, payload_of
from dlpr.modes.j2k.synthesis import native_fields

__all__ = [
    "J2kCandidate",
    "SourceJ2k",
    "decode_planes",
    "image_of",
    "is_quantised",
    "is_window",
    "j2k_streams",
    "looks_like_j2k",
    "stored_image",
]

MOST_RESIDUAL = 0.4
"""Share of samples with a residual above which pixels are taken not to come from the JPEG 2000 image."""
FEW_BITS = 4
"""Bits for each pixel of a quantised image below which no mode without it has a chance."""
_CODESTREAM, _BOX = b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  \r\n\x87\n"


class SourceJ2k(NamedTuple):
    """A codestream or JP2 file that an image was decoded from, whole."""

    data: bytes
    colour: Colour = Colour.NONE
    """What three components are behind the codestream's own transform, where the container says so."""


@dataclass(frozen=True)
class J2kCandidate:
    """A chunk and the JPEG 2000 image that it may have been decoded from."""

    header: Header
    """Of the chunk; mode and checksum are filled in."""
    planes: Bytes8
    """uint8 [H, W, channels], coding order."""
    image: J2kImage


def looks_like_j2k(data: bytes) -> bool:
    """Whether bytes begin as a codestream or a JP2 file does."""
    return data.startswith((_CODESTREAM, _BOX))


def image_of(source: object) -> J2kImage | None:
    """Read the image that a chunk comes with; None where it is of no use to this mode.

    Parameters
    ----------
    source : object
        Bytes of a codestream or JP2 file, `SourceJ2k`, `J2kImage`; anything else is for other modes.
    """
    if isinstance(source, J2kImage):
        return source
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = SourceJ2k(bytes(source))
        if not looks_like_j2k(source.data):
            return None
    if not isinstance(source, SourceJ2k):
        return None
    try:
        return parse(source.data, source.colour)
    except UnsupportedInputError:
        return None


def j2k_streams(
    candidates: Sequence[J2kCandidate], threads: int = 1, *, most_residual: float = MOST_RESIDUAL
) -> list[Stream | None]:
    """Code chunks as JPEG 2000 image and residual.

    Parameters
    ----------
    candidates : sequence of J2kCandidate
    threads : int
        Threads to use; the bytes do not depend on it.
    most_residual : float
        Share of samples with a residual above which pixels are taken not to come from the image.

    Returns
    -------
    list of Stream or None
        None where the pixels are not those of the image (too many samples differ), the image has another size or
        another number of components than the chunk, is larger than the mode takes, or holds numbers that no passes
        leave.
    """
    fit = [i for i, c in enumerate(candidates) if _fits(c)]
    jobs = []
    for i in fit:
        c = candidates[i]
        arrays = tuple(
            tuple(np.ascontiguousarray(a) for a in group)
            for group in (c.image.coefficients, c.image.passes, c.image.missing)
        )
        planes = np.ascontiguousarray(c.planes)
        jobs.append((native_fields(c.image.fields), arrays, planes, c.header.tau, most_residual))
    out: list[Stream | None] = [None] * len(candidates)
    for i, part in zip(fit, j2k_encode_batch(jobs, threads), strict=True):
        if part is None:
            continue
        lane, residual, planes = part
        c = candidates[i]
        header = finished(c.header, Mode.J2K, from_planes(planes, c.header.layout))
        out[i] = Stream(header, J2kPayload(_without_steps(c.image.fields), lane, residual))
    return out


def _fits(c: J2kCandidate) -> bool:
    """Whether chunk and image have the same size and channels, and the mode takes it."""
    h, f = c.header, c.image.fields
    same = (h.height, h.width, h.layout.channels) == (f.height, f.width, len(f.components))
    return same and is_taken(f)


def _without_steps(fields: Fields) -> Fields:
    """Return fields as `parse` of a payload gives them."""
    return replace(fields, components=tuple(replace(c, steps=((0, 0),) * len(c.steps)) for c in fields.components))


def is_window(stream: Stream) -> bool:
    """Tell whether a stream of this mode holds a window of an image, and so no codestream's coefficients."""
    return payload_of(stream).fields.window is not None


def is_quantised(stream: Stream, size: int) -> bool:
    """Whether a stream of this mode, of ``size`` bytes, is of an image so quantised that nothing else can be smaller.

    Of the reversible wavelet few bits say nothing: a tile that is mostly background has few without any loss.
    """
    h = stream.header
    few = 8 * size < FEW_BITS * h.height * h.width * h.layout.channels / 3
    return few and payload_of(stream).fields.components[0].wavelet is Wavelet.IRREVERSIBLE


def decode_planes(streams: Sequence[Stream], threads: int = 1, *, lossy: bool = False) -> list[Bytes8 | CorruptError]:
    """Decode streams of mode j2k, without the check of the samples' checksum.

    Parameters
    ----------
    streams : sequence of Stream
        As `dlpr.bitstream.parse` returns them; for ``lossy`` `dlpr.bitstream.parse_lossy` is enough.
    threads : int
        Threads to use.
    lossy : bool
        Give the image's pixels, without residual.

    Returns
    -------
    list of numpy.ndarray or CorruptError
        uint8 [H, W, channels] each, coding order; the error for a lane that no encoder writes.
    """
    jobs = []
    for s in streams:
        p = payload_of(s)
        residual = None if lossy else bytes(p.residual_part)
        jobs.append((native_fields(p.fields), s.header.tau, bytes(p.lane), residual))
    out: list[Bytes8 | CorruptError] = []
    for s, (planes, error) in zip(streams, j2k_decode_batch(jobs, threads), strict=True):
        p = payload_of(s)
        at = p.lane_start + ("residual" in error and len(p.lane))
        out.append(CorruptError(f"{error}; fetch all of the stream again", offset=at) if error else planes)
    return out


def stored_image(stream: Stream) -> J2kImage:
    """Return the JPEG 2000 image that a stream of mode j2k holds.

    Parameters
    ----------
    stream : Stream
        As `dlpr.bitstream.parse` returns it.

    Raises
    ------
    CorruptError
        The stream is of another mode, or its lossy part is damaged.
    """
    p = payload_of(stream)
    error, fields, coefficients, passes, missing = j2k_coefficients(native_fields(p.fields), bytes(p.lane))
    if error:
        raise CorruptError(f"{error}; fetch all of the stream again", offset=p.lane_start)
    return J2kImage(fields_of(fields, p.fields.colour), coefficients, passes, missing)
