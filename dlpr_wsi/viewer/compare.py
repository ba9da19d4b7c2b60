"""Two images of the same slide: where they differ, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import WsiError
from dlpr_wsi.viewer.stores import ChunkStore

__all__ = [
    "Difference",
    "IncomparableError",
    "absolute_error",
    "difference",
    "error_counts",
    "heat",
    "pool_max",
    "shared_level",
    "summary",
]


class IncomparableError(WsiError):
    """Two images do not have the same size, or not the same channels."""


@dataclass(frozen=True)
class Difference:
    """The error of a region.

    Parameters
    ----------
    samples : int
        Samples compared: three a pixel, or one for each channel.
    max_error : int
        Largest |error|.
    mean_error : float
        Mean |error|.
    different : float
        Share of samples that differ.
    histogram : tuple of int
        Samples by |error|: 0, 1, 2 ... up to the largest.
    """

    samples: int
    max_error: int
    mean_error: float
    different: float
    histogram: tuple[int, ...]


def absolute_error(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return |a - b| of every sample."""
    return np.maximum(a, b) - np.minimum(a, b)


def error_counts(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the samples of two regions of the same shape by |error|: 256 numbers."""
    return np.bincount(absolute_error(a, b).reshape(-1), minlength=256).astype(np.int64)


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Difference:
    """Count the errors between two regions of the same shape."""
    return summary(error_counts(a, b))


def summary(counts: NDArray[np.int64]) -> Difference:
    """Return what `error_counts` say."""
    counts = counts[: int(np.flatnonzero(counts).max(initial=0)) + 1]
    total = int(counts.sum())
    mean = float((counts * np.arange(len(counts))).sum() / total) if total else 0.0
    share = 1 - float(counts[0]) / total if total else 0.0
    return Difference(total, len(counts) - 1, mean, share, tuple(int(n) for n in counts))


def shared_level(a: ChunkStore, b: ChunkStore, downsample: float) -> tuple[int, int]:
    """Return the level of each image to compare for a display at a downsample.

    It is the smallest level that both have in the same size and that is fine enough.

    Raises
    ------
    IncomparableError
        Their level 0 differ in size, or one has other channels than the other.
    """
    if a.levels[0].channels != b.levels[0].channels:
        raise IncomparableError(
            f"{a.name} has {_samples(a)} and {b.name} {_samples(b)}: only images with the same samples can be compared"
        )
    pairs = [
        (i, j)
        for i, x in enumerate(a.levels)
        for j, y in enumerate(b.levels)
        if (x.width, x.height) == (y.width, y.height)
    ]
    if (0, 0) not in pairs:
        raise IncomparableError(
            f"{a.name} has {a.levels[0].width} x {a.levels[0].height} px and {b.name} "
            f"{b.levels[0].width} x {b.levels[0].height}: only images of one size can be compared"
        )
    return max(pair for pair in pairs if a.levels[pair[0]].downsample <= max(1.0, downsample))


def _samples(store: ChunkStore) -> str:
    """Say what samples a px has."""
    count = store.levels[0].channels
    return "red, green and blue" if count is None else f"{count} channel{'s' * (count != 1)}"


def pool_max(error: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Shrink an error map so that no error is lost: the largest of all pixels that fall on one.

    Parameters
    ----------
    error : ndarray of uint8, (h, w)
        Largest |error| of each pixel; h >= height, w >= width.

    Returns
    -------
    ndarray of uint8, (height, width)
    """
    h, w = error.shape
    rows = np.arange(height) * h // height
    columns = np.arange(width) * w // width
    return np.maximum.reduceat(np.maximum.reduceat(error, rows, axis=0), columns, axis=1)


@lru_cache(maxsize=256)
def _palette(peak: int) -> NDArray[np.uint8]:
    """Colours of |error| 0..255: clear, then dark violet to yellow at ``peak``; beyond it cyan, which stands out."""
    stops = np.array([[59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]], float)
    level = np.clip((np.arange(256) - 1) / max(1, peak - 1), 0, 1) if peak > 1 else np.ones(256)
    at = level * (len(stops) - 1)
    rgb = np.stack([np.interp(at, np.arange(len(stops)), stops[:, c]) for c in range(3)], axis=1)
    table = np.concatenate([rgb, np.full((256, 1), 255)], axis=1)
    table[peak + 1 :] = (0, 229, 255, 255)
    table[0] = (0, 0, 0, 0)
    return table.round().astype(np.uint8)


def heat(error: NDArray[np.uint8], peak: int) -> NDArray[np.uint8]:
    """Colour an error map.

    Parameters
    ----------
    error : ndarray of uint8, (h, w)
        Largest |error| of each pixel.
    peak : int
        The error that gets the brightest colour, 1..255; larger ones are cyan.

    Returns
    -------
    ndarray of uint8, (h, w, 4)
        RGBA; clear where there is no error.
    """
    return _palette(peak)[error]
