"""Linear stage (docs/format section 7): its part of the stream, and predictions, NumPy int64."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlpr.arrays import Buffer, Ints, clamp
from dlpr.errors import CorruptError
from dlpr.modes.networks.exact.geometry import TAPS
from dlpr.modes.networks.exact.layers import as_int
from dlpr.modes.networks.exact.rans import LaneDecoder, LaneEncoder, Latents
from dlpr.modes.networks.exact.tables import PRED_MAX, PRED_MIN
from dlpr.modes.networks.weights import Weights

REGRESSORS = 68
COEFFICIENT_LIMIT = 8191
_GROUP = struct.Struct("<BhBB")


@dataclass(frozen=True)
class Group:
    """Predictor of one channel in one class, as the stream has it."""

    count: int
    """Tap values used, 0..66."""
    bias8: int
    offset: int
    """Of the scale index, 0..64."""
    reference: int
    """0: the shipped prior; 1: the same channel of the class before."""
    coefficients: Ints
    """[c + count], -8191..8191."""


@dataclass(frozen=True)
class LinearStage:
    """The chunk's own predictors."""

    frac: int
    groups: tuple[tuple[Group, ...], ...]
    """By class, then by coded channel."""

    def classes_of(self, y: Ints, x: Ints) -> Ints:
        """Class of pixels by their place in the patch."""
        return {1: 0 * x, 2: x % 2, 4: 2 * (y % 2) + x % 2}[len(self.groups)]

    def matrices(self) -> tuple[Ints, Ints, Ints]:
        """Coefficients by what they act on: bias [k, c], own channels [k, c, 3], taps [k, c, 22, 3]."""
        shape = (len(self.groups), len(self.groups[0]))
        bias, own = np.zeros(shape, np.int64), np.zeros((*shape, 3), np.int64)
        taps = np.zeros((*shape, len(TAPS), 3), np.int64)
        for k, c in np.ndindex(*shape):
            group = self.groups[k][c]
            bias[k, c] = group.bias8 << (self.frac - 3)
            own[k, c, :c] = group.coefficients[:c]
            in_order = np.zeros(3 * len(TAPS), np.int64)
            in_order[: group.count] = group.coefficients[c:]
            order = [c, *(other for other in range(3) if other != c)]
            taps[k, c][:, order] = in_order.reshape(-1, 3)
        return bias, own, taps

    def prediction(self, acc: Ints) -> Ints:
        """From the sum to a prediction in 1/16 level."""
        rounding = 1 << (self.frac - 5) if self.frac > 4 else 0
        return clamp(((acc + rounding) >> (self.frac - 4)) + 2048, PRED_MIN, PRED_MAX)


def _prior(weights: Weights, frac: int, group: Group, before: Group | None, c: int) -> tuple[list[int], list[int]]:
    """Mean and scale index of the coefficients of a group."""
    n = c + group.count
    scale = clamp(as_int(weights, "linear.scale")[c, :n] + 6 * (frac - 8) + group.offset - 32, 0, 63)
    if before is None:
        mean = (as_int(weights, "linear.mean")[c, :n] << frac) >> 12
    else:
        mean = np.zeros(n, np.int64)
        known = before.coefficients[:n]
        mean[: len(known)] = known
    return mean.tolist(), scale.tolist()


def parse_linear(part: Buffer, weights: Weights, channels: int) -> LinearStage:
    """Read the linear part.

    Raises
    ------
    CorruptError
        A field is out of its range, or the lane does not fit its symbols.
    """
    data = bytes(part)
    if len(data) < 2 or not 4 <= data[0] <= 12 or data[1] > 2:
        raise CorruptError("the linear part begins with impossible values; fetch the stream again")
    frac, classes = data[0], 1 << data[1]
    if len(data) < 2 + _GROUP.size * classes * channels:
        raise CorruptError("the linear part is cut short; fetch the stream again")
    headers = list(_GROUP.iter_unpack(data[2 : 2 + _GROUP.size * classes * channels]))
    lane, latents = LaneDecoder(data[2 + _GROUP.size * len(headers) :]), Latents(weights)
    groups: list[tuple[Group, ...]] = []
    for k in range(classes):
        row: list[Group] = []
        for c in range(channels):
            count, bias8, offset, reference = headers[k * channels + c]
            if count > 66 or abs(bias8) > COEFFICIENT_LIMIT or offset > 64 or reference > min(k, 1):
                raise CorruptError("a group of the linear part has impossible values; fetch the stream again")
            group = Group(count, bias8, offset, reference, np.zeros(c + count, np.int64))
            means, scales = _prior(weights, frac, group, groups[k - 1][c] if reference else None, c)
            for i, (mean, scale) in enumerate(zip(means, scales, strict=True)):
                group.coefficients[i] = latents.decode(lane, scale) + mean
            if (np.abs(group.coefficients) > COEFFICIENT_LIMIT).any():
                raise CorruptError("a coefficient of the linear part is out of range; fetch the stream again")
            row.append(group)
        groups.append(tuple(row))
    lane.finish()
    return LinearStage(frac, tuple(groups))


def pack_linear(stage: LinearStage, weights: Weights) -> bytes:
    """Write the linear part; the inverse of `parse_linear`."""
    lane, latents = LaneEncoder(), Latents(weights)
    out = bytearray([stage.frac, len(stage.groups).bit_length() - 1])
    previous: Sequence[Group] = ()
    for row in stage.groups:
        for c, group in enumerate(row):
            out += _GROUP.pack(group.count, group.bias8, group.offset, group.reference)
            means, scales = _prior(weights, stage.frac, group, previous[c] if group.reference else None, c)
            for value, mean, scale in zip(group.coefficients.tolist(), means, scales, strict=True):
                latents.encode(lane, scale, value - mean)
        previous = row
    return bytes(out) + lane.finish()
