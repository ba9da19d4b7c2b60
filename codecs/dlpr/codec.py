"""Encode and decode: the public API over bytes and arrays (specification: docs/format/dlpr-v3.md).

Everything works on batches; the single forms are batches of one. A batch may mix sizes, layouts and modes. What a mode
does stands in its room under ``modes/``; here the smallest of the modes' streams is chosen.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dlpr import bitstream
from dlpr.arrays import Buffer
from dlpr.bitstream import Header, Mode, Stream
from dlpr.config import EncoderOptions
from dlpr.device import Device
from dlpr.errors import UnsupportedInputError
from dlpr.layout import MAX_PIXELS, Layout, to_planes
from dlpr.modes.jpeg.prior import Prior, remember
from dlpr.modes.networks.tuned import Tuned
from dlpr.modes.networks.tuned import remember as remember_tuned
from dlpr.modes.protocol import Chunk, ChunkMode, Decoded
from dlpr.modes.table import MODES, SOURCE_KINDS, Source

__all__ = ["StreamInfo", "decode", "decode_batch", "encode", "encode_batch", "inspect", "usable_threads"]

U8 = npt.NDArray[np.uint8]


def usable_threads(threads: int | None) -> int:
    """Threads to use: the number given, or one for each CPU this process may use."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise UnsupportedInputError(f"threads must be at least 1, not {threads}", reason="input")
    return threads


def _as_chunk(image: npt.ArrayLike, tau: int, source: Source | None) -> Chunk:
    """Check an image and bring it into coding order."""
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
    if source is not None and not isinstance(source, SOURCE_KINDS):
        names = ", ".join(kind.__name__ for kind in SOURCE_KINDS)
        raise UnsupportedInputError(f"a source must be one of {names}, not {type(source).__name__}", reason="input")
    header = Header(Mode.STORED, int(tau), layout, height, width, 0)
    return Chunk(header, to_planes(a, layout), source)


def encode_batch(
    images: Sequence[npt.ArrayLike],
    tau: int = 0,
    *,
    threads: int | None = None,
    options: EncoderOptions | None = None,
    sources: Sequence[Source | None] | None = None,
    source_jpegs: Sequence[Source | None] | None = None,
    device: Device | str | None = None,
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
    sources
        For each image the JPEG, or the JPEG 2000 codestream or JP2 file, that it was decoded from, or None: its bytes,
        or a `dlpr.modes.jpeg.parse.SourceJpeg` where tables, colour transform or place are to be named, or a
        `dlpr.modes.j2k.stream.SourceJ2k` where the components are YCbCr. Where the pixels are those of the source and
        that makes the smallest stream, its coefficients are coded instead of the pixels. A source that does not fit the
        pixels, or is of a kind that cannot be used, changes nothing. Without one a JPEG and, at tau 0, a
        JPEG 2000 image are searched in the pixels, unless ``jpeg="given"``.
    source_jpegs
        The older name of ``sources``.
    device
        A device of torch, or a `dlpr.Device`, on which the networks run, many chunks at a time; what has no use for one
        (JPEG, JPEG 2000, chunks of one colour) stays on the CPU. What does not fit its memory is done on the CPU too,
        with a `dlpr.errors.DeviceWarning`.

    Returns
    -------
    list of bytes
        Streams in the order of ``images``. The bytes depend on the image, tau, options and weights alone, not on
        threads, the rest of the batch or the instruction set; on a device they are the same but for ties among the
        encoder's choices, and the same on every device.

    Raises
    ------
    dlpr.errors.UnsupportedInputError
        If the dtype, shape, tau, an option or the device's name is not supported.
    dlpr.errors.DeviceError
        If torch is not installed, or the device cannot be used.

    Examples
    --------
    >>> import numpy as np, dlpr
    >>> tiles = [np.full((64, 64, 3), v, np.uint8) for v in (0, 255)]
    >>> [len(s) for s in dlpr.encode_batch(tiles)]
    [27, 27]
    """
    o = EncoderOptions.of(options, kwargs)
    if o.tuned is not None:
        tuned = remember_tuned(o.tuned)
        if o.weights_id not in (None, tuned.id):
            raise UnsupportedInputError("tuned names weights as weights_id does: give one of them", reason="input")
        o = replace(o, tuned=tuned, weights_id=tuned.id)
    given = source_jpegs if sources is None else sources
    given = [None] * len(images) if given is None else given
    if len(given) != len(images):
        raise UnsupportedInputError(
            f"{len(given)} sources for {len(images)} images: give one, or None, for each", reason="input"
        )
    chunks = [_as_chunk(image, tau, source) for image, source in zip(images, given, strict=True)]
    n_threads, where = usable_threads(threads), Device.of(device)
    out = _from_sources(chunks, o, n_threads) if o.keep_source else [b""] * len(chunks)
    settled = [frozenset(MODES) if data else frozenset[Mode]() for data in out]
    for door in MODES.values():
        open_ = [i for i in range(len(chunks)) if door.mode not in settled[i]]
        members = [i for i in open_ if not out[i] or door.can_beat(chunks[i], len(out[i]))]
        if not members:
            continue
        for i, stream in zip(members, _coded(door, [chunks[i] for i in members], o, n_threads, where), strict=True):
            data = b"" if stream is None else bitstream.pack(stream)
            if stream is not None:
                settled[i] |= door.supersedes(chunks[i], stream, len(data))
            if data and (not out[i] or len(data) < len(out[i])):
                out[i] = data
    return out


def _coded(
    door: ChunkMode, chunks: Sequence[Chunk], options: EncoderOptions, threads: int, device: Device | None
) -> list[Stream | None]:
    """Let a mode code chunks where they are to be coded."""
    if device is None:
        return door.encode_batch(chunks, options, threads)
    return door.encode_on(device, chunks, options, threads)


def _from_sources(chunks: Sequence[Chunk], options: EncoderOptions, threads: int) -> list[bytes]:
    """Code the chunks that come with a source from it; empty where it does not give the pixels, or none is given.

    A chunk of one colour is coded as such: what its source is can be kept for less than its coefficients.
    """
    out = [b""] * len(chunks)
    given = replace(options, jpeg="never" if options.jpeg == "never" else "given")
    for door in (door for door in MODES.values() if door.keeps_sources):
        members = [i for i, chunk in enumerate(chunks) if chunk.source is not None and not out[i]]
        if members:
            streams = door.encode_batch([chunks[i] for i in members], given, threads)
            for i, stream in zip(members, streams, strict=True):
                out[i] = b"" if stream is None else bitstream.pack(stream)
    return out


def encode(
    image: npt.ArrayLike,
    tau: int = 0,
    *,
    threads: int | None = None,
    options: EncoderOptions | None = None,
    source: Source | None = None,
    source_jpeg: Source | None = None,
    device: Device | str | None = None,
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
    given = [source or source_jpeg]
    return encode_batch([image], tau, threads=threads, options=options, sources=given, device=device, **kwargs)[0]


def decode_batch(
    streams: Sequence[Buffer],
    *,
    threads: int | None = None,
    prior: Prior | bytes | None = None,
    tuned: Tuned | bytes | None = None,
    device: Device | str | None = None,
    expected: Sequence[npt.ArrayLike | None] | None = None,
) -> list[U8]:
    """Decode several streams; each result has the shape and layout that was encoded.

    Parameters
    ----------
    streams
        Complete streams.
    threads
        Threads to use; by default one for each CPU of this process. The result does not depend on it.
    prior
        The slide's (see `dlpr.Prior`) where streams name one; this process remembers it.
    tuned
        The slide's weights (see `dlpr.Tuned`) where streams name them; this process remembers them.
    device
        A device of torch, or a `dlpr.Device`, on which the networks run; see docs/guide/gpu.md for what pays. The
        result does not depend on it.
    expected
        With a device: for each stream the image that was encoded, or None where it is not at hand. A stream that holds
        it is decoded all pixels at once, since every pixel's context is known, instead of step by step; any other
        stream is decoded as if nothing were expected. The result does not depend on it.

    Raises
    ------
    dlpr.errors.UnsupportedInputError
        If the device's name, or the number of expected images, is wrong.
    dlpr.errors.DeviceError
        If torch is not installed, or the device cannot be used.
    dlpr.errors.BitstreamError
        If a stream is damaged, truncated or of an unknown version; the message names its place in the batch.
    dlpr.errors.WeightsError
        If the weights a stream names are not installed.
    dlpr.errors.PriorError
        If a stream names a prior that is not at hand.
    """
    n_threads, where = usable_threads(threads), Device.of(device)
    held = _remember(prior, tuned)
    hints = [None] * len(streams) if expected is None else list(expected)
    if len(hints) != len(streams):
        raise UnsupportedInputError(
            f"{len(hints)} expected images for {len(streams)} streams: give one, or None, for each", reason="input"
        )
    parsed: list[Stream] = []
    for i, s in enumerate(streams):
        try:
            parsed.append(bitstream.parse(s))
        except Exception as e:
            if len(streams) > 1:
                e.add_note(f"in stream {i} of the batch")
            raise
    out = _decode_parsed(parsed, n_threads, where, hints)
    del held
    for i, (stream, array) in enumerate(zip(parsed, out, strict=True)):
        if isinstance(array, Exception):
            array.message += f" (stream {i} of {len(parsed)})"
            raise array
        bitstream.check_pixels(stream.header, array)
    return [array for array in out if not isinstance(array, Exception)]


def _expected_planes(stream: Stream, image: npt.ArrayLike | None) -> npt.NDArray[np.uint8] | None:
    """Bring an expected image into coding order; None where it cannot be what the stream holds."""
    a = None if image is None else np.asarray(image)
    if a is None or a.dtype != np.uint8 or a.shape != stream.header.shape:
        return None
    return to_planes(a, stream.header.layout)


def _remember(prior: Prior | bytes | None, tuned: Tuned | bytes | None) -> tuple[Prior | None, Tuned | None]:
    """Make what a slide's streams name known to this process, as long as the result is held."""
    return (
        None if prior is None else remember(prior),
        None if tuned is None else remember_tuned(tuned),
    )


def _decode_parsed(
    parsed: Sequence[Stream], threads: int, device: Device | None, expected: Sequence[npt.ArrayLike | None]
) -> list[Decoded]:
    """Decode streams, those of a mode together."""
    by_mode: dict[Mode, list[int]] = defaultdict(list)
    for i, stream in enumerate(parsed):
        by_mode[stream.header.mode].append(i)
    out: dict[int, Decoded] = {}
    for mode, members in by_mode.items():
        some = [parsed[i] for i in members]
        if device is None:
            decoded = MODES[mode].decode_batch(some, threads)
        else:
            planes = [_expected_planes(parsed[i], expected[i]) for i in members]
            decoded = MODES[mode].decode_on(device, some, threads, planes)
        out |= zip(members, decoded, strict=True)
    return [out[i] for i in range(len(parsed))]


def decode(
    data: Buffer,
    *,
    threads: int | None = None,
    layer: Literal["full", "lossy"] = "full",
    prior: Prior | bytes | None = None,
    tuned: Tuned | bytes | None = None,
    device: Device | str | None = None,
) -> U8:
    """Decode one stream.

    Parameters
    ----------
    data
        The stream. For ``layer="lossy"`` its first ``inspect(data).lossy_prefix`` bytes are enough.
    threads
        Threads to use; by default one for each CPU of this process. The result does not depend on it.
    layer
        "full" gives the image; "lossy" the lossy layer alone (no error bound): x~, a preview at a fraction of the
        cost, or in modes jpeg and j2k the source's pixels. Constant and stored streams give their samples either way.
    prior
        The slide's (see `dlpr.Prior`), where the stream names one; this process remembers it.
    tuned
        The slide's weights (see `dlpr.Tuned`), where the stream names them; this process remembers them.
    device
        A device of torch, or a `dlpr.Device`, on which the networks run (``layer="full"`` only); see `decode_batch`.

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
    dlpr.errors.PriorError
        If the stream names a prior that is not at hand.
    """
    if layer == "full":
        return decode_batch([data], threads=threads, prior=prior, tuned=tuned, device=device)[0]
    if layer != "lossy":
        raise UnsupportedInputError(f'layer must be "full" or "lossy", not {layer!r}', reason="input")
    held = _remember(prior, tuned)
    stream = bitstream.parse_lossy(data)
    array = MODES[stream.header.mode].decode_lossy(stream)
    del held
    return decode_batch([data], threads=threads, prior=prior, tuned=tuned)[0] if array is None else array


@dataclass(frozen=True)
class StreamInfo:
    """What a stream says of itself. Sizes are in bytes."""

    mode: str
    """"coded", "constant", "stored", "jpeg", "colour" or "j2k"."""
    tau: int
    shape: tuple[int, ...]
    layout: str
    """Axes, for example "HWC"."""
    weights_id: str | None
    """Hex name of the weights, or None where none are needed."""
    size: int
    bytes_by_part: dict[str, int]
    """header, lossy, linear, lanes (lane table included), payload; in modes jpeg and j2k header, coefficients (tables
    or steps included), residual. They sum to ``size``."""
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
    stream = bitstream.parse(data)
    h, size = stream.header, memoryview(data).nbytes
    d = MODES[h.mode].describe(stream, size)
    return StreamInfo(
        mode=h.mode.name.lower(),
        tau=h.tau,
        shape=h.shape,
        layout=h.layout.axes.name,
        weights_id=d.weights_id,
        size=size,
        bytes_by_part=d.bytes_by_part,
        bits_per_pixel=8 * size / (h.height * h.width),
        lossy_layer=d.lossy_layer,
        lossy_prefix=d.lossy_prefix,
        patch=d.patch,
        lanes=d.lanes,
        bank_entry=d.bank_entry,
        interval=d.interval,
    )
