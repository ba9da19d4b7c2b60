"""An archive or a slide as levels that are grids of chunks."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChunkStore", "Grid", "StoreFacts", "downsamples", "open_store"]

SLIDE_TILE = 256  # px; slides are read in such chunks


@dataclass(frozen=True)
class Grid:
    """One level: its size, and its chunks.

    Parameters
    ----------
    width, height : int
        Size in px.
    tile : int
        Side of a chunk in px.
    downsample : float
        Width and height of level 0 over those of this level, the mean of both, as OpenSlide defines it.
    """

    width: int
    height: int
    tile: int
    downsample: float

    @property
    def rows(self) -> int:
        """Rows of chunks."""
        return -(-self.height // self.tile)

    @property
    def columns(self) -> int:
        """Columns of chunks."""
        return -(-self.width // self.tile)


@dataclass(frozen=True)
class StoreFacts:
    """What the list of images shows.

    Parameters
    ----------
    kind : str
        "archive" or "slide".
    bytes : int
        Size on disk.
    raw_bytes : int
        Size of the pixels of all levels.
    tau : int or None
        Bound on the error of every sample; None for a slide.
    mpp_x, mpp_y : float or None
        Micrometres per px of level 0.
    objective_power : float or None
        Magnification of the objective.
    source_bytes : int or None
        Size of the slide that an archive was made from.
    source_codec : str or None
        How that slide is compressed, or this one.
    """

    kind: str
    bytes: int
    raw_bytes: int
    tau: int | None
    mpp_x: float | None
    mpp_y: float | None
    objective_power: float | None
    source_bytes: int | None
    source_codec: str | None


class ChunkStore(Protocol):
    """Chunks by level, row and column; safe to use from many threads."""

    name: str
    """File name without its folder."""
    levels: Sequence[Grid]
    """Largest first."""
    facts: StoreFacts
    background: tuple[int, int, int]
    """Colour of pixels that were not scanned, RGB."""
    icc_profile: bytes | None
    coded: bool
    """Whether `fetch` returns DLPR streams."""
    fingerprint: str
    """Changes with the file: part of ETags."""

    def fetch(self, level: int, row: int, column: int) -> bytes | NDArray[np.uint8]:
        """Return a chunk's DLPR stream, or its pixels as (h, w, 3) RGB.

        Raises
        ------
        dlpr_wsi.errors.WsiError, OSError
            It cannot be read.
        """

    def close(self) -> None:
        """Release the file."""


def downsamples(sizes: Sequence[tuple[int, int]]) -> list[float]:
    """Return the downsample of each (width, height), level 0 first, as OpenSlide computes it."""
    width, height = sizes[0]
    return [(width / w + height / h) / 2 for w, h in sizes]


class ArchiveStore:
    """A DLPR archive: chunks are streams.

    Parameters
    ----------
    path : Path
        The archive.
    """

    coded = True

    def __init__(self, path: Path) -> None:
        from dlpr_wsi.sources.archive import directory_bytes, open_archive

        self._archive = open_archive(path)
        self.name = path.name
        a = self._archive
        self.levels = (Grid(a.width, a.height, a.tile, 1.0),)
        self.background = (255, 255, 255)
        self.icc_profile: bytes | None = None
        self.facts = StoreFacts(
            kind="archive",
            bytes=directory_bytes(path),
            raw_bytes=sum(3 * level.width * level.height for level in self.levels),
            tau=a.tau,
            mpp_x=None,
            mpp_y=None,
            objective_power=None,
            source_bytes=None,
            source_codec=None,
        )
        self.fingerprint = _fingerprint(path / "zarr.json", self.facts)

    def fetch(self, level: int, row: int, column: int) -> bytes | NDArray[np.uint8]:
        """Return a chunk's stream; the background where a chunk was never written."""
        stream = self._archive.stored(row, column)
        if stream is None:
            tile = self.levels[level].tile
            return np.broadcast_to(np.array(self.background, np.uint8), (tile, tile, 3))
        return stream

    def close(self) -> None:
        """Release the file."""


class SlideStore:
    """A slide that OpenSlide reads: chunks are pixels.

    Parameters
    ----------
    path : Path
        The slide.
    """

    coded = False

    def __init__(self, path: Path) -> None:
        from dlpr_wsi.sources import open_slide

        self._source = open_slide(path)
        self._lock = threading.Lock()  # one thread uses one source
        self.name = path.name
        facts = self._source.facts
        sizes = [(level.width, level.height) for level in facts.levels[:1]]
        self.levels = tuple(Grid(w, h, SLIDE_TILE, d) for (w, h), d in zip(sizes, downsamples(sizes), strict=True))
        self.background = facts.background
        self.icc_profile: bytes | None = None
        self.facts = StoreFacts(
            kind="slide",
            bytes=facts.file_bytes,
            raw_bytes=sum(3 * level.width * level.height for level in self.levels),
            tau=None,
            mpp_x=facts.mpp_x,
            mpp_y=facts.mpp_y,
            objective_power=facts.objective_power,
            source_bytes=None,
            source_codec=str(facts.codec),
        )
        self.fingerprint = _fingerprint(path, self.facts)

    def fetch(self, level: int, row: int, column: int) -> NDArray[np.uint8]:
        """Return a chunk's pixels, cut at the edge of the level."""
        grid = self.levels[level]
        x, y = column * grid.tile, row * grid.tile
        with self._lock:
            return self._source.read(x, y, min(grid.tile, grid.width - x), min(grid.tile, grid.height - y))

    def close(self) -> None:
        """Release the file."""
        self._source.close()


def open_store(path: Path) -> ChunkStore:
    """Open an archive or a slide.

    Raises
    ------
    dlpr_wsi.errors.WsiError
        It is neither, or the package that reads it is missing.
    """
    from dlpr_wsi.sources.archive import is_zarr

    if path.is_dir() and (is_zarr(path) or path.suffix == ".zarr"):
        return ArchiveStore(path)
    return SlideStore(path)


def _fingerprint(path: Path, facts: StoreFacts) -> str:
    """Return a short hash that changes when the file does."""
    status = path.stat()
    return hashlib.sha256(repr((path.name, status.st_mtime_ns, status.st_size, facts)).encode()).hexdigest()[:16]
