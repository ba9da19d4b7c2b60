"""Decoder of a JPEG image's coefficients (docs/format section 18), in Python integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dlpr.arrays import Buffer, Ints
from dlpr.errors import CorruptError
from dlpr.modes.jpeg.fields import ColourTransform
from dlpr.modes.jpeg.image import COEFFICIENT_MAX, JpegImage, Table
from dlpr.modes.jpeg.synthesis import inverse_pass
from dlpr.modes.jpeg.tables import TABLE_AGAIN, TABLE_EXPLICIT, ZIGZAG, standard_table
from dlpr.modes.mixed.arithmetic import INPUTS, BitDecoder, MixedDecoder
from dlpr.modes.mixed.levels import divided, fine_level, level, limited

__all__ = ["COMPONENT_SLOTS", "FIRST_SETS", "SECOND_SETS", "decode_coefficients"]

# A kind of bits: slots of a context, contexts by input (for one component), first set of weights of the first family.
Kind = tuple[int, tuple[int, ...], int]
COUNT: Kind = (48, (1, 50, 50, 144, 144, 144, 50, 50), 0)
EDGE_COUNT: Kind = (8, (24, 128, 192, 128, 192, 128, 256, 384), 48)
ZERO: Kind = (1, (588, 588, 588, 144, 416, 1152, 144, 588), 64)
SIGN: Kind = (1, (588, 588, 416, 40, 588, 588, 288, 588), 65)
SIZE: Kind = (8, (588, 588, 588, 144, 416, 1152, 144, 588), 66)
EDGE_ZERO: Kind = (1, (192, 192, 192, 96, 416, 192, 84, 96), 73)
EDGE_SIGN: Kind = (1, (192, 192, 416, 192, 84, 96, 96, 192), 81)
EDGE_SIZE: Kind = (8, (192, 192, 192, 96, 416, 192, 168, 96), 82)
DC_ZERO: Kind = (1, (12, 144, 144, 156, 3, 12, 144, 12), 89)
DC_SIGN: Kind = (1, (3, 12, 156, 12, 12, 36, 1, 1), 90)
DC_SIZE: Kind = (8, (12, 144, 144, 156, 3, 12, 144, 12), 91)
KINDS = (COUNT, EDGE_COUNT, ZERO, SIGN, SIZE, EDGE_ZERO, EDGE_SIGN, EDGE_SIZE, DC_ZERO, DC_SIGN, DC_SIZE)
FIRST_SETS, SECOND_SETS = 98, 69
SECOND_EDGE_COUNT, SECOND_INTERIOR, SECOND_EDGE, SECOND_DC = 1, 3, 52, 68
GOLOMB_SLOTS = 96
State = tuple[list[tuple[int, int]], list[list[int]]]
COMPONENT_SLOTS = sum(slots * sum(contexts) for slots, contexts, _ in KINDS) + GOLOMB_SLOTS
"""Slots of a component: kinds, inputs and contexts in order, then those of the Exp-Golomb codes."""

INTERIOR = tuple(z for z in ZIGZAG if z % 8 and z // 8)
"""Places of rows and columns 1..7 in zigzag order."""
FOLD = (
    (2048, 0, 0, 0),
    (1856, 851, -153, 47),
    (0, 2048, 0, 0),
    (-652, 1620, 1051, -200),
    (0, 0, 2048, 0),
    (435, -722, 1573, 1004),
    (0, 0, 0, 2048),
    (-369, 569, -769, 1773),
)
"""Coefficients at half the resolution from the first four of two neighbours."""


@dataclass
class _Block:
    """What later blocks and components need of a block."""

    q: list[int] = field(default_factory=lambda: [0] * 64)
    last: int = 0
    interior: int = 0
    edge: list[int] = field(default_factory=lambda: [0, 0])
    dc_error: int = 0
    border: list[list[int]] = field(default_factory=list)
    """Rows 7 and 6, columns 7 and 6, in 1/8 level."""


_NONE = _Block()


class _Component:
    """Decodes the blocks of one component."""

    def __init__(self, mix: MixedDecoder, cls: int, table: Table) -> None:
        self.mix, self.cls = mix, cls
        self.table = [int(v) for v in table.ravel()]
        self.up: _Block | None = None
        self.left: _Block | None = None
        self.up_left = self.up_right = self.one = self.two = _NONE
        self.golomb = (cls + 1) * COMPONENT_SLOTS - GOLOMB_SLOTS

    def slots(self, kind: Kind, context: tuple[int, ...]) -> list[int]:
        """Return the slots of a kind's contexts."""
        at = self.cls * COMPONENT_SLOTS
        for slots, contexts, _ in KINDS[: KINDS.index(kind)]:
            at += slots * sum(contexts)
        slots, contexts, _ = kind
        return [at + slots * (sum(contexts[:i]) + context[i]) for i in range(INPUTS)]

    def first(self, kind: Kind, i: int = 0) -> int:
        """Return the set of the first family of a kind's bit i."""
        return self.cls * FIRST_SETS + kind[2] + i

    def second(self, i: int) -> int:
        """Return the set of the second family of a place."""
        return self.cls * SECOND_SETS + i

    def block(self) -> _Block:
        """Decode a block; its neighbours are set."""
        self.me = _Block()
        self.interior_last()
        self.expect()
        self.interior()
        for side in (0, 1):
            self.edge_count(side)
            self.edge(side)
        self.dc()
        return self.me

    def interior_last(self) -> None:
        """Decode how far rows and columns 1..7 reach in zigzag order."""
        a, b = self.up.last if self.up else 0, self.left.last if self.left else 0
        both = (a + b + 1) >> 1 if self.up and self.left else a + b
        n1, n2 = self.one.last, self.two.last
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
        self.me.last = self.classed(self.slots(COUNT, context), self.first(COUNT), self.second(0))
        if self.me.last > 49:
            raise CorruptError("a count of coefficients out of range; fetch the stream again")

    def classed(self, at: list[int], first: int, second: int) -> int:
        """Read 0..63: how many bits it has, then those below the first."""
        bits = self.mix.unary(at, 6, first, second)
        if bits < 2:
            return bits
        r, group = 1, 8 * (bits - 2)
        for depth in range(bits - 1):
            node = (1 << depth) - 1 + (r & ((1 << depth) - 1)) if depth < 3 else 7
            r = r << 1 | self.mix.bit([i + 8 + group + node for i in at], first + 6 + group + node, second)
        return r

    def expect(self) -> None:
        """Sum up what columns and rows lack at the border to the neighbours, in 1/256 of a cosine's height there."""
        self.column, self.row = [0] * 8, [0] * 8
        for v in range(8):
            for u in range(8):
                z = 8 * v + u
                if self.up:
                    self.column[u] += (182, -256, 256)[(v > 0) + (v > 0 and v % 2 == 0)] * self.table[z] * self.up.q[z]
                if self.left:
                    self.row[v] += (182, -256, 256)[(u > 0) + (u > 0 and u % 2 == 0)] * self.table[z] * self.left.q[z]

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

    def put(self, z: int, v: int) -> None:
        """Keep a coefficient."""
        if abs(v) > COEFFICIENT_MAX:
            raise CorruptError("a coefficient out of range; fetch the stream again")
        self.me.q[z] = v

    def interior(self) -> None:
        """Decode rows and columns 1..7, backwards from the last that is not zero."""
        q, last, seen = self.me.q, self.me.last, 0
        for i in reversed(range(last)):
            z = INTERIOR[i]
            v, u = divmod(z, 8)
            near = (2 * abs(q[z + 1]) if u < 7 else 0) + (2 * abs(q[z + 8]) if v < 7 else 0)
            near += abs(q[z + 9]) if u < 7 and v < 7 else 0
            w, f, r, q1, q2 = self.weighed(z), level(near), level(seen), self.one.q[z], self.two.q[z]
            ea, eb = divided(self.column[u], 128 * self.table[z]), divided(self.row[v], 128 * self.table[z])
            both, l1, la, lb = ea + eb, level(abs(q1)), level(abs(ea)), level(abs(eb))
            share = (12 * w + f) * 8 + min(7, seen * 8 // last)
            cross, negative = self.across(z, w)
            shared = (12 * i + r, 12 * i + w, 12 * i + l1, 12 * r + f, cross, share)
            second = self.second(SECOND_INTERIOR + i)
            if i != last - 1:
                at = self.slots(ZERO, (*shared, 12 * la + lb, 12 * i + f))
                if not self.mix.bit(at, self.first(ZERO), second):
                    continue
            seen += 1
            context = (
                12 * i + l1,
                12 * i + level(abs(q2)),
                cross,
                fine_level(abs(both)),
                12 * i + la,
                12 * i + lb,
                (12 * la + lb) * 2 + ((ea < 0) != (eb < 0) and eb != 0),
                12 * i + level(abs(both)),
            )
            mirror = (q1 < 0, q2 < 0, negative, both < 0, ea < 0, eb < 0, ea < 0, both < 0)
            minus = self.mix.bit(self.slots(SIGN, context), self.first(SIGN), second, mirror)
            sign = -1 if minus else 1
            ma, mb, ms = (level(max(sign * e, 0)) for e in (ea, eb, both))
            at = self.slots(SIZE, (*shared, 12 * ma + mb, 12 * i + ms))
            self.put(z, sign * self.mix.magnitude(at, self.first(SIZE), second, self.golomb))
            if self.up:
                self.column[u] -= 256 * self.table[z] * q[z]
            if self.left:
                self.row[v] -= 256 * self.table[z] * q[z]
        self.me.interior = seen

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
        at, first = self.slots(EDGE_COUNT, context), self.first(EDGE_COUNT, 8 * side)
        self.me.edge[side] = self.mix.unary(at, 7, first, self.second(SECOND_EDGE_COUNT + side))

    def edge(self, side: int) -> None:
        """Decode row 0 or column 0, DC aside."""
        q, rest = self.me.q, self.me.edge[side]
        step, along = (8, 1) if side else (1, 8)
        for i in range(1, 8):
            if rest == 0:
                break
            z, k = i * step, 8 * side + i
            d = 91 * self.table[z]
            expected = ((self.row if side else self.column)[i] + (d >> 1)) // d
            w, e, q1, q2 = self.weighed(z), level(abs(expected)), self.one.q[z], self.two.q[z]
            near = (2 * abs(q[z - step]) if i > 1 else 0) + abs(q[z + along]) + (abs(q[i]) if side else 0)
            f, l1 = level(near), level(abs(q1))
            joint = 7 * e + (-1 if expected < 0 else 1) * limited(q1, 3) + 3
            cross, negative = self.across(z, w)
            shared, second = (
                (12 * k + rest, 12 * k + w, 12 * k + l1, 12 * rest + f, cross),
                self.second(SECOND_EDGE + k),
            )
            if rest < 8 - i:
                at = self.slots(EDGE_ZERO, (*shared, 12 * k + e, joint, 8 * e + rest))
                if not self.mix.bit(at, self.first(EDGE_ZERO, rest), second):
                    continue
            context = (
                12 * k + l1,
                12 * k + w,
                cross,
                12 * k + e,
                joint,
                8 * e + rest,
                12 * rest + f,
                12 * k + level(abs(q2)),
            )
            less = expected < 0
            mirror = (q1 < 0, False, negative, less, less, less, False, q2 < 0)
            minus = self.mix.bit(self.slots(EDGE_SIGN, context), self.first(EDGE_SIGN), second, mirror)
            against = bool(minus) != less
            high = 0 if against else e
            at = self.slots(EDGE_SIZE, (*shared, 12 * k + high, 84 * against + joint, 8 * high + rest))
            size = self.mix.magnitude(at, self.first(EDGE_SIZE), second, self.golomb)
            self.put(z, -size if minus else size)
            rest -= 1

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
        pair = 13 * l1 + (-1 if lead < 0 else 1) * limited(x2, 6) + 6
        l2, l3, p2 = level(abs(x2)), level(abs(x1 + x2)), min(2, 4 * abs(part) // step)
        shared = (s, 12 * s + near, 12 * l1 + s, pair, p2, level(self.me.interior), 12 * l2 + near, l3)
        second, error = self.second(SECOND_DC), 0
        if self.mix.bit(self.slots(DC_ZERO, shared), self.first(DC_ZERO), second):
            at = self.slots(DC_SIGN, (p2, l1, pair, l2, l3, 3 * s + p2, 0, 0))
            mirror = (part < 0, x1 < 0, lead < 0, x2 < 0, x1 + x2 < 0, part < 0, False, False)
            minus = self.mix.bit(at, self.first(DC_SIGN), second, mirror)
            size = self.mix.magnitude(self.slots(DC_SIZE, shared), self.first(DC_SIZE), second, self.golomb + 32)
            error = -size if minus else size
        value = whole + error
        self.put(0, value)
        self.me.dc_error = error
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


def _folded(luma: dict[tuple[int, int], _Block], y: int, x: int, image: JpegImage, tables: Sequence[Table]) -> _Block:
    """Component 0 at a block of the others, at their size."""
    (v, h), t0, t1 = image.sampling, tables[0].astype(np.int64), tables[1].astype(np.int64)
    fold = np.array(FOLD, np.int64)
    signs = np.array([[(-1) ** (a + b) for b in range(4)] for a in range(8)])
    blocks = [[luma.get((v * y + i, h * x + j), _NONE) for j in range(h)] for i in range(v)]
    parts = [[np.clip(np.array(b.q).reshape(8, 8) * t0, -16383, 16383) for b in row] for row in blocks]
    halves = [
        (row[0][:, :4] @ fold.T + row[1][:, :4] @ (fold * signs).T + 2048) >> 12 if h == 2 else row[0] for row in parts
    ]
    whole = (fold @ halves[0][:4] + (fold * signs) @ halves[1][:4] + 2048) >> 12 if v == 2 else halves[0]
    steps = np.minimum((np.abs(whole) + t1 // 2) // t1, COEFFICIENT_MAX) * np.sign(whole)
    steps[0, 0] = 0
    error = divided(sum(b.dc_error for row in blocks for b in row) * int(t0[0, 0]), v * h)
    mean = min((abs(error) + int(t1[0, 0]) // 2) // int(t1[0, 0]), COEFFICIENT_MAX)
    q = [int(value) for value in steps.ravel()]
    places = [i for i, z in enumerate(INTERIOR) if q[z]]
    edge = [int(np.count_nonzero(steps[0, 1:])), int(np.count_nonzero(steps[1:, 0]))]
    return _Block(q, max(places, default=-1) + 1, len(places), edge, -mean if error < 0 else mean)


def decode_coefficients(image: JpegImage, part: Buffer, start: State | None = None) -> JpegImage:
    """Decode a lossy part.

    Parameters
    ----------
    image : JpegImage
        Fields of the stream's header, with tables and coefficients of any content. The arrays are replaced.
    part : bytes-like
        The lossy part.
    start : tuple, optional
        State of the prior that the stream names: (p, rate) of each slot, weights of each set.

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
    mix = MixedDecoder(bits, n * FIRST_SETS, *(start or ()))
    tables: list[Table] = []
    for code in codes:
        if code == TABLE_AGAIN:
            tables.append(tables[-1])
        else:
            tables.append(_explicit(mix, COMPONENT_SLOTS - 32) if code == TABLE_EXPLICIT else standard_table(code))
    order = [1, 0, 2] if n == 3 and image.transform is ColourTransform.NONE else list(range(n))
    grids: list[dict[tuple[int, int], _Block]] = []
    same = image.sampling == (1, 1)
    luma: dict[tuple[int, int], _Block] = {}
    for cls, c in enumerate(order):
        component = _Component(mix, cls, tables[c])
        blocks: dict[tuple[int, int], _Block] = {}
        rows, columns = _seen(image, c)
        if cls == 1 and not same:
            luma = {(y, x): _folded(grids[0], y, x, image, tables) for y in rows for x in columns}
        elif cls == 1:
            luma = grids[0]
        one, two = [({}, {}), (luma, {}), (grids[-1] if grids else {}, luma)][cls]
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


def _explicit(mix: MixedDecoder, slots: int) -> Table:
    """Decode the steps of a table."""
    table, before = np.zeros(64, np.uint16), 16
    for z in ZIGZAG:
        m = mix.golomb(slots)
        before += -(m + 1) // 2 if m & 1 else m // 2
        if not 1 <= before <= 255:
            raise CorruptError("a quantisation step out of range; fetch the stream again")
        table[z] = before
    return table.reshape(8, 8)
