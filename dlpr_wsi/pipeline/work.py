"""What a worker does: one shard, from the slide to a checked file.

A task reads its pixels, encodes them, writes its file, reads that file back from disk, decodes every chunk of it and
compares it with the pixels it read. Only then it is finished. The source is opened once per worker process.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr.errors import DlprError
from dlpr_wsi.errors import ArchiveError, SourceError
from dlpr_wsi.pipeline.encode import Decoder, decode_chunks, mode_name
from dlpr_wsi.pipeline.gpu import UNKNOWN, coders, device_here, device_of, require_device
from dlpr_wsi.pipeline.journal import TaskRecord
from dlpr_wsi.pipeline.kept import kept_levels
from dlpr_wsi.pipeline.places import coded_images, encode_places
from dlpr_wsi.pipeline.plan import LevelPlan, Plan, SourceTiles, Task
from dlpr_wsi.pipeline.unkept import LOST, count_unkept, why_unkept
from dlpr_wsi.sinks.omezarr import OmeVersion, chunk_files, write_shard
from dlpr_wsi.sources import PixelSource, Selection, SlideFacts, SourceTile
from dlpr_wsi.sources.archive import parse_shard_index
from dlpr_wsi.sources.opening import open_source
from dlpr_wsi.sources.pyramid import PyramidSource

__all__ = [
    "BadTile",
    "Job",
    "TaskOutcome",
    "close_source",
    "convert_task",
    "open_with_levels",
    "read_task",
    "source_facts",
    "stored_levels",
    "warm_up",
]


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to know.

    Parameters
    ----------
    key : str
        Names the job; workers keep one source open for it.
    source : Path
        The slide, under a name that every worker can open.
    data : Path
        The archive's folder, likewise.
    plan : Plan
        What is cut how.
    version : OmeVersion
        Layout of the archive.
    source_tiles : SourceTiles
        Whether the slide's JPEG tiles may or must be kept.
    threads : int
        Codec threads of a task.
    device : str or None
        torch device that workers with the resource GPU code on, or `dlpr_wsi.pipeline.gpu.ANY`; None: the CPU.
    selection : Selection
        Which picture of the source, where it holds several.
    prior : dlpr.Prior or None
        The slide's (`dlpr.Prior`), which its JPEG tiles are coded with.
    keep_source : bool
        Keep the slide's tiles even where their pixels alone take less: a reversible archive makes the slide of them,
        and ``--source-tiles only`` asks for them.
    tuned : tuple of dlpr.Tuned or None
        Of each level, weights tuned to the slide (`dlpr.Tuned`); nothing where no level has any.
    """

    key: str
    source: Path
    data: Path
    plan: Plan
    version: OmeVersion
    source_tiles: SourceTiles
    threads: int
    device: str | None = None
    selection: Selection = field(default_factory=Selection)
    prior: dlpr.Prior | None = None
    keep_source: bool = False
    tuned: tuple[dlpr.Tuned | None, ...] = ()

    def tuned_of(self, level: int) -> dlpr.Tuned | None:
        """Weights tuned to the slide that a level's chunks are coded with."""
        return self.tuned[level] if self.tuned else None


@dataclass(frozen=True, order=True)
class BadTile:
    """A tile that could not be converted.

    Parameters
    ----------
    level, row, column : int
        Which chunk.
    x, y, width, height : int
        Its pixels, in px of the level.
    message : str
        What is wrong.
    """

    level: int
    row: int
    column: int
    x: int
    y: int
    width: int
    height: int
    message: str

    def __str__(self) -> str:
        """Return one line that names the tile and what is wrong."""
        return f"{self.place}: {self.message}"

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return (
            f"level {self.level} row {self.row} column {self.column} "
            f"(x={self.x} y={self.y} {self.width}x{self.height} px)"
        )


@dataclass(frozen=True)
class TaskOutcome:
    """What became of a task.

    Parameters
    ----------
    task : Task
        Which.
    record : TaskRecord or None
        For the journal; None where it failed.
    bad : tuple of BadTile
        Why it failed.
    seconds : tuple of float
        Spent on reading, encoding, writing, checking.
    """

    task: Task
    record: TaskRecord | None
    bad: tuple[BadTile, ...] = ()
    seconds: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


_ATTEMPTS = 3  # at reading a shard whose tiles can be read one by one: storage that fails now and then
_lock = threading.Lock()
_sources: dict[str, tuple[PixelSource, threading.Lock]] = {}


def open_with_levels(path: Path, levels: int, selection: Selection | None = None) -> PixelSource:
    """Open a source and give it as many levels as the archive has."""
    source = open_source(path, selection)
    if len(source.facts.levels) == 1 < levels:
        return PyramidSource(source, levels)
    return source


def warm_up(job: Job, worker: object = None) -> None:
    """Open the source and load the codec's weights, before the first task of a Dask worker."""
    with _source(job):
        pass
    device = device_of(worker, job.device)
    if device is not None:
        require_device(device)
    else:
        dlpr.encode(np.arange(3 * 16 * 16, dtype=np.uint8).reshape(3, 16, 16), threads=1)


@contextmanager
def _source(job: Job) -> Iterator[PixelSource]:
    """Lend this process's handle on the source to one thread."""
    while True:
        with _lock:
            if job.key not in _sources:
                opened = open_with_levels(job.source, len(job.plan.levels), job.selection)
                _sources[job.key] = (opened, threading.Lock())
            source, lock = _sources[job.key]
        with lock:
            if _sources.get(job.key, (None,))[0] is not source:
                continue  # another thread has closed it meanwhile, after an error
            yield source
            return


def stored_levels(source: PixelSource) -> SlideFacts:
    """Return what a source says about itself, without the levels that were added to it."""
    facts = source.facts
    return replace(facts, levels=facts.levels[:1]) if isinstance(source, PyramidSource) else facts


def source_facts(job: Job) -> SlideFacts:
    """Return the same of a job's source."""
    with _source(job) as source:
        return stored_levels(source)


def close_source(key: str) -> None:
    """Close this process's handle on a job's source."""
    with _lock:
        found = _sources.pop(key, None)
    if found is not None:
        with found[1]:
            found[0].close()


def read_task(job: Job, task: Task) -> tuple[list[NDArray[np.uint8]], list[SourceTile | None], list[BadTile]]:
    """Read the pixels of a task: (h, w, samples) for each place, its stored tile where it may be kept, bad tiles."""
    level = job.plan.levels[task.level]
    chunks = level.chunks(task)
    for attempt in range(_ATTEMPTS):
        try:
            with _source(job) as source:
                pixels = [read for row in _by_row(chunks) for read in _read_row(source, level, task.level, row)]
                return pixels, _stored_tiles(source, level, task.level, chunks), []
        except SourceError as error:
            close_source(job.key)  # OpenSlide's handle is of no use after an error
            bad = _find_bad(job, level, task.level, chunks)
            if not bad and attempt + 1 == _ATTEMPTS:
                bad = [BadTile(task.level, *chunks[0], *level.box(*chunks[0]), f"its shard: {error}")]
        if bad:
            break
    return [], [], bad


def _by_row(chunks: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Group chunks by row."""
    rows: dict[int, list[tuple[int, int]]] = {}
    for row, column in chunks:
        rows.setdefault(row, []).append((row, column))
    return list(rows.values())


def _read_row(
    source: PixelSource, level: LevelPlan, index: int, chunks: Sequence[tuple[int, int]]
) -> list[NDArray[np.uint8]]:
    """Read neighbouring chunks of a row at once."""
    boxes = [level.box(row, column) for row, column in chunks]
    x, y, height = boxes[0][0], boxes[0][1], boxes[0][3]
    width = boxes[-1][0] + boxes[-1][2] - x
    pixels = source.read(x, y, width, height, index)
    if pixels.shape != (height, width, level.samples):
        raise SourceError(f"the source gave {pixels.shape} at x={x} y={y} of level {index}")
    return [pixels[:, left - x : left - x + wide] for left, _, wide, _ in boxes]


def _stored_tiles(
    source: PixelSource, level: LevelPlan, index: int, chunks: Sequence[tuple[int, int]]
) -> list[SourceTile | None]:
    """Return what the slide's file holds, where the chunks follow it."""
    if not level.follows_source:
        return [None] * len(chunks)
    return [_stored_tile(source, index, row, column) for row, column in chunks]


def _stored_tile(source: PixelSource, index: int, row: int, column: int) -> SourceTile | None:
    """Return a chunk's stored tile; `LOST` where it cannot be read, for its pixels can."""
    for _ in range(_ATTEMPTS):
        try:
            return source.source_tile(index, row, column)
        except SourceError:
            continue
    return LOST


def _find_bad(job: Job, level: LevelPlan, index: int, chunks: Sequence[tuple[int, int]]) -> list[BadTile]:
    """Read again, chunk by chunk, to tell which cannot be read."""
    bad = []
    for row, column in chunks:
        try:
            with _source(job) as source:
                _read_row(source, level, index, [(row, column)])
        except SourceError as error:
            close_source(job.key)
            bad.append(BadTile(index, row, column, *level.box(row, column), str(error)))
    return bad


def convert_task(job: Job, task: Task) -> TaskOutcome:
    """Do a task; a file that an earlier run has finished is checked and kept.

    Returns
    -------
    TaskOutcome
        With a record, or with the tiles at fault.

    Raises
    ------
    OSError
        The archive cannot be written.
    """
    level = job.plan.levels[task.level]
    begin = time.perf_counter()
    pixels, tiles, bad = read_task(job, task)
    if bad:
        return TaskOutcome(task, None, tuple(bad))
    read = time.perf_counter()
    files = chunk_files(job.data, level, job.version, task)
    device = device_here(job.device)
    if all(file.is_file() for file in files):  # an earlier run was killed before it could write this down
        record, bad = _check(job, task, level, pixels, tiles, device)
        if record is not None:
            if job.device is not None:
                record = replace(record, coders={UNKNOWN: sum(1 for _ in level.keys(task))})
            return TaskOutcome(task, record, (), (read - begin, 0.0, 0.0, time.perf_counter() - read))
    tuned = job.tuned_of(task.level)
    streams = encode_places(pixels, tiles, level, job.threads, job.prior, job.keep_source, tuned, device)
    encoded = time.perf_counter()
    if job.source_tiles is SourceTiles.ONLY:
        bad = [
            BadTile(task.level, row, column, *level.box(row, column), _why_not_kept(job, level, task.level, mode))
            for (row, column, _), stream in zip(level.keys(task), streams, strict=True)
            if (mode := mode_name(stream)) not in ("jpeg", "j2k", "constant")
        ]
        if bad:
            return TaskOutcome(task, None, tuple(bad))
    write_shard(job.data, level, job.version, task, streams)
    written = time.perf_counter()
    record, bad = _check(job, task, level, pixels, tiles, device)
    if record is None:
        for file in files:
            file.unlink(missing_ok=True)  # to be done again
        return TaskOutcome(task, None, tuple(bad))
    if job.device is not None:
        record = replace(record, coders=coders(device, map(mode_name, streams)))
    seconds = (read - begin, encoded - read, written - encoded, time.perf_counter() - written)
    return TaskOutcome(task, record, (), seconds)


def _why_not_kept(job: Job, level: LevelPlan, index: int, mode: str) -> str:
    """Say why a tile is not kept as the slide's JPEG."""
    if not level.follows_source:
        with _source(job) as source:
            text = kept_levels(source, job.plan, source_tiles=job.source_tiles)[index].text
        return f"{text} (--source-tiles only)"
    return f"the slide's own tile does not give its pixels, so it was {mode} (--source-tiles only)"


def _check(
    job: Job,
    task: Task,
    level: LevelPlan,
    pixels: Sequence[NDArray[np.uint8]],
    source: Sequence[SourceTile | None],
    device: dlpr.Device | None,
) -> tuple[TaskRecord | None, list[BadTile]]:
    """Read a task's files back, decode every chunk and compare it with the source."""
    keys = level.keys(task)
    try:
        streams = read_back(job.data, level, job.version, task)
    except (ArchiveError, OSError) as error:
        row, column, _ = keys[0]
        return None, [BadTile(task.level, row, column, *level.box(row, column), f"reading back failed: {error}")]
    bad: list[BadTile] = []
    worst = 0
    hashes, tiles, sizes = bytearray(), Counter[str](), Counter[str]()
    expected = None if device is None else coded_images(pixels, source, level)
    decoded = decode_chunks(streams, Decoder(job.threads, device), expected)
    for number, ((row, column, channel), stream, image) in enumerate(zip(keys, streams, decoded, strict=True)):
        if isinstance(image, DlprError):
            problem = f"what was written cannot be decoded ({image})"
        elif image.shape != (level.chunk_samples, level.tile_height, level.tile_width):
            problem = f"what was written has the shape {image.shape}"
        else:
            largest = largest_error(image, level.part(pixels[number // level.stack], channel))
            worst = max(worst, largest)
            hashes += hashlib.sha256(stream).digest()
            mode = mode_name(stream)
            tiles[mode] += 1
            sizes[mode] += len(stream)
            if largest <= level.tau:
                continue
            problem = f"max |error| {largest} is above tau {level.tau}"
        if level.channels is not None:
            problem = f"channel {channel}: {problem}"
        bad.append(BadTile(task.level, row, column, *level.box(row, column), problem))
    if bad:
        return None, bad
    source_bytes = sum(tile.bytes for tile in source if tile is not None)
    pairs = zip(source, map(mode_name, streams[:: level.stack]), pixels, strict=True)
    unkept = count_unkept(why_unkept(tile, mode, read) for tile, mode, read in pairs)
    return TaskRecord(task.key, bytes(hashes), dict(tiles), dict(sizes), worst, source_bytes, unkept), []


def largest_error(image: NDArray[np.uint8], expected: NDArray[np.uint8]) -> int:
    """Return the largest difference between a decoded (c, H, W) chunk and its (h, w, c) pixels, padding left out."""
    height, width = expected.shape[:2]
    worst = 0
    for channel in range(expected.shape[2]):  # plane by plane: a transposed comparison takes several times as long
        found, wanted = image[channel, :height, :width], expected[..., channel]
        if not np.array_equal(found, wanted):
            worst = max(worst, int((np.maximum(found, wanted) - np.minimum(found, wanted)).max()))
    return worst


def read_back(data: Path, level: LevelPlan, version: OmeVersion, task: Task) -> list[bytes]:
    """Return the streams of a task as they lie on disk."""
    files = chunk_files(data, level, version, task)
    if version is OmeVersion.V04:
        return [file.read_bytes() for file in files]
    content = files[0].read_bytes()
    rows = level.stack * level.shard_rows  # the index of channel after channel reads as one of more rows
    size = 16 * rows * level.shard_columns + 4
    index = parse_shard_index(content[-size:], rows, level.shard_columns, len(content), files[0])
    streams = []
    for row, column, channel in level.keys(task):
        at = (channel * level.shard_rows + row % level.shard_rows, column % level.shard_columns)
        offset, length = (int(v) for v in index[at])
        streams.append(content[offset : offset + length])
    return streams
