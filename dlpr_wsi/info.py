"""What a slide or an archive is: facts for ``dlpr-wsi info``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dlpr
from dlpr.errors import DlprError
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.sources import Channel, Selection, SlideFacts
from dlpr_wsi.sources.archive import ATTRIBUTES, Archive, ArchiveLevel, directory_bytes, is_zarr
from dlpr_wsi.sources.dicom import holds_dicom
from dlpr_wsi.sources.opening import open_archive, open_source
from dlpr_wsi.sources.tiff_archive import is_dlpr_tiff

__all__ = ["ArchiveInfo", "LevelInfo", "archive_info", "info", "slide_info"]


@dataclass(frozen=True)
class LevelInfo:
    """One level of an archive.

    Parameters
    ----------
    width, height, tile_width, tile_height : int
        In px.
    shard : tuple of int or None
        Rows and columns of chunks in a shard; None where every chunk is a file.
    tiles : int
        Number of chunks.
    bytes : int
        Size of their streams.
    tiles_by_mode : mapping of str to int
        How they are coded; a chunk that is not there counts as "missing", one that does not parse as "damaged".
    tau : int
        The bound on the error of every sample.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    shard: tuple[int, int] | None
    tiles: int
    bytes: int
    tiles_by_mode: Mapping[str, int]
    tau: int


@dataclass(frozen=True)
class ArchiveInfo:
    """What an archive is.

    Parameters
    ----------
    name : str
        Folder name.
    zarr_format : int
        2 (OME-Zarr 0.4), 3 (OME-Zarr 0.5) or 0 (TIFF).
    levels : tuple of LevelInfo
        Largest first.
    tau : int
        The bound on the error of every sample of level 0.
    bytes : int
        Size of all its files.
    raw_bytes : int
        Size of its pixels, all levels.
    tiles : int
        Number of chunks of all levels.
    tiles_by_mode : mapping of str to int
        How they are coded.
    weights : tuple of str
        Ids of the weights that its streams name.
    icc_profile : int or None
        Size of the colour profile in bytes.
    prior : int or None
        Size in bytes of the slide's prior, without which its chunks of mode jpeg cannot be decoded; None: no prior.
    source : mapping
        What the conversion recorded about the slide.
    tuned : int
        Size in bytes of weights tuned to the slide, without which what the networks coded cannot be decoded; 0: none.
    samples : int
        Samples of a px: 3 for RGB, else the number of channels.
    channels : tuple of Channel or None
        Names and colours of the channels; None for RGB.
    """

    name: str
    zarr_format: int
    levels: tuple[LevelInfo, ...]
    tau: int
    bytes: int
    raw_bytes: int
    tiles: int
    tiles_by_mode: Mapping[str, int]
    weights: tuple[str, ...]
    icc_profile: int | None
    prior: int | None
    source: Mapping[str, Any]
    tuned: int = 0
    samples: int = 3
    channels: tuple[Channel, ...] | None = None

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the archive per px."""
        return 8 * self.samples * self.bytes / self.raw_bytes

    @property
    def raw_share(self) -> float:
        """Size of the archive over that of its pixels."""
        return self.bytes / self.raw_bytes

    def to_json(self) -> dict[str, Any]:
        """Return all facts, those computed from others too."""
        return {
            "kind": "archive",
            **asdict(self),
            "raw_share": self.raw_share,
            "bits_per_pixel": self.bits_per_pixel,
        }


def info(path: Path, selection: Selection | None = None) -> SlideFacts | ArchiveInfo:
    """Return facts about an archive of this package, else about a slide, an image or another Zarr folder.

    Parameters
    ----------
    path : Path
        Archive, slide, image or folder.
    selection : Selection, optional
        Which picture of a file that holds several; an archive holds one.

    Raises
    ------
    dlpr_wsi.errors.WsiError
        The path is none of them, or a package that reads it is missing.
    """
    if is_dlpr_tiff(path):
        return archive_info(path)
    if path.is_dir():
        try:
            return archive_info(path)
        except ArchiveError as error:
            own = any(
                f'"{ATTRIBUTES}"' in (path / name).read_text("utf-8", "replace")
                for name in ("zarr.json", ".zattrs")
                if (path / name).is_file()
            )
            if own or not (is_zarr(path) or holds_dicom(path)):
                raise error
    return slide_info(path, selection)


def slide_info(path: Path, selection: Selection | None = None) -> SlideFacts:
    """Return facts about a slide."""
    source = open_source(path, selection)
    try:
        return source.facts
    finally:
        source.close()


def archive_info(path: Path) -> ArchiveInfo:
    """Return facts about an archive; reads every chunk's header."""
    archive = open_archive(path)
    weights: set[str] = set()
    levels = tuple(_level(archive, level, weights) for level in archive.levels)
    modes: Counter[str] = Counter()
    for level in levels:
        modes.update(level.tiles_by_mode)
    return ArchiveInfo(
        name=path.name,
        zarr_format=archive.levels[0].zarr_format,
        levels=levels,
        tau=archive.tau,
        bytes=directory_bytes(path),
        raw_bytes=sum(level.samples * level.width * level.height for level in archive.levels),
        tiles=sum(level.tiles for level in levels),
        tiles_by_mode=dict(modes),
        weights=tuple(sorted(weights)),
        icc_profile=None if archive.icc_profile is None else len(archive.icc_profile),
        prior=None if archive.levels[0].prior is None else len(archive.levels[0].prior.data),
        source=dict(archive.facts),
        tuned=sum(len(one.data) for one in {one for level in archive.levels for one in level.tuned}),
        samples=archive.samples,
        channels=archive.channels,
    )


def _level(archive: Archive, level: ArchiveLevel, weights: set[str]) -> LevelInfo:
    """Read the headers of a level's chunks."""
    modes: Counter[str] = Counter()
    size = 0
    keys = ((row, column, channel) for row, column in level.positions() for channel in range(level.stack))
    for row, column, channel in keys:
        try:
            stream = archive.stream(level.index, row, column, channel)
            if stream is None:
                modes["missing"] += 1
                continue
            size += len(stream)
            header = dlpr.inspect(stream)
        except (ArchiveError, DlprError, OSError):
            modes["damaged"] += 1
            continue
        modes[str(header.mode)] += 1
        if header.weights_id:
            weights.add(str(header.weights_id))
    shard = None
    if level.shard_rows is not None and level.shard_columns is not None:
        shard = (level.shard_rows, level.shard_columns)
    return LevelInfo(
        width=level.width,
        height=level.height,
        tile_width=level.tile_width,
        tile_height=level.tile_height,
        shard=shard,
        tiles=level.rows * level.columns * level.stack,
        bytes=size,
        tiles_by_mode=dict(modes),
        tau=level.tau,
    )
