"""Pack and parse streams (docs/format sections 2, 3 and 15): bytes to fields and back, no arithmetic of the codec.

::

    bytes --parse--> Stream(header, payload) --pack--> bytes
                            |        +-- CodedPayload, JpegPayload, or the bytes of the modes constant and stored
                            +-- mode, tau, layout, H, W, checksum of the samples

Every limit is checked before anything is allocated; what `parse` returns are slices of its argument.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise
from typing import Any, NoReturn, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from dlpr.arrays import Buffer
from dlpr.errors import ChecksumError, CorruptError, TruncatedError, UnsupportedError
from dlpr.layout import MAX_PIXELS, Axes, Layout, from_planes, to_planes
from dlpr.modes.jpeg.fields import ColourTransform, Upsampling

try:
    from dlpr._native import crc32c as _native_crc32c
except ImportError:  # a tree without the extension: the reference still works
    from dlpr.crc import crc32c as _native_crc32c

__all__ = [
    "CODED_SIZE",
    "HEADER_SIZE",
    "JPEG_SIZE",
    "MAX_LOSSY_BLOCKS",
    "MAX_PIXELS",
    "Axes",
    "CodedPayload",
    "Header",
    "JpegPayload",
    "Layout",
    "Mode",
    "Payload",
    "Stream",
    "check_pixels",
    "coded_size",
    "crc32c",
    "from_planes",
    "pack",
    "parse",
    "parse_lossy",
    "patch_grid",
    "to_planes",
]

crc32c = cast("Callable[[Any, int], int]", _native_crc32c)

MAGIC = b"DLPR"
VERSION = 2
HEADER_SIZE = 24
"""Bytes before the payload."""
CODED_SIZE = 52
"""Bytes before the lossy part of a coded stream."""
JPEG_SIZE = 34
"""Bytes before the lossy part of a stream of mode jpeg."""
MAX_LOSSY_BLOCKS = 1 << 14
"""Largest number of 64-pixel blocks of a chunk with a lossy layer."""

_HEADER = struct.Struct("<4sBBBBIIII")
_CODED = struct.Struct("<8sBBBBB3sIII")
_JPEG = struct.Struct("<BBII")
_FAULTY = "the stream's encoder is faulty"
_AGAIN = "fetch all of the stream again"


class Mode(IntEnum):
    """How the samples are carried."""

    CODED = 0
    CONSTANT = 1
    STORED = 2
    JPEG = 3


@dataclass(frozen=True)
class Header:
    """The fields that every stream begins with (section 2)."""

    mode: Mode
    tau: int
    """Bound on the error of every sample."""
    layout: Layout
    height: int
    width: int
    pixel_crc: int
    """CRC32C of the decoded samples in C order of the decoded array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the decoded array."""
        return self.layout.shape(self.height, self.width)

    @property
    def samples(self) -> int:
        """Samples of the decoded array."""
        return self.height * self.width * self.layout.channels


@dataclass(frozen=True)
class CodedPayload:
    """The coded chunk (section 3)."""

    weights_id: bytes
    """First 8 bytes of the SHA-256 of the weights file."""
    lossy: bool
    """A lossy layer is present."""
    anchor_lossy: bool
    """The reconstruction grid is anchored at x~, not at the base colour."""
    patch_exp: int
    """Patches are 2**patch_exp px wide and high, 5 to 8."""
    lane_exp: int
    """Patches have 2**lane_exp lanes, 0 to 5."""
    bank_entry: int
    interval: int
    """m, 1 to 255."""
    base: tuple[int, int, int]
    """Base colour in coding order; three equal values with one channel."""
    lossy_part: Buffer
    linear_part: Buffer
    lanes: tuple[tuple[Buffer, ...], ...]
    """Lanes of each patch, patches by rows."""


@dataclass(frozen=True)
class JpegPayload:
    """The chunk as a JPEG and a residual (section 15)."""

    transform: ColourTransform
    sampling: tuple[int, int]
    """Vertical and horizontal factor of component 0 relative to the others."""
    upsampling: Upsampling
    crop_edges: bool
    phase: tuple[int, int]
    """Row and column of the chunk's top left pixel in the first MCU."""
    lossy_part: Buffer
    """Tables and coefficients."""
    residual_part: Buffer


Payload: TypeAlias = CodedPayload | JpegPayload | Buffer
"""Modes coded and jpeg; else, in the order of the decoded array, a value per channel (constant) or all (stored)."""


@dataclass(frozen=True)
class Stream:
    """A parsed stream."""

    header: Header
    payload: Payload


def patch_grid(header: Header, patch_exp: int) -> tuple[int, int]:
    """Rows and columns of patches of a chunk."""
    return -(-header.height >> patch_exp), -(-header.width >> patch_exp)


def check_pixels(header: Header, array: npt.NDArray[np.uint8]) -> None:
    """Compare a decoded array with its checksum.

    Raises
    ------
    ChecksumError
        Reason ``pixels``: the samples are not those that were encoded.
    """
    if crc32c(np.ascontiguousarray(array), 0) != header.pixel_crc:
        raise ChecksumError(
            "the decoded samples differ from their checksum: the encoder or this decoder is faulty; "
            "report it with the stream",
            reason="pixels",
            offset=16,
        )


# ---- parse ----------------------------------------------------------------------------------------------


def parse(data: Buffer) -> Stream:
    """Read a stream's fields.

    Parameters
    ----------
    data : bytes-like
        One complete stream.

    Returns
    -------
    Stream
        Its payload's parts are slices of ``data``.

    Raises
    ------
    BitstreamError
        Checked in the order of section 2: length, magic, version, fields' ranges, checksum, payload.
    """
    view = memoryview(data).cast("B")
    header = _parse_header(view)
    (stored,) = struct.unpack_from("<I", view, 20)
    if crc32c(view[HEADER_SIZE:], crc32c(view[:20], 0)) != stored:
        raise ChecksumError(f"the stream differs from its checksum, it is damaged or cut short; {_AGAIN}", offset=20)
    if header.mode is Mode.CODED:
        return Stream(header, _parse_coded(view, header))
    if header.mode is Mode.JPEG:
        payload, end = _parse_jpeg_fields(view, header)
        return Stream(header, replace(payload, residual_part=view[end:]))
    size = header.layout.channels if header.mode is Mode.CONSTANT else header.samples
    _check_end(view, HEADER_SIZE + size)
    return Stream(header, view[HEADER_SIZE:])


def parse_lossy(prefix: Buffer) -> Stream:
    """Read what the lossy layer needs from the first 52 + A (mode jpeg: 34 + A) bytes of a stream, or more of it.

    Parameters
    ----------
    prefix : bytes-like
        The stream, or its beginning. Streams of the modes constant and stored must be complete.

    Returns
    -------
    Stream
        A `CodedPayload` without linear part and lanes, a `JpegPayload` without residual, or in the other modes the
        complete stream.

    Raises
    ------
    BitstreamError
        As `parse`; `UnsupportedError` if the stream has no lossy layer.
    """
    view = memoryview(prefix).cast("B")
    header = _parse_header(view)
    if header.mode is Mode.JPEG:
        return Stream(header, _parse_jpeg_fields(view, header)[0])
    if header.mode is not Mode.CODED:
        return parse(prefix)
    payload, _ = _parse_coded_fields(view, header)
    if not payload.lossy:
        raise UnsupportedError("the stream has no lossy layer; decode all of it instead", offset=32)
    return Stream(header, payload)


def _truncated(what: str, view: memoryview) -> NoReturn:
    """Raise for bytes that are missing."""
    raise TruncatedError(f"{what}, here are {len(view)} bytes; {_AGAIN}", offset=len(view))


def _check_end(view: memoryview, end: int) -> None:
    """Refuse a stream that does not end where its fields say."""
    if len(view) < end:
        _truncated(f"the stream has {end} bytes", view)
    if len(view) > end:
        raise CorruptError(f"{len(view) - end} bytes follow the end of the stream; cut them off", offset=end)


def _parse_header(view: memoryview) -> Header:
    """Read section 2 up to the payload, without the checksum."""
    if len(view) < HEADER_SIZE:
        _truncated(f"a stream has at least {HEADER_SIZE} bytes", view)
    magic, version, mode, tau, layout, height, width, pixel_crc, _ = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise UnsupportedError("not a DLPR stream; check which codec wrote it", reason="magic", offset=0)
    if version != VERSION:
        todo = "update dlpr-wsi" if version > VERSION else "it was a draft; encode the image again"
        message = f"version {version} of the format, this decoder reads {VERSION}; {todo}"
        raise UnsupportedError(message, reason="version", offset=4)
    if mode > max(Mode):
        raise UnsupportedError(f"mode {mode} is unknown; update dlpr-wsi", offset=5)
    axes, leading, gray = layout & 3, layout >> 2 & 7, bool(layout & 32)
    if layout & 0xC0 or axes > max(Axes):
        raise UnsupportedError(f"layout {layout:#04x} is unknown; update dlpr-wsi", offset=7)
    if axes == Axes.HW and not gray:
        raise CorruptError(f"axes height, width with three channels; {_FAULTY}", offset=7)
    if height == 0 or width == 0:
        raise CorruptError(f"a chunk of {width} x {height} px; {_FAULTY}", offset=8)
    if height * width > MAX_PIXELS:
        raise UnsupportedError(f"{width} x {height} px is above the limit of {MAX_PIXELS} px", offset=8)
    return Header(Mode(mode), tau, Layout(Axes(axes), leading, 1 if gray else 3), height, width, pixel_crc)


def _lossy_crc(view: memoryview, start: int, size: int) -> int:
    """Compute the checksum before a lossy part: of bytes 0..15, 24 up to the checksum, and the lossy part."""
    return crc32c(view[start : start + size], crc32c(view[24 : start - 4], crc32c(view[:16], 0)))


def _parse_coded_fields(view: memoryview, header: Header) -> tuple[CodedPayload, int]:
    """Read section 3 up to the end of the lossy part; also the size of the linear part."""
    if len(view) < CODED_SIZE:
        _truncated(f"a coded stream has at least {CODED_SIZE} bytes", view)
    weights_id, flags, patch_exp, lane_exp, entry, interval, base, a, b, crc = _CODED.unpack_from(view, HEADER_SIZE)
    if len(view) < CODED_SIZE + a:
        _truncated(f"the lossy part ends at byte {CODED_SIZE + a}", view)
    if _lossy_crc(view, CODED_SIZE, a) != crc:
        raise ChecksumError(f"the lossy layer differs from its checksum, it is damaged; {_AGAIN}", offset=48)
    lossy, anchor_lossy = bool(flags & 1), bool(flags & 2)
    if flags & 0xFC:
        raise UnsupportedError(f"flags {flags:#04x} are unknown; update dlpr-wsi", offset=32)
    impossible: list[tuple[bool, int, str]] = [
        (anchor_lossy and not lossy, 32, "an anchor x~ without lossy layer"),
        (not 5 <= patch_exp <= 8, 33, f"patch size exponent {patch_exp}"),
        (lane_exp > 5, 34, f"lane exponent {lane_exp}"),
        (interval == 0, 36, "interval 0"),
        (header.layout.channels == 1 and len(set(base)) > 1, 37, "a base colour with one channel"),
        (lossy != (a > 0) or 0 < a < 4, 40, f"a lossy part of {a} bytes"),
    ]
    for wrong, offset, what in impossible:
        if wrong:
            raise CorruptError(f"{what} cannot be; {_FAULTY}", offset=offset)
    if lossy and -(-header.height // 64) * -(-header.width // 64) > MAX_LOSSY_BLOCKS:
        limit = "above the limit of a chunk with a lossy layer"
        raise UnsupportedError(f"{header.width} x {header.height} px is {limit}", offset=8)
    part = view[CODED_SIZE : CODED_SIZE + a]
    colour = (base[0], base[1], base[2])
    payload = CodedPayload(weights_id, lossy, anchor_lossy, patch_exp, lane_exp, entry, interval, colour, part, b"", ())
    return payload, b


def _parse_jpeg_fields(view: memoryview, header: Header) -> tuple[JpegPayload, int]:
    """Read section 15 up to the end of the lossy part; also where that is."""
    if len(view) < JPEG_SIZE:
        _truncated(f"a stream of mode jpeg has at least {JPEG_SIZE} bytes", view)
    kind, at, a, crc = _JPEG.unpack_from(view, HEADER_SIZE)
    end = JPEG_SIZE + a
    if len(view) < end:
        _truncated(f"the lossy part ends at byte {end}", view)
    if _lossy_crc(view, JPEG_SIZE, a) != crc:
        raise ChecksumError(f"the JPEG differs from its checksum, it is damaged; {_AGAIN}", offset=30)
    if kind & 0xE0:
        raise UnsupportedError(f"kind {kind:#04x} of JPEG is unknown; update dlpr-wsi", offset=24)
    sampling, phase, channels = (1 + (kind >> 1 & 1), 1 + (kind >> 2 & 1)), (at >> 4, at & 15), header.layout.channels
    impossible: list[tuple[bool, int, str]] = [
        (bool(kind & 1) and channels == 1, 24, "a colour transform with one channel"),
        (bool(kind & 6) and not kind & 1, 24, "subsampling without colour transform"),
        (bool(kind & 24) and not kind & 6, 24, "a choice of upsampling without subsampling"),
        (phase[0] >= 8 * sampling[0] or phase[1] >= 8 * sampling[1], 25, f"phase {phase}"),
        (a < channels + 1, 26, f"a lossy part of {a} bytes"),
    ]
    for wrong, offset, what in impossible:
        if wrong:
            raise CorruptError(f"{what} cannot be; {_FAULTY}", offset=offset)
    payload = JpegPayload(
        ColourTransform(kind & 1),
        sampling,
        Upsampling(kind >> 3 & 1),
        bool(kind & 16),
        phase,
        view[JPEG_SIZE:end],
        b"",
    )
    return payload, end


def _parse_coded(view: memoryview, header: Header) -> CodedPayload:
    """Read section 3."""
    payload, linear_size = _parse_coded_fields(view, header)
    start = CODED_SIZE + len(payload.lossy_part)
    table = start + linear_size
    rows, columns = patch_grid(header, payload.patch_exp)
    count, per_patch = rows * columns << payload.lane_exp, 1 << payload.lane_exp
    if len(view) < table + 5 * count:  # each lane: at least one byte in the table and four of its own
        _truncated(f"the linear part and {count} lanes need {table + 5 * count} bytes at least", view)
    sizes, first = _lane_table(view, table, count)
    cuts = [first, *(first + np.cumsum(sizes, dtype=np.int64)).tolist()]
    _check_end(view, cuts[-1])
    if min(sizes) < 4:
        raise CorruptError(f"a lane below 4 bytes cannot be; {_FAULTY}", offset=table)
    lanes = [view[a:b] for a, b in pairwise(cuts)]
    return replace(
        payload,
        linear_part=view[start:table],
        lanes=tuple(tuple(lanes[i : i + per_patch]) for i in range(0, count, per_patch)),
    )


def _lane_table(view: memoryview, at: int, count: int) -> tuple[list[int], int]:
    """Read `count` varints; also where they end."""
    sizes: list[int] = []
    for _ in range(count):
        size, shift, byte = 0, 0, 128
        while byte & 128:
            if at >= len(view):
                _truncated("the lane table goes on", view)
            byte = view[at]
            size |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if size >> 32 or shift > 35 or (byte == 0 and shift > 7):
                raise CorruptError(f"a lane length beyond 32 bits or with redundant bytes; {_FAULTY}", offset=at - 1)
        sizes.append(size)
    return sizes, at


# ---- pack -----------------------------------------------------------------------------------------------


def pack(stream: Stream) -> bytes:
    r"""Write a stream; the inverse of `parse`.

    Parameters
    ----------
    stream : Stream
        Fields in their ranges; the checksums of the bytes are computed here.

    Returns
    -------
    bytes

    Raises
    ------
    CorruptError
        A field does not fit its width: the caller is at fault. `parse` checks the rest.

    Examples
    --------
    >>> layout, height, width = Layout.of((2, 2))
    >>> header = Header(Mode.CONSTANT, 0, layout, height, width, crc32c(b"\xff" * 4, 0))
    >>> data = pack(Stream(header, b"\xff"))
    >>> len(data), parse(data).header == header
    (25, True)
    """
    h, payload = stream.header, stream.payload
    layout = h.layout.axes | h.layout.leading << 2 | (32 if h.layout.channels == 1 else 0)
    try:
        out = bytearray(_HEADER.pack(MAGIC, VERSION, h.mode, h.tau, layout, h.height, h.width, h.pixel_crc, 0))
        if isinstance(payload, CodedPayload):
            _pack_coded(out, payload)
        elif isinstance(payload, JpegPayload):
            _pack_jpeg(out, payload)
        else:
            out += payload
    except struct.error as error:
        raise CorruptError(f"cannot pack: a field does not fit its width ({error})") from None
    struct.pack_into("<I", out, 20, crc32c(out[HEADER_SIZE:], crc32c(out[:20], 0)))
    return bytes(out)


def _pack_coded(out: bytearray, p: CodedPayload) -> None:
    """Append section 3."""
    flags, a, b = p.lossy | p.anchor_lossy << 1, len(p.lossy_part), len(p.linear_part)
    out += _CODED.pack(p.weights_id, flags, p.patch_exp, p.lane_exp, p.bank_entry, p.interval, bytes(p.base), a, b, 0)
    out += p.lossy_part
    struct.pack_into("<I", out, 48, _lossy_crc(memoryview(bytes(out)), CODED_SIZE, a))
    lanes = [lane for patch in p.lanes for lane in patch]
    out += b"".join([p.linear_part, *map(_varint, map(len, lanes)), *lanes])


def _pack_jpeg(out: bytearray, p: JpegPayload) -> None:
    """Append section 15."""
    kind = p.transform | (p.sampling[0] - 1) << 1 | (p.sampling[1] - 1) << 2 | p.upsampling << 3 | p.crop_edges << 4
    out += _JPEG.pack(kind, p.phase[0] << 4 | p.phase[1], len(p.lossy_part), 0)
    out += p.lossy_part
    struct.pack_into("<I", out, 30, _lossy_crc(memoryview(bytes(out)), JPEG_SIZE, len(p.lossy_part)))
    out += p.residual_part


def _varint(value: int) -> bytes:
    """LEB128."""
    digits = bytearray()
    rest = value
    while rest > 127:
        digits.append(rest & 127 | 128)
        rest >>= 7
    digits.append(rest)
    return bytes(digits)


def coded_size(part: Mapping[str, Any]) -> int:
    """Size in bytes of a coded stream made of ``lossy_part``, ``linear_part`` and lanes of ``lane_sizes``."""
    sizes: Iterable[int] = part["lane_sizes"]
    lanes = sum(size + max(1, -(-int(size).bit_length() // 7)) for size in sizes)
    return CODED_SIZE + len(part["lossy_part"]) + len(part["linear_part"]) + lanes
