"""What follows the frame in a stream of mode jpeg (docs/format section 15): fields to bytes and back."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from dlpr.arrays import Buffer
from dlpr.errors import ChecksumError, CorruptError, UnsupportedError
from dlpr.frame import AGAIN, FAULTY, HEADER_SIZE, Header, Stream, lossy_crc, truncated
from dlpr.modes.jpeg.fields import ColourTransform, Upsampling

__all__ = ["JPEG_SIZE", "JpegPayload", "pack", "parse", "parse_lossy", "payload_of"]

JPEG_SIZE = 34
"""Bytes before the lossy part of a stream of mode jpeg, the name of a prior aside."""
PRIOR_SIZE = 8

_JPEG = struct.Struct("<BBII")


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
    prior: bytes = b""
    """Name of the prior, 8 bytes; empty where there is none."""

    @property
    def lossy_start(self) -> int:
        """First byte of the lossy part in the stream."""
        return JPEG_SIZE + len(self.prior)


def payload_of(stream: Stream) -> JpegPayload:
    """Return the payload of a stream of mode jpeg.

    Raises
    ------
    CorruptError
        The stream is of another mode.
    """
    if not isinstance(stream.payload, JpegPayload):
        raise CorruptError(f"mode {stream.header.mode.name.lower()} has no JPEG; use `dlpr.decode`", offset=5)
    return stream.payload


def parse(view: memoryview, header: Header) -> JpegPayload:
    """Read section 15; the parts are slices of ``view``."""
    payload, end = _parse_fields(view, header)
    return replace(payload, residual_part=view[end:])


def parse_lossy(view: memoryview, header: Header) -> JpegPayload:
    """Read section 15 up to the end of the lossy part, which ``view`` may end with."""
    return _parse_fields(view, header)[0]


def _parse_fields(view: memoryview, header: Header) -> tuple[JpegPayload, int]:
    """Read section 15 up to the end of the lossy part; also where that is."""
    if len(view) < JPEG_SIZE:
        truncated(f"a stream of mode jpeg has at least {JPEG_SIZE} bytes", view)
    kind, at, a, crc = _JPEG.unpack_from(view, HEADER_SIZE)
    start = JPEG_SIZE + (PRIOR_SIZE if kind & 32 else 0)
    end = start + a
    if len(view) < end:
        truncated(f"the lossy part ends at byte {end}", view)
    if lossy_crc(view, JPEG_SIZE, end - JPEG_SIZE) != crc:
        raise ChecksumError(f"the JPEG differs from its checksum, it is damaged; {AGAIN}", offset=30)
    if kind & 0xC0:
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
            raise CorruptError(f"{what} cannot be; {FAULTY}", offset=offset)
    payload = JpegPayload(
        ColourTransform(kind & 1),
        sampling,
        Upsampling(kind >> 3 & 1),
        bool(kind & 16),
        phase,
        view[start:end],
        b"",
        bytes(view[JPEG_SIZE:start]),
    )
    return payload, end


def pack(out: bytearray, p: JpegPayload) -> None:
    """Append section 15 to a stream's header."""
    kind = p.transform | (p.sampling[0] - 1) << 1 | (p.sampling[1] - 1) << 2 | p.upsampling << 3 | p.crop_edges << 4
    kind |= 32 if p.prior else 0
    out += _JPEG.pack(kind, p.phase[0] << 4 | p.phase[1], len(p.lossy_part), 0)
    out += p.prior
    out += p.lossy_part
    struct.pack_into("<I", out, 30, lossy_crc(memoryview(bytes(out)), JPEG_SIZE, len(p.prior) + len(p.lossy_part)))
    out += p.residual_part
