"""Hints: what neither a template nor a chunk's stream holds of a JPEG, in few bytes.

A hint is empty, or a byte of `Part` flags and the parts that it names, deflated where that is smaller:

=========== ============================================================================================
FLAT        the only value of each component's DC: a JPEG of one colour
WHOLE       all coefficients, as a stream of mode jpeg codes them
TABLES      quantisation tables, where the stream's are others
DIFFERENCES changes of the stream's coefficients
SPLICES     changes of the bytes made
=========== ============================================================================================

A stream holds the blocks of component 0 that show a pixel. Of the others, which fill up an MCU or lie outside of the
chunk, a JPEG is expected to have the DC of the block that is coded before, and no AC; so libjpeg writes them, and then
nothing need be said.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntFlag
from typing import TypeAlias

import numpy as np

from dlpr.errors import CorruptError
from dlpr.modes.jpeg.image import COEFFICIENT_MAX, Table
from dlpr.modes.jpeg.tables import TABLE_AGAIN, TABLE_EXPLICIT, standard_table

__all__ = ["Change", "Hint", "Part", "Splice", "pack_hint", "unpack_hint"]

Splice: TypeAlias = tuple[int, int, bytes]
"""Offset in the bytes made, how many are removed there, what is put in."""
Change: TypeAlias = tuple[int, int, int]
"""Block in the order of the scan, place in zigzag order, what is added."""

MOST_INFLATED = 1 << 26
"""Bytes of a hint."""


class Part(IntFlag):
    """What a hint holds."""

    FLAT = 1
    WHOLE = 2
    TABLES = 4
    DIFFERENCES = 8
    SPLICES = 16
    PRIOR = 32
    """WHOLE was coded with the slide's prior."""
    DEFLATED = 64


@dataclass(frozen=True, eq=False)
class Hint:
    """A hint's parts; None or empty where it lacks them."""

    flat: tuple[int, ...] | None = None
    """DC of each component."""
    whole: bytes | None = None
    tables: tuple[Table, ...] | None = None
    changes: tuple[list[Change], ...] = ()
    """Of each component."""
    splices: tuple[Splice, ...] = ()
    prior: bool = False

    @property
    def only_splices(self) -> bool:
        """Whether the coefficients are those of the stream."""
        return self.flat is None and self.whole is None and self.tables is None and not self.changes


def pack_hint(hint: Hint) -> bytes:
    """Write a hint: no bytes where it says nothing."""
    kind, body = Part(0), bytearray()
    if hint.tables is not None:
        kind |= Part.TABLES
        body += _table_bytes(hint.tables)
    if hint.flat is not None:
        kind |= Part.FLAT
        body += _varints(len(hint.flat), *(_unsigned(value) for value in hint.flat))
    if hint.whole is not None:
        kind |= Part.WHOLE | (Part.PRIOR if hint.prior else 0)
        body += _varints(len(hint.whole)) + hint.whole
    if hint.changes:
        kind |= Part.DIFFERENCES
        body.append(len(hint.changes))
        for changes in hint.changes:
            body += _change_bytes(changes)
    if hint.splices:
        kind |= Part.SPLICES
        body += _varints(len(hint.splices))
        end = 0
        for at, removed, inserted in hint.splices:
            body += _varints(at - end, removed, len(inserted)) + inserted
            end = at + removed
    if not kind:
        return b""
    small = zlib.compress(bytes(body), 9, wbits=-15)
    if len(small) < len(body):
        return bytes([kind | Part.DEFLATED]) + small
    return bytes([kind]) + bytes(body)


def _table_bytes(tables: tuple[Table, ...]) -> bytes:
    """A byte for each table, and the steps where it is no standard table."""
    out = bytearray([len(tables)])
    for c, table in enumerate(tables):
        if c and np.array_equal(table, tables[c - 1]):
            out.append(TABLE_AGAIN)
            continue
        code = next((n for n in range(1, TABLE_EXPLICIT) if np.array_equal(standard_table(n), table)), TABLE_EXPLICIT)
        out.append(code)
        if code == TABLE_EXPLICIT:
            out += table.astype(np.uint8).tobytes()
    return bytes(out)


def _change_bytes(changes: list[Change]) -> bytes:
    """Blocks that change, and the coefficients of each."""
    blocks: dict[int, list[tuple[int, int]]] = {}
    for at, place, value in changes:
        blocks.setdefault(at, []).append((place, value))
    out, end = bytearray(_varints(len(blocks))), 0
    for at, values in blocks.items():
        out += _varints(at - end, len(values) - 1)
        end, place = at + 1, 0
        for here, value in values:
            out += _varints(here - place, _unsigned(value))
            place = here + 1
    return bytes(out)


def _varints(*values: int) -> bytes:
    """Numbers of 7 bits a byte, the low ones first."""
    out = bytearray()
    for value in values:
        rest = value
        while rest > 127:
            out.append(rest & 127 | 128)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def _unsigned(value: int) -> int:
    """0, -1, 1, -2, ... to 0, 1, 2, 3, ..."""
    return 2 * value if value >= 0 else -2 * value - 1


def unpack_hint(data: bytes) -> Hint:
    """Read a hint.

    Raises
    ------
    CorruptError
        It is damaged.
    """
    if not data:
        return Hint()
    if data[0] >= 2 * Part.DEFLATED:
        raise CorruptError("the hint of a JPEG is of an unknown kind")
    kind = Part(data[0])
    body = data[1:]
    if kind & Part.DEFLATED:
        inflater = zlib.decompressobj(wbits=-15)
        try:
            body = inflater.decompress(body, MOST_INFLATED)
        except zlib.error as error:
            raise CorruptError("the hint of a JPEG cannot be inflated") from error
        if not inflater.eof or inflater.unused_data:
            raise CorruptError("the hint of a JPEG is cut short or too long")
    read = _Reader(body)
    hint = Hint(
        tables=read.tables() if kind & Part.TABLES else None,
        flat=tuple(read.signed() for _ in range(read.count())) if kind & Part.FLAT else None,
        whole=read.take(read.number()) if kind & Part.WHOLE else None,
        prior=bool(kind & Part.PRIOR),
        changes=tuple(read.changes() for _ in range(read.count())) if kind & Part.DIFFERENCES else (),
        splices=tuple(read.splices()) if kind & Part.SPLICES else (),
    )
    read.end()
    return hint


@dataclass
class _Reader:
    """A hint's bytes, which are not trusted."""

    data: bytes
    at: int = field(default=0)

    def fail(self) -> CorruptError:
        """Return the error of a damaged hint."""
        return CorruptError("the hint of a JPEG is damaged")

    def take(self, size: int) -> bytes:
        """Some bytes."""
        if size > len(self.data) - self.at:
            raise self.fail()
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self) -> int:
        """A number below 2**35."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise self.fail()

    def signed(self) -> int:
        """A number of either sign that a coefficient may change by."""
        value = self.number()
        if value > 4 * COEFFICIENT_MAX + 2:
            raise self.fail()
        return value // 2 if value % 2 == 0 else -(value + 1) // 2

    def count(self) -> int:
        """A number of components."""
        count = self.take(1)[0]
        if count not in (1, 3):
            raise self.fail()
        return count

    def tables(self) -> tuple[Table, ...]:
        """Quantisation tables."""
        out: list[Table] = []
        for _ in range(self.count()):
            code = self.take(1)[0]
            if code == TABLE_AGAIN and out:
                out.append(out[-1])
            elif code == TABLE_EXPLICIT:
                out.append(np.frombuffer(self.take(64), np.uint8).astype(np.uint16).reshape(8, 8))
            elif 1 <= code < TABLE_EXPLICIT:
                out.append(standard_table(code))
            else:
                raise self.fail()
        return tuple(out)

    def changes(self) -> list[Change]:
        """Changes of a component."""
        out, at = [], 0
        for _ in range(self.number()):
            at += self.number()
            place = 0
            for _ in range(self.number() + 1):
                place += self.number()
                if place > 63:
                    raise self.fail()
                out.append((at, place, self.signed()))
                place += 1
            at += 1
        return out

    def splices(self) -> Iterator[Splice]:
        """Changes of bytes."""
        end = 0
        for _ in range(self.number()):
            at, removed = end + self.number(), self.number()
            yield at, removed, self.take(self.number())
            end = at + removed

    def end(self) -> None:
        """Check that nothing is left."""
        if self.at != len(self.data):
            raise self.fail()
