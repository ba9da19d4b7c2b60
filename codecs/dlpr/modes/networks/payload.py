"""What follows the frame in a coded stream (docs/format section 3): fields to bytes and back, no arithmetic."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from dlpr.arrays import Buffer
from dlpr.errors import ChecksumError, CorruptError, UnsupportedError
from dlpr.frame import AGAIN, FAULTY, HEADER_SIZE, Header, Stream, check_end, lossy_crc, truncated

__all__ = [
    "CODED_SIZE",
    "MAX_LOSSY_BLOCKS",
    "CodedPayload",
    "check_lanes",
    "coded_size",
    "pack",
    "pack_lanes",
    "parse",
    "parse_lanes",
    "parse_lossy",
    "parse_varint",
    "patch_grid",
    "payload_of",
    "varint",
]

CODED_SIZE = 52
"""Bytes before the lossy part of a coded stream."""
MAX_LOSSY_BLOCKS = 1 << 14
"""Largest number of 64-pixel blocks of a chunk with a lossy layer."""

_CODED = struct.Struct("<8sBBBBB3sIII")


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


def patch_grid(header: Header, patch_exp: int) -> tuple[int, int]:
    """Rows and columns of patches of a chunk."""
    return -(-header.height >> patch_exp), -(-header.width >> patch_exp)


def payload_of(stream: Stream) -> CodedPayload:
    """Return the payload of a coded stream.

    Raises
    ------
    UnsupportedError
        The stream is of another mode.
    """
    if not isinstance(stream.payload, CodedPayload):
        raise UnsupportedError(f"mode {stream.header.mode.name.lower()} has no coded payload; use `decode`", offset=5)
    return stream.payload


def parse(view: memoryview, header: Header) -> CodedPayload:
    """Read section 3; the parts are slices of ``view``."""
    payload, linear_size = _parse_fields(view, header)
    start = CODED_SIZE + len(payload.lossy_part)
    table = start + linear_size
    lanes, end = parse_lanes(view, table, header, payload.patch_exp, payload.lane_exp)
    check_end(view, end)
    check_lanes(lanes, table)
    return replace(payload, linear_part=view[start:table], lanes=lanes)


def parse_lanes(
    view: memoryview, at: int, header: Header, patch_exp: int, lane_exp: int
) -> tuple[tuple[tuple[Buffer, ...], ...], int]:
    """Read a lane table and its lanes.

    Parameters
    ----------
    view : memoryview
        The stream.
    at : int
        Where the table begins.
    header : Header
        Height and width of what was coded.
    patch_exp, lane_exp : int

    Returns
    -------
    tuple
        Lanes of each patch, slices of ``view``; where they end.

    Raises
    ------
    BitstreamError
        The view is too short, or a length that no encoder writes.
    """
    rows, columns = patch_grid(header, patch_exp)
    count, per_patch = rows * columns << lane_exp, 1 << lane_exp
    if len(view) < at + 5 * count:  # each lane: at least one byte in the table and four of its own
        truncated(f"{count} lanes need {at + 5 * count} bytes at least", view)
    sizes, first = _lane_table(view, at, count)
    cuts = [first, *(first + np.cumsum(sizes, dtype=np.int64)).tolist()]
    if len(view) < cuts[-1]:
        truncated(f"the lanes end at byte {cuts[-1]}", view)
    lanes = [view[a:b] for a, b in pairwise(cuts)]
    return tuple(tuple(lanes[i : i + per_patch]) for i in range(0, count, per_patch)), cuts[-1]


def check_lanes(lanes: Iterable[Iterable[Buffer]], at: int) -> None:
    """Refuse lanes that are too short to be any; their table stands at ``at``."""
    if any(len(lane) < 4 for patch in lanes for lane in patch):
        raise CorruptError(f"a lane below 4 bytes cannot be; {FAULTY}", offset=at)


def parse_lossy(view: memoryview, header: Header) -> CodedPayload:
    """Read section 3 up to the end of the lossy part, which ``view`` may end with.

    Raises
    ------
    BitstreamError
        As `parse`; `UnsupportedError` if there is no lossy layer.
    """
    payload, _ = _parse_fields(view, header)
    if not payload.lossy:
        raise UnsupportedError("the stream has no lossy layer; decode all of it instead", offset=32)
    return payload


def _parse_fields(view: memoryview, header: Header) -> tuple[CodedPayload, int]:
    """Read section 3 up to the end of the lossy part; also the size of the linear part."""
    if len(view) < CODED_SIZE:
        truncated(f"a coded stream has at least {CODED_SIZE} bytes", view)
    weights_id, flags, patch_exp, lane_exp, entry, interval, base, a, b, crc = _CODED.unpack_from(view, HEADER_SIZE)
    if len(view) < CODED_SIZE + a:
        truncated(f"the lossy part ends at byte {CODED_SIZE + a}", view)
    if lossy_crc(view, CODED_SIZE, a) != crc:
        raise ChecksumError(f"the lossy layer differs from its checksum, it is damaged; {AGAIN}", offset=48)
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
            raise CorruptError(f"{what} cannot be; {FAULTY}", offset=offset)
    if lossy and -(-header.height // 64) * -(-header.width // 64) > MAX_LOSSY_BLOCKS:
        limit = "above the limit of a chunk with a lossy layer"
        raise UnsupportedError(f"{header.width} x {header.height} px is {limit}", offset=8)
    part = view[CODED_SIZE : CODED_SIZE + a]
    colour = (base[0], base[1], base[2])
    payload = CodedPayload(weights_id, lossy, anchor_lossy, patch_exp, lane_exp, entry, interval, colour, part, b"", ())
    return payload, b


def _lane_table(view: memoryview, at: int, count: int) -> tuple[list[int], int]:
    """Read `count` varints; also where they end."""
    sizes: list[int] = []
    for _ in range(count):
        size, at = parse_varint(view, at)
        sizes.append(size)
    return sizes, at


def parse_varint(view: memoryview, at: int) -> tuple[int, int]:
    """Read a number of 32 bits at most in LEB128; also where it ends."""
    size, shift, byte = 0, 0, 128
    while byte & 128:
        if at >= len(view):
            truncated("a length goes on", view)
        byte = view[at]
        size |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if size >> 32 or shift > 35 or (byte == 0 and shift > 7):
            raise CorruptError(f"a length beyond 32 bits or with redundant bytes; {FAULTY}", offset=at - 1)
    return size, at


def pack(out: bytearray, p: CodedPayload) -> None:
    """Append section 3 to a stream's header."""
    flags, a, b = p.lossy | p.anchor_lossy << 1, len(p.lossy_part), len(p.linear_part)
    out += _CODED.pack(p.weights_id, flags, p.patch_exp, p.lane_exp, p.bank_entry, p.interval, bytes(p.base), a, b, 0)
    out += p.lossy_part
    struct.pack_into("<I", out, 48, lossy_crc(memoryview(bytes(out)), CODED_SIZE, a))
    out += p.linear_part
    pack_lanes(out, p.lanes)


def pack_lanes(out: bytearray, lanes: Iterable[Iterable[Buffer]]) -> None:
    """Append a lane table and the lanes of each patch."""
    flat = [lane for patch in lanes for lane in patch]
    out += b"".join([*map(varint, map(len, flat)), *flat])


def varint(value: int) -> bytes:
    """Write a number as LEB128."""
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
