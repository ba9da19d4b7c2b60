"""One inverse 9/7 decomposition of a decoder that rounds each resolution to whole numbers (docs/format J2).

Found from pixels (docs/decisions/0018): products of 16-bit numbers rounded down, three to five bits behind the point.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["WHOLE", "whole_pass", "wrap"]

Ints = npt.NDArray[np.int64]

WHOLE = 5
"""Bits behind the point of what the passes return."""

_K, _HIGH, _DELTA, _GAMMA, _BETA, _ALPHA = 20155, 26637, 14533, 28931, -13887, -12993
"""K 2**14, 2**15 / K, delta 2**15, gamma 2**15, beta 2**18 and alpha 2**13, nearly: to the digit that pixels tell."""


def wrap(values: Ints) -> Ints:
    """Values modulo 2**32, as int32 holds them."""
    return values.astype(np.uint64).astype(np.uint32).astype(np.int32).astype(np.int64)


def _times(values: Ints, factor: int, shift: int, half: bool = False) -> Ints:
    """Values times factor / 2**shift, rounded down, or to the nearest."""
    return wrap((values * factor + (1 << (shift - 1) if half else 0)) >> shift)


class _Lines:
    """Low and high lines side by side; those beyond the ends are mirrored."""

    def __init__(self, low: Ints, high: Ints, start: int) -> None:
        self.odd, self.lows, self.highs = start % 2, len(low), len(high)

    def around_lows(self, high: Ints) -> Ints:
        """Sum of the high lines before and behind each low one."""
        return self._sum(high, np.arange(self.lows) - (1 - self.odd))

    def around_highs(self, low: Ints) -> Ints:
        """Sum of the low lines before and behind each high one."""
        return self._sum(low, np.arange(self.highs) - self.odd)

    @staticmethod
    def _sum(lines: Ints, before: npt.NDArray[np.intp]) -> Ints:
        return wrap(lines[np.maximum(before, 0)] + lines[np.minimum(before + 1, len(lines) - 1)])

    def joined(self, low: Ints, high: Ints) -> Ints:
        """Interleave."""
        out = np.zeros((self.lows + self.highs, *low.shape[1:]), np.int64)
        out[self.odd :: 2], out[1 - self.odd :: 2] = low, high
        return out


def whole_pass(low: Ints, high: Ints, start: int, count: int, columns: bool) -> Ints:
    """Undo one pass along the first axis: along rows of pixels, or along columns, which comes after.

    Parameters
    ----------
    low, high : numpy.ndarray
        int64 [lines, ...] in the range of int32: whole numbers, or, for columns, what the pass along rows returns.
    start : int
        Coordinate of the first line of the result.
    count : int
        Lines of the result.
    columns : bool

    Returns
    -------
    numpy.ndarray
        int64 [count, ...] with `WHOLE` bits behind the point.
    """
    more = int(columns)  # columns have a bit more than rows until the last step but one
    if count <= 1:
        only = low if len(low) else high
        return only if columns else wrap(only << WHOLE)
    lines = _Lines(low, high, start)
    low, high = _times(low, _K, 15 if columns else 10), _times(high, _HIGH, 15 if columns else 11)
    low = wrap((low << more) - _times(lines.around_lows(high), _DELTA, 15))
    high = wrap((wrap(high + 1) >> 1) - _times(lines.around_highs(low), _GAMMA, 16))
    low = wrap((low << 1 - more) - _times(lines.around_lows(high), _BETA, 16 + more, half=columns))
    high = wrap(high - (_times(lines.around_highs(low), _ALPHA, 15) << more))
    return lines.joined(low, wrap(high << 2 - more))
