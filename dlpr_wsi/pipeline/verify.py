"""Archive against slide: decode everything and compare every sample."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr.errors import DlprError
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.pipeline.plan import Run, make_plan
from dlpr_wsi.pipeline.pool import NoProgress, Progress, SourcePool, default_threads, run_bounded
from dlpr_wsi.sources.archive import Archive, chunk_key, open_archive

__all__ = ["BadChunk", "VerifyReport", "verify"]


@dataclass(frozen=True, order=True)
class BadChunk:
    """A chunk that does not hold the slide's pixels.

    Parameters
    ----------
    row, column : int
        Its position among the chunks.
    x, y, width, height : int
        The pixels of the slide that it should hold.
    reason : str
        A stable word: missing, unreadable, shape, error-above-tau, or a `dlpr.errors.DlprError`'s reason.
    message : str
        What is wrong, for people.
    """

    row: int
    column: int
    x: int
    y: int
    width: int
    height: int
    reason: str
    message: str

    def __str__(self) -> str:
        """Return one line that names the chunk, its pixels and what is wrong."""
        return (
            f"{chunk_key(self.row, self.column)} (row {self.row}, column {self.column}; "
            f"x={self.x} y={self.y} {self.width}x{self.height} px): {self.reason}: {self.message}"
        )


@dataclass(frozen=True)
class VerifyReport:
    """What a verification found.

    Parameters
    ----------
    tiles : int
        Chunks examined: all of them.
    tau : int
        The bound that the archive promises.
    max_error : int or None
        Largest error of a sample in any chunk that could be decoded; None if none could.
    bad : tuple of BadChunk
        Row by row.
    seconds : float
        Wall-clock time.
    """

    tiles: int
    tau: int
    max_error: int | None
    bad: tuple[BadChunk, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the archive keeps its promise."""
        return not self.bad


def verify(
    archive: Path, source: Path, *, threads: int | None = None, progress: Progress | None = None
) -> VerifyReport:
    """Decode every chunk of an archive and compare it with the slide.

    Parameters
    ----------
    archive : Path
        What `dlpr_wsi.pipeline.convert.convert` wrote.
    source : Path
        The slide it was made from.
    threads : int, optional
        Threads that read and decode; default: one per CPU core.
    progress : Progress, optional
        Told of every finished run of tiles.

    Returns
    -------
    VerifyReport
        Damage is reported there, not raised.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        The path holds no archive, or one of another size than the slide.
    dlpr_wsi.errors.SourceError
        The slide cannot be read.
    """
    begin = time.perf_counter()
    opened = open_archive(archive)
    threads = threads or default_threads()
    progress = progress or NoProgress()
    sources = SourcePool(source)
    bad: list[BadChunk] = []
    worst: list[int] = []
    try:
        level = sources.get().facts.levels[0]
        if (level.width, level.height) != (opened.width, opened.height):
            raise ArchiveError(
                f"{archive} holds {opened.width}x{opened.height} px, "
                f"the slide {source} has {level.width}x{level.height}: not made from it"
            )
        plan = make_plan(opened.width, opened.height, opened.tile, threads)

        def work(run: Run) -> tuple[int, list[BadChunk], list[int]]:
            return run.count, *_check_run(opened, run, sources.get().read(run.x, run.y, run.width, run.height))

        progress.start(plan.tiles)
        with closing(run_bounded(work, plan.runs(), threads)) as results:
            for count, found, errors in results:
                bad.extend(found)
                worst.extend(errors)
                progress.advance(count)
    finally:
        progress.close()
        sources.close()
    return VerifyReport(
        plan.tiles, opened.tau, max(worst, default=None), tuple(sorted(bad)), time.perf_counter() - begin
    )


def _check_run(archive: Archive, run: Run, pixels: NDArray[np.uint8]) -> tuple[list[BadChunk], list[int]]:
    """Compare a run's chunks with the slide; return the bad ones and each chunk's largest error."""
    bad: list[BadChunk] = []
    errors: list[int] = []
    for index in range(run.count):
        left = index * archive.tile
        expected = pixels[:, left : left + archive.tile]
        height, width = expected.shape[:2]
        decoded = _decode(archive, run.row, run.column + index)
        if isinstance(decoded, np.ndarray):
            found = decoded[:, :height, :width].transpose(1, 2, 0).astype(np.int16)
            difference = np.abs(found - expected)
            error = int(difference.max())
            errors.append(error)
            if error <= archive.tau:
                continue
            beyond = int(np.count_nonzero(difference > archive.tau))
            problem = (
                "error-above-tau",
                f"max |error| {error} is above tau {archive.tau} ({beyond} samples)",
            )
        else:
            problem = decoded
        bad.append(BadChunk(run.row, run.column + index, run.x + left, run.y, width, height, *problem))
    return bad, errors


def _decode(archive: Archive, row: int, column: int) -> NDArray[np.uint8] | tuple[str, str]:
    """Decode one chunk, or return the reason and message of what is wrong with it."""
    try:
        stored = archive.stored(row, column)
        if stored is None:
            return "missing", "there is no such file"
        image = dlpr.decode(stored, threads=1)  # the pipeline's workers are the threads
    except DlprError as error:
        return error.reason, str(error).removeprefix("dlpr: ")
    except OSError as error:
        return "unreadable", error.strerror or str(error)
    if image.shape != (3, archive.tile, archive.tile):
        return "shape", f"it holds an image of shape {image.shape}, not (3, {archive.tile}, {archive.tile})"
    return image
