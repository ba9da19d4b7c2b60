"""The byte map of a slide, written beside the archive that was made of it.

Two passes. The first takes every coded part that the slide's store names, in the order of the chunks, and tries to make
it from the archive as it lies on the disk; only what comes out equal counts as made. The second reads each file from
front to back, hashes it, and keeps what is not made.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from array import array
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlpr.errors import DlprError
from dlpr_wsi.errors import ArchiveError, SourceError
from dlpr_wsi.progress import NoProgress, Progress
from dlpr_wsi.reversible.kept import KeptWriter
from dlpr_wsi.reversible.layout import (
    KEPT,
    MAGIC,
    MAX_FILES,
    MAX_INDEX,
    SHORT_HINT,
    FileEntry,
    Parts,
    Segments,
    SourceMap,
    Template,
    Trailer,
    name_problem,
    pack_index,
    pack_trailer,
)
from dlpr_wsi.reversible.makers import MAKERS, Chunks, PartData, Place, chunk_cache, maker_of
from dlpr_wsi.reversible.ordered import ordered
from dlpr_wsi.sources.archive import Archive
from dlpr_wsi.stored import PartKind, StoredLevel

__all__ = ["Listed", "Made", "OpenFiles", "SlideFiles", "build_source_map", "list_parts", "try_part"]

_GROUP = 16  # parts that a thread takes at a time
_READ = 1 << 20
_MAX_PART = 1 << 28  # bytes of a part that is tried
_MAX_HINTS = MAX_INDEX // 4  # bytes of all short hints
_MAX_TEMPLATES = MAX_INDEX // 4  # bytes of all templates
_WORTH = 0.9  # of a part's bytes that its hint may have
_CHUNKS = 256 << 20  # bytes of decoded chunks that several parts are made of
_KINDS = tuple(PartKind)


@dataclass(frozen=True)
class SlideFiles:
    """A slide's files, and what is known of what lies in them.

    Parameters
    ----------
    files : mapping of str to Path
        By the names that they are given back under, the one that is opened first.
    store : tuple of Path
        The files that ranges of ``levels`` count.
    levels : mapping of int to StoredLevel
        By level of the archive.
    """

    files: Mapping[str, Path]
    store: tuple[Path, ...] = ()
    levels: Mapping[int, StoredLevel] = field(default_factory=dict)


@dataclass
class Listed:
    """All parts of a slide as numbers, for there may be a million of them."""

    kind: array[int] = field(default_factory=lambda: array("b"))
    box: array[int] = field(default_factory=lambda: array("q"))  # level, x, y, width, height of each
    shared: array[int] = field(default_factory=lambda: array("q"))
    first: array[int] = field(default_factory=lambda: array("q", [0]))  # range of each
    ranges: array[int] = field(default_factory=lambda: array("q"))  # file, offset, size of each range
    tables: list[bytes] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of parts."""
        return len(self.kind)

    def place(self, part: int) -> Place:
        """Return what a part shows."""
        return Place(*self.box[5 * part : 5 * part + 5])

    def ranges_of(self, part: int) -> list[tuple[int, int, int]]:
        """Return file, offset and size of a part's ranges."""
        flat = self.ranges[3 * self.first[part] : 3 * self.first[part + 1]]
        return list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))


@dataclass(frozen=True)
class Made:
    """A part that can be made."""

    template: Template
    hint: bytes
    size: int
    crc: int


class _Found:
    """The parts that can be made. Long hints are written at once, so that memory does not grow with them."""

    def __init__(self) -> None:
        self.templates: dict[Template, int] = {}
        self.rows: dict[int, tuple[int, int, int, int, int]] = {}  # template, size, crc, hint's size, place if long
        self.hints: dict[int, bytes] = {}
        self._short = self._common = 0

    def add(self, part: int, made: Made, kept: KeptWriter) -> None:
        """Take a part, unless hints or templates have become too many for an index."""
        if made.template not in self.templates:
            if self._common + len(made.template.data) > _MAX_TEMPLATES:
                return
            self._common += len(made.template.data)
        at, size = 0, len(made.hint)
        if size > SHORT_HINT:
            at = kept.append(made.hint)
        elif size:
            self._short += size
            if self._short > _MAX_HINTS:
                return
            self.hints[part] = made.hint
        template = self.templates.setdefault(made.template, len(self.templates))
        self.rows[part] = (template, made.size, made.crc, size, at)


class OpenFiles:
    """The slide's files by number."""

    def __init__(self, slide: SlideFiles) -> None:
        self.names = list(slide.files)
        self.paths = list(slide.files.values())
        self.numbers = {path.resolve(): number for number, path in enumerate(self.paths)}
        self.sizes = []
        for path in self.paths:
            try:
                self.sizes.append(path.stat().st_size)
            except OSError as error:
                raise SourceError(f"{path}: cannot be read ({error.strerror})") from error

    def read(self, file: int, offset: int, size: int) -> bytes:
        """Return bytes of a file; fewer where it ends early."""
        path = self.paths[file]
        try:
            with path.open("rb") as handle:
                handle.seek(offset)
                return handle.read(size)
        except OSError as error:
            raise SourceError(f"{path}: cannot be read ({error.strerror})") from error


def build_source_map(
    slide: SlideFiles, archive: Archive, out: Path, *, threads: int, progress: Progress | None = None
) -> SourceMap:
    """Write the byte map of a slide.

    Parameters
    ----------
    slide : SlideFiles
        The slide.
    archive : Archive
        What was made of it, complete but for the map.
    out : Path
        A new file; synced when this returns.
    threads : int
        That make and compress. The bytes do not depend on it.
    progress : Progress, optional
        Told of every part that was tried.

    Returns
    -------
    SourceMap
        What was written.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        A file cannot be read, changed meanwhile, or has a name that cannot be given back.
    OSError
        The map cannot be written.
    """
    progress = progress or NoProgress()
    _check_names(slide)
    files = OpenFiles(slide)
    listed = list_parts(slide, files) if archive.channels is None else Listed()
    progress.start(max(listed.count, 1))
    with out.open("wb") as file:
        file.write(MAGIC)
        with KeptWriter(file, threads) as kept:
            found = _Found()
            for group, results in _try_parts(listed, files, archive, threads):
                for part, made in zip(group, results, strict=True):
                    if made is not None:
                        found.add(part, made, kept)
                progress.advance(len(group))
            result = _Writer(listed, found, files, kept).write()
        index, size, crc = pack_index(result)
        offset = len(MAGIC) + int(result.kept.stored.sum())
        file.write(index)
        file.write(pack_trailer(Trailer(offset, len(index), size, crc)))
        file.flush()
        os.fsync(file.fileno())
    return result


def _check_names(slide: SlideFiles) -> None:
    """Refuse what cannot be given back."""
    if len(slide.files) > MAX_FILES:
        raise SourceError(f"a slide of {len(slide.files)} files; at most {MAX_FILES} can be kept (--reversible)")
    for name, path in slide.files.items():
        if (problem := name_problem(name)) is not None:
            raise SourceError(f"{path}: a file of this name cannot be given back ({problem}); rename it (--reversible)")


def list_parts(slide: SlideFiles, files: OpenFiles) -> Listed:
    """Collect the parts of all levels; those that reach beyond their files are left out."""
    listed = Listed()
    numbers: dict[bytes, int] = {}
    for level, stored in slide.levels.items():
        for part in stored.parts():
            ranges: list[int] = []
            for piece in part.ranges:
                number = files.numbers.get(slide.store[piece.file].resolve())
                if number is None or piece.size < 1 or not 0 <= piece.offset <= files.sizes[number] - piece.size:
                    break
                ranges += (number, piece.offset, piece.size)
            whole = len(ranges) == 3 * len(part.ranges) > 0
            if not whole or min(part.x, part.y) < 0 or sum(ranges[2::3]) > _MAX_PART:
                continue
            if part.shared not in numbers:
                numbers[part.shared] = len(listed.tables)
                listed.tables.append(part.shared)
            listed.kind.append(_KINDS.index(part.kind))
            listed.box.extend((level, part.x, part.y, part.width, part.height))
            listed.shared.append(numbers[part.shared])
            listed.ranges.extend(ranges)
            listed.first.append(len(listed.ranges) // 3)
    return listed


def _try_parts(
    listed: Listed, files: OpenFiles, archive: Archive, threads: int
) -> Generator[tuple[Sequence[int], list[Made | None]], None, None]:
    """Try to make every part; yield some of them at a time, in the order of the chunks that they are in."""
    chunks = Chunks(archive, chunk_cache(_CHUNKS))
    usual: dict[
        tuple[int, int], Template | None
    ] = {}  # by level and shared bytes: of the first part, so always the same
    groups = list(_groups(listed, archive))
    for part in (part for group in groups for part in group):
        like = (listed.place(part).level, listed.shared[part])
        if like not in usual:
            made = try_part(listed, files, chunks, part)
            usual[like] = None if made is None else made.template

    def work(group: Sequence[int]) -> tuple[Sequence[int], list[Made | None]]:
        likes = [usual[listed.place(part).level, listed.shared[part]] for part in group]
        return group, [try_part(listed, files, chunks, part, like) for part, like in zip(group, likes, strict=True)]

    return ordered(work, groups, threads)


def _groups(listed: Listed, archive: Archive) -> Iterator[list[int]]:
    """Put parts into groups: those of one chunk together, some chunks in each."""
    box = np.frombuffer(listed.box, np.int64).reshape(-1, 5) if listed.count else np.empty((0, 5), np.int64)
    height = np.array([level.tile_height for level in archive.levels], np.int64)[box[:, 0]]
    width = np.array([level.tile_width for level in archive.levels], np.int64)[box[:, 0]]
    row, column = box[:, 2] // height, box[:, 1] // width
    order = np.lexsort((np.arange(listed.count), column, row, box[:, 0]))
    group: list[int] = []
    last: tuple[int, ...] = ()
    for part in order.tolist():
        chunk = (int(box[part, 0]), int(row[part]), int(column[part]))
        if len(group) >= _GROUP and chunk != last:
            yield group
            group = []
        group.append(part)
        last = chunk
    if group:
        yield group


def try_part(listed: Listed, files: OpenFiles, chunks: Chunks, part: int, usual: Template | None = None) -> Made | None:
    """Try to make a part; None where no maker gives its very bytes, or where keeping them takes no more.

    ``usual`` is the template of parts like it, which is tried first: that is quicker than to take the part apart.
    """
    data = b"".join(files.read(*piece) for piece in listed.ranges_of(part))
    place = listed.place(part)
    if usual is not None and maker_of(usual.maker).often_without_hint:
        with suppress(ArchiveError, DlprError, OSError):
            if maker_of(usual.maker).make(usual.data, b"", place, chunks) == data:
                return Made(usual, b"", len(data), zlib.crc32(data))
    known = PartData(_KINDS[listed.kind[part]], data, listed.tables[listed.shared[part]])
    for maker in MAKERS.values():
        with suppress(ArchiveError, DlprError, OSError):  # it is kept, then
            split = maker.split(known, place, chunks)
            if split is None or len(split[1]) > _WORTH * len(data):
                continue
            if maker.make(*split, place, chunks) == data:
                return Made(Template(maker.number, split[0]), split[1], len(data), zlib.crc32(data))
    return None


class _Writer:
    """The second pass."""

    def __init__(self, listed: Listed, found: _Found, files: OpenFiles, kept: KeptWriter) -> None:
        self._listed, self._found, self._files, self._kept = listed, found, files, kept
        self._order: dict[int, int] = {}  # of the parts that are used, in the order of the files
        self._part, self._at, self._size, self._start = (array("q") for _ in range(4))

    def write(self) -> SourceMap:
        """Read every file, keep what is to be kept, and return the map."""
        claims = self._claims()
        entries, first = [], [0]
        for number, name in enumerate(self._files.names):
            digest = self._file(number, claims[claims[:, 0] == number])
            entries.append(FileEntry(name, self._files.sizes[number], digest))
            first.append(len(self._part))
        part, at, size, start = (_numbers(a) for a in (self._part, self._at, self._size, self._start))
        segments = Segments(part, at, size, start, _numbers(first))
        templates, parts = self._parts()
        return SourceMap(tuple(entries), templates, parts, segments, self._kept.finish())

    def _claims(self) -> NDArray[np.int64]:
        """Return file, offset, size, part and place in it of every range of a part, none of them overlapping.

        Ranges of parts that are made come first; of two that overlap (tiles that share their bytes) the first is
        taken. Ranges of parts that are not made are named too, so that equal ones are kept once.
        """
        rows: list[tuple[int, int, int, int, int]] = []
        for part in range(self._listed.count):
            inside = 0
            for file, offset, size in self._listed.ranges_of(part):
                rows.append((file, offset, size, part, inside))
                inside += size
        taken: list[tuple[int, int, int, int, int]] = []
        for made in (True, False):
            some = sorted(row for row in rows if (row[3] in self._found.rows) is made)
            taken = _without_overlaps(taken, some)
        return np.array(taken, np.int64).reshape(-1, 5)

    def _file(self, number: int, claims: NDArray[np.int64]) -> bytes:
        """Read one file; return its SHA-256."""
        digest, cursor, size = hashlib.sha256(), 0, self._files.sizes[number]
        path = self._files.paths[number]
        with path.open("rb") as handle:

            def read(count: int) -> bytes:
                try:
                    data = handle.read(count)
                except OSError as error:
                    raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
                if len(data) != count:
                    raise SourceError(f"{path}: became shorter while it was read; convert it again")
                digest.update(data)
                return data

            def gap(end: int) -> None:
                nonlocal cursor
                while cursor < end:
                    data = read(min(_READ, end - cursor))
                    self._add(KEPT, self._kept.append(data), len(data), cursor)
                    cursor += len(data)

            for _, offset, length, part, inside in claims.tolist():
                gap(offset)
                data = read(length)
                made = self._found.rows.get(part)
                if made is None:
                    self._add(KEPT, self._kept.append_range(data), length, offset)
                else:
                    if length == made[1] and zlib.crc32(data) != made[2]:
                        raise SourceError(f"{path}: changed while it was read; convert it again")
                    self._add(self._order.setdefault(part, len(self._order)), inside, length, offset)
                cursor += length
            gap(size)
            if handle.read(1):
                raise SourceError(f"{path}: became longer while it was read; convert it again")
        return digest.digest()

    def _add(self, part: int, at: int, size: int, start: int) -> None:
        """Append a segment; kept bytes that follow each other are one."""
        if part == KEPT and start and self._part[-1] == KEPT and self._at[-1] + self._size[-1] == at:
            self._size[-1] += size
            return
        for column, value in zip((self._part, self._at, self._size, self._start), (part, at, size, start), strict=True):
            column.append(value)

    def _parts(self) -> tuple[tuple[Template, ...], Parts]:
        """Return templates and parts that are used."""
        used = list(self._order)
        rows = np.array([self._found.rows[part] for part in used], np.int64).reshape(-1, 5)
        box = np.array([self._listed.place(part) for part in used], np.int64).reshape(-1, 5)
        level, x, y, width, height = (np.ascontiguousarray(column) for column in box.T)
        size, crc, hint_size, hint_at = (np.ascontiguousarray(column) for column in rows[:, 1:].T)
        short = np.where(hint_size > SHORT_HINT, 0, hint_size)
        hint_at = np.where(hint_size > SHORT_HINT, hint_at, np.cumsum(short) - short)
        hints = b"".join(self._found.hints.get(part, b"") for part in used)
        return tuple(self._found.templates), Parts(
            rows[:, 0].copy(), level, x, y, width, height, size, crc, hint_size, hint_at, hints
        )


def _numbers(values: Sequence[int] | array[int]) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _without_overlaps(
    taken: list[tuple[int, int, int, int, int]], more: list[tuple[int, int, int, int, int]]
) -> list[tuple[int, int, int, int, int]]:
    """Add what does not overlap to sorted ranges (file, offset, size, ...) that do not; both sorted, and the result."""
    out: list[tuple[int, int, int, int, int]] = []
    at = 0
    for row in more:
        while at < len(taken) and taken[at][:2] <= row[:2]:
            out.append(taken[at])
            at += 1
        end = row[1] + row[2]
        before_ends = not out or out[-1][0] != row[0] or out[-1][1] + out[-1][2] <= row[1]
        if before_ends and (at == len(taken) or taken[at][0] != row[0] or taken[at][1] >= end):
            out.append(row)
    return out + taken[at:]
