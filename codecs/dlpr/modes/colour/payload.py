"""What follows the frame in a stream of mode colour (docs/format/colour-layer.md C1): fields to bytes and back."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dlpr.arrays import Buffer, Bytes8
from dlpr.errors import CorruptError, UnsupportedError
from dlpr.frame import FAULTY, HEADER_SIZE, Header, Mode, Stream, truncated
from dlpr.layout import Axes, Layout
from dlpr.modes.colour.chroma import ChromaShape, Filter
from dlpr.modes.colour.lattice import MATRICES, MAX_STEP, Lattice, Products, Rounding
from dlpr.modes.jpeg.fields import ColourTransform, Upsampling
from dlpr.modes.jpeg.payload import JpegPayload
from dlpr.modes.networks.payload import CodedPayload, check_lanes, pack_lanes, parse_lanes, parse_varint, varint

__all__ = [
    "COLOUR_SIZE",
    "ColourPayload",
    "Plane",
    "joint_image",
    "jpeg_plane",
    "pack",
    "pack_plane",
    "parse",
    "payload_of",
    "plane_headers",
    "plane_streams",
    "three_planes",
]

COLOUR_SIZE = 36
"""Bytes before the planes, or before the matrix where it has no number."""

_COLOUR = struct.Struct("<BBBB8s")
_MATRIX = struct.Struct("<HiiiiiB")

JPEG_KIND = 1
"""Kind of a plane that is kept as the JPEG it was decoded from; 0 is one value, all others name patches and lanes."""

Plane = CodedPayload | JpegPayload | int
"""A coded plane; the JPEG of one component that it was decoded from, and a residual; or the value of all samples."""


@dataclass(frozen=True)
class ColourPayload:
    """The chunk as three planes and a residual."""

    lattice: Lattice
    shape: ChromaShape
    taus: tuple[int, int]
    """Bound on the error of luma's and of chroma's samples."""
    weights_id: bytes
    """Of all coded planes."""
    planes: tuple[Plane, ...]
    """Luma, Cb, Cr; or one image of three channels, coded in the order luma, Cr, Cb."""
    residual_part: Buffer

    @property
    def joint(self) -> bool:
        """The planes are one image."""
        return len(self.planes) == 1


def payload_of(stream: Stream) -> ColourPayload:
    """Return the payload of a stream of mode colour.

    Raises
    ------
    UnsupportedError
        The stream is of another mode.
    """
    if not isinstance(stream.payload, ColourPayload):
        raise UnsupportedError(f"mode {stream.header.mode.name.lower()} has no colour layer; use `decode`", offset=5)
    return stream.payload


def plane_headers(header: Header, shape: ChromaShape, taus: tuple[int, int], joint: bool) -> list[Header]:
    """Headers of the planes as chunks of mode coded; without checksums."""
    if joint:
        return [Header(Mode.CODED, taus[0], Layout(Axes.HWC, 0, 3), header.height, header.width, 0)]
    grey = Layout(Axes.HW, 0, 1)
    luma = Header(Mode.CODED, taus[0], grey, header.height, header.width, 0)
    rows, columns = shape.size(header.height, header.width)
    chroma = Header(Mode.CODED, taus[1], grey, rows, columns, 0)
    return [luma, chroma, chroma]


def plane_streams(stream: Stream) -> list[Stream | tuple[Header, int]]:
    """The planes of a stream: streams of mode coded or jpeg, or a header and the value of all samples."""
    p = payload_of(stream)
    out: list[Stream | tuple[Header, int]] = []
    for header, plane in zip(plane_headers(stream.header, p.shape, p.taus, p.joint), p.planes, strict=True):
        if isinstance(plane, int):
            out.append((header, plane))
        else:
            mode = Mode.JPEG if isinstance(plane, JpegPayload) else Mode.CODED
            out.append(Stream(replace(header, mode=mode), plane))
    return out


def three_planes(decoded: Sequence[Bytes8]) -> tuple[Bytes8, Bytes8, Bytes8]:
    """Luma, Cb, Cr from arrays [H, W, channels] in coding order, one for each of `plane_streams`."""
    if len(decoded) == 1:
        luma, cr, cb = (np.ascontiguousarray(decoded[0][..., c]) for c in range(3))
        return luma, cb, cr
    luma, cb, cr = (np.ascontiguousarray(x[..., 0]) for x in decoded)
    return luma, cb, cr


def joint_image(planes: Sequence[Bytes8]) -> Bytes8:
    """One image in coding order from luma, Cb, Cr at full size."""
    return np.ascontiguousarray(np.stack([planes[0], planes[2], planes[1]], -1))


# ---- parse ----------------------------------------------------------------------------------------------


def parse(view: memoryview, header: Header) -> ColourPayload:
    """Read C1; the parts are slices of ``view``.

    Raises
    ------
    BitstreamError
        A field that no encoder writes, or bytes that are missing. Nothing is allocated before.
    """
    if len(view) < COLOUR_SIZE:
        truncated(f"a stream of mode colour has at least {COLOUR_SIZE} bytes", view)
    if header.layout.channels != 3:
        raise CorruptError(f"a colour layer with one channel cannot be; {FAULTY}", offset=5)
    kind, chroma, tau_luma, tau_chroma, weights_id = _COLOUR.unpack_from(view, HEADER_SIZE)
    lattice, at = _parse_lattice(view, kind)
    shape, joint = _parse_shape(chroma)
    taus = (tau_luma, tau_chroma)
    if joint and tau_luma != tau_chroma:
        raise CorruptError(f"two bounds of one image cannot be; {FAULTY}", offset=27)
    planes: list[Plane] = []
    for plane_header in plane_headers(header, shape, taus, joint):
        plane, at = _parse_plane(view, at, plane_header, weights_id)
        planes.append(plane)
    return ColourPayload(lattice, shape, taus, weights_id, tuple(planes), view[at:])


def _parse_lattice(view: memoryview, kind: int) -> tuple[Lattice, int]:
    """Read the lattice; also where it ends."""
    number, rounding, products = kind & 15, Rounding(kind >> 4 & 3), kind >> 6
    if products > max(Products):
        raise UnsupportedError(f"products {products} of a colour layer are unknown; update dlpr-wsi", offset=24)
    if number > len(MATRICES):
        raise UnsupportedError(f"matrix {number} of a colour layer is unknown; update dlpr-wsi", offset=24)
    if number:
        return replace(MATRICES[number - 1], rounding=rounding, products=Products(products)), COLOUR_SIZE
    end = COLOUR_SIZE + _MATRIX.size
    if len(view) < end:
        truncated(f"the matrix ends at byte {end}", view)
    denominator, luma, red, blue, green_blue, green_red, offset = _MATRIX.unpack_from(view, COLOUR_SIZE)
    if max(map(abs, (luma, red, blue, green_blue, green_red))) > MAX_STEP:
        raise CorruptError(f"a step above {MAX_STEP} cannot be; {FAULTY}", offset=COLOUR_SIZE + 2)
    steps = Lattice(denominator + 1, luma, red, blue, green_blue, green_red, offset)
    return replace(steps, rounding=rounding, products=Products(products)), end


def _parse_shape(chroma: int) -> tuple[ChromaShape, bool]:
    """Read size and filter of the chroma planes, and whether all planes are one image."""
    if chroma & 0x80:
        raise UnsupportedError(f"chroma {chroma:#04x} of a colour layer is unknown; update dlpr-wsi", offset=25)
    bits = [chroma >> i & 1 for i in range(2, 7)]
    kind, vertical, horizontal, row, column, joint = Filter(chroma & 3), *bits
    full = not vertical and not horizontal
    if (kind is Filter.NONE) != full or row > vertical or column > horizontal or (joint and not full):
        raise CorruptError(f"chroma {chroma:#04x} of a colour layer cannot be; {FAULTY}", offset=25)
    return ChromaShape(kind, 1 + vertical, 1 + horizontal, row, column), bool(joint)


def _parse_plane(view: memoryview, at: int, header: Header, weights_id: bytes) -> tuple[Plane, int]:
    """Read one plane, or the image of all; also where it ends."""
    channels = header.layout.channels
    if len(view) < at + 2:
        truncated("a plane goes on", view)
    kind, first = view[at], view[at + 1]
    if kind == 0 and channels == 1:
        return first, at + 2
    if kind == JPEG_KIND and channels == 1:
        return _parse_jpeg(view, at + 1)
    patch_exp, lane_exp = kind & 15, kind >> 4
    if not 5 <= patch_exp <= 8 or lane_exp > 5:
        raise CorruptError(f"a plane of kind {kind:#04x} cannot be; {FAULTY}", offset=at)
    end = at + 3 + channels
    if len(view) < end:
        truncated("a plane goes on", view)
    interval, base = view[at + 2], (*view[at + 3 : end],) * (3 // channels)
    if interval == 0:
        raise CorruptError(f"interval 0 cannot be; {FAULTY}", offset=at + 2)
    size, start = parse_varint(view, end)
    if len(view) < start + size:
        truncated(f"the linear part ends at byte {start + size}", view)
    lanes, end = parse_lanes(view, start + size, header, patch_exp, lane_exp)
    check_lanes(lanes, start + size)
    linear, colour = view[start : start + size], (base[0], base[1], base[2])
    return CodedPayload(weights_id, False, False, patch_exp, lane_exp, first, interval, colour, b"", linear, lanes), end


def _parse_jpeg(view: memoryview, at: int) -> tuple[JpegPayload, int]:
    """Read a plane that is kept as a JPEG, behind its kind; also where it ends."""
    phase = view[at]
    if phase >= 64:
        raise CorruptError(f"a plane at place {phase} of a block cannot be; {FAULTY}", offset=at)
    parts = []
    start = at + 1
    for what, least in (("coefficients", 2), ("residual", 0)):
        size, begin = parse_varint(view, start)
        if size < least:
            raise CorruptError(f"{size} bytes of a plane's {what} cannot be; {FAULTY}", offset=start)
        start = begin + size
        if len(view) < start:
            truncated(f"a plane's {what} end at byte {start}", view)
        parts.append(view[begin:start])
    return jpeg_plane((phase >> 3, phase & 7), *parts), start


def jpeg_plane(phase: tuple[int, int], lossy: Buffer, residual: Buffer) -> JpegPayload:
    """Fields of a plane that is kept as a JPEG of one component."""
    return JpegPayload(ColourTransform.NONE, (1, 1), Upsampling.FANCY, False, phase, lossy, residual)


# ---- pack -----------------------------------------------------------------------------------------------


def pack(out: bytearray, p: ColourPayload) -> None:
    """Append C1 to a stream's header."""
    number, lattice, s = p.lattice.number, p.lattice, p.shape
    chroma = s.filter | (s.vertical - 1) << 2 | (s.horizontal - 1) << 3 | s.row << 4 | s.column << 5 | p.joint << 6
    out += _COLOUR.pack(number | lattice.rounding << 4 | lattice.products << 6, chroma, *p.taus, p.weights_id)
    if not number:
        steps = (lattice.luma, lattice.red, lattice.blue, lattice.green_blue, lattice.green_red)
        out += _MATRIX.pack(lattice.denominator - 1, *steps, lattice.offset)
    for plane in p.planes:
        pack_plane(out, plane, p.joint)
    out += p.residual_part


def pack_plane(out: bytearray, plane: Plane, joint: bool) -> None:
    """Append one plane, or the image of all."""
    if isinstance(plane, int):
        out += bytes((0, plane))
        return
    if isinstance(plane, JpegPayload):
        out += bytes((JPEG_KIND, plane.phase[0] << 3 | plane.phase[1]))
        for part in (plane.lossy_part, plane.residual_part):
            out += varint(len(part))
            out += part
        return
    out += bytes((plane.patch_exp | plane.lane_exp << 4, plane.bank_entry, plane.interval))
    out += bytes(plane.base if joint else plane.base[:1])
    out += varint(len(plane.linear_part))
    out += plane.linear_part
    pack_lanes(out, plane.lanes)
