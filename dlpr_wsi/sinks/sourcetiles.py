"""What exports of a slide's own tiles share, whatever their codec: streams, a level's kind, the file read again."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from dlpr.errors import DlprError
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.sources.archive import Archive, ArchiveLevel
from dlpr_wsi.sources.tiff_archive import require_tifffile

__all__ = ["compare_tiles", "kinds_of", "stream_of"]

Kind = TypeVar("Kind")


def stream_of(archive: Archive, level: ArchiveLevel, row: int, column: int) -> bytes:
    """Return a chunk's stream; raise ArchiveError if it is missing."""
    stream = archive.stream(level.index, row, column)
    if stream is None:
        raise ArchiveError(f"{archive.path}: the chunk at {level.name(row, column)} is missing")
    return stream


def kinds_of(archive: Archive, codec: str, kind_of: Callable[[bytes, ArchiveLevel], Kind | None]) -> list[Kind | None]:
    """Return what the first tile of the slide's in each level is; None for levels without one.

    Parameters
    ----------
    archive : Archive
        The archive.
    codec : str
        Name of the tiles' codec, for messages.
    kind_of : callable
        The kind of a stream that holds such a tile, whole; None for any other.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        The archive holds channels or no such tile on level 0, or a chunk is missing or damaged.
    """
    if archive.channels is not None:
        raise ArchiveError(
            f"{archive.path}: holds channels, not the {codec} tiles of an RGB slide; export with another codec"
        )
    kinds = [_first(archive, level, kind_of) for level in archive.levels]
    if kinds[0] is None:
        raise ArchiveError(
            f"{archive.path}: keeps no {codec} tiles on level 0, so there is no {codec} to write back; "
            "export with another codec"
        )
    return kinds


def _first(archive: Archive, level: ArchiveLevel, kind_of: Callable[[bytes, ArchiveLevel], Kind | None]) -> Kind | None:
    for row, column in level.positions():
        try:
            kind = kind_of(stream_of(archive, level, row, column), level)
        except DlprError as error:
            raise ArchiveError(f"{archive.path}: the chunk at {level.name(row, column)}: {error}") from error
        if kind is not None:
            return kind
    return None


def compare_tiles(path: Path, checks: Sequence[Sequence[int]], *, subifds: bool) -> None:
    """Raise ArchiveError unless a TIFF holds the tiles that were made.

    Parameters
    ----------
    path : Path
        The file.
    checks : sequence of sequence of int
        CRC-32 of the tiles of each level, in order.
    subifds : bool
        Whether lower levels are SubIFDs, or pages.
    """
    with require_tifffile().TiffFile(path) as file:
        first = file.pages.first
        pages = [first, *(first.pages or ())] if subifds else list(file.pages)
        for page, expected in zip(pages, checks, strict=True):
            places = zip(page.dataoffsets, page.databytecounts, strict=True)
            for (offset, size), check in zip(places, expected, strict=True):
                file.filehandle.seek(offset)
                if zlib.crc32(file.filehandle.read(size)) != check:
                    raise ArchiveError("a tile of the export reads back differently: the disk is at fault")
