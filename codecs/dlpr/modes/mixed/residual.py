"""Decoder of what a lossy image lacks of the pixels (docs/format section 19), in Python integers."""

from __future__ import annotations

import numpy as np

from dlpr.arrays import Buffer, Bytes8, Ints
from dlpr.errors import CorruptError
from dlpr.modes.mixed.arithmetic import INPUTS, UNARY, BitDecoder, MixedDecoder
from dlpr.modes.mixed.levels import level, limited

__all__ = ["decode_residual"]

FLAG = (1, 4, 16, 64, 5, 4, 16, 1)
"""Contexts of the flags of blocks, for each input; those of the samples follow."""
SAMPLE = (36, 147, 36, 468, 144, 144, 192, 108)
DOUBT = (384, 147, 384, 468, 288, 144, 768, 108)
"""The same where doubts are known."""
SLOTS = 16
"""Of a context: zero, sign, 7 of the magnitude when the sign is as expected, 7 when it is not."""


def _starts(contexts: tuple[int, ...]) -> tuple[int, ...]:
    """First slot of each input, and of the Exp-Golomb codes."""
    return tuple(SLOTS * (sum(FLAG[:i]) + sum(contexts[:i])) for i in range(INPUTS + 1))


START, DOUBT_START = _starts(SAMPLE), _starts(DOUBT)


def decode_residual(part: Buffer, lossy: Bytes8, phase: tuple[int, int], doubts: Bytes8 | None = None) -> Ints:
    """Decode the symbols of a residual part.

    Parameters
    ----------
    part : bytes-like
        The residual part; empty where all symbols are zero.
    lossy : numpy.ndarray
        Samples of the lossy image, uint8 [H, W, channels], coding order.
    phase : tuple of int
        Row and column of the first sample in the grid of 8 x 8 blocks.
    doubts : numpy.ndarray, optional
        How near each sample came to the next one (J2), uint8, shaped like ``lossy``: in mode j2k.

    Returns
    -------
    numpy.ndarray
        Symbols, int64, shaped like ``lossy``.
    """
    height, width, channels = lossy.shape
    q = np.zeros((height + 1, width + 1, channels), np.int64)  # a row above, a column to the left
    if len(part) == 0:
        return q[1:, 1:]
    bits = BitDecoder(part)
    mix = MixedDecoder(bits, 28)
    start, flag_set = (START, 16) if doubts is None else (DOUBT_START, 32)
    flags: dict[tuple[int, int], int] = {}
    for by in range(phase[0] // 8, (phase[0] + height + 7) // 8):
        y0, y1 = max(8 * by - phase[0], 0), min(8 * by + 8 - phase[0], height)
        for bx in range(phase[1] // 8, (phase[1] + width + 7) // 8):
            x0, x1 = max(8 * bx - phase[1], 0), min(8 * bx + 8 - phase[1], width)
            b, a = flags.get((by, bx - 1), 0), flags.get((by - 1, bx), 0)
            al, ar = flags.get((by - 1, bx - 1), 0), flags.get((by - 1, bx + 1), 0)
            sides = (y0 == 0) | (x0 == 0) << 1 | (y1 == height) << 2 | (x1 == width) << 3
            near = 2 * b + a
            context = (0, near, sides, 4 * sides + near, a + b + al + ar, 2 * al + ar, 4 * near + 2 * al + ar, 0)
            flags[by, bx] = mix.bit([start[i] + SLOTS * context[i] for i in range(INPUTS)], 27, flag_set)
            if flags[by, bx]:
                for y in range(y0, y1):
                    for x in range(x0, x1):
                        for c in range(channels):
                            q[y + 1, x + 1, c] = _symbol(mix, q, lossy, phase, doubts, (y, x, c))
    bits.finish()
    return q[1:, 1:]


def _symbol(
    mix: MixedDecoder,
    q: Ints,
    lossy: Bytes8,
    phase: tuple[int, int],
    doubts: Bytes8 | None,
    place: tuple[int, int, int],
) -> int:
    """Decode one symbol."""
    y, x, c = place
    height, width, _ = lossy.shape
    w, n, nw = int(q[y + 1, x, c]), int(q[y, x + 1, c]), int(q[y, x, c])
    p1, p2 = int(q[y + 1, x + 1, c - 1]) if c else 0, int(q[y + 1, x + 1, 0]) if c == 2 else 0
    l1, l2, m = level(abs(w) + abs(n)), level(abs(w) + abs(n) + abs(nw)), abs(p1)
    lead, other = w or n, p1 or p2
    sign = -1 if lead < 0 else 1
    edge = min(x, width - 1 - x, y, height - 1 - y)
    far, end = min(edge, 3), {0: 1, 255: 2}.get(int(lossy[y, x, c]), 0)
    context = [
        12 * c + l1,
        (7 * c + sign * limited(w, 3) + 3) * 7 + sign * limited(n, 3) + 3,
        12 * c + level(m),
        (12 * c + level(m)) * 13 + (-1 if other < 0 else 1) * limited(p2, 6) + 6,
        (4 * c + far) * 12 + l2,
        (12 * c + l2) * 4 + min(3, m),
        64 * c + 8 * ((phase[0] + y) & 7) + ((phase[1] + x) & 7),
        (3 * c + end) * 12 + l1,
    ]
    first, second, start, turned = 9 * c, min(3, l2) + 4 * min(3, m), START, False
    if doubts is not None:
        near, turned = int(doubts[place]) & 31, bool(doubts[place] & 128)
        doubt, inner = 32 * c + near, min(edge.bit_length(), 7)
        context[0], context[2] = 4 * doubt + min(3, l1), 4 * doubt + min(3, m)
        context[4], context[6] = 12 * (8 * c + inner) + l2, 8 * doubt + inner
        second, start = min(3, l2) + 4 * (near >> 2), DOUBT_START
    at = [start[i] + SLOTS * (FLAG[i] + context[i]) for i in range(INPUTS)]
    mirror = (turned, lead < 0, p1 < 0, other < 0, False, w + n < 0, turned, False)
    if not mix.bit(at, first, second):
        return 0
    minus = mix.bit([i + 1 for i in at], first + 1, second, mirror)
    places = [i + 2 + UNARY * (bool(minus) != less) for i, less in zip(at, mirror, strict=True)]
    size = mix.magnitude(places, first + 2, second, start[INPUTS] + 32 * c)
    value = -size if minus else size
    if abs(value) > 255:
        raise CorruptError("a residual out of range; fetch the stream again")
    return value
