"""Places of a level to streams: what lies beyond the level's edge is filled in whichever way takes less."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr import bitstream
from dlpr.modes.j2k.stream import is_quantised
from dlpr_wsi.pipeline.encode import encode_chunks, mode_name, padded
from dlpr_wsi.pipeline.plan import LevelPlan
from dlpr_wsi.sinks.omezarr import fill_value
from dlpr_wsi.sources import SourceTile

__all__ = ["coded_images", "encode_places"]


def coded_images(
    pixels: Sequence[NDArray[np.uint8]], tiles: Sequence[SourceTile | None], level: LevelPlan
) -> list[NDArray[np.uint8]]:
    """Return what `encode_places` tries first: (samples, H, W) for each stream."""
    full = _full(pixels, tiles, level)
    return [level.part(whole, channel).transpose(2, 0, 1) for whole in full for channel in range(level.stack)]


def _full(
    pixels: Sequence[NDArray[np.uint8]], tiles: Sequence[SourceTile | None], level: LevelPlan
) -> list[NDArray[np.uint8]]:
    """Fill up the chunks at the edge."""
    size, fill = (level.tile_height, level.tile_width), fill_value(level.channels)
    return [padded(p, *size, tile, fill) for p, tile in zip(pixels, tiles, strict=True)]


def encode_places(
    pixels: Sequence[NDArray[np.uint8]],
    tiles: Sequence[SourceTile | None],
    level: LevelPlan,
    threads: int,
    prior: dlpr.Prior | None,
    keep_source: bool = False,
    tuned: dlpr.Tuned | None = None,
    device: dlpr.Device | None = None,
) -> list[bytes]:
    """Encode places of a level: a stream for each, with channels one for each channel of each.

    A chunk at the edge is filled up with what the slide's tile has there, so that it can be kept. Where it is not, or
    only just, white takes less than pixels that nobody sees; both are tried then.

    Parameters
    ----------
    pixels : sequence of ndarray of uint8, (h, w, samples)
        Of each place, without what lies beyond the edge.
    tiles : sequence of SourceTile or None
        The slide's own tile of each place, where it may be kept.
    level : LevelPlan
        The level.
    threads : int
        Of the codec.
    prior : dlpr.Prior or None
        The slide's.
    keep_source, device
        As of `dlpr_wsi.pipeline.encode.encode_chunks`.
    tuned : dlpr.Tuned or None
        Weights tuned to the slide, of this level.
    """
    size, fill = (level.tile_height, level.tile_width), fill_value(level.channels)
    full = _full(pixels, tiles, level)
    parts = [level.part(whole, channel) for whole in full for channel in range(level.stack)]
    stored = [tile for tile in tiles for _ in range(level.stack)]
    streams = encode_chunks(parts, level.tau, stored, threads, prior, keep_source, tuned, device)
    again: list[int] = []
    others: list[NDArray[np.uint8]] = []
    for number, stream in enumerate(streams):
        place, channel = divmod(number, level.stack)
        if pixels[place].shape == full[place].shape or tiles[place] is None or _settled(stream, keep_source):
            continue
        plain = padded(pixels[place], *size, None, fill)
        if not np.array_equal(plain, full[place]):
            again.append(number)
            others.append(level.part(plain, channel))
    plainly = encode_chunks(others, level.tau, [None] * len(others), threads, prior, tuned=tuned, device=device)
    for number, other in zip(again, plainly, strict=True):
        streams[number] = min(streams[number], other, key=len)
    return streams


def _settled(stream: bytes, keep_source: bool) -> bool:
    """Tell whether other pixels beyond the edge cannot make a stream smaller, or may not."""
    mode = mode_name(stream)
    if mode in ("jpeg", "constant") or (mode == "j2k" and keep_source):
        return True
    return mode == "j2k" and is_quantised(bitstream.parse(stream), len(stream))
