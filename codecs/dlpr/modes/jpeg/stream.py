"""Streams of mode jpeg: from an image and its JPEG to fields and back (docs/format section 15)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dlpr._native import jpeg_decode_batch, jpeg_encode_batch
from dlpr.errors import CorruptError, UnsupportedInputError
from dlpr.frame import Header, Mode, Stream, finished
from dlpr.layout import from_planes
from dlpr.modes.jpeg.fields import Upsampling
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.parse import SourceJpeg, extend, parse, window
from dlpr.modes.jpeg.pieces import SourcePieces, join
from dlpr.modes.jpeg.payload import JpegPayload, payload_of
from dlpr.modes.jpeg.prior import Prior, find
from dlpr.modes.jpeg.synthesis import native_fields

__all__ = ["JpegCandidate", "decode_planes", "image_of", "images_of", "job_fields", "jpeg_streams", "start_of"]

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


def image_of(source: object, height: int, width: int) -> JpegImage | None:
    """The part of a source that has an image's size; None where the source is of no use.

    Parameters
    ----------
    source : bytes, SourceJpeg, SourcePieces or JpegImage
    height, width : int
        Size of the image in pixels.

    Raises
    ------
    UnsupportedInputError
        ``source`` is something else.
    """
    return images_of([(source, height, width)])[0]


def images_of(sources: Sequence[tuple[object, int, int]], threads: int = 1) -> list[JpegImage | None]:
    """Do what `image_of` does for several images; JPEG bytes that several of them lie in are parsed once.

    Parameters
    ----------
    sources : sequence of (source, height, width)
    threads : int
        Threads to use.
    """
    described = [_described(source) for source, _, _ in sources]
    shared: dict[tuple[object, ...], SourceJpeg] = {}
    for one in described:
        for jpeg in _jpegs(one):
            shared.setdefault(_identity(jpeg), jpeg)
    with ThreadPoolExecutor(threads) as pool:  # parsing is native and frees the interpreter
        parsed = dict(zip(shared, pool.map(_parsed, shared.values()), strict=True))
    out: list[JpegImage | None] = []
    for one, (_, height, width) in zip(described, sources, strict=True):
        if isinstance(one, JpegImage):
            out.append(one if (one.height, one.width) == (height, width) else None)
        elif isinstance(one, SourcePieces):
            out.append(join(one, [parsed[_identity(piece.source)] for piece in one.pieces], height, width))
        else:
            whole = parsed[_identity(one)]
            out.append(None if whole is None else _part(whole, one, height, width))
    return out


def _jpegs(source: SourceJpeg | SourcePieces | JpegImage) -> list[SourceJpeg]:
    """Return what is to be parsed of a source."""
    if isinstance(source, SourcePieces):
        return [piece.source for piece in source.pieces]
    return [source] if isinstance(source, SourceJpeg) else []


def _described(source: object) -> SourceJpeg | SourcePieces | JpegImage:
    """Return a source with all that is said of it."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return SourceJpeg(bytes(source))
    if not isinstance(source, (SourceJpeg, SourcePieces, JpegImage)):
        raise UnsupportedInputError(
            f"a source JPEG must be bytes, SourceJpeg, SourcePieces, JpegImage or None, not {type(source).__name__}", reason="input"
        )
    return source


def _identity(source: SourceJpeg) -> tuple[object, ...]:
    """Tell apart what is to be parsed: by object, so that nothing is compared."""
    return id(source.data), id(source.tables), source.transform


def _parsed(source: SourceJpeg) -> JpegImage | None:
    """Parse a whole JPEG; None where it is of no use."""
    try:
        return parse(source.data, source.tables, source.transform)
    except UnsupportedInputError:
        return None


def _part(whole: JpegImage, source: SourceJpeg, height: int, width: int) -> JpegImage | None:
    """Cut the window that a source names; None where it is not inside."""
    top, left = source.offset
    inside = (height, width)
    if source.extended:
        inside = min(height, whole.height - top), min(width, whole.width - left)
    try:
        return extend(window(whole, top, left, *inside), height, width)
    except UnsupportedInputError:
        return None


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
