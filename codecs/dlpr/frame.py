"""The frame of every stream (docs/format section 2): header, checksums, and what the modes' parsers share.

`bitstream.py` reads and writes it; each mode in ``modes/`` packs and parses what follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, NoReturn, cast

import numpy as np
import numpy.typing as npt

from dlpr.arrays import Bytes8
from dlpr.errors import ChecksumError, CorruptError, TruncatedError
from dlpr.layout import Layout

try:
    from dlpr._native import crc32c as _native_crc32c
except ImportError:  # a tree without the extension: the reference still works
    from dlpr.crc import crc32c as _native_crc32c

__all__ = [
    "AGAIN",
    "FAULTY",
    "HEADER_SIZE",
    "Header",
    "Mode",
    "Stream",
    "check_end",
    "check_pixels",
    "crc32c",
    "finished",
    "lossy_crc",
    "truncated",
]

crc32c = cast("Callable[[Any, int], int]", _native_crc32c)

HEADER_SIZE = 24
"""Bytes before the payload."""
FAULTY = "the stream's encoder is faulty"
AGAIN = "fetch all of the stream again"


class Mode(IntEnum):
    """How the samples are carried."""

    CODED = 0
    CONSTANT = 1
    STORED = 2
    JPEG = 3
    COLOUR = 4
    J2K = 5


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
class Stream:
    """A parsed stream."""

    header: Header
    payload: object
    """Fields of the mode's part; bytes in the modes constant and stored."""


def finished(header: Header, mode: Mode, array: Bytes8) -> Header:
    """Fill in mode and checksum of a chunk's header.

    Parameters
    ----------
    header : Header
    mode : Mode
    array : numpy.ndarray
        What the decoder will give, uint8, shaped as ``header.shape``.
    """
    return replace(header, mode=mode, pixel_crc=crc32c(array, 0))


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


def truncated(what: str, view: memoryview) -> NoReturn:
    """Raise for bytes that are missing; ``what`` says what there should be."""
    raise TruncatedError(f"{what}, here are {len(view)} bytes; {AGAIN}", offset=len(view))


def check_end(view: memoryview, end: int) -> None:
    """Refuse a stream that does not end where its fields say."""
    if len(view) < end:
        truncated(f"the stream has {end} bytes", view)
    if len(view) > end:
        raise CorruptError(f"{len(view) - end} bytes follow the end of the stream; cut them off", offset=end)


def lossy_crc(view: memoryview, start: int, size: int) -> int:
    """Compute the checksum before a lossy part: of bytes 0..15, 24 up to the checksum, and the lossy part."""
    return crc32c(view[start : start + size], crc32c(view[24 : start - 4], crc32c(view[:16], 0)))
