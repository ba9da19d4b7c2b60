"""Pixels of a level's places to the streams of its chunks, edges filled up in the way that takes fewest bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr_wsi.pipeline.encode import encode_chunks, mode_name, padded
from dlpr_wsi.pipeline.plan import LevelPlan
from dlpr_wsi.sinks.omezarr import fill_value
from dlpr_wsi.sources import SourceTile

__all__ = ["encode_places"]


def encode_places(
    level: LevelPlan,
    pixels: Sequence[NDArray[np.uint8]],
    tiles: Sequence[SourceTile | None],
    threads: int,
    prior: dlpr.Prior | None = None,
) -> list[bytes]:
    """Encode the chunks of some places of a level.

    Parameters
    ----------
    level : LevelPlan
        Which.
    pixels : sequence of ndarray of uint8, (h, w, samples)
        Of each place, without what lies beyond the level's edge.
    tiles : sequence of SourceTile or None
        The slide's own tile at each place, where it may be kept.
    threads : int
        Of the codec.
    prior : dlpr.Prior or None
        The slide's, see `dlpr.Prior`.

    Returns
    -------
    list of bytes
        A stream for each place, with channels one for each channel of each place.
    """
    size, fill = (level.tile_height, level.tile_width), fill_value(level.channels)
    full = [padded(p, *size, t, fill) for p, t in zip(pixels, tiles, strict=True)]
    parts = [level.part(whole, channel) for whole in full for channel in range(level.stack)]
    streams = encode_chunks(parts, level.tau, [tile for tile in tiles for _ in range(level.stack)], threads, prior)
    if level.stack > 1:
        return streams
    # Beyond the edge stands what the tile has there. Where the tile is not kept after all, that is a burden, and where
    # it is one of lossless JPEG 2000 too.
    again = [
        i
        for i, (p, tile) in enumerate(zip(pixels, tiles, strict=True))
        if tile is not None and p.shape[:2] != size and mode_name(streams[i]) != "jpeg"
    ]
    blank = [level.part(padded(pixels[i], *size, None, fill), 0) for i in again]
    for i, stream in zip(again, encode_chunks(blank, level.tau, [None] * len(blank), threads, prior), strict=True):
        streams[i] = min(stream, streams[i], key=len)
    return streams
