"""The slide's files out of its archive: any bytes of them, made on demand."""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
import zlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType

import numpy as np

from dlpr.errors import DlprError
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.reversible.kept import unpack_block
from dlpr_wsi.reversible.layout import (
    BLOCK,
    KEPT,
    MAGIC,
    SHORT_HINT,
    TRAILER,
    FileEntry,
    SourceMap,
    parse_index,
    parse_trailer,
)
from dlpr_wsi.reversible.makers import Chunks, Place, chunk_cache, maker_of
from dlpr_wsi.reversible.ordered import ordered
from dlpr_wsi.sources.archive import Archive
from dlpr_wsi.sources.opening import open_archive
from dlpr_wsi.viewer.cache import ByteCache

__all__ = ["CACHE_BYTES", "MakingCache", "Originals", "is_reversible", "read_map"]

CACHE_BYTES = 64 << 20
_serials = count()
_UNIT, _MOST_UNIT = 1 << 16, 1 << 20  # bytes that a thread makes at a time where a whole file is made


class _BadBytesError(Exception):
    """Some bytes cannot be given back; why. Whoever asked says which bytes of which file."""


class MakingCache:
    """What was made last, of one archive or of many.

    Parameters
    ----------
    limit : int
        Bound in bytes; half of it for decoded chunks.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.made: ByteCache[tuple[int, bool, int], bytes] = ByteCache(limit // 2, len)
        self.chunks = chunk_cache(limit // 2)


@dataclass(frozen=True)
class _Run:
    """A segment, or a piece of one, that was asked for."""

    segment: int
    skip: int
    size: int


def is_reversible(archive: Archive) -> bool:
    """Tell whether an archive holds the slide's files."""
    return archive.source_map() is not None


def read_map(archive: Archive) -> tuple[SourceMap, int]:
    """Read an archive's byte map; also the number of bytes that it takes in the archive.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        The archive has none, or it is damaged.
    """
    extent = archive.source_map()
    if extent is None:
        raise ArchiveError(
            f"{archive.path}: not a reversible archive: it was made without --reversible, so the slide's own file is "
            "not in it"
        )
    name = str(archive.path)
    try:
        with extent.file.open("rb") as file:
            end = file.seek(0, 2)
            if extent.size < len(MAGIC) + TRAILER or extent.offset + extent.size > end:
                raise ArchiveError(f"{name}: the list of the slide's bytes is damaged (it ends early)")
            file.seek(extent.offset)
            magic = file.read(len(MAGIC))
            file.seek(extent.offset + extent.size - TRAILER)
            trailer = parse_trailer(file.read(TRAILER), extent.size, name)
            file.seek(extent.offset + trailer.offset)
            stored = file.read(trailer.stored)
    except OSError as error:
        raise ArchiveError(f"{name}: the list of the slide's bytes cannot be read ({error.strerror})") from error
    if magic != MAGIC:
        raise ArchiveError(f"{name}: the list of the slide's bytes is damaged (its first bytes)")
    return parse_index(stored, trailer, trailer.offset - len(MAGIC), name), extent.size


class Originals:
    """The files of the slide that a reversible archive was made from. May be used from many threads.

    Parameters
    ----------
    archive : Archive or Path
        From `dlpr_wsi.sources.opening.open_archive`, or where it is.
    cache : MakingCache, optional
        Where bytes are kept for the next who asks.
    threads : int, optional
        That make the bytes of one `read`; default: one for each CPU core.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        It is no reversible archive, or its byte map is damaged.
    """

    def __init__(
        self, archive: Archive | Path, *, cache: MakingCache | None = None, threads: int | None = None
    ) -> None:
        self.archive = archive if isinstance(archive, Archive) else open_archive(archive)
        self.map, self.map_bytes = read_map(self.archive)
        parts = self.map.parts
        if len(parts.level) and int(parts.level.max()) >= len(self.archive.levels):
            raise ArchiveError(f"{self.archive.path}: the list of the slide's bytes belongs to another archive")
        extent = self.archive.source_map()
        if extent is None:  # it has just been there
            raise ArchiveError(f"{self.archive.path}: the list of the slide's bytes is gone")
        cache = cache or MakingCache()
        self._chunks = Chunks(self.archive, cache.chunks)
        self._cache, self._serial = cache.made, next(_serials)
        self._running: dict[tuple[bool, int], Future[bytes]] = {}
        self._lock = threading.Lock()
        self._block_at = extent.offset + len(MAGIC) + np.append(0, np.cumsum(self.map.kept.stored))
        self.threads = threads or usable_cores()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="dlpr-original")
        try:
            self._handle = os.open(extent.file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise ArchiveError(f"{extent.file}: cannot be read ({error.strerror})") from error
        self._release = weakref.finalize(self, os.close, self._handle)

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """The slide's files, the one that is opened first."""
        return self.map.files

    def number(self, name: str | None) -> int:
        """Return which file has a name; without a name, of a slide of one file, that one.

        Raises
        ------
        dlpr_wsi.errors.ArchiveError
            There is none, or there are several.
        """
        names = [file.name for file in self.files]
        if name is None:
            if len(names) != 1:
                raise ArchiveError(f"{self.archive.path}: the slide has {len(names)} files; name one of them")
            return 0
        if name not in names:
            raise ArchiveError(f"{self.archive.path}: the slide has no file {name!r}")
        return names.index(name)

    def read(self, file: int, offset: int, size: int) -> bytes:
        """Return bytes of a file; fewer at its end.

        Parameters
        ----------
        file : int
            Which of `files`.
        offset, size : int
            In bytes.

        Raises
        ------
        dlpr_wsi.errors.ArchiveError
            Some of them cannot be made: the message names them, and the chunk or block at fault.
        """
        runs = self._runs(file, offset, size)
        absent = [
            key
            for key in dict.fromkeys(key for run in runs for key in self._keys(run))
            if (self._serial, *key) not in self._cache
        ]
        if len(absent) > 1:
            futures = {key: self._pool.submit(self._get, key) for key in absent}
            return self._join(file, runs, lambda key: futures[key].result() if key in futures else self._get(key))
        return self._join(file, runs, self._get)

    def stream(self, file: int, threads: int | None = None) -> Generator[bytes, None, None]:
        """Yield a whole file, piece after piece, made on several threads ahead of the consumer.

        Raises as `read` does.
        """

        def make(unit: tuple[int, int]) -> bytes:
            return self._join(file, self._runs(file, *unit), self._get)

        return ordered(make, self._units(file), threads or self.threads)

    def _units(self, file: int) -> Iterator[tuple[int, int]]:
        """Cut a file into what threads make one after another: whole segments, of long kept ones pieces."""
        segments = self.map.segments
        begin = end = 0
        for number in range(int(segments.first[file]), int(segments.first[file + 1])):
            end += int(segments.size[number])
            while end - begin >= _UNIT:
                size = min(end - begin, _MOST_UNIT)
                yield begin, size
                begin += size
        if end > begin:
            yield begin, end - begin

    def check(self, file: int, on_bytes: Callable[[int], None], threads: int | None = None) -> None:
        """Make a whole file and compare its SHA-256; ``on_bytes`` is told of every piece's size.

        Raises
        ------
        dlpr_wsi.errors.ArchiveError
            Bytes cannot be made, or are not those of the slide.
        """
        digest = hashlib.sha256()
        for piece in self.stream(file, threads):
            digest.update(piece)
            on_bytes(len(piece))
        if digest.digest() != self.files[file].sha256:
            raise self.differs(file)

    def differs(self, file: int) -> ArchiveError:
        """Return the error of a file whose bytes were all made, but are others."""
        return ArchiveError(
            f"{self.archive.path}: {self.files[file].name} is not what the slide's file was: its SHA-256 differs"
        )

    def close(self) -> None:
        """Release the archive; nobody may read any more. Without it that happens when nobody holds the object."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._handle = -1
        self._release()

    def __enter__(self) -> Originals:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _runs(self, file: int, offset: int, size: int) -> list[_Run]:
        """Return the pieces of segments that some bytes of a file consist of."""
        segments = self.map.segments
        end = min(offset + size, self.files[file].size)
        if offset < 0 or offset >= end:
            return []
        first, last = int(segments.first[file]), int(segments.first[file + 1])
        number = first + int(np.searchsorted(segments.start[first:last], offset, "right")) - 1
        runs = []
        while offset < end:
            skip = offset - int(segments.start[number])
            taken = min(int(segments.size[number]) - skip, end - offset)
            runs.append(_Run(number, skip, taken))
            offset += taken
            number += 1
        return runs

    def _keys(self, run: _Run) -> list[tuple[bool, int]]:
        """Return what a piece needs: (True, part), or (False, block) of each kept block."""
        part, at = int(self.map.segments.part[run.segment]), int(self.map.segments.at[run.segment]) + run.skip
        if part != KEPT:
            return [(True, part)]
        return [(False, block) for block in range(at // BLOCK, (at + run.size - 1) // BLOCK + 1)]

    def _join(self, file: int, runs: list[_Run], get: Callable[[tuple[bool, int]], bytes]) -> bytes:
        """Put pieces together."""
        out = []
        for run in runs:
            segments = self.map.segments
            at = int(segments.at[run.segment]) + run.skip
            keys = self._keys(run)
            try:
                if keys[0][0]:
                    out.append(memoryview(get(keys[0]))[at : at + run.size])
                    continue
                for key in keys:
                    begin = max(at - key[1] * BLOCK, 0)
                    out.append(memoryview(get(key))[begin : at + run.size - key[1] * BLOCK])
            except _BadBytesError as error:
                start, size = int(segments.start[run.segment]), int(segments.size[run.segment])
                raise ArchiveError(
                    f"{self.archive.path}: bytes {start} to {start + size - 1} of {self.files[file].name}: {error}"
                ) from error
        return b"".join(out)

    def _get(self, key: tuple[bool, int]) -> bytes:
        """Return a part or a kept block; made once for all who ask at the same time."""
        if (found := self._cache.get((self._serial, *key))) is not None:
            return found
        with self._lock:
            future = self._running.get(key)
            mine = future is None
            if future is None:
                future = self._running[key] = Future()
        if not mine:
            return future.result()
        try:
            data = self._part(key[1]) if key[0] else self._block(key[1])
        except BaseException as error:
            future.set_exception(error)
            raise
        else:
            self._cache.put((self._serial, *key), data)
            future.set_result(data)
            return data
        finally:
            with self._lock:
                self._running.pop(key, None)

    def _part(self, number: int) -> bytes:
        """Make a part."""
        parts = self.map.parts
        place = Place(*(int(a[number]) for a in (parts.level, parts.x, parts.y, parts.width, parts.height)))
        template = self.map.templates[int(parts.template[number])]
        level = self.archive.levels[place.level]
        chunk = level.name(place.y // level.tile_height, place.x // level.tile_width)
        try:
            data = maker_of(template.maker).make(template.data, self._hint(number), place, self._chunks)
        except (ArchiveError, DlprError) as error:
            raise _BadBytesError(f"{chunk}: {error}") from error
        except OSError as error:
            raise _BadBytesError(f"{chunk}: {error.strerror or error}") from error
        if len(data) != int(parts.size[number]) or zlib.crc32(data) != int(parts.crc[number]):
            raise _BadBytesError(f"{chunk}: what is made of it is not what the slide's file had")
        return data

    def _hint(self, number: int) -> bytes:
        """Return a part's hint."""
        parts = self.map.parts
        at, size = int(parts.hint_at[number]), int(parts.hint_size[number])
        return parts.hints[at : at + size] if size <= SHORT_HINT else self._kept(at, size)

    def _kept(self, at: int, size: int) -> bytes:
        """Return kept bytes."""
        blocks = range(at // BLOCK, (at + size - 1) // BLOCK + 1)
        return b"".join(self._get((False, block)) for block in blocks)[at % BLOCK :][:size]

    def _block(self, number: int) -> bytes:
        """Read a kept block."""
        kept = self.map.kept
        begin, end = int(self._block_at[number]), int(self._block_at[number + 1])
        try:
            stored = os.pread(self._handle, end - begin, begin)
        except OSError as error:
            raise _BadBytesError(f"kept block {number} cannot be read ({error.strerror})") from error
        if len(stored) != end - begin:
            raise _BadBytesError(f"kept block {number} is damaged: the archive ends inside it")
        size = min(BLOCK, kept.total - number * BLOCK)
        return unpack_block(
            stored, size, int(kept.crc[number]), lambda why: _BadBytesError(f"kept block {number} is damaged: {why}")
        )


def usable_cores() -> int:
    """Return the number of CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
