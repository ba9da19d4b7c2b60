"""Columns of whole numbers as bytes that zstd makes small, and the reader of such bytes that trusts none of them.

A column is its values as little-endian numbers of 1, 2, 4 or 8 bytes, the first bytes of all values, then the second
ones, and so on. Signed values are folded: 0, -1, 1, -2, 2 become 0, 1, 2, 3, 4.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import ArchiveError

__all__ = ["ColumnReader", "pack_bytes", "pack_column", "pack_signed"]

I64 = NDArray[np.int64]
_WIDTHS = (1, 2, 4, 8)


def pack_column(values: I64) -> bytes:
    """Return values from 0 to 2**63 - 1: a byte with their width, then the planes of bytes.

    Examples
    --------
    >>> pack_column(np.array([1, 300])).hex()
    '02012c0001'
    """
    most = int(values.max(initial=0))
    width = next(width for width in _WIDTHS if most < 1 << 8 * width)
    planes = values.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width]
    return bytes([width]) + np.ascontiguousarray(planes.T).tobytes()


def pack_signed(values: I64) -> bytes:
    """Return values of either sign, folded."""
    return pack_column((values << 1) ^ (values >> 63))


def pack_bytes(data: bytes) -> bytes:
    """Return some bytes behind their number."""
    return struct.pack("<Q", len(data)) + data


class ColumnReader:
    """Reads what the functions above wrote, one after another.

    Parameters
    ----------
    data : bytes
        All of it.
    name : str
        Of the archive, for messages.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        From every method: the bytes end early, or are nothing of the kind.
    """

    def __init__(self, data: bytes | bytearray, name: str) -> None:
        self._data = memoryview(data)
        self._name = name
        self._at = 0

    def damaged(self, what: str) -> ArchiveError:
        """Return the error that says so."""
        return ArchiveError(f"{self._name}: the list of the slide's bytes is damaged ({what})")

    def take(self, size: int) -> memoryview:
        """Return the next bytes."""
        if size < 0 or size > len(self._data) - self._at:
            raise self.damaged("it ends early")
        self._at += size
        return self._data[self._at - size : self._at]

    def numbers(self, form: str) -> tuple[int, ...]:
        """Return fields of a fixed form, as `struct` names it."""
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def blob(self, limit: int) -> bytes:
        """Return some bytes behind their number."""
        (size,) = self.numbers("<Q")
        if size > limit:
            raise self.damaged(f"a field of {size} bytes")
        return bytes(self.take(size))

    def column(self, count: int, most: int) -> I64:
        """Return so many values, each at most ``most``, below 2**62."""
        (width,) = self.take(1)
        if width not in _WIDTHS:
            raise self.damaged(f"numbers of {width} bytes")
        planes = np.frombuffer(self.take(width * count), np.uint8).reshape(width, count)
        whole = np.zeros((count, 8), np.uint8)
        whole[:, :width] = planes.T
        values = whole.view("<u8").reshape(count)
        if count and int(values.max()) > most:
            raise self.damaged(f"a number above {most}")
        return values.astype(np.int64)

    def signed(self, count: int, most: int) -> I64:
        """Return so many values of either sign, each of a magnitude of at most ``most``, below 2**61."""
        folded = self.column(count, 2 * most)
        return (folded >> 1) ^ -(folded & 1)

    def end(self) -> None:
        """Raise unless everything was read."""
        if self._at != len(self._data):
            raise self.damaged("it does not end where it should")
