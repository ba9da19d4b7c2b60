"""CRC32C (docs/format section 2) in NumPy: the twin of ``dlpr._native.crc32c``."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dlpr.arrays import Buffer

_POLYNOMIAL = 0x82F63B78
_SHORT = 512  # bytes; below, one loop is quicker than many rows


@lru_cache(maxsize=1)
def _table() -> npt.NDArray[np.uint32]:
    """CRC of each byte value, without initial value and final xor."""
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & 1, crc >> 1 ^ np.uint32(_POLYNOMIAL), crc >> 1)
    return crc


@lru_cache(maxsize=1)
def _table_list() -> list[int]:
    """Return the same table as Python integers."""
    return [int(v) for v in _table()]


def _update(crc: int, data: bytes) -> int:
    """Byte by byte."""
    table = _table_list()
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


@lru_cache(maxsize=16)
def _advance_columns(zeros: int) -> tuple[int, ...]:
    """Find what `zeros` zero bytes make of each bit of the register (the map is linear over GF(2))."""
    basis = np.uint32(1) << np.arange(32, dtype=np.uint32)
    table = _table()
    for _ in range(zeros):
        basis = basis >> np.uint32(8) ^ table[basis & np.uint32(0xFF)]
    return tuple(int(v) for v in basis)


def _advance(crc: int, columns: tuple[int, ...]) -> int:
    """Push a register over as many zero bytes as `columns` stands for."""
    out = 0
    for bit, column in enumerate(columns):
        if crc >> bit & 1:
            out ^= column
    return out


def crc32c(buffer: Buffer, value: int = 0) -> int:
    """CRC32C of a buffer, continued from ``value``.

    Parameters
    ----------
    buffer : bytes-like
        Contiguous bytes.
    value : int
        CRC32C of what came before; 0 to begin.

    Returns
    -------
    int
        0 to 2**32 - 1.

    Examples
    --------
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    >>> crc32c(b"6789", crc32c(b"12345")) == crc32c(b"123456789")
    True
    """
    data = np.frombuffer(buffer, np.uint8)
    crc = value ^ 0xFFFFFFFF
    if len(data) >= _SHORT:  # rows of one length side by side, then joined: the register is linear in rows
        length = max(_SHORT // 8, 1 << (len(data).bit_length() // 2))
        rows = data[: len(data) // length * length].reshape(-1, length)
        table, state = _table(), np.zeros(len(rows), np.uint32)
        for column in np.ascontiguousarray(rows.T):
            state = state >> np.uint32(8) ^ table[(state ^ column) & np.uint32(0xFF)]
        columns = _advance_columns(length)
        for row in state.tolist():
            crc = _advance(crc, columns) ^ row
        data = data[rows.size :]
    return _update(crc, data.tobytes()) ^ 0xFFFFFFFF
