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
import numpy.typing as npt

from dlpr._native import jpeg_coefficients, jpeg_pack
from dlpr.errors import CorruptError, PriorError, UnsupportedInputError
from dlpr.modes.jpeg.image import COEFFICIENT_MAX, Coefficients, ColourTransform, JpegImage, Table, Upsampling
from dlpr.modes.jpeg.prior import Prior
from dlpr.modes.jpeg.synthesis import native_fields
from dlpr.modes.jpeg.tables import TABLE_AGAIN, TABLE_EXPLICIT, ZIGZAG, standard_table

__all__ = ["Grid", "Hint", "Part", "Splice", "pack_hint", "restored", "spliced", "unpack_hint"]

Splice: TypeAlias = tuple[int, int, bytes]
"""Offset in the bytes made, how many are removed there, what is put in."""
Blocks: TypeAlias = npt.NDArray[np.int16]
"""Blocks in the order of the scan, [n, 64], natural order within."""
Known: TypeAlias = npt.NDArray[np.bool_]

MOST_INFLATED = 1 << 26
"""Bytes of a hint."""
MANY_CHANGES = 4000
"""Coefficients that differ above which all are coded anew without trying."""
FEW_BYTES = 160
"""Of changes up to which it is not tried to code all coefficients anew."""


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


@dataclass(frozen=True)
class Grid:
    """A JPEG's form in whole MCUs.

    Parameters
    ----------
    rows, columns : int
        MCUs.
    sampling : tuple of int
        Blocks of component 0 in an MCU, vertically and horizontally.
    components : int
    """

    rows: int
    columns: int
    sampling: tuple[int, int]
    components: int

    @classmethod
    def of(cls, image: JpegImage) -> Grid:
        """Return that of an image."""
        rows, columns = image.blocks(0)
        v, h = image.sampling
        return cls(rows // v, columns // h, (v, h), image.components)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return 8 * self.sampling[0] * self.rows, 8 * self.sampling[1] * self.columns

    @property
    def transform(self) -> ColourTransform:
        """What three components are taken to be; no byte depends on it."""
        return ColourTransform.YCBCR if self.components == 3 else ColourTransform.NONE

    def image(self, tables: tuple[Table, ...], coefficients: tuple[Coefficients, ...]) -> JpegImage:
        """Make an image of all MCUs.

        Raises
        ------
        UnsupportedInputError
            No JPEG image has these.
        """
        kind = (self.transform, self.sampling, Upsampling.FANCY, True)
        return JpegImage(*self.size, (0, 0), *kind, tables, coefficients)

    def shape(self, component: int) -> tuple[int, int]:
        """Rows and columns of blocks of a component."""
        v, h = self.sampling if component == 0 else (1, 1)
        return self.rows * v, self.columns * h

    def scan(self, component: int, blocks: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Bring [rows, columns, ...] of blocks into the order of the scan, [n, ...]."""
        v, h = self.sampling if component == 0 else (1, 1)
        rest = blocks.shape[2:]
        ordered = blocks.reshape(self.rows, v, self.columns, h, *rest).swapaxes(1, 2)
        return np.ascontiguousarray(ordered).reshape(self.rows * self.columns * v * h, *rest)

    def raster(self, component: int, blocks: Blocks) -> Coefficients:
        """Bring blocks from the order of the scan into [rows, columns, 8, 8]."""
        v, h = self.sampling if component == 0 else (1, 1)
        ordered = blocks.reshape(self.rows, self.columns, v, h, 64).swapaxes(1, 2)
        return np.ascontiguousarray(ordered).reshape(self.rows * v, self.columns * h, 8, 8)


@dataclass(frozen=True, eq=False)
class Hint:
    """A hint's parts; None or empty where it lacks them."""

    flat: tuple[int, ...] | None = None
    """DC of each component."""
    whole: bytes | None = None
    tables: tuple[Table, ...] | None = None
    changes: tuple[list[tuple[int, int, int]], ...] = ()
    """For each component (block in the order of the scan, place in zigzag order, what is added)."""
    splices: tuple[Splice, ...] = ()
    prior: bool = False

    @property
    def only_splices(self) -> bool:
        """Whether the coefficients are those of the stream."""
        return self.flat is None and self.whole is None and self.tables is None and not self.changes


def pack_hint(
    image: JpegImage, stored: JpegImage | None, splices: tuple[Splice, ...] = (), prior: Prior | None = None
) -> bytes:
    """Say what makes ``image`` of ``stored``, and what changes the bytes made of it."""
    found = _differences(image, stored) if stored is not None else None
    data = None if found is None else _packed(Hint(splices=splices, **found))
    if data is not None and len(data) <= FEW_BYTES:
        return data
    whole = _packed(_all(image, splices, prior))
    return whole if data is None or len(whole) < len(data) else data


def _all(image: JpegImage, splices: tuple[Splice, ...], prior: Prior | None) -> Hint:
    """Hint of all of an image's coefficients."""
    grid = Grid.of(image)
    first = [int(c[0, 0, 0, 0]) for c in image.coefficients]
    if all(np.count_nonzero(c) == c[..., 0, 0].size * bool(f) for c, f in zip(image.coefficients, first, strict=True)):
        if all((c[..., 0, 0] == f).all() for c, f in zip(image.coefficients, first, strict=True)):
            return Hint(flat=tuple(first), tables=image.tables, splices=splices)
    used = prior is not None and prior.components == image.components
    start = prior.native(image.components) if prior is not None and used else None
    full = grid.image(image.tables, image.coefficients)
    whole = jpeg_pack(native_fields(full), [np.ascontiguousarray(c) for c in full.coefficients], start)
    return Hint(whole=whole, splices=splices, prior=used)


def _differences(image: JpegImage, stored: JpegImage) -> dict[str, object] | None:
    """Fields of the hint that changes ``stored``; None where nothing but all of the image will do."""
    grid, given = Grid.of(image), Grid.of(stored)
    if (grid.sampling, grid.components) != (given.sampling, given.components):
        return None
    fields: dict[str, object] = {}
    if not all(np.array_equal(a, b) for a, b in zip(image.tables, stored.tables, strict=True)):
        fields["tables"] = image.tables
    changes = []
    for c, blocks in enumerate(image.coefficients):
        if np.array_equal(blocks, stored.coefficients[c]) and (c or _shows_all(stored)):
            changes.append([])
            continue
        base, known = _expected(grid, stored, c)
        wanted = grid.scan(c, blocks).reshape(-1, 64).astype(np.int32)
        added = wanted - base
        before = np.concatenate([[0], wanted[:-1, 0]])
        added[:, 0] -= np.where(known, 0, before)
        at, place = np.nonzero(added[:, ZIGZAG])
        if len(at) > MANY_CHANGES:
            return None
        value = added[at, np.asarray(ZIGZAG)[place]]
        changes.append(list(zip(at.tolist(), place.tolist(), value.tolist(), strict=True)))
    fields["changes"] = tuple(changes) if any(changes) else ()
    return fields


def _shows_all(image: JpegImage) -> bool:
    """Whether each block of component 0 shows a pixel."""
    return all(
        phase < 8 and -(-(phase + side) // 8) == blocks
        for phase, side, blocks in zip(image.phase, (image.height, image.width), image.blocks(0), strict=True)
    )


def _expected(grid: Grid, stored: JpegImage, component: int) -> tuple[npt.NDArray[np.int32], Known]:
    """Blocks in the order of the scan as far as they are stored, else 0; and whether they are."""
    blocks = stored.coefficients[component]
    rows, columns = (min(a, b) for a, b in zip(grid.shape(component), blocks.shape[:2], strict=True))
    known = np.zeros(grid.shape(component), np.bool_)
    known[:rows, :columns] = True
    if component == 0:  # those that show a pixel
        (y, x), (bottom, right) = stored.phase, (stored.phase[0] + stored.height, stored.phase[1] + stored.width)
        known[: y // 8], known[-(-bottom // 8) :] = False, False
        known[:, : x // 8], known[:, -(-right // 8) :] = False, False
    base = np.zeros((*known.shape, 64), np.int32)
    base[:rows, :columns] = blocks[:rows, :columns].reshape(rows, columns, 64)
    base[~known] = 0
    return grid.scan(component, base), grid.scan(component, known)  # type: ignore[return-value]


def restored(hint: Hint, grid: Grid, stored: JpegImage | None, prior: Prior | None = None) -> JpegImage:
    """Make the image that a hint was made for, of a form; ``stored`` itself where nothing changes.

    Raises
    ------
    CorruptError
        Hint, form and ``stored`` do not go together.
    PriorError
        The hint needs the slide's prior.
    """
    try:
        if hint.flat is not None or hint.whole is not None:
            return _from_all(hint, grid, prior)
        if stored is None:
            raise CorruptError("the coefficients of a JPEG are neither in its chunk nor in its hint")
        given = Grid.of(stored)
        if not hint.changes and hint.tables is None and grid == given and _shows_all(stored):
            return stored
        return _changed(hint, grid, stored)
    except UnsupportedInputError as error:
        raise CorruptError(f"the hint of a JPEG makes {error.message}") from error


def _changed(hint: Hint, grid: Grid, stored: JpegImage) -> JpegImage:
    """Make an image of what is stored and its changes."""
    tables = stored.tables if hint.tables is None else hint.tables
    if (grid.sampling, grid.components, len(tables)) != (stored.sampling, stored.components, stored.components):
        raise CorruptError("the hint of a JPEG of another form than its chunk's")
    arrays = []
    for c in range(grid.components):
        blocks, known = _expected(grid, stored, c)
        for at, place, value in hint.changes[c] if hint.changes else ():
            if at >= len(blocks):
                raise CorruptError("the hint of a JPEG changes a block that is not there")
            blocks[at, ZIGZAG[place]] += value
        if not known.all():
            _follow(blocks[:, 0], known)
        if np.abs(blocks).max() > COEFFICIENT_MAX:
            raise CorruptError("the hint of a JPEG makes a coefficient out of range")
        arrays.append(grid.raster(c, blocks.astype(np.int16)))
    return grid.image(tables, tuple(arrays))


def _follow(dc: npt.NDArray[np.int32], known: Known) -> None:
    """Turn the DC of blocks that are not known from differences to the block before into values."""
    steps = np.cumsum(np.where(known, 0, dc))
    last = np.maximum.accumulate(np.where(known, np.arange(len(dc)), -1))
    base, done = np.where(last < 0, 0, dc[last]), np.where(last < 0, 0, steps[last])
    dc[:] = np.where(known, dc, base + steps - done)


def _from_all(hint: Hint, grid: Grid, prior: Prior | None) -> JpegImage:
    """Make an image whose coefficients a hint holds."""
    if hint.flat is not None:
        if hint.tables is None or len(hint.flat) != grid.components:
            raise CorruptError("the hint of a JPEG of one colour is damaged")
        arrays = []
        for c, value in enumerate(hint.flat):
            blocks = np.zeros((*grid.shape(c), 8, 8), np.int16)
            blocks[..., 0, 0] = value
            arrays.append(blocks)
        return grid.image(hint.tables, tuple(arrays))
    start = None
    if hint.prior:
        if prior is None or prior.components != grid.components:
            raise PriorError("the hint of a JPEG needs the slide's prior; give it as `prior`")
        start = prior.native(grid.components)
    fields = (*grid.size, 0, 0, int(grid.transform), *grid.sampling, int(Upsampling.FANCY), 1, grid.components)
    error, tables, coefficients = jpeg_coefficients(fields, hint.whole, start)
    if error:
        raise CorruptError(f"the hint of a JPEG is damaged: {error}")
    return grid.image(tuple(tables), tuple(coefficients))


def spliced(data: bytes, splices: tuple[Splice, ...]) -> bytes:
    """Change bytes.

    Examples
    --------
    >>> spliced(b"abcdef", ((1, 2, b"X"), (6, 0, b"!")))
    b'aXdef!'
    """
    if not splices:
        return data
    out, end = [], 0
    for at, removed, inserted in splices:
        if at < end or at + removed > len(data):
            raise CorruptError("a hint changes bytes that its JPEG does not have")
        out += [data[end:at], inserted]
        end = at + removed
    return b"".join([*out, data[end:]])


# Bytes ---------------------------------------------------------------------------------------------------------------


def _packed(hint: Hint) -> bytes:
    """Bytes of a hint."""
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


def _change_bytes(changes: list[tuple[int, int, int]]) -> bytes:
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
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
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

    def changes(self) -> list[tuple[int, int, int]]:
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
