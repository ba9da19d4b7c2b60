"""The size of an archive before it is made, from a sample of chunks of each level.

::

    level --some chunks, evenly--> streams --by the bytes that the file holds, or by chunks--> size, with its margin

Where the slide's file holds the data behind a level, the sample gives bytes of stream for each byte in the file: tissue
and background differ by a factor of a hundred in both. Of three ways to scale up (by chunks, in proportion to these
bytes, on a line through them) the one is taken that explains the sample best.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr_wsi.errors import SourceError
from dlpr_wsi.pipeline.encode import mode_name
from dlpr_wsi.pipeline.places import encode_places
from dlpr_wsi.pipeline.plan import LevelPlan, Plan, SourceTiles
from dlpr_wsi.reversible.build import SlideFiles
from dlpr_wsi.reversible.guess import MapGuess, SampledLevel, guess_source_map
from dlpr_wsi.sources import PixelSource, SourceTile
from dlpr_wsi.sources.archive import ArchiveLevel
from dlpr_wsi.stored import SlideStore

__all__ = ["Estimate", "LevelEstimate", "estimate"]

_SHARE = 32  # one chunk in so many is encoded, but
_FIRST, _LOWER = (16, 48), (6, 16)  # at least and at most so many of level 0, of each other level
_MADE = 2  # made levels that are sampled: a chunk of the third needs 64 of level 0
_FLOOR = 0.03  # margin of a level that is not encoded whole: what a small sample cannot show
_STEPS = (0.7548776662466927, 0.5698402909980532)  # 1 / g and 1 / g^2, g^3 = g + 1: no two places are near
_WIDE = 2  # standard errors in a margin
_CHECKED = 1.8  # time of encoding and checking over that of encoding


@dataclass(frozen=True)
class LevelEstimate:
    """What a level will probably take.

    Parameters
    ----------
    chunks : int
        Chunks that were encoded for it; 0 where the level above was taken instead.
    bytes : int
        Expected size of all its chunks.
    margin : int
        How far it may be off: two standard errors, at least 3 %; 0 where all its chunks were encoded.
    modes : mapping of str to int
        How the chunks of the sample were coded.
    seconds : float
        Expected time of encoding it.
    """

    chunks: int
    bytes: int
    margin: int
    modes: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a conversion will probably give.

    Parameters
    ----------
    tiles : int
        Chunks that were encoded for it.
    archive_bytes : int
        Expected size of the archive: chunks, and what comes beside them.
    seconds : float
        Expected time of encoding and checking with the same threads.
    modes : mapping of str to int
        How the chunks of the sample were coded.
    margin : int
        How many bytes ``archive_bytes`` may be off.
    levels : tuple of LevelEstimate
        Level by level.
    map_bytes : int
        Of ``archive_bytes``, what a reversible archive keeps beside its chunks to give the slide's files back.
    """

    tiles: int
    archive_bytes: int
    seconds: float
    modes: Mapping[str, int] = field(default_factory=dict)
    margin: int = 0
    levels: tuple[LevelEstimate, ...] = ()
    map_bytes: int = 0

    @property
    def least(self) -> int:
        """The smallest size that is likely."""
        return max(0, self.archive_bytes - self.margin)


def estimate(
    source: PixelSource,
    plan: Plan,
    source_tiles: SourceTiles,
    threads: int,
    *,
    prior: dlpr.Prior | None = None,
    beside: int = 0,
    keep_source: bool = False,
    tuned: Sequence[dlpr.Tuned | None] = (),
    files: SlideFiles | None = None,
) -> Estimate:
    """Encode chunks spread evenly over each level and scale up.

    Parameters
    ----------
    source : PixelSource
        The slide with the levels of the archive.
    plan : Plan
        Its levels.
    source_tiles : SourceTiles
        Whether the slide's own tiles may be kept.
    threads : int
        Of the codec.
    prior : dlpr.Prior or None
        The slide's, which its chunks will be coded with.
    beside : int
        Bytes of the archive that are no chunks: metadata, hashes, indexes of shards.
    keep_source : bool
        Whether the slide's tiles are kept even where their pixels alone take less.
    tuned : sequence of dlpr.Tuned or None
        Of each level, weights tuned to the slide; nothing where no level has any.
    files : SlideFiles, optional
        The slide's files, where the archive shall be reversible.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        A chunk of the sample, or one of the files, cannot be read.
    """
    levels: list[LevelEstimate] = []
    sampled: list[SampledLevel] = []
    for index, level in enumerate(plan.levels):
        streams: dict[tuple[int, int], bytes] = {}
        if index >= plan.first_made + _MADE:
            levels.append(_like(levels[-1], plan.levels[index - 1], level))
        else:
            weights = tuned[index] if tuned else None
            levels.append(_sample(source, level, index, source_tiles, threads, prior, keep_source, weights, streams))
        sampled.append(SampledLevel(_as_archived(level, index, prior), streams))
    beside_chunks = MapGuess(0, 0) if files is None else guess_source_map(files, sampled)
    modes: Counter[str] = Counter()
    for one in levels:
        modes.update(one.modes)
    return Estimate(
        tiles=sum(one.chunks for one in levels),
        archive_bytes=sum(one.bytes for one in levels) + beside + beside_chunks.bytes,
        seconds=_CHECKED * sum(one.seconds for one in levels),
        modes=dict(modes),
        margin=round(math.hypot(*(one.margin for one in levels), beside_chunks.margin)),
        levels=tuple(levels),
        map_bytes=beside_chunks.bytes,
    )


def _as_archived(level: LevelPlan, index: int, prior: dlpr.Prior | None) -> ArchiveLevel:
    """Return a level as the archive will have it, as far as its chunks' places go."""
    return ArchiveLevel(
        path=Path(str(index)),
        index=index,
        width=level.width,
        height=level.height,
        tile_width=level.tile_width,
        tile_height=level.tile_height,
        downsample=1.0,
        tau=level.tau,
        zarr_format=3,
        shard_rows=level.shard_rows,
        shard_columns=level.shard_columns,
        channels=level.channels,
        prior=prior,
    )


def _like(above: LevelEstimate, taken: LevelPlan, level: LevelPlan) -> LevelEstimate:
    """Take a level's chunks to cost what those of the level above do."""
    share = level.tiles / taken.tiles
    return LevelEstimate(0, round(above.bytes * share), round(above.margin * share), {}, above.seconds * share)


def _sample(
    source: PixelSource,
    level: LevelPlan,
    index: int,
    source_tiles: SourceTiles,
    threads: int,
    prior: dlpr.Prior | None,
    keep_source: bool,
    tuned: dlpr.Tuned | None,
    kept: dict[tuple[int, int], bytes],
) -> LevelEstimate:
    """Encode some chunks of a level; those of RGB go to ``kept``."""
    places = level.rows * level.columns
    least, most = (max(2, number // level.stack) for number in (_LOWER if index else _FIRST))
    count = min(places, max(least, min(most, places // _SHARE)))
    chosen = _spread(level.rows, level.columns, count)
    images: list[NDArray[np.uint8]] = []
    stored: list[SourceTile | None] = []
    follows = level.follows_source and source_tiles is not SourceTiles.NEVER
    for row, column in chosen:
        x, y, width, height = level.box(row, column)
        tile = _stored_tile(source, index, row, column) if follows else None
        images.append(source.read(x, y, width, height, index))
        stored.append(tile)
    begin = time.perf_counter()
    streams = encode_places(images, stored, level, threads, prior, keep_source, tuned)
    seconds = (time.perf_counter() - begin) * places / count
    if level.stack == 1:
        kept.update(zip(chosen, streams, strict=True))
    sizes = np.array([sum(map(len, streams[i : i + level.stack])) for i in range(0, len(streams), level.stack)], float)
    modes = dict(Counter(mode_name(stream) for stream in streams))
    if count == places:
        return LevelEstimate(len(streams), int(sizes.sum()), 0, modes, seconds)
    total, error = float(sizes.mean() * places), _error(sizes, places)
    held = _held(source, index, (level.width, level.height), [level.box(row, column) for row, column in chosen])
    if held is not None:
        total, error = min([(total, error), *_by_bytes(sizes, *held, places)], key=lambda found: found[1])
    margin = min(total, max(_WIDE * error, _FLOOR * total))  # of one chunk alone the error is not known
    return LevelEstimate(len(streams), round(total), round(margin), modes, seconds)


def _spread(rows: int, columns: int, count: int) -> list[tuple[int, int]]:
    """Return so many different places, spread evenly over both axes: every n-th place could all be of one column."""
    if count == rows * columns:
        return [divmod(place, columns) for place in range(count)]
    found: dict[tuple[int, int], None] = {}
    number = 0
    while len(found) < count:
        down, across = (0.5 + number * _STEPS[0]) % 1, (0.5 + number * _STEPS[1]) % 1
        found[int(down * rows), int(across * columns)] = None
        number += 1
    return sorted(found)


def _stored_tile(source: PixelSource, index: int, row: int, column: int) -> SourceTile | None:
    """Return what the file holds behind a chunk; None where it cannot be read, as the conversion takes it too."""
    try:
        return source.source_tile(index, row, column)
    except SourceError:
        return None


def _error(values: NDArray[np.float64], places: int, fitted: int = 1) -> float:
    """Return the standard error of a sum over all places, from some of them, to which so many numbers were fitted."""
    count = len(values)
    if count <= fitted:
        return math.inf
    return float(places * math.sqrt((1 - count / places) * values.var(ddof=fitted) / count))


def _by_bytes(
    sizes: NDArray[np.float64], inside: NDArray[np.float64], everything: float, places: int
) -> Iterator[tuple[float, float]]:
    """Yield sums and standard errors by the bytes in the file: streams in proportion to them; and on a line."""
    if inside.sum() > 0:
        ratio = sizes.sum() / inside.sum()
        yield float(ratio * everything), _error(sizes - ratio * inside, places)
    spread = float(((inside - inside.mean()) ** 2).sum())
    if spread > 0:
        slope = float(((inside - inside.mean()) * (sizes - sizes.mean())).sum()) / spread
        total = places * sizes.mean() + slope * (everything - places * inside.mean())
        yield max(0.0, float(total)), _error(sizes - slope * inside, places, 2)


def _held(
    source: PixelSource, index: int, edge: tuple[int, int], boxes: Sequence[tuple[int, int, int, int]]
) -> tuple[NDArray[np.float64], float] | None:
    """Return the bytes that the file holds of each box, and of the whole level; None where that is not known."""
    store: SlideStore | None = getattr(source, "store", None)
    level = None if store is None else store.levels.get(index)
    if level is None:
        return None
    try:
        parts = [(p.x, p.y, p.width, p.height, sum(r.size for r in p.ranges)) for p in level.parts()]
    except Exception:  # damaged: every chunk at fault is named by the conversion
        return None
    if not parts:
        return None
    x, y, width, height, size = np.array(parts, float).T
    width = np.clip(edge[0] - x, 1, width)  # what lies beyond the level's edge is in no chunk
    height = np.clip(edge[1] - y, 1, height)
    inside = []
    for left, top, wide, high in boxes:
        across = np.clip(np.minimum(x + width, left + wide) - np.maximum(x, left), 0, None)
        down = np.clip(np.minimum(y + height, top + high) - np.maximum(y, top), 0, None)
        inside.append(float((size * across * down / (width * height)).sum()))
    return np.array(inside), float(size.sum())
