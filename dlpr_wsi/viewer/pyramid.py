"""Regions of any level, put together from chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.viewer.engine import ChunkKey
from dlpr_wsi.viewer.stores import ChunkStore

__all__ = [
    "Box",
    "Sampling",
    "best_level",
    "blend",
    "canvas",
    "keys_of",
    "overlap",
    "paste",
    "ring_of",
    "sampling",
]


@dataclass(frozen=True)
class Box:
    """A rectangle in px of one level; it may reach beyond the level's edges."""

    x: int
    y: int
    width: int
    height: int


def best_level(store: ChunkStore, downsample: float) -> int:
    """Return the smallest level that is at least as fine as a downsample, as OpenSlide chooses it."""
    best = 0
    for i, level in enumerate(store.levels):
        if level.downsample <= downsample:
            best = i
    return best


def keys_of(store: ChunkStore, level: int, box: Box, channels: Sequence[int] | None = None) -> list[ChunkKey]:
    """Return the chunks that a region touches, row by row, of some channels; None: of all."""
    parts = _parts(store, channels)
    cells = _cells(store, level, box, margin=0)
    return [ChunkKey(store, level, row, column, part) for row, column in cells for part in parts]


def ring_of(store: ChunkStore, level: int, box: Box, channels: Sequence[int] | None = None) -> list[ChunkKey]:
    """Return the chunks around those that a region touches."""
    inside = set(_cells(store, level, box, margin=0))
    cells = [cell for cell in _cells(store, level, box, margin=1) if cell not in inside]
    return [ChunkKey(store, level, *cell, part) for cell in cells for part in _parts(store, channels)]


def _parts(store: ChunkStore, channels: Sequence[int] | None) -> Sequence[int]:
    """Return the channels of the chunks to ask for: only 0 where a chunk holds all samples."""
    if not store.coded or store.facts.channels is None:
        return (0,)
    return range(len(store.facts.channels)) if channels is None else channels


def _cells(store: ChunkStore, level: int, box: Box, margin: int) -> Iterator[tuple[int, int]]:
    grid = store.levels[level]
    x1, y1 = min(grid.width, box.x + box.width), min(grid.height, box.y + box.height)
    x0, y0 = max(0, box.x), max(0, box.y)
    if x1 <= x0 or y1 <= y0:
        return
    rows = range(max(0, y0 // grid.tile_height - margin), min(grid.rows, (y1 - 1) // grid.tile_height + 1 + margin))
    columns = range(max(0, x0 // grid.tile_width - margin), min(grid.columns, (x1 - 1) // grid.tile_width + 1 + margin))
    for row in rows:
        for column in columns:
            yield row, column


def canvas(store: ChunkStore, level: int, box: Box, fill: Sequence[int]) -> NDArray[np.uint8]:
    """Return (box.height, box.width, len(fill)) to paste chunks into; ``fill`` is what lies outside the level."""
    grid = store.levels[level]
    out = np.empty((box.height, box.width, len(fill)), np.uint8)
    if box.x < 0 or box.y < 0 or box.x + box.width > grid.width or box.y + box.height > grid.height:
        out[:] = fill
    return out


def paste(out: NDArray[np.uint8], box: Box, key: ChunkKey, pixels: NDArray[np.uint8]) -> None:
    """Copy the part of a chunk that a region shows into the region's `canvas`."""
    shown, part = overlap(box, key)
    out[shown] = pixels[part]


def overlap(box: Box, key: ChunkKey) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a chunk lies in a region, and which part of the chunk that is: rows and columns of each."""
    grid = key.store.levels[key.level]
    x, y = key.column * grid.tile_width, key.row * grid.tile_height
    x0, y0 = max(x, box.x), max(y, box.y)
    x1 = min(x + grid.tile_width, grid.width, box.x + box.width)
    y1 = min(y + grid.tile_height, grid.height, box.y + box.height)
    return (
        (slice(y0 - box.y, y1 - box.y), slice(x0 - box.x, x1 - box.x)),
        (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x)),
    )


@dataclass(frozen=True)
class Sampling:
    """Where a region of a level starts when its corner, given in px of level 0, lies between its pixels.

    Parameters
    ----------
    box : Box
        Whole pixels needed.
    right, down : int
        Weight of the neighbour to the right and below, in 256ths.
    """

    box: Box
    right: int
    down: int


def sampling(store: ChunkStore, level: int, location: tuple[int, int], size: tuple[int, int]) -> Sampling:
    """Return what `OpenSlide.read_region` samples: it interpolates linearly between pixels, and so does `blend`."""
    downsample = store.levels[level].downsample
    corner, weights = [], []
    for at in location:
        whole, part = divmod(round(256 * at / downsample), 256)
        corner.append(math.floor(whole))
        weights.append(part)
    box = Box(corner[0], corner[1], size[0] + bool(weights[0]), size[1] + bool(weights[1]))
    return Sampling(box, weights[0], weights[1])


def blend(pixels: NDArray[np.uint8], at: Sampling) -> NDArray[np.uint8]:
    """Interpolate (h, w, c) pixels of ``at.box`` to those that the region shows."""
    if not at.right and not at.down:
        return pixels
    a = pixels.astype(np.uint32)
    if at.right:
        a = a[:, :-1] * (256 - at.right) + a[:, 1:] * at.right
    if at.down:
        a = a[:-1] * (256 - at.down) + a[1:] * at.down
    shift = 8 * (bool(at.right) + bool(at.down))
    return ((a + (1 << (shift - 1))) >> shift).astype(np.uint8)
