"""An archive as one tiled TIFF file whose tiles are the archive's streams, byte for byte.

The codec does no work here: streams are copied, so this takes as long as copying the archive. Three passes::

    hash      every stream read, its header checked, its SHA-256 kept
    write     streams into tiles; tifffile writes a stand-in compression, which is overwritten by our private one
    verify    every tile read back from the file and hashed again; only then does the file get its name
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dlpr
from dlpr.errors import DlprError
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.progress import NoProgress, Progress
from dlpr_wsi.sinks.ometiff import TiffOptions, partial_file, write_pyramid
from dlpr_wsi.sinks.place import check_destination
from dlpr_wsi.sources.archive import Archive, ArchiveLevel, Extent
from dlpr_wsi.sources.tiff_archive import TAG_SOURCE, open_tiff_archive, require_tifffile

__all__ = ["TiffReport", "write_tiff"]

_STAND_IN = 8  # Deflate: tifffile takes tiles that are compressed already under any code it knows
_TAG_COMPRESSION = 259
_LONG8 = 16
_COPY = 1 << 20


@dataclass(frozen=True)
class TiffReport:
    """What was written.

    Parameters
    ----------
    path : Path
        The file.
    levels, tiles : int
        Their number.
    tau : int
        The bound on the error of every sample.
    file_bytes, stream_bytes, raw_bytes : int
        Size of the file, of the streams in it, and of the pixels of all levels.
    seconds : float
        Wall-clock time.
    """

    path: Path
    levels: int
    tiles: int
    tau: int
    file_bytes: int
    stream_bytes: int
    raw_bytes: int
    seconds: float


def write_tiff(archive: Archive, out: Path, *, overwrite: bool = False, progress: Progress | None = None) -> TiffReport:
    """Write an archive as a BigTIFF file: tiled, lower levels as SubIFDs, private compression 65471.

    Parameters
    ----------
    archive : Archive
        From `dlpr_wsi.sources.opening.open_archive`.
    out : Path
        The file; appears when it is complete and verified.
    overwrite : bool, default False
        Replace a TIFF file of that name.
    progress : Progress, optional
        Told of every tile.

    Raises
    ------
    dlpr_wsi.errors.UsageError
        ``out`` cannot be written or exists, or chunks have sides that are no multiples of 16 px.
    dlpr_wsi.errors.ArchiveError
        A chunk is missing or damaged, or the file does not read back as it was written.
    dlpr_wsi.errors.MissingDependencyError
        tifffile is not installed.
    """
    begin = time.perf_counter()
    require_tifffile()
    check_destination(out, overwrite=overwrite)
    progress = progress or NoProgress()
    tiles = sum(level.rows * level.columns * level.stack for level in archive.levels)
    try:
        progress.start(tiles)
        hashes, stream_bytes = _hash_all(archive)

        def streams(index: int, channel: int) -> Iterator[bytes]:
            for row, column in archive.levels[index].positions():
                yield _stream(archive, archive.levels[index], row, column, channel)
                progress.advance(1)

        def digests(index: int, channel: int) -> bytes:
            size = len(hashes[index]) // archive.levels[index].stack
            return bytes(hashes[index][channel * size : (channel + 1) * size])

        with partial_file(out, overwrite=overwrite) as partial:
            facts = {**archive.facts, "tau": archive.tau, "level_tau": list(archive.level_tau)}
            options = TiffOptions(_STAND_IN, {})
            source = archive.source_map()
            tags = [] if source is None else [(TAG_SOURCE, _LONG8, 2, (1, 1), True)]
            write_pyramid(partial, archive, streams, lambda _: options, facts=facts, hashes=digests, first_tags=tags)
            _set_compression(partial)
            if source is not None:
                _append(partial, source)
            _compare(open_tiff_archive(partial), archive, hashes)
            file_bytes = partial.stat().st_size
    finally:
        progress.close()
    return TiffReport(
        path=out,
        levels=len(archive.levels),
        tiles=tiles,
        tau=archive.tau,
        file_bytes=file_bytes,
        stream_bytes=stream_bytes,
        raw_bytes=sum(level.samples * level.width * level.height for level in archive.levels),
        seconds=time.perf_counter() - begin,
    )


def _keys(level: ArchiveLevel) -> Iterator[tuple[int, int, int]]:
    """Yield (row, column, channel) of every chunk in the order of the file."""
    return ((row, column, channel) for channel in range(level.stack) for row, column in level.positions())


def _stream(archive: Archive, level: ArchiveLevel, row: int, column: int, channel: int) -> bytes:
    """Return a chunk's stream; a missing one is damage, for archives hold every chunk."""
    stream = archive.stream(level.index, row, column, channel)
    if stream is None:
        raise ArchiveError(f"{archive.path}: the chunk at {level.name(row, column, channel)} is missing")
    return stream


def _hash_all(archive: Archive) -> tuple[list[bytearray], int]:
    """Return each level's hashes, channel after channel and tile after tile, and the size of all streams."""
    result, total = [], 0
    for level in archive.levels:
        recorded = archive.hashes(level.index)
        hashes = bytearray()
        for key in _keys(level):
            stream = _stream(archive, level, *key)
            where = f"{archive.path}: the chunk at {level.name(*key)}"
            try:
                header = dlpr.inspect(stream)
            except DlprError as error:
                raise ArchiveError(f"{where} is damaged: {error}") from error
            if header.shape != (level.chunk_samples, level.tile_height, level.tile_width) or header.tau > level.tau:
                raise ArchiveError(f"{where} does not belong there: shape {header.shape}, tau {header.tau}")
            digest = hashlib.sha256(stream).digest()
            if recorded is not None and bytes(recorded[level.at(*key)]) != digest:
                raise ArchiveError(f"{where} differs from its recorded hash")
            hashes += digest
            total += len(stream)
        result.append(hashes)
    return result, total


def _set_compression(path: Path) -> None:
    """Replace the stand-in compression of every level by ours."""
    from dlpr.plugins.tifffile import COMPRESSION

    tifffile = require_tifffile()
    with tifffile.TiffFile(path, mode="r+") as file:
        for page in file.pages:
            for part in (page.aspage(), *(page.aspage().pages or ())):
                part.tags[_TAG_COMPRESSION].overwrite(COMPRESSION)


def _append(path: Path, source: Extent) -> None:
    """Append the byte map of the slide's own files, and let its tag point there."""
    with source.file.open("rb") as data, path.open("ab") as out:
        out.write(bytes(-out.tell() % 8))
        offset, left = out.tell(), source.size
        data.seek(source.offset)
        while left:
            piece = data.read(min(left, _COPY))
            if not piece:
                raise ArchiveError(f"{source.file}: ends early")
            out.write(piece)
            left -= len(piece)
    with require_tifffile().TiffFile(path, mode="r+") as file:
        file.pages.first.tags[TAG_SOURCE].overwrite((offset, source.size))


def _compare(written: Archive, archive: Archive, hashes: list[bytearray]) -> None:
    """Raise ArchiveError unless every tile of the file has the hash of the archive's stream."""
    sizes = [(level.width, level.height, level.tile_width, level.tile_height) for level in written.levels]
    if sizes != [(level.width, level.height, level.tile_width, level.tile_height) for level in archive.levels]:
        raise ArchiveError(f"{written.path}: its levels read back as {sizes}")
    if written.channels != archive.channels:
        raise ArchiveError(f"{written.path}: its channels read back as {written.channels}")
    for level in written.levels:
        for number, key in enumerate(_keys(level)):
            found = hashlib.sha256(_stream(written, level, *key)).digest()
            if found != hashes[level.index][32 * number : 32 * number + 32]:
                raise ArchiveError(f"{written.path}: {level.name(*key)} reads back differently")
