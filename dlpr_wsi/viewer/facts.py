"""What the pages show beside the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import repeat

import dlpr
from dlpr.errors import DlprError
from dlpr_wsi.errors import WsiError
from dlpr_wsi.viewer.engine import ChunkEngine, ChunkKey
from dlpr_wsi.viewer.images import ViewedImage

__all__ = ["ChannelFacts", "ChunkFacts", "ImageFacts", "LevelFacts", "chunk_facts", "image_facts"]


@dataclass(frozen=True)
class LevelFacts:
    """A stored level; sizes in px. ``tau`` bounds the error of its samples; None for a slide."""

    width: int
    height: int
    downsample: float
    tile_width: int
    tile_height: int
    rows: int
    columns: int
    tau: int | None = None


@dataclass(frozen=True)
class ChannelFacts:
    """A channel; its colour is #RRGGBB."""

    name: str
    colour: str


@dataclass(frozen=True)
class ImageFacts:
    """An image as the list shows it.

    Parameters
    ----------
    id, name, kind : str
        Its name in URLs, its file name, "archive" or "slide".
    width, height : int
        Level 0 in px.
    levels : list of LevelFacts
        Stored levels.
    deepzoom_levels, deepzoom_min_level, deepzoom_tile : int
        Number of DeepZoom levels, the smallest that is served, side of a tile in px.
    tau : int or None
        Bound on the error of every sample of level 0; those of other levels are in ``levels``.
    mpp_x, mpp_y : float or None
        Micrometres per px.
    objective_power : float or None
        Magnification.
    bytes, raw_bytes : int
        Size on disk, and of the pixels of all levels.
    ratio : float
        raw_bytes over bytes.
    bits_per_pixel : float
        Bits on disk per px of level 0.
    source_bytes : int or None
        Size of the slide an archive was made from.
    source_codec : str or None
        How that slide, or this one, is compressed.
    icc : bool
        Whether ``icc=1`` changes anything.
    previews : bool
        Whether it has chunks that the networks coded: worth to ask for previews.
    channels : list of ChannelFacts or None
        Channels, shown in their colours, in the order of ``channels=``; None for an RGB picture.
    """

    id: str
    name: str
    kind: str
    width: int
    height: int
    levels: list[LevelFacts]
    deepzoom_levels: int
    deepzoom_min_level: int
    deepzoom_tile: int
    tau: int | None
    mpp_x: float | None
    mpp_y: float | None
    objective_power: float | None
    bytes: int
    raw_bytes: int
    ratio: float
    bits_per_pixel: float
    source_bytes: int | None
    source_codec: str | None
    icc: bool
    previews: bool
    channels: list[ChannelFacts] | None


@dataclass(frozen=True)
class ChunkFacts:
    """A chunk as the panel shows it.

    Parameters
    ----------
    level, row, column : int
        Which chunk.
    x, y, width, height : int
        What it covers of its level, px.
    mode : str
        The codec's mode; "missing" where nothing is stored, "damaged" where it does not parse or decode, "slide" for
        a chunk that is read from a slide.
    bytes : int or None
        Size of its stream.
    bits_per_pixel : float or None
        Bits per px that it covers.
    tau : int or None
        Bound on the error of every sample.
    parts : mapping of str to int
        Bytes by part of the stream.
    weights : str or None
        Id of the weights.
    milliseconds : float or None
        Time to decode it; None if it is not in the cache.
    message : str or None
        What is wrong with it.
    channel : str or None
        Name of the channel that it holds; None where it holds all samples of its pixels.
    samples : int
        Samples of a px that it holds.
    """

    level: int
    row: int
    column: int
    x: int
    y: int
    width: int
    height: int
    mode: str
    bytes: int | None = None
    bits_per_pixel: float | None = None
    tau: int | None = None
    parts: Mapping[str, int] | None = None
    weights: str | None = None
    milliseconds: float | None = None
    message: str | None = None
    channel: str | None = None
    samples: int = 3


def image_facts(image: ViewedImage) -> ImageFacts:
    """Return what the list shows of an image."""
    store, facts, zoom = image.store, image.store.facts, image.deepzoom
    level0 = store.levels[0]
    levels = [
        LevelFacts(g.width, g.height, g.downsample, g.tile_width, g.tile_height, g.rows, g.columns, tau)
        for g, tau in zip(store.levels, facts.level_tau or repeat(None), strict=False)
    ]
    return ImageFacts(
        id=image.id,
        name=store.name,
        kind=facts.kind,
        width=level0.width,
        height=level0.height,
        levels=levels,
        deepzoom_levels=zoom.levels,
        deepzoom_min_level=zoom.min_level,
        deepzoom_tile=zoom.tile,
        tau=facts.tau,
        mpp_x=facts.mpp_x,
        mpp_y=facts.mpp_y,
        objective_power=facts.objective_power,
        bytes=facts.bytes,
        raw_bytes=facts.raw_bytes,
        ratio=facts.raw_bytes / max(1, facts.bytes),
        bits_per_pixel=8 * facts.bytes / (level0.width * level0.height),
        source_bytes=facts.source_bytes,
        source_codec=facts.source_codec,
        icc=image.profile is not None,
        previews=image.previews,
        channels=None
        if facts.channels is None
        else [ChannelFacts(channel.name, f"#{channel.hexadecimal}") for channel in facts.channels],
    )


def chunk_facts(engine: ChunkEngine, key: ChunkKey) -> ChunkFacts:
    """Return what the panel shows of a chunk; reads its stream but does not decode it."""
    grid = key.store.levels[key.level]
    x, y = key.column * grid.tile_width, key.row * grid.tile_height
    width, height = min(grid.tile_width, grid.width - x), min(grid.tile_height, grid.height - y)
    place = (key.level, key.row, key.column, x, y, width, height)
    decoded = engine.cache.peek(key)
    milliseconds = decoded.milliseconds if decoded else None
    if not key.store.coded:
        return ChunkFacts(*place, mode="slide", milliseconds=milliseconds, samples=grid.samples)
    channels = key.store.facts.channels
    name = None if channels is None else channels[key.channel].name
    try:
        stream = key.store.fetch(key.level, key.row, key.column, key.channel)
        if not isinstance(stream, bytes):
            return ChunkFacts(*place, mode="missing", channel=name, samples=grid.chunk_samples)
        info = dlpr.inspect(stream)
    except (DlprError, WsiError, OSError) as error:
        return ChunkFacts(*place, mode="damaged", message=str(error), channel=name, samples=grid.chunk_samples)
    return ChunkFacts(
        *place,
        mode=info.mode,
        bytes=info.size,
        bits_per_pixel=8 * info.size / (width * height),
        tau=info.tau,
        parts=info.bytes_by_part,
        weights=info.weights_id,
        milliseconds=milliseconds,
        channel=name,
        samples=grid.chunk_samples,
    )
