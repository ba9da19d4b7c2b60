"""Streams of mode jpeg: from an image and its JPEG to fields and back (docs/format section 15)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dlpr._native import jpeg_decode_batch, jpeg_encode_batch
from dlpr.errors import CorruptError
from dlpr.frame import Header, Mode, Stream, finished
from dlpr.layout import from_planes
from dlpr.modes.jpeg.fields import Upsampling
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.payload import JpegPayload, payload_of
from dlpr.modes.jpeg.prior import Prior, find
from dlpr.modes.jpeg.synthesis import native_fields

__all__ = ["JpegCandidate", "decode_planes", "job_fields", "jpeg_streams", "start_of"]

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


def jpeg_streams(
    candidates: Sequence[JpegCandidate],
    threads: int = 1,
    *,
    most_residual: float = MOST_RESIDUAL,
    prior: Prior | None = None,
) -> list[Stream | None]:
    """Code chunks as JPEG and residual.

    Parameters
    ----------
    candidates : sequence of JpegCandidate
    threads : int
        Threads to use; the bytes do not depend on it.
    most_residual : float
        Share of samples with a residual above which pixels are taken not to come from the JPEG.
    prior : Prior, optional
        What the coder starts from, where it has as many components as the JPEG.

    Returns
    -------
    list of Stream or None
        None where the pixels are not those of the JPEG (too many samples differ) or
        the JPEG has another number of components than the chunk has channels.
    """
    fit = [i for i, c in enumerate(candidates) if _fits(c)]
    jobs = []
    for i in fit:
        c = candidates[i]
        start = prior.native(c.image.components) if prior and prior.components == c.image.components else None
        arrays = [np.ascontiguousarray(q) for q in c.image.coefficients]
        jobs.append((_fields(c.image), arrays, np.ascontiguousarray(c.planes), c.header.tau, most_residual, start))
    out: list[Stream | None] = [None] * len(candidates)
    for i, part in zip(fit, jpeg_encode_batch(jobs, threads), strict=True):
        if part is None:
            continue
        lossy, residual, planes = part
        c, image = candidates[i], candidates[i].image
        header = finished(c.header, Mode.JPEG, from_planes(planes, c.header.layout))
        plain = image.sampling == (1, 1)
        payload = JpegPayload(
            image.transform,
            image.sampling,
            Upsampling.FANCY if plain else image.upsampling,
            image.crop_edges and not plain,
            image.phase,
            lossy,
            residual,
            prior.id if prior and prior.components == image.components else b"",
        )
        out[i] = Stream(header, payload)
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


def decode_planes(streams: Sequence[Stream], threads: int = 1, *, lossy: bool = False) -> list[U8 | CorruptError]:
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
    list of numpy.ndarray or CorruptError
        uint8 [H, W, channels] each, coding order; the error for a lane or table that no encoder writes.

    Raises
    ------
    PriorError
        A stream names a prior that this process does not know.
    """
    jobs = []
    for s in streams:
        h, p = s.header, payload_of(s)
        residual = None if lossy else bytes(p.residual_part)
        jobs.append((job_fields(h, p), h.tau, bytes(p.lossy_part), residual, start_of(h, p)))
    out: list[U8 | CorruptError] = []
    for s, (planes, error) in zip(streams, jpeg_decode_batch(jobs, threads), strict=True):
        p = payload_of(s)
        at = p.lossy_start + ("residual" in error and len(p.lossy_part))
        out.append(CorruptError(error, offset=at) if error else planes)
    return out


def start_of(h: Header, p: JpegPayload) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int16]] | None:
    """Return the state that the native decoder starts from; None: nothing learnt."""
    return find(p.prior).native(h.layout.channels) if p.prior else None


def job_fields(h: Header, p: JpegPayload) -> tuple[int, ...]:
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
