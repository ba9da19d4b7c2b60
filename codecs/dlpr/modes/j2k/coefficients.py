"""Decoder of the passes and coefficients of a JPEG 2000 image (docs/format J3), in Python integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlpr.arrays import Buffer, Ints
from dlpr.errors import CorruptError
from dlpr.modes.j2k.fields import MAX_PLANES, Fields, Wavelet
from dlpr.modes.j2k.image import Coefficients, Counts, J2kImage
from dlpr.modes.mixed.arithmetic import INPUTS, BitDecoder, MixedDecoder
from dlpr.modes.mixed.levels import fine_level, level

__all__ = ["COMPONENT_SLOTS", "FIRST_SETS", "SECOND_SETS", "decode_coefficients", "usual_step"]

# A kind of bits: contexts by input, first set of weights of the first family.
Kind = tuple[tuple[int, ...], int]
CELL: Kind = ((512, 512, 512, 512, 512, 512, 160, 320), 0)
LENGTH: Kind = ((1920, 864, 864, 864, 864, 1152, 1152, 3200), 8)
SIGN: Kind = ((324, 324, 1024, 640, 729, 180, 1024, 20), 56)
DETAIL: Kind = ((120, 36, 432, 36, 360, 432, 432, 432), 57)
FIND: Kind = ((864, 800, 480, 480, 480, 180, 432, 480), 60)
REFINE: Kind = ((320, 96, 96, 96, 160, 96, 96, 96), 68)
KINDS = (CELL, LENGTH, SIGN, DETAIL, FIND, REFINE)
DEPTHS, PLACES = 5, 20
FIRST_SETS, SECOND_SETS = 76, 160
BLOCK_PLAIN, GOLOMB, PLAIN_SLOTS = 256, 288, 480
COMPONENT_SLOTS = sum(sum(contexts) for contexts, _ in KINDS) + PLAIN_SLOTS
"""Slots of a component: kinds, inputs and contexts in order, then those of plain bits."""
LARGEST = (1 << 21) - 1
USUAL = (
    ((8, 0), (8, 0), (8, 0)),
    ((9, 36), (10, 2003), (10, 1890)),
    ((11, 1874), (10, 5), (10, 71)),
    ((12, 1848), (12, 1872), (12, 1896)),
    ((13, 1824), (13, 1792), (13, 1760)),
    ((14, 1824), (14, 1776), (14, 1728)),
)
"""Exponent and mantissa by depth: LL, HL and LH, HH."""
BORDER = 2


def usual_step(wavelet: Wavelet, orientation: int, depth: int) -> tuple[int, int]:
    """Return the step that most encoders take for a band, ``depth`` decompositions away from the samples."""
    if wavelet is Wavelet.REVERSIBLE:
        return 8 + (orientation + 1) // 2, 0
    exponent, mantissa = USUAL[min(depth, 5)][(orientation + 1) // 2]
    return min(exponent + max(depth - 5, 0), 31), mantissa


class _Known:
    """What is known of a band: amplitudes in half steps, signs, bit lengths of cells; with borders of zeros."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.value = np.zeros((rows + 2 * BORDER, columns + 2 * BORDER), np.int64)
        self.sign = np.zeros(self.value.shape, np.int64)
        self.soft = self.value
        self.cell = np.zeros(((rows + 3) // 4 + 2, (columns + 3) // 4 + 2), np.int64)

    def soften(self) -> None:
        """Sum up amplitudes and their neighbours, 16 times their mean."""
        v, soft = self.value, np.zeros_like(self.value)
        inner = soft[1:-1, 1:-1]
        inner += 4 * v[1:-1, 1:-1] + 2 * (v[1:-1, :-2] + v[1:-1, 2:] + v[:-2, 1:-1] + v[2:, 1:-1])
        inner += v[:-2, :-2] + v[:-2, 2:] + v[2:, :-2] + v[2:, 2:]
        soft[:BORDER] = soft[-BORDER:] = 0
        soft[:, :BORDER] = soft[:, -BORDER:] = 0
        self.soft = soft

    def at(self, y: int, x: int) -> tuple[int, int]:
        """Index of a coefficient."""
        return y + BORDER, x + BORDER


def _turned(sign: int, lead: int) -> int:
    """Return a sign as 0, 1, 2, turned if the leading one is negative."""
    return 1 - sign if lead < 0 else 1 + sign


class _Decoder:
    """Decodes the bands of a tile, one after the other."""

    def __init__(self, fields: Fields, mix: MixedDecoder) -> None:
        self.fields, self.mix, self.cls = fields, mix, 0
        self.missing = self.left = 0
        self.band, self.me = fields.bands[0], _Known(0, 0)
        self.q: Coefficients = np.zeros((0, 0), np.int32)
        self.parent: _Known | None = None
        self.one: _Known | None = None
        self.two: _Known | None = None
        self.place = self.full = self.low = 0
        self.rows, self.columns = range(0), range(0)
        self.edges = 0, 0, 0, 0
        self.own: dict[tuple[int, int], int] = {}

    # ---- slots and sets

    def slots(self, kind: Kind, context: tuple[int, ...]) -> list[int]:
        """Return the slots of a kind's contexts."""
        at = self.cls * COMPONENT_SLOTS + sum(sum(contexts) for contexts, _ in KINDS[: KINDS.index(kind)])
        return [at + sum(kind[0][:i]) + context[i] for i in range(INPUTS)]

    def bit(
        self, kind: Kind, context: tuple[int, ...], first: int, second: int, mirror: tuple[bool, ...] = (False,) * 8
    ) -> int:
        """Read a mixed bit."""
        a, b = self.cls * FIRST_SETS + kind[1] + first, self.cls * SECOND_SETS + 8 * self.place + second
        return self.mix.bit(self.slots(kind, context), a, b, mirror)

    def plain(self, i: int) -> int:
        """Read a plain bit of the component."""
        return self.mix.plain((self.cls + 1) * COMPONENT_SLOTS - PLAIN_SLOTS + i)

    def difference(self, code: int) -> int:
        """Read a signed number."""
        m = self.mix.golomb((self.cls + 1) * COMPONENT_SLOTS - PLAIN_SLOTS + GOLOMB + 32 * code)
        return -(m + 1) // 2 if m & 1 else m // 2

    # ---- from the steps down to blocks

    def steps(self) -> Fields:
        """Read the steps of all bands."""
        done: list[tuple[tuple[int, int], ...]] = []
        for k, c in enumerate(self.fields.components):
            self.cls = k
            before = self.fields.components[k - 1] if k else None
            alike = before is not None and (before.levels, before.wavelet) == (c.levels, c.wavelet)
            steps: list[tuple[int, int]] = []
            for b in range(3 * c.levels + 1):
                orientation, depth = ((b - 1) % 3 + 1, c.levels - (b - 1) // 3) if b else (0, c.levels)
                exponent, mantissa = done[-1][b] if alike else usual_step(c.wavelet, orientation, depth)
                exponent += self.difference(4)
                mantissa += 0 if c.wavelet is Wavelet.REVERSIBLE else self.difference(5)
                if not (0 <= exponent <= 31 and 0 <= mantissa <= 2047):
                    raise CorruptError("a step out of range; fetch the stream again")
                steps.append((exponent, mantissa))
            done.append(tuple(steps))
        pairs = zip(self.fields.components, done, strict=True)
        self.fields = replace(self.fields, components=tuple(replace(c, steps=s) for c, s in pairs))
        return self.fields

    def image(self) -> J2kImage:
        """Read all bands."""
        bands = self.fields.bands
        each = sum(3 * c.levels + 1 for c in self.fields.components)
        arrays = [np.zeros(b.shape if all(b.grid) else tuple(max(n, 0) for n in b.shape), np.int32) for b in bands]
        passes = [np.zeros(b.grid, np.uint8) for b in bands]
        missing = [np.zeros(b.grid, np.uint8) for b in bands]
        for tile in range(0, len(bands), each):
            known: list[_Known] = []
            for i in range(each):
                self.band, self.q = bands[tile + i], arrays[tile + i]
                if self.band.resolution == 0:
                    self.missing = self.left = 0
                self.me = _Known(*self.q.shape)
                known.append(self.me)
                if not all(self.band.grid):
                    continue
                self.look_back(known)
                self.blocks(passes[tile + i], missing[tile + i])
                self.me.soften()
        return J2kImage(self.fields, tuple(arrays), tuple(passes), tuple(missing))

    def look_back(self, known: list[_Known]) -> None:
        """Find the bands before that tell of this one: its parent, the same one of other components."""
        b, i = self.band, len(known) - 1
        self.cls = b.component
        depth = self.fields.components[b.component].levels - max(b.resolution - 1, 0)
        self.place = DEPTHS * b.orientation + min(max(depth, 1), DEPTHS) - 1
        self.parent = known[i - 3] if b.resolution >= 2 else None
        if self.parent is not None and 0 in (self.parent.rows, self.parent.columns):
            self.parent = None
        found: list[_Known | None] = [None, None]
        for k in range(b.component):
            at = self.same_place(k)
            if at is not None and (known[at].rows, known[at].columns) == (self.me.rows, self.me.columns):
                found[0 if k == b.component - 1 else 1] = known[at]
        self.one, self.two = found if found[0] is not None else reversed(found)

    def same_place(self, k: int) -> int | None:
        """Return the number in its tile of component k's band of the same orientation and as far from the pixels."""
        b, c, o = self.band, self.fields.components[self.band.component], self.fields.components[k]
        v, h = c.sampling[0] / o.sampling[0], c.sampling[1] / o.sampling[1]
        if v != h or v < 1:
            return None
        resolution = o.levels - (c.levels - b.resolution) - int(v).bit_length() + 1
        if not 0 <= resolution <= o.levels or (resolution == 0) != (b.resolution == 0):
            return None
        before = sum(3 * other.levels + 1 for other in self.fields.components[:k])
        return before + (3 * resolution - 2 if resolution else 0) + max(b.orientation - 1, 0)

    def blocks(self, passes: Counts, missing: Counts) -> None:
        """Read the blocks of a band."""
        behind = 0
        for row, column in self.band.reaching:
            if not self.plain(BLOCK_PLAIN + behind):
                continue
            self.missing += self.difference(behind)
            planes = self.band.planes - self.missing
            if self.missing < 0 or not 1 <= planes <= MAX_PLANES:
                raise CorruptError("a block's planes out of range; fetch the stream again")
            self.left += self.difference(2 + behind)
            n = 3 * planes - 2 - self.left
            if self.left < 0 or n < 1:
                raise CorruptError("a block's passes out of range; fetch the stream again")
            behind = 1
            passes[row, column], missing[row, column] = n, self.missing
            window = self.band.block(row, column)
            self.rows, self.columns = (range(s.start, s.stop) for s in window)
            self.edges = self.band.block_edges(row, column)
            self.full = 1 + (n - 1) // 3
            self.low = planes - self.full
            self.cells()
            self.lengths()
            if (n - 1) % 3:
                self.low -= 1
                before = self.find()
                if (n - 1) % 3 == 2:
                    self.refine(before)

    # ---- complete planes

    def relative(self, length: int) -> int:
        """Bit length above the lowest complete plane, 0..7."""
        return min(max(int(length) - self.low, 0), 7)

    def cells(self) -> None:
        """Read the bit length of the largest magnitude of each 4 x 4."""
        self.own = {}
        cell, low = self.me.cell, self.low
        for cy in range(self.rows[0] // 4, self.rows[-1] // 4 + 1):
            for cx in range(self.columns[0] // 4, self.columns[-1] // 4 + 1):
                y, x = cy + 1, cx + 1
                w, n = self.relative(cell[y, x - 1]), self.relative(cell[y - 1, x])
                ne, nw = self.relative(cell[y - 1, x + 1]), self.relative(cell[y - 1, x - 1])
                p = ps = c1 = c1n = c2 = 0
                if self.parent is not None:
                    a, b = self.parent.at(min(2 * cy, self.parent.rows - 1), min(2 * cx, self.parent.columns - 1))
                    p = self.relative((int(self.parent.value[a : a + 2, b : b + 2].max()) >> 1).bit_length())
                    ps = fine_level(int(self.parent.soft[a : a + 2, b : b + 2].sum()) >> low >> 2)
                if self.one is not None:
                    o = self.one.cell
                    c1 = self.relative(o[y, x])
                    c1n = self.relative(max(o[y, x - 1], o[y, x + 1], o[y - 1, x], o[y + 1, x]))
                if self.two is not None:
                    c2 = self.relative(self.two.cell[y, x])
                got = 0
                while got < self.full:
                    i, k = min(got, 7), min(self.full - got, 7)
                    context = (
                        64 * i + 8 * w + n,
                        64 * i + 8 * ((ne + nw + 1) >> 1) + ((w + n + 1) >> 1),
                        64 * i + 8 * p + max(w, n),
                        64 * i + 8 * p + ne if self.one is None else 64 * i + 8 * c1 + c2,
                        64 * i + 8 * c1 + c1n,
                        64 * i + 8 * p + c1,
                        PLACES * k + self.place,
                        40 * i + ps,
                    )
                    if not self.bit(CELL, context, i, 0):
                        break
                    got += 1
                self.own[cy, cx] = got
                if got:
                    cell[y, x] = max(int(cell[y, x]), got + low)

    def before(self, y: int, x: int) -> tuple[int, int, int, int]:
        """Amplitudes in bands before: parent, component before, around it, the other component."""
        parent = one = around = two = 0
        if self.parent is not None:
            at = self.parent.at(min(y >> 1, self.parent.rows - 1), min(x >> 1, self.parent.columns - 1))
            parent = int(self.parent.soft[at])
        if self.one is not None:
            one, around = int(self.one.value[self.me.at(y, x)]), int(self.one.soft[self.me.at(y, x)])
        if self.two is not None:
            two = int(self.two.value[self.me.at(y, x)])
        return parent, one, around, two

    def sign(self, n: int, y: int, x: int) -> int:
        """Read the sign of a coefficient of bit length n; 1: negative."""
        s, v, low, size = self.me.sign, self.me.value, self.low, min(n, 3)
        a, b = self.me.at(y, x)

        def at(dy: int, dx: int) -> int:
            return int(s[a + dy, b + dx])

        west, east, north, south = at(0, -1), at(0, 1), at(-1, 0), at(1, 0)
        s1 = l1 = s2 = l2 = 0
        if self.one is not None:
            s1, l1 = int(self.one.sign[a, b]), min(level(int(self.one.value[a, b]) >> low), 7)
        if self.two is not None:
            s2, l2 = int(self.two.sign[a, b]), min(level(int(self.two.value[a, b]) >> low), 7)
        across, down = west or east, north or south
        lead, other = across or down, s1 or s2
        six_signs = (north, west, at(-2, 0), at(0, -2), at(-1, -1), at(-1, 1))
        causal = next((sign for sign in six_signs if sign), 0)
        h = west * int(v[a, b - 1]) + east * int(v[a, b + 1])
        d = north * int(v[a - 1, b]) + south * int(v[a + 1, b])
        total = h or d
        hl, dl = min(level(abs(h) >> low), 7), min(level(abs(d) >> low), 7)
        near = six = 0
        for sign in (west, east, north, south):
            near = 3 * near + _turned(sign, lead)
        for sign in six_signs:
            six = 3 * six + _turned(sign, causal)
        cross = 9 * (3 * _turned(s1, lead) + _turned(s2, lead)) + 3 * _turned(across, lead) + _turned(down, lead)
        o = self.band.orientation
        context = (
            4 * near + o,
            4 * cross + o,
            16 * (8 * l1 + l2) + 8 * (s1 * s2 < 0) + 4 * (s1 != 0) + size,
            PLACES * (4 * l2 + size) + self.place,
            six,
            PLACES * (six // 81) + self.place,
            16 * (8 * hl + dl) + 8 * (h != 0) + 4 * ((d < 0) != (total < 0)) + o,
            self.place,
        )
        mirror = (lead < 0, lead < 0, other < 0, s2 < 0, causal < 0, causal < 0, total < 0, False)
        return self.bit(SIGN, context, 0, 1, mirror)

    def lengths(self) -> None:
        """Read the coefficients of the complete planes: bit lengths, signs, the bits below the first."""
        v, cell, low, o = self.me.value, self.me.cell, self.low, self.band.orientation
        weights = {1: (3, 6, 1, 2), 2: (6, 3, 2, 1)}.get(o, (4, 4, 2, 2))
        left: dict[tuple[int, int], list[int]] = {}
        for y in self.rows:
            for x in self.columns:
                left.setdefault((y >> 2, x >> 2), [0, 0, 0])[0] += 1  # open, filled, reached
        for y in self.rows:
            for x in self.columns:
                place = y >> 2, x >> 2
                most = self.own[place]
                if not most:
                    continue
                count = left[place]
                east = max(int(cell[place[0] + 1, place[1] + 2]) - low, 0)
                south = max(int(cell[place[0] + 2, place[1] + 1]) - low, 0)
                a, b = self.me.at(y, x)
                w, n, ww, nn = int(v[a, b - 1]), int(v[a - 1, b]), int(v[a, b - 2]), int(v[a - 2, b])
                corners = int(v[a - 1, b - 1]) + int(v[a - 1, b + 1])
                total = weights[0] * w + weights[1] * n + 2 * corners + weights[2] * ww + weights[3] * nn
                parent, one, around, two = tells = self.before(y, x)
                length = 0
                while length < most:
                    if length == most - 1 and count[0] == 1 and not count[2]:
                        length = most
                        break
                    sh, rest, i = low + length, min(most - length, 5), min(length, 3)
                    s, p, n1, n2 = (level(t >> sh) for t in (total >> 3, parent >> 4, one, around >> 3))
                    e, so = min(max(east - length, 0), 3), min(max(south - length, 0), 3)
                    if self.one is not None:
                        fourth = 12 * (12 * rest + n1) + n2
                        fifth = 12 * (12 * rest + n2) + s
                    else:
                        fourth = 12 * (12 * rest + p) + min(3 * e + so, 11)
                        fifth = 12 * (12 * rest + level(corners >> sh)) + level((ww + nn) >> sh)
                    if self.two is not None:
                        fifth = 12 * (12 * rest + level(two >> sh)) + n2
                    context = (
                        40 * (8 * rest + 2 * i + count[2]) + fine_level(total >> sh >> 2),
                        12 * (12 * rest + level(w >> sh)) + level(n >> sh),
                        12 * (12 * rest + p) + s,
                        fourth,
                        fifth,
                        16 * (12 * rest + min(count[1], 11)) + count[0] - 1,
                        12 * (4 * (4 * rest + e) + so) + s,
                        40 * (4 * self.place + i) + fine_level((2 * total + parent + around) >> sh >> 4),
                    )
                    if not self.bit(LENGTH, context, 6 * min(length, 7) + rest, 2 + i):
                        break
                    length += 1
                count[0] -= 1
                if length:
                    count[1] += 1
                    count[2] |= length == most
                    minus = self.sign(length, y, x)
                    magnitude = self.details(length, total, w, n, tells)
                    self.put(y, x, minus, magnitude << low, low)

    def put(self, y: int, x: int, minus: int, magnitude: int, lowest: int) -> None:
        """Keep a coefficient that is known down to a plane."""
        at = self.me.at(y, x)
        self.q[y, x] = -magnitude if minus else magnitude
        self.me.value[at] = min(2 * magnitude + (1 << lowest), LARGEST)
        self.me.sign[at] = -1 if minus else 1

    def details(self, n: int, total: int, west: int, north: int, tells: tuple[int, int, int, int]) -> int:
        """Read the bits of a magnitude of n bits behind the first."""
        got, sh = 1, self.low + n - 1
        parent, one, around, two = tells
        for j in reversed(range(n - 1)):
            if j < n - 3:
                got = got << 1 | self.plain(16 * min(n, 15) + min(j, 15))
                continue
            base = 0 if j == n - 2 else 1 + (got & 1)
            s, p, r = level(total >> sh >> 2), level(parent >> sh >> 3), level(around >> sh >> 2)
            context = (
                40 * base + fine_level(total >> sh >> 1),
                12 * base + p,
                12 * (12 * base + level(2 * one >> sh)) + level(2 * two >> sh),
                12 * base + r,
                PLACES * (6 * base + min(n, 5)) + self.place,
                12 * (12 * base + level(2 * west >> sh)) + level(2 * north >> sh),
                12 * (12 * base + s) + p,
                12 * (12 * base + s) + r,
            )
            got = got << 1 | self.bit(DETAIL, context, base, 6)
        return got

    # ---- the passes of the plane below

    def around(self, y: int, x: int) -> tuple[int, int, int, int]:
        """Sums of the amplitudes along and across the band's structures, at the corners, further away."""
        v, (a, b) = self.me.value, self.me.at(y, x)
        across, down = int(v[a, b - 1] + v[a, b + 1]), int(v[a - 1, b] + v[a + 1, b])
        corners = int(v[a - 1, b - 1] + v[a - 1, b + 1] + v[a + 1, b - 1] + v[a + 1, b + 1])
        far = int(v[a, b - 2] + v[a, b + 2] + v[a - 2, b] + v[a + 2, b])
        return (down, across, corners, far) if self.band.orientation == 1 else (across, down, corners, far)

    def find(self) -> Ints:
        """Read the significance pass; what was significant before it."""
        top, left, low = self.rows[0], self.columns[0], self.low
        blind = self.fields.components[self.band.component].causal
        found = np.zeros((len(self.rows) + 2, len(self.columns) + 2), np.int64)
        a, b = self.me.at(top, left)
        found[1:-1, 1:-1] = self.me.value[a : a + len(self.rows), b : b + len(self.columns)] != 0
        before = found.copy()
        stripes: dict[int, list[int]] = {}
        for y in range(len(self.rows)):
            stripes.setdefault((top + y - self.edges[0]) // 4, []).append(y)
        for stripe in stripes.values():
            for x in range(len(self.columns)):
                for y in stripe:
                    s = found[y : y + 3, x : x + 3].copy()
                    if blind and (top + y - self.edges[0]) % 4 == 3:
                        s[2] = 0
                    across, down = int(s[1, 0] + s[1, 2]), int(s[0, 1] + s[2, 1])
                    corners = int(s[0, 0] + s[0, 2] + s[2, 0] + s[2, 2])
                    if s[1, 1] or not (across + down + corners or self.is_rim(top + y, left + x)):
                        continue
                    if self.found(top + y, left + x, across, down, corners):
                        found[y + 1, x + 1] = 1
                        self.put(top + y, left + x, self.sign(0, top + y, left + x), 1 << low, low)
                        cell = (top + y) // 4 + 1, (left + x) // 4 + 1
                        self.me.cell[cell] = max(int(self.me.cell[cell]), low + 1)
        return before

    def is_rim(self, y: int, x: int) -> bool:
        """Whether a coefficient or a neighbour of it in its block does not lie in the window."""
        (top, left, bottom, right), inner = self.edges, self.band.inner
        rows = max(y - 1, top) < inner[0] or min(y + 2, bottom) > inner[2]
        return rows or max(x - 1, left) < inner[1] or min(x + 2, right) > inner[3]

    def found(self, y: int, x: int, across: int, down: int, corners: int) -> int:
        """Read whether a coefficient becomes significant; the numbers of its neighbours that are."""
        o, low = self.band.orientation, self.low
        if o == 1:
            across, down = down, across
        along, other, diagonal, further = self.around(y, x)
        total = 3 * along + 2 * other + diagonal
        parent, one, around, two = self.before(y, x)
        e, f = fine_level(total >> low >> 1), level(further >> low >> 1)
        p, n1, n2, n3 = (level(t >> low) for t in (parent >> 3, one, two, around >> 3))
        context = (
            6 * (12 * level(along >> low) + level(other >> low)) + min(level(diagonal >> low), 5),
            40 * self.place + e,
            40 * p + e,
            40 * (f if self.one is None else n3) + e,
            40 * (n1 if self.two is None else n2) + e,
            4 * (5 * (3 * across + down) + corners) + o,
            12 * p + f if self.one is None else 3 * (12 * n1 + n2) + min(n3, 2),
            40 * f + fine_level((2 * total + parent + around) >> low >> 3),
        )
        return self.bit(FIND, context, min(across + down + corners, 7), 7)

    def refine(self, before: Ints) -> None:
        """Read the refinement pass."""
        low = self.low
        for i, y in enumerate(self.rows):
            for j, x in enumerate(self.columns):
                if not before[i + 1, j + 1]:
                    continue
                along, other, diagonal, _ = self.around(y, x)
                known = abs(int(self.q[y, x])) >> (low + 1)
                m = min(known, 7)
                parent, one, around, two = self.before(y, x)
                context = (
                    40 * m + fine_level((3 * along + 2 * other + diagonal) >> low >> 3),
                    12 * m + level(parent >> low >> 5),
                    12 * m + level(one >> low >> 1),
                    12 * m + level(around >> low >> 5),
                    PLACES * m + self.place,
                    12 * m + level(two >> low >> 1),
                    12 * m + level(along >> low >> 1),
                    12 * m + level(other >> low >> 1),
                )
                magnitude = (2 * known + self.bit(REFINE, context, m, 7)) << low
                self.put(y, x, int(self.q[y, x] < 0), magnitude, low)


def decode_coefficients(fields: Fields, lane: Buffer) -> J2kImage:
    """Decode the lane of a lossy part.

    Parameters
    ----------
    fields : Fields
        As the stream's header gives them, with any steps.
    lane : bytes-like

    Returns
    -------
    J2kImage
        With the steps, passes and coefficients of the stream.

    Raises
    ------
    CorruptError
        A lane that no encoder writes.
    """
    bits = BitDecoder(lane)
    decoder = _Decoder(fields, MixedDecoder(bits, len(fields.components) * FIRST_SETS))
    blocks = sum(band.reaching_blocks for band in decoder.steps().bands)
    if blocks // 8192 > len(lane):  # a block has a bit at least, and no bit costs less than 1/1500
        raise CorruptError(f"{blocks} blocks in {len(lane)} bytes; fetch the stream again")
    image = decoder.image()
    bits.finish()
    return image
