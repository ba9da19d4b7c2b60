"""What is seen of one component of a codec's tile, and the coefficients that fit it (docs/decisions/0018)."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dlpr._native import wave_fit, wave_forward, wave_seen, wave_settle, wave_whole

__all__ = ["LEVELS", "NORMS", "WHOLE_GAIN", "Floats", "SeenPart", "TileShape", "tile_shape"]

Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Rect: TypeAlias = tuple[int, int, int, int]
Ints: TypeAlias = npt.NDArray[np.int64]

LEVELS = 4
"""Most decompositions of the search. What the LL of a deeper codec holds at the last one is coded as it is."""
_MOST = 0.3
"""Share of a coefficient's reach in which samples that were cut off make it uncertain."""
WHOLE_GAIN = (1, 2, 2, 4)
"""Whole numbers for each grey level, by orientation: what the decoder of whole numbers counts coefficients in."""
_LIFTING = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
_K = 1.230174104914001


def _inverse_line(low: Floats, high: Floats, start: int) -> Floats:
    """One inverse 9/7 pass along the first axis."""
    n = len(low) + len(high)
    x = np.zeros((n, *low.shape[1:]))
    lows, highs = slice(start % 2, None, 2), slice(1 - start % 2, None, 2)
    if n == 1:
        x[lows], x[highs] = low, high
        return x
    x[lows], x[highs] = low * _K, high * (2 / _K)
    at = np.arange(n)
    for lines, factor in ((lows, 3), (highs, 2), (lows, 1), (highs, 0)):
        here = at[lines]
        after = np.where(here + 1 >= n, n - 2, here + 1)
        x[lines] -= _LIFTING[factor] * (x[np.abs(here - 1)] + x[after])
    return x


def _norms() -> dict[tuple[int, int], float]:
    """Length of each band's basis functions: by depth and orientation."""
    out = {}
    for depth in range(1, LEVELS + 1):
        lengths = []
        for high in (0, 1):
            pair = [np.zeros(512 >> depth), np.zeros(512 >> depth)]
            pair[high][(512 >> depth) // 2] = 1
            x = _inverse_line(pair[0], pair[1], 0)
            for _ in range(depth - 1):
                x = _inverse_line(x, np.zeros_like(x), 0)
            lengths.append(float(np.sqrt((x**2).sum())))
        for orientation in range(4):
            out[depth, orientation] = lengths[orientation >> 1] * lengths[orientation & 1]
    return out


NORMS = _norms()
"""Length of the basis functions of (depth, orientation); a coefficient times it is *normed*, alike in all bands."""


def _up(value: int, depth: int) -> int:
    return -((-value) >> depth)


class TileShape:
    """Everything about a tile and the rectangle seen of it that the samples do not decide.

    Arrays hold a value for each coefficient, in the order of the native code: LL, then HL, LH, HH of each depth from 1.

    Parameters
    ----------
    tile : tuple of int
        Top, left, bottom, right of the tile, or of what is near enough to be seen; code blocks begin at multiples of
        64 coefficients.
    seen : tuple of int
        The rectangle seen, in the tile.
    levels : int
        Number of decompositions, at most `LEVELS`.
    """

    def __init__(self, tile: Rect, seen: Rect, levels: int) -> None:
        self.tile, self.seen, self.levels = tile, seen, levels
        rows, columns = (self._axis(tile[a], tile[a + 2], seen[a], seen[a + 2], levels) for a in (0, 1))
        self.places = [(levels, 0), *((d, o) for d in range(1, levels + 1) for o in (1, 2, 3))]
        self.shapes = {}
        self._made_of = {(d, o): (*rows[d, o >> 1][4:], *columns[d, o & 1][4:]) for d, o in self.places}
        parts: dict[str, list[npt.NDArray[np.generic]]] = {
            name: [] for name in ("depth", "orientation", "norm", "energy", "share", "inside", "distance", "block")
        }
        for depth, orientation in self.places:
            y, x = rows[depth, orientation >> 1], columns[depth, orientation & 1]
            shape = len(y[0]), len(x[0])
            self.shapes[depth, orientation] = shape
            energy = y[0][:, None] * x[0]
            half = 1 << depth >> 1
            first = _up(tile[0] - half * (orientation >> 1), depth), _up(tile[1] - half * (orientation & 1), depth)
            numbers = [(start + np.arange(n)) // 64 - start // 64 for start, n in zip(first, shape, strict=True)]
            block = numbers[0][:, None] * 4096 + numbers[1]
            values = {
                "depth": np.full(shape, depth),
                "orientation": np.full(shape, orientation),
                "norm": np.full(shape, NORMS[depth, orientation]),
                "energy": energy,
                "share": energy / (y[1][:, None] * x[1]),
                "inside": y[2][:, None] & x[2],
                "distance": np.minimum(y[3][:, None], x[3]),
                "block": block,
            }
            for name, value in values.items():
                parts[name].append(np.asarray(value).ravel())
        joined = {name: np.concatenate(values) for name, values in parts.items()}
        self.depth: npt.NDArray[np.int64] = joined["depth"]
        self.orientation: npt.NDArray[np.int64] = joined["orientation"]
        self.norm: Floats = joined["norm"]
        self.energy: Floats = joined["energy"]
        """Squared effect of a coefficient of 1 on what is seen."""
        self.share: Floats = joined["share"]
        """The share of a basis function's energy that is seen."""
        self.inside: Flags = joined["inside"]
        """What the samples seen give exactly."""
        steps = np.floor(np.clip(2 * joined["distance"], -8, 15)).astype(np.int64) + 8
        self.bands: dict[tuple[int, int], slice] = {}
        """Where the coefficients of (depth, orientation) lie."""
        self.blocks: list[tuple[int, int, npt.NDArray[np.intp]]] = []
        """Depth, orientation and places of each code block, but for those of LL."""
        start = 0
        for place in self.places:
            stop = start + self.shapes[place][0] * self.shapes[place][1]
            self.bands[place], block = slice(start, stop), joined["block"][start:stop]
            if place[1]:
                self.blocks += [(*place, start + np.flatnonzero(block == b)) for b in np.unique(block)]
            start = stop
        self.group = (self.depth * 4 + self.orientation) * 32 + steps
        """Coefficients of a band that are as far from where the view ends."""

    def exact(self, valid: Flags) -> Flags:
        """Return what of `inside` is made of samples that were not cut off."""
        if valid.all():
            return self.inside
        sums = np.pad(np.cumsum(np.cumsum(~valid, 0), 1), ((1, 0), (1, 0)))
        bad = []
        for place in self.places:
            y0, y1, x0, x1 = self._made_of[place]
            count = sums[np.ix_(y1, x1)] - sums[np.ix_(y0, x1)] - sums[np.ix_(y1, x0)] + sums[np.ix_(y0, x0)]
            bad.append(count.ravel() > 0)
        return np.asarray(self.inside & ~np.concatenate(bad))

    @staticmethod
    def _axis(
        start: int, stop: int, first: int, end: int, levels: int
    ) -> dict[tuple[int, int], tuple[Floats, Floats, Flags, Floats, Ints, Ints]]:
        """Of low and high lines of each depth: what is said of coefficients above, and where they begin and end.

        Energy seen, energy, exactly known, distance in samples of the depth; of what is seen, the first of the samples
        that they are mostly made of and behind the last.
        """
        out = {}
        seen = np.zeros(stop - start, np.bool_)
        seen[first - start : end - start] = True
        edges = [(_up(start, d), _up(stop, d)) for d in range(levels + 1)]
        for depth in range(1, levels + 1):
            lows = edges[depth][1] - edges[depth][0]
            highs = edges[depth - 1][1] - edges[depth - 1][0] - lows
            for high in (0, 1):
                n = highs if high else lows
                unit, none = np.eye(n), np.zeros((lows if high else highs, n))
                x = _inverse_line(none if high else unit, unit if high else none, edges[depth - 1][0])
                for d in range(depth - 1, 0, -1):
                    missing = edges[d - 1][1] - edges[d - 1][0] - (edges[d][1] - edges[d][0])
                    x = _inverse_line(x, np.zeros((missing, n)), edges[d - 1][0])
                half = (1 << depth) >> 1
                at = (_up(start - half * high, depth) + np.arange(n)) * (1 << depth) + half * high
                reach = 4 * (half - 1) + 3 * half if high else 4 * (2 * half - 1)
                known = ((at - reach >= first) | (first <= start)) & ((at + reach < end) | (end >= stop))
                distance = np.full(n, 9.0)
                if first > start:
                    distance = np.minimum(distance, (at - first) / (1 << depth))
                if end < stop:
                    distance = np.minimum(distance, (end - 1 - at) / (1 << depth))
                out[depth, high] = (
                    (x[seen] ** 2).sum(0),
                    (x**2).sum(0),
                    known & (at >= first) & (at < end),
                    distance,
                    np.clip(at - reach * _MOST - first, 0, end - first).astype(np.int64),
                    np.clip(at + reach * _MOST + 1 - first, 0, end - first).astype(np.int64),
                )
        return out


@lru_cache(maxsize=64)
def tile_shape(tile: Rect, seen: Rect, levels: int = LEVELS) -> TileShape:
    """Return the shape, kept for the next chunk that is cut alike."""
    return TileShape(tile, seen, levels)


class SeenPart:
    """A component's samples in what is seen of a tile, and the coefficients found so far.

    Parameters
    ----------
    component : int
    tile, seen : tuple of int
        As of `TileShape`.
    samples : numpy.ndarray
        float64 [rows, columns], level 128 taken off.
    weights : numpy.ndarray
        bool, the same shape: False where a sample was cut off at 0 or 255; or float, how much it is to be believed.
    noise : float
        Deviation of the samples from the decoder's, in levels.
    levels : int
        Number of decompositions.
    whole : bool
        The decoder rounds every resolution to whole numbers.
    above : int
        Decompositions between the component's samples and these, which are LL of that depth.
    """

    def __init__(
        self,
        component: int,
        tile: Rect,
        seen: Rect,
        samples: Floats,
        weights: Flags | Floats,
        noise: float,
        levels: int,
        whole: bool = False,
        above: int = 0,
    ) -> None:
        self.component, self.noise, self.whole, self.above = component, noise, whole, above
        self.shape = tile_shape(tile, seen, levels)
        believed = weights >= 1
        self.exact: Flags = self.shape.exact(believed)
        """Coefficients that the samples give exactly, up to their rounding."""
        self._weights = np.ascontiguousarray(weights, np.float32)
        mean = float(samples[believed].mean()) if believed.any() else 0.0
        self.base = np.where(self.shape.orientation == 0, mean, 0.0)
        """What is taken off each coefficient while it is fitted: the mean, of LL."""
        self._samples = self._given = np.ascontiguousarray(samples - mean, np.float32)
        self._mean = mean
        self.values: Floats = self._transformed()
        """The coefficients less `base`."""
        size = len(self.values)
        self.step, self.half = np.ones(size), np.zeros(size, np.bool_)
        self.plane = np.zeros(size, np.int64)
        self.free, self.guessed = np.ones(size, np.bool_), np.zeros(size, np.bool_)
        self.variance, self.relevant = np.ones(size), np.ones(size, np.bool_)

    @property
    def given(self) -> tuple[Floats, Floats]:
        """The samples as they were given, and their weights."""
        return self._given.astype(np.float64) + self._mean, self._weights.astype(np.float64)

    def _transformed(self) -> Floats:
        """Coefficients as the samples give them, with their edges repeated."""
        tile, seen = self.shape.tile, self.shape.seen
        around = ((seen[0] - tile[0], tile[2] - seen[2]), (seen[1] - tile[1], tile[3] - seen[3]))
        filled = np.ascontiguousarray(np.pad(self._samples, around, "edge"))
        return np.asarray(wave_forward(tile, self.shape.levels, filled), np.float64)

    def decoded(self, values: Floats) -> Floats:
        """Compute the samples seen that a decoder of whole numbers makes of such coefficients, less the mean."""
        s = self.shape
        whole = np.rint((values + self.base) * np.array(WHOLE_GAIN)[s.orientation]).astype(np.int32)
        return np.asarray(wave_whole(s.tile, s.levels, s.seen, whole) - self._mean, np.float64)

    def correct(self, values: Floats) -> None:
        """Take off the samples what a decoder of whole numbers adds to them in the mean, and transform them anew.

        Parameters
        ----------
        values : numpy.ndarray
            Coefficients that it may have had, less `base`; the mean is taken by place in the period of the last
            decomposition.
        """
        s = self.shape
        more = self.decoded(values) - wave_seen(s.tile, s.levels, s.seen, np.ascontiguousarray(values, np.float32))
        period = 1 << s.levels
        rows, columns = (np.arange(s.seen[a], s.seen[a + 2]) % period for a in (0, 1))
        place = np.add.outer(rows * period, columns)
        count = np.bincount(place.ravel(), minlength=period**2)
        mean = np.bincount(place.ravel(), more.ravel(), period**2) / np.maximum(count, 1)
        self._samples = np.ascontiguousarray(self._given - mean[place], np.float32)
        self.values = self._transformed()

    def fit(self, steps: int, samples: Floats | None = None) -> None:
        """Fit what is free to the samples, or to others in their place, less the mean."""
        s = self.shape
        target = self._samples if samples is None else np.ascontiguousarray(samples, np.float32)
        start = np.where(self.relevant, self.values, 0)
        arrays = [np.ascontiguousarray(a, np.float32) for a in (start, self.variance, s.energy)]
        fitted = wave_fit(
            *(s.tile, s.levels, s.seen, target, self._weights, arrays[0]),
            *(np.ascontiguousarray(self.free, np.uint8), arrays[1], arrays[2], self.noise**2, steps),
        )
        self.values = fitted.astype(np.float64)

    def settle(self, shares: npt.ArrayLike, steps: int) -> None:
        """Round what is free but for LL: of each share those of which it is seen at least; fit the rest after each."""
        s = self.shape
        high = s.orientation > 0
        start = np.where(self.relevant, self.values, 0)
        floats = [start, self.variance, s.energy, s.share, np.where(high, self.step, 0), self.base, shares]
        c, variance, energy, share, step, base, least = (np.ascontiguousarray(a, np.float32) for a in floats)
        free, half = (np.ascontiguousarray(a, np.uint8) for a in (self.free, self.half))
        settled = wave_settle(
            *(s.tile, s.levels, s.seen, self._samples, self._weights, c, free, variance, energy),
            *(self.noise**2, steps, share, step, half, base, least),
        )
        self.values = settled.astype(np.float64)
        self.free &= ~high | (s.share < np.min(shares))

    def samples(self) -> Floats:
        """Compute the samples that the coefficients give, less the mean, as float64."""
        s = self.shape
        seen = wave_seen(s.tile, s.levels, s.seen, np.ascontiguousarray(self.values, np.float32))
        return np.asarray(seen, np.float64)

    def error(self) -> Floats:
        """Return what the samples seen lie above those of the coefficients."""
        return np.asarray(self._samples - self.samples(), np.float64)
