"""An archive or a slide as levels that are grids of chunks."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import ArchiveError, SourceError, WsiError
from dlpr_wsi.sources import Channel, Chunked, PixelSource, Selection
from dlpr_wsi.sources.archive import Archive, directory_bytes, is_zarr
from dlpr_wsi.sources.opening import open_archive, open_source
from dlpr_wsi.sources.tiff_archive import is_dlpr_tiff

__all__ = ["ArchiveStore", "ChunkStore", "Grid", "SlideStore", "StoreFacts", "open_store"]

SLIDE_TILE = 256  # px; slides are read in such chunks


@dataclass(frozen=True)
class Grid(Chunked):
    """One level: its size, and its chunks.

    Parameters
    ----------
    width, height : int
        Size in px.
    tile_width, tile_height : int
        Size of a chunk in px.
    downsample : float
        Width and height of level 0 over those of this level, the mean of both, as OpenSlide defines it.
    channels : int or None
        Number of channels; None for RGB.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    downsample: float
    channels: int | None = None


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
        Bound on the error of every sample of level 0; None for a slide.
    mpp_x, mpp_y : float or None
        Micrometres per px of level 0.
    objective_power : float or None
        Magnification of the objective.
    source_bytes : int or None
        Size of the slide that an archive was made from.
    source_codec : str or None
        How that slide is compressed, or this one.
    channels : tuple of Channel or None
        None: an RGB picture. Else the channels, which are shown in their colours.
    level_tau : tuple of int or None
        The bound of each level; None for a slide.
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
    channels: tuple[Channel, ...] | None = None
    level_tau: tuple[int, ...] | None = None


class ChunkStore(Protocol):
    """Chunks by level, row, column and channel; safe to use from many threads."""

    name: str
    """File name without its folder."""
    levels: Sequence[Grid]
    """Largest first."""
    facts: StoreFacts
    background: tuple[int, int, int]
    """Colour of pixels that were not scanned, RGB."""
    icc_profile: bytes | None
    coded: bool
    """Whether `fetch` returns DLPR streams; then each channel has a chunk of its own, else a chunk holds all."""
    fingerprint: str
    """Changes with the file: part of ETags."""

    def fetch(self, level: int, row: int, column: int, channel: int = 0) -> bytes | NDArray[np.uint8]:
        """Return a chunk's DLPR stream, or its pixels as (h, w, samples).

        Raises
        ------
        dlpr_wsi.errors.WsiError, OSError
            It cannot be read.
        """

    def beginning(self, level: int, row: int, column: int, channel: int, most: int) -> bytes | None:
        """Return the first bytes of a chunk's stream, at most so many; None where chunks are no streams.

        Raises as `fetch`.
        """

    def close(self) -> None:
        """Release the file."""


class ArchiveStore:
    """A DLPR archive: chunks are streams.

    Parameters
    ----------
    archive : Archive
        An open archive.
    """

    coded = True

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.name: str = archive.path.name
        self.levels: Sequence[Grid] = tuple(
            Grid(level.width, level.height, level.tile_width, level.tile_height, level.downsample, level.channels)
            for level in archive.levels
        )
        facts = archive.facts
        self.background = (0, 0, 0) if archive.channels is not None else _colour(facts.get("background"))
        self.icc_profile = archive.icc_profile
        self.facts = StoreFacts(
            kind="archive",
            bytes=_size(archive.path),
            raw_bytes=sum(level.samples * level.width * level.height for level in self.levels),
            tau=archive.tau,
            level_tau=archive.level_tau,
            mpp_x=archive.mpp_x,
            mpp_y=archive.mpp_y,
            objective_power=_number(facts.get("objective_power")),
            source_bytes=None if (size := _number(facts.get("source_bytes"))) is None else int(size),
            source_codec=_codec_name(facts.get("source_codec"), facts.get("source_quality")),
            channels=archive.channels,
        )
        self.fingerprint = _fingerprint(archive.path, self.facts)

    def fetch(self, level: int, row: int, column: int, channel: int = 0) -> bytes:
        """Return a chunk's stream."""
        return self._stored(level, row, column, channel, None)

    def beginning(self, level: int, row: int, column: int, channel: int, most: int) -> bytes:
        """Return the first bytes of a chunk's stream; no others are read."""
        return self._stored(level, row, column, channel, most)

    def _stored(self, level: int, row: int, column: int, channel: int, most: int | None) -> bytes:
        stream = self._archive.stream(level, row, column, channel, most=most)
        if stream is None:
            raise ArchiveError("the archive has no chunk there")
        return stream

    def close(self) -> None:
        """Archives hold no file open."""


class SlideStore:
    """A slide, or anything else that `open_source` opens: chunks are pixels.

    Parameters
    ----------
    source : PixelSource
        An open slide; it is closed with the store.
    path : Path
        Its file.
    selection : Selection, optional
        Which picture of it, where it holds several.
    """

    coded = False

    def __init__(self, source: PixelSource, path: Path, selection: Selection | None = None) -> None:
        self._source, self._path, self._selection = source, path, selection
        self._usable = True
        self._lock = threading.Lock()  # one thread at a time uses one source
        facts = source.facts
        self.name: str = facts.name
        count = None if facts.channels is None else len(facts.channels)
        self.levels: Sequence[Grid] = tuple(
            Grid(level.width, level.height, SLIDE_TILE, SLIDE_TILE, level.downsample, count) for level in facts.levels
        )
        self.background = facts.background if facts.channels is None else (0, 0, 0)
        self.icc_profile = facts.icc_profile
        self.facts = StoreFacts(
            kind="slide",
            bytes=facts.file_bytes,
            raw_bytes=sum(level.samples * level.width * level.height for level in self.levels),
            tau=None,
            level_tau=None,
            mpp_x=facts.mpp_x,
            mpp_y=facts.mpp_y,
            objective_power=facts.objective_power,
            source_bytes=None,
            source_codec=_codec_name(facts.codec.name, facts.codec.quality),
            channels=facts.channels,
        )
        self.fingerprint = _fingerprint(path, (self.facts, selection))

    def fetch(self, level: int, row: int, column: int, channel: int = 0) -> NDArray[np.uint8]:
        """Return a chunk's pixels, all channels, cut at the edge of the level."""
        del channel
        grid = self.levels[level]
        x, y = column * grid.tile_width, row * grid.tile_height
        width, height = min(grid.tile_width, grid.width - x), min(grid.tile_height, grid.height - y)
        with self._lock:
            if not self._usable:  # after an error a source may be of no use: a new one reads the rest
                self._source.close()
                self._source = open_source(self._path, self._selection)
                self._usable = True
            try:
                return self._source.read(x, y, width, height, level)
            except SourceError:
                self._usable = False
                raise

    def beginning(self, level: int, row: int, column: int, channel: int, most: int) -> None:
        """Return None: there are no streams."""

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._source.close()


def open_store(path: Path, selection: Selection | None = None) -> ChunkStore:
    """Open an archive or a slide.

    Parameters
    ----------
    path : Path
        The archive or slide.
    selection : Selection, optional
        Which picture of a slide that holds several; an archive holds one.

    Raises
    ------
    dlpr_wsi.errors.WsiError
        It is neither, or the package that reads it is missing.
    """
    if is_dlpr_tiff(path):
        return ArchiveStore(open_archive(path))
    if path.is_dir() and is_zarr(path):
        try:
            return ArchiveStore(open_archive(path))
        except ArchiveError as refused:
            try:  # a Zarr with other codecs is shown too, as pixels
                return SlideStore(open_source(path, selection), path, selection)
            except WsiError:
                raise refused from None
    return SlideStore(open_source(path, selection), path, selection)


def _codec_name(name: object, quality: object) -> str | None:
    """Return a codec's name for people."""
    if not isinstance(name, str):
        return None
    return f"{name}, quality {quality}" if isinstance(quality, int) else name


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _colour(text: object) -> tuple[int, int, int]:
    """Parse RRGGBB or three numbers; white if it is neither."""
    try:
        values = bytes.fromhex(text) if isinstance(text, str) else bytes(cast(Sequence[int], text))
        red, green, blue = values
    except (TypeError, ValueError):
        return (255, 255, 255)
    return (red, green, blue)


def _size(path: Path) -> int:
    return directory_bytes(path) if path.is_dir() else path.stat().st_size


def _fingerprint(path: Path, facts: object) -> str:
    """Return a short hash that changes when the file does."""
    status = path.stat()
    parts = (str(path.resolve()), status.st_mtime_ns, status.st_size, facts)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
