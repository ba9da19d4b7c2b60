"""The size of an archive before it is made, from a sample of tiles."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.pipeline.encode import encode_chunks, mode_name, padded
from dlpr_wsi.pipeline.plan import Plan, SourceTiles
from dlpr_wsi.sinks.omezarr import fill_value
from dlpr_wsi.sources import PixelSource, SourceTile

__all__ = ["Estimate", "estimate"]

_SHARE, _MIN, _MAX = 32, 8, 48  # tiles: one in 32, at least 8, at most 48


@dataclass(frozen=True)
class Estimate:
    """What a conversion will probably give.

    Parameters
    ----------
    tiles : int
        Tiles that were encoded for it.
    archive_bytes : int
        Expected size of all chunks.
    seconds : float
        Expected time of encoding and checking with the same threads.
    modes : mapping of str to int
        How the tiles of the sample were coded.
    """

    tiles: int
    archive_bytes: int
    seconds: float
    modes: Mapping[str, int] = field(default_factory=dict)


def estimate(source: PixelSource, plan: Plan, source_tiles: SourceTiles, threads: int) -> Estimate:
    """Encode tiles spread evenly over level 0 and scale up.

    Lower levels are taken to cost what level 0 costs per tile.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        A tile of the sample cannot be read.
    """
    level = plan.levels[0]
    places = level.rows * level.columns
    count = min(places, max(1, _MIN // level.stack, min(_MAX // level.stack, places // _SHARE)))
    chosen = [(2 * i + 1) * places // (2 * count) for i in range(count)]
    images: list[NDArray[np.uint8]] = []
    stored: list[SourceTile | None] = []
    for index in chosen:
        row, column = divmod(index, level.columns)
        x, y, width, height = level.box(row, column)
        follows = level.follows_source and source_tiles is not SourceTiles.NEVER
        tile = source.source_tile(0, row, column) if follows else None
        pixels = source.read(x, y, width, height)
        whole = padded(pixels, level.tile_height, level.tile_width, tile, fill_value(level.channels))
        images += [level.part(whole, channel) for channel in range(level.stack)]
        stored += [tile] * level.stack
    begin = time.perf_counter()
    streams = encode_chunks(images, level.tau, stored, threads)
    seconds = time.perf_counter() - begin
    encoded = sum(image.shape[0] * image.shape[1] for image in images)
    scale = sum(one.tiles * one.tile_width * one.tile_height for one in plan.levels) / encoded
    size = sum(len(stream) for stream in streams)
    modes = Counter(mode_name(stream) for stream in streams)
    return Estimate(len(streams), round(size * scale), 1.8 * seconds * scale, dict(modes))
