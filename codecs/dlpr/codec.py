"""Encode and decode: the public API over bytes and arrays (specification: docs/format/dlpr-v2.md).

Everything works on batches; the single forms are batches of one. A batch may mix sizes, layouts and modes.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dlpr import _native, bitstream
from dlpr.bitstream import CodedPayload, Header, JpegPayload, Mode, Stream
from dlpr.config import DEFAULT_PATCH, EncoderOptions
from dlpr.errors import CorruptError, UnsupportedInputError
from dlpr.layout import MAX_PIXELS, Layout, from_planes, to_planes
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.parse import SourceJpeg
from dlpr.modes.jpeg.recover import recover_batch
from dlpr.modes.jpeg.stream import JpegCandidate, decode_planes, image_of, jpeg_streams
from dlpr.modes.networks import weights as weights_store
from dlpr.quantise import quantise

U8 = npt.NDArray[np.uint8]
Buffer = bytes | bytearray | memoryview
Source = bytes | SourceJpeg | JpegImage
FAR_SMALLER = 0.4
"""Share of what a simple predictor's residuals take below which a JPEG's stream has no rival: the networks reach about
0.6 of JPEG-LS."""
MOST_RESIDUAL_SEARCHED = 0.8
"""Share of samples with a residual up to which a JPEG found in the pixels is coded and its size compared."""


def usable_threads(threads: int | None) -> int:
    """Threads to use: the number given, or one for each CPU this process may use."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise UnsupportedInputError(f"threads must be at least 1, not {threads}", reason="input")
    return threads


@lru_cache(maxsize=4)
def native_model(weights_id: bytes, simd: str = "") -> Any:
    """The native model of one weights file, built once per process."""
    w = weights_store.find(weights_id)
    return _native.Model(dict(w.profile), {k: np.ascontiguousarray(v) for k, v in w.tensors.items()}, simd)


@dataclass(frozen=True)
class _Chunk:
    """One image on its way to a stream."""

    header: Header
    planes: U8
    options: dict[str, Any]


def _as_chunk(image: npt.ArrayLike, tau: int, o: EncoderOptions) -> _Chunk:
    a = np.asarray(image)
    if a.dtype != np.uint8:
        raise UnsupportedInputError(
            f"samples must be uint8, not {a.dtype}: scale or cast the image first", reason="input"
        )
    if not isinstance(tau, (int, np.integer)) or isinstance(tau, bool) or not 0 <= tau <= 255:
        raise UnsupportedInputError(f"tau must be an integer in 0..255, not {tau!r}", reason="input")
    layout, height, width = Layout.of(a.shape)
    if height * width > MAX_PIXELS:
        raise UnsupportedInputError(
            f"{height} x {width} pixels in one chunk: the limit is {MAX_PIXELS}; split the image into chunks",
            reason="input",
        )
    planes = to_planes(a, layout)
    blocks = -(-height // 64) * -(-width // 64)
    lossy = o.lossy_layer and min(height, width) >= o.min_lossy_side and blocks <= bitstream.MAX_LOSSY_BLOCKS
    patch = o.patch or DEFAULT_PATCH
    options = {
        "tau": int(tau),
        "lossy": int(lossy),
        "anchor_lossy": int(lossy and tau > 0 and o.anchor == "lossy"),
        "patch_exp": patch.bit_length() - 1,
        "lane_exp": o.lanes.bit_length() - 1,
        "frac": o.coefficient_bits,
        "coef_bits": o.coefficient_price,
        "bank": (-1 if o.search else 0) if o.bank_entry is None else o.bank_entry,
        "search": int(o.search),
        "max_taps": 66 if o.linear_stage else 0,
        "max_classes": o.linear_classes,
        "context": o.linear_context,
    }
    header = Header(Mode.CODED, int(tau), layout, height, width, 0)
    return _Chunk(header, planes, options)


def _constant_value(planes: U8, tau: int) -> tuple[int, ...] | None:
    """One colour within tau of every pixel, in coding order, if there is one."""
    flat = planes.reshape(-1, planes.shape[2])
    lo, hi = flat.min(0).astype(int), flat.max(0).astype(int)
    return tuple(int(v) for v in (lo + hi) // 2) if int((hi - lo).max()) <= 2 * tau else None


def _finished(header: Header, mode: Mode, array: U8) -> Header:
    return replace(header, mode=mode, pixel_crc=_native.crc32c(array, 0))


def encode_batch(
    images: Sequence[npt.ArrayLike],
    tau: int = 0,
    *,
    threads: int | None = None,
    options: EncoderOptions | None = None,
    source_jpegs: Sequence[Source | None] | None = None,
    **kwargs: Any,
) -> list[bytes]:
    """Encode several chunks, each to its own stream.

    Parameters
    ----------
    images
        Arrays of uint8 samples 0..255 with shape (H, W, 3), (3, H, W), (H, W), (H, W, 1), any of them behind leading
        axes of length 1. H * W is at most 2**26 pixels. Memory order does not matter.
    tau
        Largest allowed error of any sample, 0..255; 0 is lossless.
    threads
        Threads to use; by default one for each CPU of this process. The bytes do not depend on it.
    options
        Further options; single fields can be given as keywords (``lossy_layer=False``, ``patch=64`` ...).
    source_jpegs
        For each image the JPEG that it was decoded from, or None: its bytes, or a `dlpr.modes.jpeg.parse.SourceJpeg`
        where tables, colour transform or place are to be named. Where the pixels are those of the JPEG and that makes
        the smallest stream, its coefficients are coded instead of the pixels. A JPEG that does not fit the pixels, or
        is of a kind that cannot be used, changes nothing. Without one it is searched in the pixels, unless
        ``jpeg="given"``.

    Returns
    -------
    list of bytes
        Streams in the order of ``images``. The bytes depend on the image, tau, options and weights alone, not on
        threads, the rest of the batch or the instruction set.

    Raises
    ------
    dlpr.errors.UnsupportedInputError
        If the dtype, shape, tau or an option is not supported.

    Examples
    --------
    >>> import numpy as np, dlpr
    >>> tiles = [np.full((64, 64, 3), v, np.uint8) for v in (0, 255)]
    >>> [len(s) for s in dlpr.encode_batch(tiles)]
    [27, 27]
    """
    o = EncoderOptions.of(options, kwargs)
    chunks = [_as_chunk(im, tau, o) for im in images]
    n_threads = usable_threads(threads)
    out: list[bytes] = [b""] * len(chunks)
    hard: list[int] = []
    for i, c in enumerate(chunks):
        colour = _constant_value(c.planes, c.header.tau)
        if colour is None:
            hard.append(i)
        else:
            rgb = bytes(colour if len(colour) == 1 else (colour[1], colour[0], colour[2]))
            array = from_planes(_constant_planes(c.header, rgb), c.header.layout)
            out[i] = bitstream.pack(Stream(_finished(c.header, Mode.CONSTANT, array), rgb))
    for i, stream in _jpeg_batch(chunks, hard, source_jpegs, o, n_threads).items():
        out[i] = stream
    hard = [i for i in hard if not (out[i] and _far_smaller(len(out[i]), chunks[i]))]
    if not hard:
        return out
    weights_id = o.weights_id or weights_store.default_id()
    bank = weights_store.find(weights_id).sizes.bank
    if o.bank_entry is not None and not 0 <= o.bank_entry < bank:
        raise UnsupportedInputError(f"bank_entry must be in 0..{bank - 1}, not {o.bank_entry!r}", reason="input")
    model = native_model(weights_id)
    parts = _native.encode_batch(model, [(chunks[i].planes, chunks[i].options) for i in hard], n_threads)
    for i, part in zip(hard, parts, strict=True):
        c = chunks[i]
        coded = _pack_coded(c, weights_id, part)
        stored = bitstream.HEADER_SIZE + c.planes.size
        if out[i] and len(out[i]) <= min(len(coded), stored):
            continue  # as JPEG
        if len(coded) < stored:
            out[i] = coded
        else:
            array = from_planes(c.planes, c.header.layout)
            out[i] = bitstream.pack(Stream(_finished(c.header, Mode.STORED, array), array.tobytes()))
    return out


def _jpeg_batch(
    chunks: Sequence[_Chunk],
    members: Sequence[int],
    sources: Sequence[Source | None] | None,
    o: EncoderOptions,
    threads: int,
) -> dict[int, bytes]:
    """Streams of mode jpeg for those chunks that have one."""
    if sources is not None and len(sources) != len(chunks):
        raise UnsupportedInputError(
            f"{len(sources)} source JPEGs for {len(chunks)} images: give one, or None, for each", reason="input"
        )
    if o.jpeg == "never":
        return {}
    named = [(i, s) for i in members if sources is not None and (s := sources[i]) is not None]
    given: dict[int, JpegCandidate] = {}
    with ThreadPoolExecutor(threads) as pool:  # parsing is native and frees the interpreter
        images = pool.map(lambda n: image_of(n[1], chunks[n[0]].header.height, chunks[n[0]].header.width), named)
        for (i, _), image in zip(named, images, strict=True):
            if image is not None:
                given[i] = JpegCandidate(chunks[i].header, chunks[i].planes, image)
    out = {i: s for i, s in zip(given, jpeg_streams(list(given.values()), threads), strict=True) if s is not None}
    if o.jpeg != "auto":
        return out
    unknown = [i for i in members if i not in out]
    found = recover_batch([_rgb(chunks[i].planes) for i in unknown], threads)
    searched = {
        i: JpegCandidate(chunks[i].header, chunks[i].planes, r.image)
        for i, r in zip(unknown, found, strict=True)
        if r is not None
    }
    streams = jpeg_streams(list(searched.values()), threads, most_residual=MOST_RESIDUAL_SEARCHED)
    return out | {i: s for i, s in zip(searched, streams, strict=True) if s is not None}


def _far_smaller(size: int, c: _Chunk) -> bool:
    """Whether a stream of ``size`` bytes is so small that the networks need not be tried."""
    return 8 * size < FAR_SMALLER * float(_native.prediction_bits(c.planes, c.header.tau))


def _rgb(planes: U8) -> U8:
    """Red, green, blue from coding order; grey as it is."""
    return planes if planes.shape[2] == 1 else np.ascontiguousarray(planes[..., [1, 0, 2]])


def _reconstruct(c: _Chunk, weights_id: bytes, part: dict[str, Any]) -> U8:
    """What the decoder will give."""
    if c.header.tau == 0:
        return c.planes
    anchor = np.array(part["base"][: c.planes.shape[2]])
    if c.options["anchor_lossy"]:
        h = c.header
        x_tilde = _native.decode_lossy_layer(native_model(weights_id), h.height, h.width, part["lossy_part"])
        anchor = x_tilde[..., : c.planes.shape[2]]
    return quantise(c.planes, anchor, c.header.tau)[0]


def _pack_coded(c: _Chunk, weights_id: bytes, part: dict[str, Any]) -> bytes:
    h, o = c.header, c.options
    array = from_planes(_reconstruct(c, weights_id, part), h.layout)
    per_patch = 1 << o["lane_exp"]
    view, at, lanes = memoryview(part["lanes"]), 0, []
    for size in part["lane_sizes"]:
        lanes.append(view[at : at + size])
        at += size
    payload = CodedPayload(
        weights_id=weights_id,
        lossy=bool(o["lossy"]),
        anchor_lossy=bool(o["anchor_lossy"]),
        patch_exp=o["patch_exp"],
        lane_exp=o["lane_exp"],
        bank_entry=part["bank_entry"],
        interval=part["interval"],
        base=part["base"],
        lossy_part=part["lossy_part"],
        linear_part=part["linear_part"],
        lanes=tuple(tuple(lanes[i : i + per_patch]) for i in range(0, len(lanes), per_patch)),
    )
    return bitstream.pack(Stream(_finished(h, Mode.CODED, array), payload))


def encode(
    image: npt.ArrayLike,
    tau: int = 0,
    *,
    threads: int | None = None,
    options: EncoderOptions | None = None,
    source_jpeg: Source | None = None,
    **kwargs: Any,
) -> bytes:
    """Encode one chunk; see :func:`encode_batch` for the parameters.

    Examples
    --------
    >>> import numpy as np, dlpr
    >>> x = np.arange(64 * 48 * 3, dtype=np.uint32).reshape(64, 48, 3).astype(np.uint8)
    >>> bool((dlpr.decode(dlpr.encode(x)) == x).all())
    True
    """
    return encode_batch([image], tau, threads=threads, options=options, source_jpegs=[source_jpeg], **kwargs)[0]


def _job(header: Header, p: CodedPayload) -> dict[str, Any]:
    return {
        "H": header.height,
        "W": header.width,
        "channels": header.layout.channels,
        "tau": header.tau,
        "lossy": int(p.lossy),
        "anchor_lossy": int(p.anchor_lossy),
        "patch_exp": p.patch_exp,
        "lane_exp": p.lane_exp,
        "bank_entry": p.bank_entry,
        "interval": p.interval,
        "base": tuple(p.base),
        "lossy_part": bytes(p.lossy_part),
        "linear_part": bytes(p.linear_part),
        "lanes": b"".join(lane for patch in p.lanes for lane in patch),
        "lane_sizes": [len(lane) for patch in p.lanes for lane in patch],
    }


def _constant_planes(header: Header, payload: Buffer) -> U8:
    rgb = np.frombuffer(payload, np.uint8)
    colour = rgb if header.layout.channels == 1 else rgb[[1, 0, 2]]
    shape = (header.height, header.width, header.layout.channels)
    return np.ascontiguousarray(np.broadcast_to(colour, shape))


def _finish(header: Header, planes: U8) -> U8:
    array = from_planes(planes, header.layout)
    bitstream.check_pixels(header, array)
    return array


def _decode_coded(
    parsed: Sequence[Stream], weights_id: bytes, members: Sequence[int], threads: int, out: list[U8]
) -> None:
    """Decode those streams of a batch that were coded with some weights."""
    model = native_model(weights_id)
    bank = int(weights_store.find(weights_id).profile["bank"])
    jobs = []
    for i in members:
        p = parsed[i].payload
        assert isinstance(p, CodedPayload)
        if p.bank_entry >= bank:
            raise CorruptError(f"bank entry {p.bank_entry} does not exist (stream {i})", reason="corrupt", offset=35)
        jobs.append(_job(parsed[i].header, p))
    for i, (planes, error) in zip(members, _native.decode_batch(model, jobs, threads), strict=True):
        if error:
            raise CorruptError(f"{error} (stream {i} of {len(parsed)})", reason="corrupt", offset=bitstream.CODED_SIZE)
        out[i] = _finish(parsed[i].header, planes)


def decode_batch(streams: Sequence[Buffer], *, threads: int | None = None) -> list[U8]:
    """Decode several streams; each result has the shape and layout that was encoded.

    Raises
    ------
    dlpr.errors.BitstreamError
        If a stream is damaged, truncated or of an unknown version; the message names its place in the batch.
    dlpr.errors.WeightsError
        If the weights a stream names are not installed.
    """
    n_threads = usable_threads(threads)
    parsed: list[Stream] = []
    for i, s in enumerate(streams):
        try:
            parsed.append(bitstream.parse(s))
        except Exception as e:
            if len(streams) > 1:
                e.add_note(f"in stream {i} of the batch")
            raise
    out: list[U8] = [np.empty(0, np.uint8)] * len(parsed)
    by_weights: dict[bytes, list[int]] = defaultdict(list)
    jpegs: list[int] = []
    for i, stream in enumerate(parsed):
        h, p = stream.header, stream.payload
        if isinstance(p, CodedPayload):
            by_weights[p.weights_id].append(i)
        elif isinstance(p, JpegPayload):
            jpegs.append(i)
        elif h.mode is Mode.CONSTANT:
            out[i] = _finish(h, _constant_planes(h, p))
        else:
            out[i] = np.frombuffer(p, np.uint8).reshape(h.shape).copy()
            bitstream.check_pixels(h, out[i])
    for i, planes in zip(jpegs, decode_planes([parsed[i] for i in jpegs], n_threads), strict=True):
        out[i] = _finish(parsed[i].header, planes)
    for weights_id, members in by_weights.items():
        _decode_coded(parsed, weights_id, members, n_threads, out)
    return out


def decode(data: Buffer, *, threads: int | None = None, layer: Literal["full", "lossy"] = "full") -> U8:
    """Decode one stream.

    Parameters
    ----------
    data
        The stream. For ``layer="lossy"`` its first ``inspect(data).lossy_prefix`` bytes are enough.
    threads
        Threads to use; by default one for each CPU of this process. The result does not depend on it.
    layer
        "full" gives the image; "lossy" the lossy layer alone (no error bound): x~, a preview at a fraction of the
        cost, or in mode jpeg the JPEG's pixels. Constant and stored streams give their samples either way.

    Returns
    -------
    ndarray
        uint8, with the shape and layout that was encoded.

    Raises
    ------
    dlpr.errors.BitstreamError
        If the stream is damaged, truncated or of an unknown version, or has no lossy layer though one was asked for.
    dlpr.errors.WeightsError
        If the weights the stream names are not installed.
    """
    if layer == "full":
        return decode_batch([data], threads=threads)[0]
    if layer != "lossy":
        raise UnsupportedInputError(f'layer must be "full" or "lossy", not {layer!r}', reason="input")
    s = bitstream.parse_lossy(data)
    h, p = s.header, s.payload
    if isinstance(p, JpegPayload):
        return from_planes(decode_planes([s], lossy=True)[0], h.layout)
    if not isinstance(p, CodedPayload):
        return decode_batch([data], threads=threads)[0]
    x = _native.decode_lossy_layer(native_model(p.weights_id), h.height, h.width, bytes(p.lossy_part))
    if x is None:
        raise CorruptError("the lossy part is damaged", reason="corrupt", offset=bitstream.CODED_SIZE)
    return from_planes(np.ascontiguousarray(x[..., : h.layout.channels]), h.layout)


@dataclass(frozen=True)
class StreamInfo:
    """What a stream says of itself. Sizes are in bytes."""

    mode: str
    """"coded", "constant", "stored" or "jpeg"."""
    tau: int
    shape: tuple[int, ...]
    layout: str
    """Axes, for example "HWC"."""
    weights_id: str | None
    """Hex name of the weights, or None where none are needed."""
    size: int
    bytes_by_part: dict[str, int]
    """header, lossy, linear, lanes (lane table included), payload; in mode jpeg header, coefficients (tables
    included), residual. They sum to ``size``."""
    bits_per_pixel: float
    lossy_layer: bool
    lossy_prefix: int
    """Bytes from the start that ``decode(data, layer="lossy")`` needs."""
    patch: int | None
    lanes: int | None
    bank_entry: int | None
    interval: int | None


def inspect(data: Buffer) -> StreamInfo:
    """Read a stream's header and part sizes without decoding it; damaged streams raise as :func:`decode` does."""
    s = bitstream.parse(data)
    h, p = s.header, s.payload
    size = memoryview(data).nbytes
    shape = h.shape
    bpp = 8 * size / (h.height * h.width)
    mode, axes = h.mode.name.lower(), h.layout.axes.name
    if isinstance(p, JpegPayload):
        a = len(p.lossy_part)
        prefix = bitstream.JPEG_SIZE + a
        parts = {"header": bitstream.JPEG_SIZE, "coefficients": a, "residual": size - prefix}
        return StreamInfo(mode, h.tau, shape, axes, None, size, parts, bpp, True, prefix, None, None, None, None)
    if not isinstance(p, CodedPayload):
        parts = {"header": bitstream.HEADER_SIZE, "payload": size - bitstream.HEADER_SIZE}
        return StreamInfo(mode, h.tau, shape, axes, None, size, parts, bpp, False, size, None, None, None, None)
    a, b = len(p.lossy_part), len(p.linear_part)
    parts = {"header": bitstream.CODED_SIZE, "lossy": a, "linear": b, "lanes": size - bitstream.CODED_SIZE - a - b}
    return StreamInfo(
        mode,
        h.tau,
        shape,
        axes,
        p.weights_id.hex(),
        size,
        parts,
        bpp,
        p.lossy,
        bitstream.CODED_SIZE + a,
        1 << p.patch_exp,
        1 << p.lane_exp,
        p.bank_entry,
        p.interval,
    )
