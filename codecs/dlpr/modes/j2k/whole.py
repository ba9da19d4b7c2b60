"""One inverse 9/7 decomposition of a decoder that rounds each resolution to whole numbers (docs/format J2).

Found from pixels (docs/decisions/0018): products of 16-bit numbers rounded down, three to five bits behind the point.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["WHOLE", "whole_columns", "whole_rows"]

Ints = npt.NDArray[np.int64]

WHOLE = 5
"""Bits behind the point of what the passes return."""

_K, _HIGH, _DELTA, _GAMMA, _BETA, _ALPHA = 20155, 26636, 14532, 28931, -13887, -12993
"""K 2**14, 2**15 / K, delta 2**15, gamma 2**15, beta 2**18 and alpha 2**13, cut off."""


def _wrap(values: Ints) -> Ints:
    """Values modulo 2**32, as int32 holds them."""
    return values.astype(np.uint64).astype(np.uint32).astype(np.int32).astype(np.int64)


def _times(values: Ints, factor: int, shift: int, half: bool = False) -> Ints:
    """Values times factor / 2**shift, rounded down, or to the nearest."""
    return _wrap((values * factor + (1 << (shift - 1) if half else 0)) >> shift)


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
        return _wrap(lines[np.maximum(before, 0)] + lines[np.minimum(before + 1, len(lines) - 1)])

    def joined(self, low: Ints, high: Ints) -> Ints:
        """Interleave."""
        out = np.zeros((self.lows + self.highs, *low.shape[1:]), np.int64)
        out[self.odd :: 2], out[1 - self.odd :: 2] = low, high
        return out


def _single(low: Ints, high: Ints) -> Ints:
    """The only line there is, as it is."""
    return low if len(low) else high


def whole_rows(low: Ints, high: Ints, start: int, count: int) -> Ints:
    """Undo the pass along rows, here along the first axis.

    Parameters
    ----------
    low, high : numpy.ndarray
        int64 [lines, ...], whole numbers in the range of int32.
    start : int
        Coordinate of the first line of the result.
    count : int
        Lines of the result.

    Returns
    -------
    numpy.ndarray
        int64 [count, ...] with `WHOLE` bits behind the point.
    """
    if count <= 1:
        return _wrap(_single(low, high) << WHOLE)
    lines = _Lines(low, high, start)
    low, high = _times(low, _K, 10), _times(high, _HIGH, 11)
    low = _wrap(low - _times(lines.around_lows(high), _DELTA, 15))
    high = _wrap((_wrap(high + 1) >> 1) - _times(lines.around_highs(low), _GAMMA, 16))
    low = _wrap(2 * low - _times(lines.around_lows(high), _BETA, 16))
    high = _wrap(high - _times(lines.around_highs(low), _ALPHA, 15))
    return lines.joined(low, _wrap(4 * high))


def whole_columns(low: Ints, high: Ints, start: int, count: int) -> Ints:
    """Undo the pass along columns, the first axis, after that along rows.

    Parameters
    ----------
    low, high : numpy.ndarray
        int64 [lines, ...] as `whole_rows` returns them.
    start : int
        Coordinate of the first line of the result.
    count : int
        Lines of the result.

    Returns
    -------
    numpy.ndarray
        int64 [count, ...] with `WHOLE` bits behind the point.
    """
    if count <= 1:
        return _single(low, high)
    lines = _Lines(low, high, start)
    low, high = _times(low, _K, 15), _times(high, _HIGH, 15)
    low = _wrap(2 * low - _times(lines.around_lows(high), _DELTA, 15))
    high = _wrap((_wrap(high + 1) >> 1) - _times(lines.around_highs(low), _GAMMA, 16))
    low = _wrap(low - _times(lines.around_lows(high), _BETA, 17, half=True))
    high = _wrap(high - 2 * _times(lines.around_highs(low), _ALPHA, 15))
    return lines.joined(low, _wrap(2 * high))
