"""Archive against its own hashes, and against its slide: every chunk is decoded.

The slide is read twice, by the reader that conversion used and by a second one (`dlpr_wsi.second`): the first alone
would repeat its own mistakes.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr.errors import DlprError
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.pipeline.encode import Decoder, decode_chunks
from dlpr_wsi.pipeline.execute import Executor, LocalExecutor, Lost
from dlpr_wsi.pipeline.gpu import device_here, device_name
from dlpr_wsi.pipeline.opinion import (
    LevelOpinion,
    Opinion,
    close_second,
    second_name,
    second_opinion,
    sum_opinions,
)
from dlpr_wsi.pipeline.places import coded_images
from dlpr_wsi.pipeline.plan import LevelPlan, Plan, SourceTiles, Task
from dlpr_wsi.pipeline.work import BadTile, Job, largest_error, open_with_levels, read_task, source_facts, stored_levels
from dlpr_wsi.progress import NoProgress, Progress
from dlpr_wsi.reversible.attach import bad_originals
from dlpr_wsi.sinks.omezarr import OmeVersion
from dlpr_wsi.sources import Selection, SlideFacts
from dlpr_wsi.sources.archive import Archive, ArchiveLevel
from dlpr_wsi.sources.opening import open_archive

__all__ = ["BadChunk", "LevelErrors", "VerifyReport", "verify"]

_GROUP = 4  # chunks along a side of a task where the archive has no shards


@dataclass(frozen=True, order=True)
class BadChunk(BadTile):
    """A chunk that is not what it should be.

    Parameters
    ----------
    level, row, column, x, y, width, height, message
        As in `BadTile`.
    reason : str
        A stable word: missing, unreadable, shard, hash, tau, shape, source, lost, error-above-tau,
        readers-disagree (the archive agrees with one reading of the slide, another library reads it differently), or a
        `dlpr.errors.DlprError`'s reason.
    """

    reason: str

    def __str__(self) -> str:
        """Return one line that names the chunk, its pixels and what is wrong."""
        return f"{self.place}: {self.reason}: {self.message}"


@dataclass(frozen=True)
class LevelErrors:
    """What a level promises and keeps.

    Parameters
    ----------
    level : int
        Which.
    tau : int
        The bound that it promises.
    max_error : int or None
        Largest error of a sample that was found; None where nothing was compared.
    """

    level: int
    tau: int
    max_error: int | None


@dataclass(frozen=True)
class VerifyReport:
    """What a verification found.

    Parameters
    ----------
    tiles : int
        Chunks examined: all of all levels.
    tau : int
        The bound that the archive promises for level 0; those of all levels are in ``levels``.
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
    readers : tuple of LevelOpinion
        Who read each level of the slide, and how many chunks a second reader confirmed. Empty without a slide.
    no_second : str
        Why there is no second reader; empty where there is one.
    files : int
        Files of the slide that a reversible archive was asked for; 0 of any other.
    bad_files : tuple of str
        What of them cannot be given back, one sentence each.
    levels : tuple of LevelErrors
        Bound and largest error of each level.
    """

    tiles: int
    tau: int
    hashes: bool
    source: bool
    max_error: int | None
    bad: tuple[BadChunk, ...]
    seconds: float
    readers: tuple[LevelOpinion, ...] = ()
    no_second: str = ""
    files: int = 0
    bad_files: tuple[str, ...] = ()
    levels: tuple[LevelErrors, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the archive keeps its promise."""
        return not self.bad and not self.bad_files


@dataclass(frozen=True)
class _Found:
    """What a task found."""

    tiles: int
    bad: tuple[BadChunk, ...]
    errors: tuple[int, ...]
    level: int = 0
    opinion: Opinion | None = None


def verify(
    archive: Path,
    source: Path | None = None,
    *,
    threads: int | None = None,
    executor: Executor | None = None,
    gpu: bool | str = False,
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
    gpu : bool or str
        Decode on a device where a worker has one, as of `dlpr_wsi.pipeline.convert.make_executor`.
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
    facts = None if source is None else _same_levels(opened, source)
    own = executor is None
    executor = executor or LocalExecutor(threads)
    progress = progress or NoProgress()
    job = Job(
        key="verify-" + hashlib.sha256(f"{archive.absolute()}{source}{begin}".encode()).hexdigest()[:12],
        source=(source or archive).absolute(),
        data=archive.absolute(),
        plan=plan,
        version=OmeVersion.V05 if opened.levels[0].zarr_format == 3 else OmeVersion.V04,
        source_tiles=SourceTiles.NEVER,
        threads=executor.threads,
        device=device_name(gpu),
        selection=recorded_selection(opened),
    )
    function = _check_archive if source is None else _check_against_source
    bad: list[BadChunk] = []
    errors: dict[int, int] = {}
    opinions: list[tuple[int, Opinion]] = []
    second, why = (None, "") if facts is None else second_name(job, facts)
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
                if result.errors:
                    errors[result.level] = max(*result.errors, errors.get(result.level, 0))
                if result.opinion is not None:
                    opinions.append((result.level, result.opinion))
                progress.advance(result.tiles)
        files, bad_files = bad_originals(opened, executor.threads, progress)
    finally:
        progress.close()
        if own:
            executor.close()
        close_second(job.key)
        _opened.cache_clear()
    first = "" if facts is None else facts.reader or facts.vendor
    return VerifyReport(
        tiles=plan.tiles,
        tau=opened.tau,
        hashes=all(opened.hashes(level.index) is not None for level in opened.levels),
        source=source is not None,
        max_error=max(errors.values(), default=None),
        bad=tuple(sorted(bad)),
        seconds=time.perf_counter() - begin,
        readers=() if facts is None else sum_opinions(len(plan.levels), first, second, opinions),
        no_second=why,
        files=files,
        bad_files=bad_files,
        levels=tuple(LevelErrors(index, tau, errors.get(index)) for index, tau in enumerate(opened.level_tau)),
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
        channels=level.channels,
        tau=level.tau,
    )


def _same_levels(archive: Archive, source: Path) -> SlideFacts:
    """Return what a slide says about itself; raise ArchiveError unless it has the levels of an archive."""
    opened = open_with_levels(source, len(archive.levels), recorded_selection(archive))
    facts, levels = stored_levels(opened), opened.facts.levels
    channels = facts.channels
    opened.close()
    if (None if channels is None else len(channels)) != archive.levels[0].channels:
        kinds = [
            "red, green and blue" if n is None else f"{n} channels"
            for n in (archive.levels[0].channels, None if channels is None else len(channels))
        ]
        raise ArchiveError(f"{archive.path} holds {kinds[0]}, the slide {source} has {kinds[1]}: not made from it")
    mine = [(level.width, level.height) for level in archive.levels]
    theirs = [(level.width, level.height) for level in levels][: len(mine) if len(levels) > len(mine) == 1 else None]
    if mine != theirs:
        shown = [", ".join(f"{width}x{height}" for width, height in sizes) for sizes in (mine, theirs)]
        raise ArchiveError(
            f"{archive.path} holds levels of {shown[0]} px, the slide {source} has {shown[1]} px: not made from it"
        )
    return facts


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
        return _Found(len(level.keys(task)), tuple(bad), ())
    opinion = second_opinion(job, task, source_facts(job), pixels)
    found = _check(job, task, pixels)
    worse = {(bad.row, bad.column) for bad in found.bad}
    differing = [
        _bad(level, task.level, *place, "readers-disagree", message)
        for place, message in ((level.chunks(task)[number], message) for number, message in opinion.differing)
        if place not in worse
    ]
    return replace(found, bad=(*found.bad, *differing), opinion=opinion)


@lru_cache(maxsize=16)
def _opened(path: Path, key: str, level: int) -> tuple[Archive, NDArray[np.uint8] | None]:
    """Return an archive and a level's hashes, read once for a job in each process."""
    del key
    archive = open_archive(path)
    return archive, archive.hashes(level)


def _check(job: Job, task: Task, pixels: list[NDArray[np.uint8]] | None) -> _Found:
    """Check hash, header, shape and, where the slide's pixels are given, the error of each chunk of a task."""
    archive, hashes = _opened(job.data, job.key, task.level)
    level = job.plan.levels[task.level]
    bad: list[BadChunk] = []
    errors: list[int] = []
    keys = level.keys(task)
    streams: dict[int, bytes] = {}
    for number, (row, column, channel) in enumerate(keys):
        try:
            stream = archive.stream(task.level, row, column, channel)
        except ArchiveError as error:
            bad.append(_bad(level, task.level, row, column, "shard", str(error)))
            continue
        except OSError as error:
            bad.append(_bad(level, task.level, row, column, "unreadable", error.strerror or str(error)))
            continue
        if stream is None:
            named = "there is no such chunk" if level.channels is None else f"channel {channel}: there is no such chunk"
            bad.append(_bad(level, task.level, row, column, "missing", named))
            continue
        streams[number] = stream
    device, hopes = device_here(job.device), None
    if pixels is not None and device is not None:  # they help a device
        images = coded_images(pixels, [None] * len(pixels), level)
        hopes = [images[number] for number in streams]
    decoded = decode_chunks(list(streams.values()), Decoder(job.threads, device), hopes)
    for (number, stream), image in zip(streams.items(), decoded, strict=True):
        row, column, channel = keys[number]
        expected = None if pixels is None else level.part(pixels[number // level.stack], channel)
        recorded = None if hashes is None else hashes[level.at(row, column, channel)].tobytes()
        problem, largest = _judge(level, stream, image, expected, recorded)
        if largest is not None:
            errors.append(largest)
        if problem is not None:
            reason, message = problem
            named = message if level.channels is None else f"channel {channel}: {message}"
            bad.append(_bad(level, task.level, row, column, reason, named))
    return _Found(len(keys), tuple(bad), tuple(errors), task.level)


def _judge(
    level: LevelPlan,
    stream: bytes,
    image: NDArray[np.uint8] | DlprError,
    expected: NDArray[np.uint8] | None,
    recorded: bytes | None,
) -> tuple[tuple[str, str] | None, int | None]:
    """Return what is wrong with a chunk, as reason and message, and its largest error where it can be compared."""
    if isinstance(image, DlprError):
        return (image.reason, str(image).removeprefix("dlpr: ")), None
    if image.shape != (level.chunk_samples, level.tile_height, level.tile_width):
        return ("shape", f"it holds an image of shape {image.shape}"), None
    largest = None if expected is None else largest_error(image, expected)
    if largest is not None and largest > level.tau:
        return ("error-above-tau", f"max |error| {largest} is above tau {level.tau}"), largest
    if expected is None and (bound := dlpr.inspect(stream).tau) > level.tau:
        return ("tau", f"it was coded within {bound}, its level promises {level.tau}"), largest
    if recorded is not None and hashlib.sha256(stream).digest() != recorded:
        return ("hash", "its stream is not the one that was written: the recorded SHA-256 differs"), largest
    return None, largest
