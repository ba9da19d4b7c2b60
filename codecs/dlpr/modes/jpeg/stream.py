"""Streams of mode jpeg: from an image and its JPEG to bytes and back (docs/format section 15)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from dlpr._native import jpeg_coefficients, jpeg_decode_batch, jpeg_encode_batch

from dlpr import bitstream
from dlpr.bitstream import Header, JpegPayload, Mode, Stream
from dlpr.errors import CorruptError, UnsupportedInputError
from dlpr.layout import from_planes
from dlpr.modes.jpeg.fields import Upsampling
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.parse import SourceJpeg, parse, window
from dlpr.modes.jpeg.synthesis import native_fields

__all__ = ["JpegCandidate", "decode_planes", "image_of", "jpeg_streams", "stored_jpeg"]

U8 = npt.NDArray[np.uint8]

MOST_RESIDUAL = 0.25
"""Share of samples with a residual above which pixels are taken not to come from the JPEG."""


@dataclass(frozen=True)
class JpegCandidate:
    """A chunk and the JPEG that it may have been decoded from."""

    header: Header
    """Of the chunk; mode and checksum are filled in."""
    planes: U8
    """uint8 [H, W, channels], coding order."""
    image: JpegImage


def image_of(source: bytes | SourceJpeg | JpegImage, height: int, width: int) -> JpegImage | None:
    """The part of a source that has an image's size; None where the source is of no use.

    Parameters
    ----------
    source : bytes, SourceJpeg or JpegImage
    height, width : int
        Size of the image in pixels.

    Raises
    ------
    UnsupportedInputError
        ``source`` is something else.
    """
    if isinstance(source, JpegImage):
        return source if (source.height, source.width) == (height, width) else None
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = SourceJpeg(bytes(source))
    if not isinstance(source, SourceJpeg):
        raise UnsupportedInputError(
            f"a source JPEG must be bytes, SourceJpeg, JpegImage or None, not {type(source).__name__}", reason="input"
        )
    try:
        whole = parse(source.data, source.tables, source.transform)
        return window(whole, *source.offset, height, width)
    except UnsupportedInputError:
        return None


def jpeg_streams(
    candidates: Sequence[JpegCandidate], threads: int = 1, *, most_residual: float = MOST_RESIDUAL
) -> list[bytes | None]:
    """Code chunks as JPEG and residual.

    Parameters
    ----------
    candidates : sequence of JpegCandidate
    threads : int
        Threads to use; the bytes do not depend on it.
    most_residual : float
        Share of samples with a residual above which pixels are taken not to come from the JPEG.

    Returns
    -------
    list of bytes or None
        Streams; None where the pixels are not those of the JPEG (too many samples differ) or
        the JPEG has another number of components than the chunk has channels.
    """
    fit = [i for i, c in enumerate(candidates) if _fits(c)]
    jobs = []
    for i in fit:
        c = candidates[i]
        arrays = [np.ascontiguousarray(q) for q in c.image.coefficients]
        jobs.append((_fields(c.image), arrays, np.ascontiguousarray(c.planes), c.header.tau, most_residual))
    out: list[bytes | None] = [None] * len(candidates)
    for i, part in zip(fit, jpeg_encode_batch(jobs, threads), strict=True):
        if part is None:
            continue
        lossy, residual, planes = part
        c, image = candidates[i], candidates[i].image
        array = from_planes(planes, c.header.layout)
        header = replace(c.header, mode=Mode.JPEG, pixel_crc=bitstream.crc32c(array, 0))
        plain = image.sampling == (1, 1)
        payload = JpegPayload(
            image.transform,
            image.sampling,
            Upsampling.FANCY if plain else image.upsampling,
            image.crop_edges and not plain,
            image.phase,
            lossy,
            residual,
        )
        out[i] = bitstream.pack(Stream(header, payload))
    return out


def _fits(c: JpegCandidate) -> bool:
    """Whether chunk and JPEG have the same size and channels."""
    h, image = c.header, c.image
    return (h.height, h.width, h.layout.channels) == (image.height, image.width, image.components)


def _fields(image: JpegImage) -> tuple[object, ...]:
    """Fields for the native code, without what has no meaning."""
    if image.sampling == (1, 1):
        image = replace(image, upsampling=Upsampling.FANCY, crop_edges=False)
    return native_fields(image)


def decode_planes(streams: Sequence[Stream], threads: int = 1, *, lossy: bool = False) -> list[U8]:
    """Decode streams of mode jpeg, without the check of the samples' checksum.

    Parameters
    ----------
    streams : sequence of Stream
        As `dlpr.bitstream.parse` returns them; for ``lossy`` `dlpr.bitstream.parse_lossy` is enough.
    threads : int
        Threads to use.
    lossy : bool
        Give the JPEG's pixels, without residual.

    Returns
    -------
    list of numpy.ndarray
        uint8 [H, W, channels] each, coding order.

    Raises
    ------
    CorruptError
        A lane or table that no encoder writes; the message names its place in the batch.
    """
    jobs = []
    for s in streams:
        h, p = s.header, s.payload
        if not isinstance(p, JpegPayload):
            raise CorruptError(f"mode {h.mode.name.lower()} has no JPEG; use `dlpr.decode`", offset=5)
        jobs.append((_job_fields(h, p), h.tau, bytes(p.lossy_part), None if lossy else bytes(p.residual_part)))
    out = []
    for i, (planes, error) in enumerate(jpeg_decode_batch(jobs, threads)):
        if error:
            at = bitstream.JPEG_SIZE + ("residual" in error and len(jobs[i][2]))
            raise CorruptError(f"{error} (stream {i} of {len(streams)})", offset=at)
        out.append(planes)
    return out


def stored_jpeg(data: bytes | bytearray | memoryview) -> JpegImage | None:
    """The coefficients and tables that a stream of mode jpeg holds; None for a stream of another mode.

    Raises
    ------
    BitstreamError
        The stream is damaged.
    """
    s = bitstream.parse(data)
    h, p = s.header, s.payload
    if not isinstance(p, JpegPayload):
        return None
    error, tables, coefficients = jpeg_coefficients(_job_fields(h, p), bytes(p.lossy_part))
    if error:
        raise CorruptError(error, offset=bitstream.JPEG_SIZE)
    return JpegImage(
        h.height,
        h.width,
        p.phase,
        p.transform,
        p.sampling,
        p.upsampling,
        p.crop_edges,
        tuple(tables),
        tuple(coefficients),
    )


def _job_fields(h: Header, p: JpegPayload) -> tuple[int, ...]:
    """Fields as the native decoder takes them."""
    return (
        h.height,
        h.width,
        *p.phase,
        int(p.transform),
        *p.sampling,
        int(p.upsampling),
        int(p.crop_edges),
        h.layout.channels,
    )
