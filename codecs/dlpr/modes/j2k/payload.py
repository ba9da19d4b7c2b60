"""What follows the frame in a stream of mode j2k (docs/format J1, J6): fields to bytes and back."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from dlpr.arrays import Buffer
from dlpr.errors import ChecksumError, CorruptError, UnsupportedError, UnsupportedInputError
from dlpr.frame import AGAIN, FAULTY, HEADER_SIZE, Header, Stream, lossy_crc, truncated
from dlpr.modes.j2k.fields import MAX_LEVELS, Colour, Component, Fields, Wavelet

__all__ = [
    "J2K_SIZE",
    "MAX_BANDS",
    "MAX_J2K_PIXELS",
    "J2kPayload",
    "is_taken",
    "pack",
    "parse",
    "parse_lossy",
    "payload_of",
]

J2K_SIZE = 33
"""Bytes before the lossy part of a stream of mode j2k."""
MAX_J2K_PIXELS = 1 << 24
"""Pixels of a chunk of mode j2k."""
MAX_BANDS = 1 << 16
"""Bands of all tiles and components."""

_J2K = struct.Struct("<BII")
_AREA = struct.Struct("<6I")
_WINDOW = struct.Struct("<10H")
TRANSFORM, YCBCR, ALIKE, PLAIN, WINDOW = 1, 2, 4, 8, 32
"""Bits of the kind: component transform; YCbCr behind it; components alike; image and tile are the chunk; the chunk is
a window of the image."""


@dataclass(frozen=True)
class J2kPayload:
    """The chunk as a JPEG 2000 image and a residual (J1)."""

    fields: Fields
    """The steps are in the lane: here they are 0."""
    lane: Buffer
    """Steps, passes and coefficients: the lossy part without its fields."""
    residual_part: Buffer
    lane_start: int = 0
    """First byte of the lane in the stream; written by `parse`."""


def payload_of(stream: Stream) -> J2kPayload:
    """Return the payload of a stream of mode j2k.

    Raises
    ------
    CorruptError
        The stream is of another mode.
    """
    if not isinstance(stream.payload, J2kPayload):
        raise CorruptError(
            f"mode {stream.header.mode.name.lower()} has no JPEG 2000 image; use `dlpr.decode`", offset=5
        )
    return stream.payload


def parse(view: memoryview, header: Header) -> J2kPayload:
    """Read J1; the parts are slices of ``view``."""
    payload, end = _parse_fields(view, header)
    return replace(payload, residual_part=view[end:])


def parse_lossy(view: memoryview, header: Header) -> J2kPayload:
    """Read J1 up to the end of the lossy part, which ``view`` may end with."""
    return _parse_fields(view, header)[0]


def _parse_fields(view: memoryview, header: Header) -> tuple[J2kPayload, int]:
    """Read J1 up to the end of the lossy part; also where that is."""
    if len(view) < J2K_SIZE:
        truncated(f"a stream of mode j2k has at least {J2K_SIZE} bytes", view)
    kind, a, crc = _J2K.unpack_from(view, HEADER_SIZE)
    end = J2K_SIZE + a
    if len(view) < end:
        truncated(f"the lossy part ends at byte {end}", view)
    if lossy_crc(view, J2K_SIZE, a) != crc:
        raise ChecksumError(f"the JPEG 2000 image differs from its checksum, it is damaged; {AGAIN}", offset=29)
    if kind & 0x10 or kind >> 6 == 3 or (kind >> 6 and not kind & YCBCR):
        raise UnsupportedError(f"kind {kind:#04x} of JPEG 2000 is unknown; update dlpr-wsi", offset=24)
    if header.height * header.width > MAX_J2K_PIXELS:
        raise UnsupportedError(f"{header.width} x {header.height} px are above the limit of mode j2k", offset=8)
    try:
        fields, start = _read_fields(bytes(view[J2K_SIZE : min(end, J2K_SIZE + 256)]), kind, header)
    except (struct.error, IndexError):
        raise CorruptError(f"a lossy part of {a} bytes cannot be; {FAULTY}", offset=25) from None
    except (UnsupportedInputError, ValueError) as error:
        raise CorruptError(f"{str(error).partition(':')[0]} cannot be; {FAULTY}", offset=J2K_SIZE) from None
    if not is_taken(fields):
        raise CorruptError(f"an image of {bands_of(fields)} bands cannot be; {FAULTY}", offset=J2K_SIZE)
    at = J2K_SIZE + start
    if at >= end:
        raise CorruptError(f"a lossy part of {a} bytes cannot be; {FAULTY}", offset=25)
    return J2kPayload(fields, view[at:end], b"", at), end


def bands_of(fields: Fields) -> int:
    """Count the bands of all tiles and components."""
    return fields.tile_rows * fields.tile_columns * sum(3 * c.levels + 1 for c in fields.components)


def is_taken(fields: Fields) -> bool:
    """Whether the mode takes an image of this size, and what its bytes hold says where it lies."""
    top, left, bottom, right = fields.area
    fit = (bottom - top) * (right - left) <= MAX_J2K_PIXELS and bands_of(fields) <= MAX_BANDS
    return fit and (fields.window is None or max(_window_numbers(fields)) < 1 << 16)


def _window_numbers(fields: Fields) -> tuple[int, ...]:
    """Return the numbers of a window's J1: the image, the chunk in it, the first tile."""
    (top, left, bottom, right), kept = fields.area, fields.kept
    return (top, left, bottom - top, right - left, kept[0] - top, kept[1] - left, *fields.tiles)


def _read_fields(data: bytes, kind: int, header: Header) -> tuple[Fields, int]:
    """Read the fields that a lossy part begins with; also their size."""
    at = 0
    area = (0, 0, header.height, header.width)
    tiles, window = area, None
    if kind & WINDOW:
        if kind & PLAIN:
            raise ValueError("a window that is the image")
        top, left, height, width, before, beside, *tile = _WINDOW.unpack_from(data)
        area, tiles = (top, left, top + height, left + width), (tile[0], tile[1], tile[2], tile[3])
        top, left = top + before, left + beside
        window = top, left, top + header.height, left + header.width
        at = _WINDOW.size
    elif not kind & PLAIN:
        top, left, *tile = _AREA.unpack_from(data)
        area = (top, left, top + header.height, left + header.width)
        tiles = (tile[0], tile[1], tile[2], tile[3])
        at = _AREA.size
    components: list[Component] = []
    channels = header.layout.channels
    for _ in range(1 if kind & ALIKE else channels):
        component, at = _read_component(data, at, window is not None)
        components.append(component)
    if kind & ALIKE:
        components *= channels
    return Fields(
        area, tiles, tuple(components), bool(kind & TRANSFORM), Colour((kind >> 6) + 1 if kind & YCBCR else 0), window
    ), at


def _read_component(data: bytes, at: int, window: bool) -> tuple[Component, int]:
    """Read one component at a place of the lossy part; also where it ends."""
    flags, levels, guard = data[at : at + 3]
    if (flags & 0x80 and not window) or levels > MAX_LEVELS or flags & 3 == 3 or flags & 12 == 12:
        raise ValueError(f"component {flags:#04x} with {levels} decompositions")
    at += 3
    points = 0
    if flags & 0x80:
        points, at = data[at], at + 1
        if not points:
            raise ValueError("neither points nor whole numbers")
    count = 1 if flags & 64 else levels + 1
    blocks = tuple((data[at + i] & 15, data[at + i] >> 4) for i in range(count))
    component = Component(
        (1 << (flags & 3), 1 << (flags >> 2 & 3)),
        Wavelet(flags >> 4 & 1),
        blocks * (levels + 1) if flags & 64 else blocks,
        ((0, 0),) * (3 * levels + 1),
        guard,
        bool(flags & 32),
        points & 127,
        bool(points & 128),
    )
    return component, at + count


def _write_component(component: Component) -> bytes:
    """Write one component; the inverse of `_read_component`."""
    same = len(set(component.blocks)) == 1
    v, h = (s.bit_length() - 1 for s in component.sampling)
    points = component.points | component.whole << 7
    flags = v | h << 2 | component.wavelet << 4 | component.causal << 5 | same << 6 | (points > 0) << 7
    blocks = [height | width << 4 for height, width in (component.blocks[:1] if same else component.blocks)]
    return bytes((flags, component.levels, component.guard, *((points,) if points else ()), *blocks))


def pack(out: bytearray, p: J2kPayload) -> None:
    """Append J1 to a stream's header."""
    f = p.fields
    written = [_write_component(c) for c in f.components]
    alike = len(set(written)) == 1
    plain = f.window is None and f.area[:2] == (0, 0) and f.tiles == f.area
    kind = TRANSFORM * f.transform | YCBCR * (f.colour > 0) | max(f.colour - 1, 0) << 6 | ALIKE * alike | PLAIN * plain
    if f.window is not None:
        kind |= WINDOW
        lossy = _WINDOW.pack(*_window_numbers(f))
    else:
        lossy = b"" if plain else _AREA.pack(*f.area[:2], *f.tiles)
    lossy += b"".join(written[:1] if alike else written) + bytes(p.lane)
    out += _J2K.pack(kind, len(lossy), 0)
    out += lossy
    struct.pack_into("<I", out, 29, lossy_crc(memoryview(bytes(out)), J2K_SIZE, len(lossy)))
    out += p.residual_part
