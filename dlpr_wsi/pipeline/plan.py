"""What a conversion will do, as numbers only.

The slide is cut into chunks of tile x tile px, and each row of chunks into runs. A run is one task: one read
of the slide, one call of the codec.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["MAX_RUN", "Plan", "Run", "make_plan"]

MAX_RUN = 16  # chunks per task: 12 MiB of pixels at 256 px


@dataclass(frozen=True)
class Run:
    """Neighbouring chunks of one row.

    Parameters
    ----------
    row, column : int
        Position of the first chunk.
    count : int
        Number of chunks.
    x, y, width, height : int
        The pixels of the slide that they hold.
    """

    row: int
    column: int
    count: int
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Plan:
    """A slide's level 0 cut into chunks.

    Parameters
    ----------
    width, height : int
        Of the slide in px.
    tile : int
        Side of a chunk in px.
    run : int
        Chunks per task.
    """

    width: int
    height: int
    tile: int
    run: int

    @property
    def rows(self) -> int:
        """Rows of chunks."""
        return -(-self.height // self.tile)

    @property
    def columns(self) -> int:
        """Columns of chunks."""
        return -(-self.width // self.tile)

    @property
    def tiles(self) -> int:
        """Number of chunks."""
        return self.rows * self.columns

    @property
    def raw_bytes(self) -> int:
        """Size of the slide's pixels, 3 bytes each, without the padding of edge chunks."""
        return 3 * self.width * self.height

    def runs(self) -> Iterator[Run]:
        """Yield the tasks from top to bottom."""
        for row in range(self.rows):
            y = row * self.tile
            height = min(self.tile, self.height - y)
            for column in range(0, self.columns, self.run):
                count = min(self.run, self.columns - column)
                x = column * self.tile
                yield Run(row, column, count, x, y, min(count * self.tile, self.width - x), height)


def make_plan(width: int, height: int, tile: int, threads: int) -> Plan:
    """Cut a slide so that every thread gets several tasks.

    Examples
    --------
    >>> plan = make_plan(width=600, height=300, tile=256, threads=2)
    >>> plan.rows, plan.columns, plan.tiles
    (2, 3, 6)
    >>> next(plan.runs())
    Run(row=0, column=0, count=1, x=0, y=0, width=256, height=256)
    """
    tiles = -(-width // tile) * -(-height // tile)
    return Plan(width, height, tile, run=max(1, min(MAX_RUN, tiles // (4 * threads))))
