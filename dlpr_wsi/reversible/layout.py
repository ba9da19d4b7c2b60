"""The byte map: what of the slide's files is made and what is kept, as bytes (docs/format/source-map.md, version 1).

::

    magic · kept blocks · index (zstd) · trailer

The trailer, of a fixed size at the end, says where the index is; the index lists files, templates, parts, segments and
kept blocks. A file is its segments, one after another; a segment is some bytes of a part (made) or of the kept bytes.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numcodecs.zstd import compress, decompress
from numpy.typing import NDArray

from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.reversible.columns import ColumnReader, pack_bytes, pack_column, pack_signed

__all__ = [
    "BLOCK",
    "KEPT",
    "MAGIC",
    "MAX_FILES",
    "MAX_INDEX",
    "SHORT_HINT",
    "TRAILER",
    "VERSION",
    "FileEntry",
    "KeptBlocks",
    "Parts",
    "Segments",
    "SourceMap",
    "Template",
    "Trailer",
    "name_problem",
    "pack_index",
    "pack_trailer",
    "parse_index",
    "parse_trailer",
]

I64 = NDArray[np.int64]

MAGIC = b"DLPRSRC\x01"
VERSION = 1
BLOCK = 1 << 18
"""Kept bytes in a block; the last one may have fewer."""
SHORT_HINT = 64
"""Bytes up to which a hint lies in the index."""
KEPT = -1
"""In place of a part's number: the segment is kept."""

MAX_INDEX = 1 << 26
"""Bytes of an index."""
MAX_FILES = 1 << 16
_MAX_BYTES = 1 << 56  # of a file, and of all kept bytes
_MAX_PART = 1 << 31  # bytes of a part
_MAX_TEMPLATES = 1 << 26  # bytes of all templates
_MAX_SIDE = 1 << 40
_MAX_NAME = 4096
_TRAILER = struct.Struct("<QQQII8s")
TRAILER = _TRAILER.size + 4
"""Bytes of the trailer."""
_END = b"DLPRSRC\n"


@dataclass(frozen=True)
class FileEntry:
    """One of the slide's files.

    Parameters
    ----------
    name : str
        Relative, with ``/`` between folders.
    size : int
        In bytes.
    sha256 : bytes
        Of the whole file.
    """

    name: str
    size: int
    sha256: bytes


class Template(NamedTuple):
    """What parts have in common, in the terms of the maker that makes them (`dlpr_wsi.reversible.makers`)."""

    maker: int
    data: bytes


@dataclass(frozen=True)
class Parts:
    """Runs of bytes that are made of chunks; one array an attribute, one entry a part.

    Parameters
    ----------
    template : ndarray of int64
        Which template.
    level, x, y, width, height : ndarray of int64
        What it shows, in px of an archive's level; may reach beyond the edge.
    size : ndarray of int64
        Bytes.
    crc : ndarray of int64
        CRC-32 of them.
    hint_size : ndarray of int64
        Bytes of its hint: what of this part the template does not say.
    hint_at : ndarray of int64
        Where the hint begins: in ``hints`` where it has at most `SHORT_HINT` bytes, else in the kept bytes.
    hints : bytes
        All short hints.
    """

    template: I64
    level: I64
    x: I64
    y: I64
    width: I64
    height: I64
    size: I64
    crc: I64
    hint_size: I64
    hint_at: I64
    hints: bytes


@dataclass(frozen=True)
class Segments:
    """What the files consist of, file after file.

    Parameters
    ----------
    part : ndarray of int64
        Which part, or `KEPT`.
    at : ndarray of int64
        Where the segment begins in its part, or in the kept bytes.
    size : ndarray of int64
        Bytes.
    start : ndarray of int64
        Where it begins in its file.
    first : ndarray of int64, (files + 1,)
        Each file's first segment.
    """

    part: I64
    at: I64
    size: I64
    start: I64
    first: I64


@dataclass(frozen=True)
class KeptBlocks:
    """The kept bytes: ``total`` of them in blocks of `BLOCK`.

    Parameters
    ----------
    total : int
        Bytes before compression.
    stored : ndarray of int64
        Bytes of each block as it is stored.
    crc : ndarray of int64
        CRC-32 of each block before compression.
    """

    total: int
    stored: I64
    crc: I64


@dataclass(frozen=True)
class SourceMap:
    """The index."""

    files: tuple[FileEntry, ...]
    templates: tuple[Template, ...]
    parts: Parts
    segments: Segments
    kept: KeptBlocks

    @property
    def made_bytes(self) -> int:
        """Bytes of all files that are made."""
        return int(self.segments.size[self.segments.part != KEPT].sum())

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class Trailer(NamedTuple):
    """Where the index lies: offset and size as stored, size and CRC-32 before compression."""

    offset: int
    stored: int
    size: int
    crc: int


def name_problem(name: str) -> str | None:
    """Say why a name may not be that of a restored file; None where it may."""
    if not name or len(name.encode("utf-8", "surrogatepass")) > _MAX_NAME:
        return "empty or too long"
    if "\0" in name or "\\" in name or name.startswith("/"):
        return "not a relative name"
    for part in name.split("/"):
        if part in ("", ".", "..") or len(part.encode("utf-8", "surrogatepass")) > 255:
            return "not a plain name"
    return None


def pack_index(found: SourceMap) -> tuple[bytes, int, int]:
    """Return the index as stored, and its size and CRC-32 before compression.

    Raises
    ------
    ValueError
        It is larger than `MAX_INDEX`.
    """
    parts, segments, kept = found.parts, found.segments, found.kept
    counts = (len(found.files), len(found.templates), len(parts.size), len(segments.size), len(kept.stored))
    out = bytearray(struct.pack("<IQQQQQ", VERSION, *counts))
    for number, file in enumerate(found.files):
        out += pack_bytes(file.name.encode("utf-8", "surrogateescape"))
        out += struct.pack("<Q32sQ", file.size, file.sha256, segments.first[number + 1] - segments.first[number])
    for template in found.templates:
        out += struct.pack("<B", template.maker) + pack_bytes(template.data)
    out += struct.pack("<Q", kept.total) + pack_column(kept.stored) + pack_column(kept.crc)
    out += pack_column(parts.template) + pack_column(parts.level)
    out += pack_signed(_steps(parts.x)) + pack_signed(_steps(parts.y))
    for column in (parts.width, parts.height, parts.size, parts.crc, parts.hint_size):
        out += pack_column(column)
    long = parts.hint_size > SHORT_HINT
    out += pack_signed(_gaps(parts.hint_at[long], parts.hint_size[long])) + pack_bytes(parts.hints)
    made = segments.part != KEPT
    rest = segments.size.copy()
    rest[made] = parts.size[segments.part[made]] - segments.at[made] - segments.size[made]
    step = np.empty_like(rest)
    step[made] = segments.part[made] - np.append(0, segments.part[made][:-1] + 1)[: int(made.sum())]
    step[~made] = _gaps(segments.at[~made], segments.size[~made])
    out += pack_column(made.astype(np.int64)) + pack_column(rest) + pack_signed(step)
    out += pack_column(segments.at[made])
    if len(out) > MAX_INDEX:
        raise ValueError(f"an index of {len(out)} bytes")
    return bytes(compress(bytes(out), 19)), len(out), zlib.crc32(out)


def _steps(values: I64) -> I64:
    """Return the differences to the value before."""
    return np.diff(values, prepend=0)


def _gaps(at: I64, size: I64) -> I64:
    """Return how far each range begins behind the end of the one before; `_from_gaps` undoes it."""
    gaps: I64 = at - np.append(0, at + size)[: len(at)]
    return gaps


def _from_gaps(gaps: I64, size: I64) -> I64:
    at: I64 = np.cumsum(gaps + size)
    at -= size
    return at


def parse_index(stored: bytes, trailer: Trailer, blocks_end: int, name: str) -> SourceMap:
    """Undo `pack_index`.

    Parameters
    ----------
    stored : bytes
        The index.
    trailer : Trailer
        What the trailer says.
    blocks_end : int
        Where the kept blocks end, counted from their first byte.
    name : str
        Of the archive, for messages.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        It is damaged, or of a later version.
    """
    raw = bytearray(trailer.size)
    reader = ColumnReader(raw, name)
    try:
        decompress(stored, raw)
    except (RuntimeError, ValueError) as error:
        raise reader.damaged("it does not decompress") from error
    if zlib.crc32(raw) != trailer.crc:
        raise reader.damaged("its checksum differs")
    (version,) = reader.numbers("<I")
    if version != VERSION:
        raise ArchiveError(
            f"{name}: its list of the slide's bytes is of version {version}, this software reads {VERSION}; update it"
        )
    n_files, n_templates, n_parts, n_segments, n_blocks = reader.numbers("<QQQQQ")
    if n_files > MAX_FILES or max(n_templates, n_parts, n_segments, n_blocks) > MAX_INDEX:
        raise reader.damaged("impossible counts")
    files, counts = _files(reader, n_files)
    if sum(counts) != n_segments:
        raise reader.damaged("its files have other segments")
    templates = _templates(reader, n_templates)
    (total,) = reader.numbers("<Q")
    if total > _MAX_BYTES or n_blocks != -(-total // BLOCK):
        raise reader.damaged("another number of blocks")
    kept = KeptBlocks(total, reader.column(n_blocks, 2 * BLOCK), reader.column(n_blocks, 0xFFFFFFFF))
    if int(kept.stored.sum()) != blocks_end:
        raise reader.damaged("its blocks have another size")
    parts = _parts(reader, n_parts, n_templates, total)
    segments = _segments(reader, n_segments, parts, files, counts, total)
    reader.end()
    return SourceMap(files, templates, parts, segments, kept)


def _files(reader: ColumnReader, count: int) -> tuple[tuple[FileEntry, ...], list[int]]:
    """Read the files and the number of segments of each."""
    files, counts = [], []
    for _ in range(count):
        name = reader.blob(_MAX_NAME).decode("utf-8", "surrogateescape")
        size, digest, segments = reader.numbers("<Q32sQ")
        if (problem := name_problem(name)) is not None or size > _MAX_BYTES or segments > MAX_INDEX:
            raise reader.damaged(f"a file's name: {problem}" if problem else "a file's size")
        files.append(FileEntry(name, size, bytes(digest)))
        counts.append(segments)
    if len({file.name for file in files}) != len(files):
        raise reader.damaged("two files of one name")
    return tuple(files), counts


def _templates(reader: ColumnReader, count: int) -> tuple[Template, ...]:
    """Read the templates."""
    found, total = [], 0
    for _ in range(count):
        (maker,) = reader.take(1)
        data = reader.blob(_MAX_TEMPLATES)
        total += len(data)
        if total > _MAX_TEMPLATES:
            raise reader.damaged("too many templates")
        found.append(Template(maker, data))
    return tuple(found)


def _parts(reader: ColumnReader, count: int, templates: int, kept: int) -> Parts:
    """Read the parts."""
    template = reader.column(count, templates - 1)
    level = reader.column(count, 63)
    x, y = (np.cumsum(reader.signed(count, _MAX_SIDE)) for _ in range(2))
    width, height = (reader.column(count, _MAX_SIDE) for _ in range(2))
    size, crc = reader.column(count, _MAX_PART), reader.column(count, 0xFFFFFFFF)
    hint_size = reader.column(count, _MAX_PART)
    long = hint_size > SHORT_HINT
    hint_at = np.cumsum(np.where(long, 0, hint_size)) - hint_size
    hint_at[long] = _from_gaps(reader.signed(int(long.sum()), _MAX_BYTES), hint_size[long])
    hints = reader.blob(MAX_INDEX)
    outside = (hint_at < 0) | (long & (hint_at + hint_size > kept))
    if int(hint_size[~long].sum()) != len(hints) or bool(outside.any()):
        raise reader.damaged("hints outside of what there is")
    if count and (min(x.min(), y.min()) < 0 or max(x.max(), y.max()) > _MAX_SIDE or min(width.min(), height.min()) < 1):
        raise reader.damaged("a part of no size or place")
    return Parts(template, level, x, y, width, height, size, crc, hint_size, hint_at, hints)


def _segments(
    reader: ColumnReader, count: int, parts: Parts, files: tuple[FileEntry, ...], counts: list[int], kept: int
) -> Segments:
    """Read the segments, and check that they make up the files."""
    made = reader.column(count, 1).astype(bool)
    rest, step = reader.column(count, _MAX_BYTES), reader.signed(count, _MAX_BYTES)
    part, at, size = np.full(count, KEPT, np.int64), np.zeros(count, np.int64), rest.copy()
    part[made] = np.cumsum(step[made] + 1) - 1
    at[made] = reader.column(int(made.sum()), _MAX_PART)
    if made.any() and (int(part[made].min()) < 0 or int(part[made].max()) >= len(parts.size)):
        raise reader.damaged("a part that is not listed")
    size[made] = parts.size[part[made]] - at[made] - rest[made]
    at[~made] = _from_gaps(step[~made], rest[~made])
    outside = (at[~made] < 0) | (at[~made] + size[~made] > kept)
    if count and (int(size.min()) < 1 or bool(outside.any())):
        raise reader.damaged("a segment outside of what there is")
    first = np.append(0, np.cumsum(counts)).astype(np.int64)
    start = np.empty(count, np.int64)
    for number, file in enumerate(files):
        own = slice(int(first[number]), int(first[number + 1]))
        ends = np.cumsum(size[own])
        if (int(ends[-1]) if len(ends) else 0) != file.size or bool((np.diff(ends, prepend=0) < 1).any()):
            raise reader.damaged("segments that do not make up their file")
        start[own] = ends - size[own]
    return Segments(part, at, size, start, first)


def pack_trailer(trailer: Trailer) -> bytes:
    """Return the last bytes of the map."""
    body = _TRAILER.pack(*trailer, VERSION, _END)
    return body + struct.pack("<I", zlib.crc32(body))


def parse_trailer(data: bytes, total: int, name: str) -> Trailer:
    """Undo `pack_trailer`; ``total`` is the size of the whole map.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        It is damaged.
    """
    damaged = ColumnReader(b"", name).damaged
    if len(data) != TRAILER or struct.unpack("<I", data[-4:])[0] != zlib.crc32(data[:-4]):
        raise damaged("its trailer")
    offset, stored, size, crc, version, end = _TRAILER.unpack(data[:-4])
    if end != _END or version < 1:
        raise damaged("its trailer")
    if offset < len(MAGIC) or offset + stored != total - TRAILER or size > MAX_INDEX or stored > MAX_INDEX:
        raise damaged("its trailer points elsewhere")
    return Trailer(offset, stored, size, crc)
