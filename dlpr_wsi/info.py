"""What a slide or an archive is: facts for ``dlpr-wsi info``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dlpr
from dlpr.errors import DlprError
from dlpr_wsi.sources import SlideFacts, open_slide
from dlpr_wsi.sources.archive import directory_bytes, open_archive

__all__ = ["ArchiveInfo", "archive_info", "info", "slide_info"]


@dataclass(frozen=True)
class ArchiveInfo:
    """What an archive is.

    Parameters
    ----------
    name : str
        Folder name.
    shape, chunks : tuple of int
        (3, H, W) and (3, t, t).
    tau : int
        The bound on the error of every sample.
    bytes : int
        Size of all its files.
    raw_bytes : int
        Size of its pixels.
    tiles : int
        Number of chunks.
    tiles_by_mode : mapping of str to int
        How they are coded; a chunk without a file counts as "missing", one that does not parse as "damaged".
    weights : tuple of str
        Ids of the weights that its streams name.
    source : mapping
        What the conversion recorded about the slide.
    """

    name: str
    shape: tuple[int, int, int]
    chunks: tuple[int, int, int]
    tau: int
    bytes: int
    raw_bytes: int
    tiles: int
    tiles_by_mode: Mapping[str, int]
    weights: tuple[str, ...]
    source: Mapping[str, Any]

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the archive per px."""
        return 8 * self.bytes / (self.shape[1] * self.shape[2])

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


def info(path: Path) -> SlideFacts | ArchiveInfo:
    """Return facts about an archive if the path is a folder with Zarr metadata, else about a slide.

    Raises
    ------
    dlpr_wsi.errors.WsiError
        The path is neither, or a package that reads it is missing.
    """
    from dlpr_wsi.sources.archive import is_zarr

    if path.is_dir() and (is_zarr(path) or path.suffix == ".zarr"):
        return archive_info(path)
    return slide_info(path)


def slide_info(path: Path) -> SlideFacts:
    """Return facts about a slide."""
    source = open_slide(path)
    try:
        return source.facts
    finally:
        source.close()


def archive_info(path: Path) -> ArchiveInfo:
    """Return facts about an archive; reads every chunk's header."""
    archive = open_archive(path)
    modes: Counter[str] = Counter()
    weights: set[str] = set()
    for row, column in archive.positions():
        try:
            stream = archive.stored(row, column)
            if stream is None:
                modes["missing"] += 1
                continue
            header = dlpr.inspect(stream)
        except (DlprError, OSError):
            modes["damaged"] += 1
            continue
        modes[str(getattr(header.mode, "value", header.mode))] += 1
        if header.weights_id:
            weights.add(str(header.weights_id))
    return ArchiveInfo(
        name=path.name,
        shape=(3, archive.height, archive.width),
        chunks=(3, archive.tile, archive.tile),
        tau=archive.tau,
        bytes=directory_bytes(path),
        raw_bytes=3 * archive.height * archive.width,
        tiles=archive.rows * archive.columns,
        tiles_by_mode=dict(modes),
        weights=tuple(sorted(weights)),
        source=dict(archive.facts),
    )
