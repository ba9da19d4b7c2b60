"""Decoder of a JPEG image's coefficients (docs/format section 18), in Python integers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dlpr.arrays import Buffer, Ints
from dlpr.errors import CorruptError
from dlpr.modes.jpeg.arithmetic import INPUTS, BitDecoder, MixedDecoder
from dlpr.modes.jpeg.fields import ColourTransform
from dlpr.modes.jpeg.image import COEFFICIENT_MAX, JpegImage, Table
from dlpr.modes.jpeg.synthesis import inverse_pass
from dlpr.modes.jpeg.tables import TABLE_AGAIN, TABLE_EXPLICIT, ZIGZAG, standard_table

__all__ = ["decode_coefficients", "level", "limited"]

# contexts of each kind and input, for one of the classes
COUNT = (4, 200, 200, 576, 576, 576, 200, 200)
EDGE_COUNT = (24, 128, 192, 128, 192, 128, 256, 384)
INTERIOR = (768, 768, 768, 144, 416, 1152, 1024, 768)
EDGE = (192, 192, 192, 144, 416, 192, 84, 96)
DC = (12, 144, 144, 156, 3, 12, 144, 12)
KINDS = (COUNT, EDGE_COUNT, INTERIOR, EDGE, DC)

GAIN = (8192, 11363, 10703, 9633, 8192, 6437, 4433, 2260)
"""round(8192 sqrt(2) cos(j pi / 16)), 8192 for j = 0."""


def level(v: int) -> int:
    """Magnitude to 12 levels: 0, 1, 2, 3, 4, 5-6, 7-8, 9-12, 13-20, 21-32, 33-63, 64 and above."""
    return sum(v > top for top in (0, 1, 2, 3, 4, 6, 8, 12, 20, 32, 63))


def limited(v: int, top: int) -> int:
    """Limit to -top..top."""
    return min(max(v, -top), top)


@dataclass
class _Block:
    """What later blocks and components need of a block."""

    q: list[int] = field(default_factory=lambda: [0] * 64)
    interior: int = 0
    edge: list[int] = field(default_factory=lambda: [0, 0])
    dc_error: int = 0
    border: list[list[int]] = field(default_factory=list)
    """Rows 7 and 6, columns 7 and 6, in 1/8 level."""


_NONE = _Block()


class _Component:
    """Decodes the blocks of one component."""

    def __init__(self, mix: MixedDecoder, cls: int, components: int, table: Table) -> None:
        self.mix, self.cls, self.components = mix, cls, components
        self.table = [int(v) for v in table.ravel()]
        self.up: _Block | None = None
        self.left: _Block | None = None
        self.up_left = self.up_right = self.one = self.two = _NONE

    def place(self, kind: tuple[int, ...], context: tuple[int, ...]) -> None:
        """Set the contexts of all inputs."""
        before = KINDS[: KINDS.index(kind)]
        self.mix.context = [
            self.components * sum(k[i] for k in before) + self.cls * kind[i] + context[i] for i in range(INPUTS)
        ]

    def mirror(self, *inputs: tuple[int, bool]) -> None:
        """Name the inputs that expect a negative number."""
        self.mix.mirror = [False] * INPUTS
        for i, negative in inputs:
            self.mix.mirror[i] = negative

    def block(self) -> _Block:
        """Decode a block; its neighbours are set."""
        self.me = _Block()
        self.interior_count()
        self.interior()
        for side in (0, 1):
            self.edge_count(side)
            self.edge(side)
        self.dc()
        return self.me

    def interior_count(self) -> None:
        """Decode how many of rows and columns 1..7 are not zero."""
        a, b = self.up.interior if self.up else 0, self.left.interior if self.left else 0
        both = (a + b + 1) >> 1 if self.up and self.left else a + b
        n1, n2 = self.one.interior, self.two.interior
        context = (
            0,
            both,
            n1,
            level(a) * 12 + level(b),
            level(n1) * 12 + level(both),
            level(n1) * 12 + level(n2),
            max(a, b),
            min(49, (n1 + n2 + both) >> 1),
        )
        self.place(COUNT, tuple(4 * c for c in context))
        self.me.interior = self.mix.count(6, 27 + 64 * self.cls, self.cls)
        if self.me.interior > 49:
            raise CorruptError("a count of coefficients out of range; fetch the stream again")

    def weighed(self, z: int) -> int:
        """Level of a coefficient in the blocks around."""
        a, b = (self.up or _NONE).q[z], (self.left or _NONE).q[z]
        return level((13 * (abs(a) + abs(b)) + 4 * (abs(self.up_left.q[z]) + abs(self.up_right.q[z])) + 8) >> 4)

    def across(self, z: int, weighed: int) -> tuple[int, bool]:
        """Context of a coefficient in the components before, and whether its sign there is negative."""
        q1, q2 = self.one.q[z], self.two.q[z]
        negative = (q1 or q2) < 0
        q2 = limited(-q2 if negative else q2, 6)
        return (min(abs(q1), 7) * 13 + q2 + 6) * 4 + min(3, weighed >> 1), negative

    def coefficient(self, z: int, may_be_zero: bool, second: int) -> int:
        """Decode a coefficient."""
        v = self.mix.number(may_be_zero, 9 * self.cls, second, self.cls)
        if abs(v) > COEFFICIENT_MAX:
            raise CorruptError("a coefficient out of range; fetch the stream again")
        self.me.q[z] = v
        return int(v != 0)

    def interior(self) -> None:
        """Decode rows and columns 1..7."""
        q, rest, places = self.me.q, self.me.interior, 49
        for k, z in enumerate(ZIGZAG):
            v, u = divmod(z, 8)
            if rest == 0 or v == 0 or u == 0:
                continue
            near = (2 * abs(q[z - 1]) if u > 1 else 0) + (2 * abs(q[z - 8]) if v > 1 else 0)
            near += abs(q[z - 9]) if u > 1 and v > 1 else 0
            w, f, r, q1 = self.weighed(z), level(near), level(rest), self.one.q[z]
            cross, negative = self.across(z, w)
            a, b = abs((self.up or _NONE).q[z]), abs((self.left or _NONE).q[z])
            context = (
                12 * k + r,
                12 * k + w,
                12 * k + level(abs(q1)),
                12 * r + f,
                cross,
                (12 * w + f) * 8 + min(7, rest * 8 // places),
                (4 * k + min(3, a)) * 4 + min(3, b),
                12 * k + f,
            )
            self.place(INTERIOR, context)
            self.mirror((2, q1 < 0), (4, negative))
            rest -= self.coefficient(z, rest < places, 9 + 65 * self.cls + k)
            places -= 1

    def edge_count(self, side: int) -> None:
        """Decode how many of row 0 (side 0) or column 0 (side 1) are not zero, DC aside."""
        a, b = self.up.edge[side] if self.up else 0, self.left.edge[side] if self.left else 0
        n1, n2 = self.one.edge[side], self.two.edge[side]
        inner, other = level(self.me.interior), self.me.edge[0] if side else 0
        context = (
            12 * side + inner,
            (8 * side + a) * 8 + b,
            (8 * side + n1) * 12 + inner,
            (8 * side + n1) * 8 + n2,
            (8 * side + other) * 12 + inner,
            (8 * side + n1) * 8 + ((a + b + 1) >> 1),
            (16 * side + a + b) * 8 + other,
            (16 * side + n1 + n2) * 12 + inner,
        )
        self.place(EDGE_COUNT, context)
        self.me.edge[side] = self.mix.count(3, 219 + 16 * self.cls + 8 * side, 3 + 2 * self.cls + side)

    def continued(self, side: int, i: int) -> int:
        """Value that lets the block go on where its neighbour ends, in half steps."""
        neighbour = self.left if side else self.up
        if neighbour is None:
            return 0
        step, along = (8, 1) if side else (1, 8)
        total = 0
        for j in range(8):
            z = i * step + j * along
            other = -neighbour.q[z] if j & 1 else neighbour.q[z]
            total += GAIN[j] * self.table[z] * (other - (self.me.q[z] if j else 0))
        d = 4096 * self.table[i * step]
        return (total + (d >> 1)) // d

    def edge(self, side: int) -> None:
        """Decode row 0 or column 0, DC aside."""
        q, rest = self.me.q, self.me.edge[side]
        step, along = (8, 1) if side else (1, 8)
        for i in range(1, 8):
            if rest == 0:
                break
            z, k, expected = i * step, 8 * side + i, self.continued(side, i)
            w, e, q1 = self.weighed(z), level(abs(expected)), self.one.q[z]
            near = (2 * abs(q[z - step]) if i > 1 else 0) + abs(q[z + along]) + (abs(q[i]) if side else 0)
            cross, negative = self.across(z, w)
            context = (
                12 * k + rest,
                12 * k + w,
                12 * k + level(abs(q1)),
                12 * rest + level(near),
                cross,
                12 * k + e,
                7 * e + (-1 if expected < 0 else 1) * limited(q1, 3) + 3,
                8 * e + rest,
            )
            self.place(EDGE, context)
            self.mirror((2, q1 < 0), (4, negative), *((j, expected < 0) for j in (5, 6, 7)))
            rest -= self.coefficient(z, rest < 8 - i, 204 + 16 * self.cls + k)

    def dc(self) -> None:
        """Decode the mean by what goes on smoothly at the edges."""
        step, p = self.table[0], self.without_mean()
        guesses: list[int] = []
        sides = 0
        if self.up:
            sides += 1
            guesses += self._guess(self.up.border[:2], p[0], p[1])
        if self.left:
            sides += 1
            guesses += self._guess(self.left.border[2:], p[:, 0], p[:, 1])
        expected = sum(guesses) >> (2 + sides) if guesses else 0
        spread = max(guesses) - min(guesses) if guesses else 0
        whole = limited((2 * expected + step) // (2 * step), COEFFICIENT_MAX)
        part = limited(expected - whole * step, step)
        x1, x2 = self.one.dc_error, self.two.dc_error
        lead, l1, s = x1 or x2, level(abs(x1)), level(spread // step)
        near = level((abs(self.up.dc_error) if self.up else 0) + (abs(self.left.dc_error) if self.left else 0))
        context = (
            s,
            12 * s + near,
            12 * l1 + s,
            13 * l1 + (-1 if lead < 0 else 1) * limited(x2, 6) + 6,
            min(2, 4 * abs(part) // step),
            level(self.me.interior),
            12 * level(abs(x2)) + near,
            level(abs(x1 + x2)),
        )
        self.place(DC, context)
        self.mirror((2, x1 < 0), (3, lead < 0), (4, part < 0), (6, x2 < 0), (7, x1 + x2 < 0))
        error = self.mix.number(True, 9 * self.cls, 9 + 65 * self.cls, 3 + self.cls)
        value = whole + error
        if abs(value) > COEFFICIENT_MAX:
            raise CorruptError("a coefficient out of range; fetch the stream again")
        self.me.q[0], self.me.dc_error = value, error
        lines = (p[7], p[6], p[:, 7], p[:, 6])
        self.me.border = [[limited(int(v) + value * step, 32767) for v in line] for line in lines]

    @staticmethod
    def _guess(border: list[list[int]], first: Ints, second: Ints) -> list[int]:
        """Mean in 1/8 level by each pixel of an edge: border lines outside, first and second line inside."""
        return [
            o - m + ((o - far + n - m) >> 1)
            for o, far, m, n in zip(*border, first.tolist(), second.tolist(), strict=True)
        ]

    def without_mean(self) -> Ints:
        """Pixels of the block without its mean, [8, 8], in 1/8 level."""
        d = np.array([limited(v * t, 16383) for v, t in zip(self.me.q, self.table, strict=True)], np.int64)
        d[0] = 0
        columns = np.clip(inverse_pass(d.reshape(8, 8), 11), -32768, 32767)
        return inverse_pass(columns.T, 15).T


def decode_coefficients(image: JpegImage, part: Buffer) -> JpegImage:
    """Decode a lossy part.

    Parameters
    ----------
    image : JpegImage
        Fields of the stream's header, with tables and coefficients of any content. The arrays are replaced.
    part : bytes-like
        The lossy part.

    Returns
    -------
    JpegImage
        With the tables and coefficients of the stream.

    Raises
    ------
    CorruptError
        A table or lane that no encoder writes.
    """
    n = image.components
    codes = bytes(part[:n])
    if any(code > TABLE_EXPLICIT for code in codes) or codes[0] == TABLE_AGAIN:
        raise CorruptError("an unknown quantisation table; fetch the stream again")
    bits = BitDecoder(part[n:])
    mix = MixedDecoder(bits)
    tables: list[Table] = []
    for code in codes:
        again = tables[-1] if code == TABLE_AGAIN else None
        tables.append(
            _explicit(mix) if code == TABLE_EXPLICIT else again if again is not None else standard_table(code)
        )
    order = [1, 0, 2] if n == 3 and image.transform is ColourTransform.NONE else list(range(n))
    grids: list[dict[tuple[int, int], _Block]] = []
    same = image.sampling == (1, 1)
    for cls, c in enumerate(order):
        component = _Component(mix, cls, n, tables[c])
        blocks: dict[tuple[int, int], _Block] = {}
        rows, columns = _seen(image, c)
        one = grids[cls - 1] if cls == 2 or (cls == 1 and same) else {}
        two = grids[0] if cls == 2 and same else {}
        for y in rows:
            for x in columns:
                component.up, component.left = blocks.get((y - 1, x)), blocks.get((y, x - 1))
                component.up_left, component.up_right = (
                    blocks.get((y - 1, x - 1), _NONE),
                    blocks.get((y - 1, x + 1), _NONE),
                )
                component.one, component.two = one.get((y, x), _NONE), two.get((y, x), _NONE)
                blocks[y, x] = component.block()
        grids.append(blocks)
    bits.finish()
    coefficients = [np.zeros((*image.blocks(c), 8, 8), np.int16) for c in range(n)]
    for c, blocks in zip(order, grids, strict=True):
        for (y, x), block in blocks.items():
            coefficients[c][y, x] = np.array(block.q).reshape(8, 8)
    return JpegImage(
        image.height,
        image.width,
        image.phase,
        image.transform,
        image.sampling,
        image.upsampling,
        image.crop_edges,
        tuple(tables),
        tuple(coefficients),
    )


def _seen(image: JpegImage, c: int) -> tuple[range, range]:
    """Rows and columns of the blocks that are coded."""
    if c > 0:
        rows, columns = image.blocks(c)
        return range(rows), range(columns)
    (y, x), h, w = image.phase, image.height, image.width
    return range(y // 8, -(-(y + h) // 8)), range(x // 8, -(-(x + w) // 8))


def _explicit(mix: MixedDecoder) -> Table:
    """Decode the steps of a table."""
    table, before = np.zeros(64, np.uint16), 16
    for z in ZIGZAG:
        m = mix.golomb(7)
        before += -(m + 1) // 2 if m & 1 else m // 2
        if not 1 <= before <= 255:
            raise CorruptError("a quantisation step out of range; fetch the stream again")
        table[z] = before
    return table.reshape(8, 8)
