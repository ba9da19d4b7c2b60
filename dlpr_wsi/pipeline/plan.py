"""What a conversion will do, as numbers only.

Every level is cut into chunks, and the chunks into shards. A shard is one task: one read of the slide, one file.
Nothing here depends on the machine, so that the same slide gives the same archive everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from dlpr_wsi.sources import Chunked, SlideFacts, TileGrid

__all__ = [
    "DEFAULT_TILE",
    "MADE_TAU",
    "LevelPlan",
    "Plan",
    "Pyramid",
    "SourceTiles",
    "Task",
    "make_plan",
    "pyramid_levels",
    "why_not_followed",
]

DEFAULT_TILE = 256
MADE_TAU = 4
"""Bound of RGB levels made here where the user names none (docs/decisions/0015-made-levels.md); channels keep tau."""
SHARD_SIDE = 2048  # px: 64 chunks of 256 px, 12 MiB of RGB pixels
MAX_SHARD_BYTES = 4 * 3 * SHARD_SIDE**2  # of pixels: shards of many channels have shorter sides
MAX_SHARD = 16  # chunks along a side
MIN_SHARDS = 8  # small levels get smaller shards, so that there is something to resume
_MIN_KEPT, _MAX_KEPT = 16, 1024  # px; stored tiles with a shorter or longer side are not followed


class SourceTiles(StrEnum):
    """Whether chunks may keep the JPEG data of the slide's own tiles."""

    AUTO = "auto"
    NEVER = "never"
    ONLY = "only"


class Pyramid(StrEnum):
    """Whether lower levels are made for a slide that has one level."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True)
class Task:
    """One shard.

    Parameters
    ----------
    level, row, column : int
        Which shard of which level.
    """

    level: int
    row: int
    column: int

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return f"{self.level}/{self.row}/{self.column}"


@dataclass(frozen=True)
class LevelPlan(Chunked):
    """One level cut into chunks and shards.

    Parameters
    ----------
    width, height : int
        Of the level in px.
    tile_width, tile_height : int
        Of a chunk in px.
    shard_rows, shard_columns : int
        Chunks in a shard.
    follows_source : bool
        Whether the chunks are the slide's own JPEG tiles.
    channels : int or None
        None: RGB, all three samples in a chunk. Else the number of channels, each in chunks of its own.
    tau : int
        Bound on the error of its samples.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    shard_rows: int
    shard_columns: int
    follows_source: bool
    channels: int | None = None
    tau: int = 0

    @property
    def tiles(self) -> int:
        """Number of chunks."""
        return self.rows * self.columns * self.stack

    @property
    def shards(self) -> tuple[int, int]:
        """Rows and columns of shards."""
        return -(-self.rows // self.shard_rows), -(-self.columns // self.shard_columns)

    def chunks(self, task: Task) -> list[tuple[int, int]]:
        """Return (row, column) of the places of a shard, row by row."""
        rows = range(task.row * self.shard_rows, min((task.row + 1) * self.shard_rows, self.rows))
        columns = range(task.column * self.shard_columns, min((task.column + 1) * self.shard_columns, self.columns))
        return [(row, column) for row in rows for column in columns]

    def keys(self, task: Task) -> list[tuple[int, int, int]]:
        """Return (row, column, channel) of the chunks of a shard: place by place, in each all channels."""
        return [(row, column, channel) for row, column in self.chunks(task) for channel in range(self.stack)]

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return x, y, width and height of a chunk's pixels inside the level."""
        x, y = column * self.tile_width, row * self.tile_height
        return x, y, min(self.tile_width, self.width - x), min(self.tile_height, self.height - y)


@dataclass(frozen=True)
class Plan:
    """All levels.

    Parameters
    ----------
    levels : tuple of LevelPlan
        Largest first.
    made_levels : int
        How many of them are made, not read from the slide.
    """

    levels: tuple[LevelPlan, ...]
    made_levels: int = 0

    @property
    def tiles(self) -> int:
        """Number of chunks of all levels."""
        return sum(level.tiles for level in self.levels)

    @property
    def pixels(self) -> int:
        """Number of px of all levels, without the padding of edge chunks."""
        return sum(level.width * level.height for level in self.levels)

    @property
    def first_made(self) -> int:
        """The first level that is made; the number of levels where none is."""
        return len(self.levels) - self.made_levels

    @property
    def raw_bytes(self) -> int:
        """Size of the pixels, one byte a sample."""
        return sum(level.samples * level.width * level.height for level in self.levels)

    def tasks(self) -> Iterator[Task]:
        """Yield the tasks, largest level first, each from top to bottom."""
        for index, level in enumerate(self.levels):
            rows, columns = level.shards
            for row in range(rows):
                for column in range(columns):
                    yield Task(index, row, column)

    @property
    def task_count(self) -> int:
        """Number of tasks."""
        return sum(rows * columns for rows, columns in (level.shards for level in self.levels))


def pyramid_levels(facts: SlideFacts, tile: int, pyramid: Pyramid) -> int:
    """Return how many levels an archive of a slide has.

    Examples
    --------
    A slide of several levels keeps them; one of a single level gets more where ``pyramid`` says so: always, or where a
    side is longer than 4096 px.
    """
    if len(facts.levels) > 1 or pyramid is Pyramid.NEVER:
        return len(facts.levels)
    width, height = facts.levels[0].width, facts.levels[0].height
    if pyramid is Pyramid.AUTO and max(width, height) <= 4096:
        return 1
    levels = 1
    while max(width, height) > tile:
        width, height, levels = -(-width // 2), -(-height // 2), levels + 1
    return levels


def make_plan(
    facts: SlideFacts,
    grids: Sequence[TileGrid | None],
    *,
    tile: int | None = None,
    source_tiles: SourceTiles = SourceTiles.AUTO,
    made_levels: int = 0,
    tau: int = 0,
    made_tau: int | None = None,
) -> Plan:
    """Cut a slide.

    Parameters
    ----------
    facts : SlideFacts
        Of the slide, with the levels that the archive shall have.
    grids : sequence of TileGrid or None
        The stored JPEG tiles of each level.
    tile : int, optional
        Side of a chunk in px; by default that of the slide's JPEG tiles, or 256.
    source_tiles : SourceTiles
        Whether chunks follow the slide's tiles.
    made_levels : int
        How many levels at the end are made.
    tau : int
        Bound on the error of every sample of the levels that are read from the slide.
    made_tau : int, optional
        The same of those that are made, where it is more than ``tau``; by default `MADE_TAU` for RGB and 0 for
        channels, whose signal can be a few grey values.
    """
    levels: list[LevelPlan] = []
    channels = None if facts.channels is None else len(facts.channels)
    if made_tau is None:
        made_tau = MADE_TAU if channels is None else 0
    for level, grid in zip(facts.levels, grids, strict=True):
        follows = grid is not None and not why_not_followed(grid, channels, tile, source_tiles)
        width = height = tile or DEFAULT_TILE
        together = 1
        if follows and grid is not None:
            width, height, together = grid.width, grid.height, grid.together
        made = len(levels) >= len(facts.levels) - made_levels
        cut = _cut(level.width, level.height, width, height, follows, channels, together)
        levels.append(replace(cut, tau=max(tau, made_tau) if made else tau))
    return Plan(tuple(levels), made_levels)


def why_not_followed(grid: TileGrid, channels: int | None, tile: int | None, source_tiles: SourceTiles) -> str:
    """Say why chunks do not follow a level's stored tiles; empty where they do.

    Parameters
    ----------
    grid : TileGrid
        The stored tiles.
    channels : int or None
        Of the image.
    tile, source_tiles
        As of `make_plan`.
    """
    size = str(grid.width) if grid.width == grid.height else f"{grid.width} x {grid.height}"
    if source_tiles is SourceTiles.NEVER:
        return "--source-tiles never was given"
    if channels is not None:
        return "its channels are coded one by one"
    if max(grid.width, grid.height) > _MAX_KEPT:
        return f"tiles of {size} px are not followed, those of up to {_MAX_KEPT} px are"
    if min(grid.width, grid.height) < _MIN_KEPT:
        return f"tiles of {size} px are not followed, those of {_MIN_KEPT} px and more are"
    if tile not in (None, grid.width) or tile not in (None, grid.height):
        return f"--tile {tile} was given, and the slide's tiles have {size} px: leave it out to keep them"
    return ""


def _cut(
    width: int,
    height: int,
    tile_width: int,
    tile_height: int,
    follows: bool,
    channels: int | None,
    together: int,
) -> LevelPlan:
    """Choose the shards of a level; chunks that are to be read together, if they can be, lie in one."""
    rows, columns = -(-height // tile_height), -(-width // tile_width)
    side = max(1, min(MAX_SHARD, SHARD_SIDE // max(tile_width, tile_height)))
    while side > 2 and -(-rows // side) * -(-columns // side) < MIN_SHARDS:
        side //= 2
    while channels is not None and side > 1 and channels * side * side * tile_width * tile_height > MAX_SHARD_BYTES:
        side //= 2
    wide, high = side, side
    while together > wide and wide < MAX_SHARD:
        wide, high = min(2 * wide, together, MAX_SHARD), max(1, high // 2)
    return LevelPlan(width, height, tile_width, tile_height, min(high, rows), min(wide, columns), follows, channels)
