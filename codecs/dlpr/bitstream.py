"""Pack and parse streams (docs/format section 2): bytes to fields and back, no arithmetic of the codec.

::

    bytes --parse--> Stream(header, payload) --pack--> bytes
                            |        +-- packed and parsed by the mode that the header names (modes/table.py)
                            +-- mode, tau, layout, H, W, checksum of the samples (frame.py)

Every limit is checked before anything is allocated; what `parse` returns are slices of its argument.
"""

from __future__ import annotations

import struct

from dlpr.arrays import Buffer
from dlpr.errors import ChecksumError, CorruptError, UnsupportedError
from dlpr.frame import AGAIN, FAULTY, HEADER_SIZE, Header, Mode, Stream, check_pixels, crc32c, truncated
from dlpr.layout import MAX_PIXELS, Axes, Layout
from dlpr.modes.table import MODES

__all__ = ["HEADER_SIZE", "Header", "Mode", "Stream", "check_pixels", "crc32c", "pack", "parse", "parse_lossy"]

MAGIC = b"DLPR"
VERSION = 3

_HEADER = struct.Struct("<4sBBBBIIII")


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
        raise ChecksumError(f"the stream differs from its checksum, it is damaged or cut short; {AGAIN}", offset=20)
    return Stream(header, MODES[header.mode].parse(view, header))


def parse_lossy(prefix: Buffer) -> Stream:
    """Read what the lossy layer needs from the bytes of a stream up to its end, or more of them.

    Parameters
    ----------
    prefix : bytes-like
        The stream, or its beginning. Streams of a mode without lossy layer must be complete.

    Returns
    -------
    Stream
        Without what follows the lossy part; complete in a mode without lossy layer.

    Raises
    ------
    BitstreamError
        As `parse`; `UnsupportedError` if the stream has no lossy layer.
    """
    view = memoryview(prefix).cast("B")
    header = _parse_header(view)
    payload = MODES[header.mode].parse_lossy(view, header)
    return parse(prefix) if payload is None else Stream(header, payload)


def _parse_header(view: memoryview) -> Header:
    """Read section 2 up to the payload, without the checksum."""
    if len(view) < HEADER_SIZE:
        truncated(f"a stream has at least {HEADER_SIZE} bytes", view)
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
        raise CorruptError(f"axes height, width with three channels; {FAULTY}", offset=7)
    if height == 0 or width == 0:
        raise CorruptError(f"a chunk of {width} x {height} px; {FAULTY}", offset=8)
    if height * width > MAX_PIXELS:
        raise UnsupportedError(f"{width} x {height} px is above the limit of {MAX_PIXELS} px", offset=8)
    return Header(Mode(mode), tau, Layout(Axes(axes), leading, 1 if gray else 3), height, width, pixel_crc)


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
        MODES[h.mode].pack(out, payload)
    except struct.error as error:
        raise CorruptError(f"cannot pack: a field does not fit its width ({error})") from None
    struct.pack_into("<I", out, 20, crc32c(out[HEADER_SIZE:], crc32c(out[:20], 0)))
    return bytes(out)
