"""Archive against its own hashes, and against its slide: every chunk is decoded."""

from __future__ import annotations

import hashlib
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlpr.errors import DlprError
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.pipeline.encode import Decoder, decode_chunks
from dlpr_wsi.pipeline.execute import Executor, LocalExecutor, Lost
from dlpr_wsi.pipeline.plan import LevelPlan, Plan, SourceTiles, Task
from dlpr_wsi.pipeline.work import BadTile, Job, largest_error, open_with_levels, read_task
from dlpr_wsi.progress import NoProgress, Progress
from dlpr_wsi.sinks.omezarr import OmeVersion
from dlpr_wsi.sources import Selection
from dlpr_wsi.sources.archive import Archive, ArchiveLevel
from dlpr_wsi.sources.opening import open_archive

__all__ = ["BadChunk", "VerifyReport", "verify"]

_GROUP = 4  # chunks along a side of a task where the archive has no shards


@dataclass(frozen=True, order=True)
class BadChunk(BadTile):
    """A chunk that is not what it should be.

    Parameters
    ----------
    level, row, column, x, y, width, height, message
        As in `BadTile`.
    reason : str
        A stable word: missing, unreadable, shard, hash, tau, shape, source, lost, error-above-tau, or a
        `dlpr.errors.DlprError`'s reason.
    """

    reason: str

    def __str__(self) -> str:
        """Return one line that names the chunk, its pixels and what is wrong."""
        return f"{self.place}: {self.reason}: {self.message}"


@dataclass(frozen=True)
class VerifyReport:
    """What a verification found.

    Parameters
    ----------
    tiles : int
        Chunks examined: all of all levels.
    tau : int
        The bound that the archive promises.
    hashes : bool
        Whether the chunks were compared with recorded hashes.
    source : bool
        Whether they were compared with the slide.
    max_error : int or None
        Largest error of a sample in any chunk that could be decoded and compared; None if there is none.
    bad : tuple of BadChunk
        Level by level, row by row.
    seconds : float
        Wall-clock time.
    """

    tiles: int
    tau: int
    hashes: bool
    source: bool
    max_error: int | None
    bad: tuple[BadChunk, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the archive keeps its promise."""
        return not self.bad


@dataclass(frozen=True)
class _Found:
    """What a task found."""

    tiles: int
    bad: tuple[BadChunk, ...]
    errors: tuple[int, ...]


def verify(
    archive: Path,
    source: Path | None = None,
    *,
    threads: int | None = None,
    executor: Executor | None = None,
    gpu: bool = False,
    progress: Progress | None = None,
) -> VerifyReport:
    """Decode every chunk of an archive; compare its hash with the recorded one and its pixels with the slide.

    Parameters
    ----------
    archive : Path
        What `dlpr_wsi.pipeline.convert.convert` wrote.
    source : Path, optional
        The slide it was made from. Without it the hashes are compared, and the streams' own checksums.
    threads : int, optional
        Codec threads where no executor is given.
    executor : Executor, optional
        Where tasks run; default: this process.
    gpu : bool
        Decode on the workers' GPUs.
    progress : Progress, optional
        Told of every finished task.

    Returns
    -------
    VerifyReport
        Damage is reported there, not raised.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        The path holds no archive, or one of other levels than the slide's.
    dlpr_wsi.errors.SourceError
        The slide cannot be opened.
    """
    begin = time.perf_counter()
    opened = open_archive(archive)
    plan = _plan(opened)
    if source is not None:
        _same_levels(opened, source)
    own = executor is None
    executor = executor or LocalExecutor(threads)
    progress = progress or NoProgress()
    job = Job(
        key="verify-" + hashlib.sha256(f"{archive.absolute()}{source}{begin}".encode()).hexdigest()[:12],
        source=(source or archive).absolute(),
        data=archive.absolute(),
        plan=plan,
        tau=opened.tau,
        version=OmeVersion.V05 if opened.levels[0].zarr_format == 3 else OmeVersion.V04,
        source_tiles=SourceTiles.NEVER,
        threads=executor.threads,
        device="cuda" if gpu else None,
        selection=recorded_selection(opened),
    )
    function = _check_archive if source is None else _check_against_source
    bad: list[BadChunk] = []
    errors: list[int] = []
    try:
        progress.start(plan.tiles)
        with closing(executor.run(function, job, plan.tasks())) as results:
            for result in results:
                if isinstance(result, Lost):
                    bad.extend(
                        _bad(plan.levels[result.task.level], result.task.level, row, column, "lost", result.message)
                        for row, column in plan.levels[result.task.level].chunks(result.task)
                    )
                    continue
                bad.extend(result.bad)
                errors.extend(result.errors)
                progress.advance(result.tiles)
    finally:
        progress.close()
        if own:
            executor.close()
    return VerifyReport(
        tiles=plan.tiles,
        tau=opened.tau,
        hashes=all(opened.hashes(level.index) is not None for level in opened.levels),
        source=source is not None,
        max_error=max(errors, default=None),
        bad=tuple(sorted(bad)),
        seconds=time.perf_counter() - begin,
    )


def recorded_selection(archive: Archive) -> Selection:
    """Return which picture of its source an archive was made from."""
    chosen = dict(archive.facts.get("options", {})).get("selection", {})
    if not isinstance(chosen, dict) or not all(type(value) is int for value in chosen.values()):
        raise ArchiveError(f"{archive.path}: the selection that its facts record is damaged: {chosen!r}")
    try:
        return Selection(**chosen)
    except TypeError as error:
        raise ArchiveError(f"{archive.path}: the selection that its facts record is damaged: {chosen!r}") from error


def _plan(archive: Archive) -> Plan:
    """Return an archive's levels as a plan; tasks are its shards."""
    return Plan(tuple(_cut(level) for level in archive.levels))


def _cut(level: ArchiveLevel) -> LevelPlan:
    return LevelPlan(
        level.width,
        level.height,
        level.tile_width,
        level.tile_height,
        level.shard_rows or _GROUP,
        level.shard_columns or _GROUP,
        follows_source=False,
    )


def _same_levels(archive: Archive, source: Path) -> None:
    """Raise ArchiveError unless a slide has the levels of an archive."""
    opened = open_with_levels(source, len(archive.levels), recorded_selection(archive))
    levels = opened.facts.levels
    opened.close()
    mine = [(level.width, level.height) for level in archive.levels]
    theirs = [(level.width, level.height) for level in levels][: len(mine) if len(levels) > len(mine) == 1 else None]
    if mine != theirs:
        shown = [", ".join(f"{width}x{height}" for width, height in sizes) for sizes in (mine, theirs)]
        raise ArchiveError(
            f"{archive.path} holds levels of {shown[0]} px, the slide {source} has {shown[1]} px: not made from it"
        )


def _bad(level: LevelPlan, index: int, row: int, column: int, reason: str, message: str) -> BadChunk:
    return BadChunk(index, row, column, *level.box(row, column), message, reason)


def _check_archive(job: Job, task: Task) -> _Found:
    """Check a shard by itself."""
    return _check(job, task, None)


def _check_against_source(job: Job, task: Task) -> _Found:
    """Check a shard against the slide."""
    level = job.plan.levels[task.level]
    pixels, _, unreadable = read_task(job, task)
    if unreadable:
        bad = [_bad(level, b.level, b.row, b.column, "source", b.message) for b in unreadable]
        return _Found(len(level.chunks(task)), tuple(bad), ())
    return _check(job, task, pixels)


def _check(job: Job, task: Task, pixels: list[NDArray[np.uint8]] | None) -> _Found:
    """Check hash, header, shape and, where the slide's pixels are given, the error of each chunk of a task."""
    archive = open_archive(job.data)
    level = job.plan.levels[task.level]
    promised = archive.levels[task.level].tau
    hashes = archive.hashes(task.level)
    bad: list[BadChunk] = []
    errors: list[int] = []
    chunks = level.chunks(task)
    streams: dict[int, bytes] = {}
    for number, (row, column) in enumerate(chunks):
        try:
            stream = archive.stream(task.level, row, column)
        except ArchiveError as error:
            bad.append(_bad(level, task.level, row, column, "shard", str(error)))
            continue
        except OSError as error:
            bad.append(_bad(level, task.level, row, column, "unreadable", error.strerror or str(error)))
            continue
        if stream is None:
            bad.append(_bad(level, task.level, row, column, "missing", "there is no such chunk"))
            continue
        streams[number] = stream
    decoded = decode_chunks(list(streams.values()), Decoder(job.threads, job.device))
    for (number, stream), image in zip(streams.items(), decoded, strict=True):
        row, column = chunks[number]
        problem: tuple[str, str] | None = None
        if isinstance(image, DlprError):
            problem = (image.reason, str(image).removeprefix("dlpr: "))
        elif image.shape != (3, level.tile_height, level.tile_width):
            problem = ("shape", f"it holds an image of shape {image.shape}")
        else:
            if pixels is not None:
                largest = largest_error(image, pixels[number])
                errors.append(largest)
                if largest > promised:
                    problem = ("error-above-tau", f"max |error| {largest} is above tau {promised}")
            if (
                hashes is not None
                and problem is None
                and hashlib.sha256(stream).digest() != hashes[row, column].tobytes()
            ):
                problem = ("hash", "its stream is not the one that was written: the recorded SHA-256 differs")
        if problem is not None:
            bad.append(_bad(level, task.level, row, column, *problem))
    return _Found(len(chunks), tuple(bad), tuple(errors))
