"""The second reader's part of a verification: each chunk's pixels by two paths that share nothing.

A disagreement means that one of the two shows other pixels than the file holds. Which one it is nobody can say, so the
archive cannot be trusted: the chunk is bad, and both readers are named.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.pipeline.plan import LevelPlan, Task
from dlpr_wsi.pipeline.work import Job
from dlpr_wsi.second import NoSecond, Reading, SecondReader, Unjudged
from dlpr_wsi.second.opening import open_second
from dlpr_wsi.sources import SlideFacts

__all__ = ["LevelOpinion", "Opinion", "close_second", "second_name", "second_opinion", "sum_opinions"]

_lock = threading.Lock()
_opened: dict[str, SecondReader | NoSecond] = {}


@dataclass(frozen=True)
class Opinion:
    """What the second reader says about the chunks of a task.

    Parameters
    ----------
    confirmed : int
        Places (chunks of all channels) where both readers see the same.
    tolerance : int
        Largest difference that passed for the same: what two decoders may round differently.
    unjudged : mapping of str to int
        Places that only the first could read, by reason.
    differing : tuple of (int, str)
        Places, by their number in the task, where they see different pixels; and what is to be said of it.
    """

    confirmed: int = 0
    tolerance: int = 0
    unjudged: Counter[str] = field(default_factory=Counter)
    differing: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class LevelOpinion:
    """Who read a level.

    Parameters
    ----------
    level : int
        Which.
    first : str
        Conversion's reader.
    second : str or None
        The second reader; None where there is none.
    chunks : int
        Places compared with the first reader.
    confirmed : int
        Of these, those where the second saw the same.
    disagreed : int
        Those where it saw something else.
    tolerance : int
        By how much samples of confirmed chunks were allowed to differ; 0: not at all.
    alone : mapping of str to int
        Those that only the first could read, by reason.
    """

    level: int
    first: str
    second: str | None
    chunks: int
    confirmed: int
    disagreed: int
    tolerance: int
    alone: dict[str, int]


def _second(job: Job, facts: SlideFacts) -> SecondReader | NoSecond:
    """Return this process's second reader of a job."""
    with _lock:
        if job.key not in _opened:
            try:
                _opened[job.key] = open_second(job.source, facts, job.selection, len(job.plan.levels))
            except NoSecond as none:
                _opened[job.key] = none
        return _opened[job.key]


def close_second(key: str) -> None:
    """Close this process's second reader of a job."""
    with _lock:
        found = _opened.pop(key, None)
    if found is not None and not isinstance(found, NoSecond):
        found.close()


def second_name(job: Job, facts: SlideFacts) -> tuple[str | None, str]:
    """Return the second reader's name, or None and why there is none; it stays open for the tasks of this process."""
    found = _second(job, facts)
    return (None, str(found)) if isinstance(found, NoSecond) else (found.name, "")


def second_opinion(job: Job, task: Task, facts: SlideFacts, pixels: Sequence[NDArray[np.uint8]]) -> Opinion:
    """Read a task's chunks by the second reader and compare them with what the first one read.

    Parameters
    ----------
    job, task : Job, Task
        Which chunks.
    facts : SlideFacts
        What the first reader says about the slide.
    pixels : sequence of ndarray
        What it read, one (height, width, samples) array for each place.
    """
    level = job.plan.levels[task.level]
    places = level.chunks(task)
    reader = _second(job, facts)
    if isinstance(reader, NoSecond):
        return Opinion(unjudged=Counter({str(reader): len(places)}))
    if task.level < len(facts.levels) and facts.levels[task.level].interpolated:
        return Opinion(unjudged=Counter({f"{facts.reader} draws this level between stored pixels": len(places)}))
    confirmed, tolerance = 0, 0
    unjudged: Counter[str] = Counter()
    differing: list[tuple[int, str]] = []
    for number, (place, first) in enumerate(zip(places, pixels, strict=True)):
        found = _read(reader, level, task.level, place)
        if isinstance(found, Unjudged):
            unjudged[found.reason] += 1
            continue
        if found.pixels.shape != first.shape:
            unjudged["another number of samples than the archive holds"] += 1
            continue
        worst = _difference(found.pixels, first)
        if worst <= found.tolerance:
            confirmed += 1
            tolerance = max(tolerance, found.tolerance)
            continue
        who = facts.reader or "conversion's reader"
        differing.append((number, f"{who} and {reader.name} read pixels that differ by up to {worst}"))
    return Opinion(confirmed, tolerance, unjudged, tuple(differing))


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """Return the largest difference; sample by sample, which takes a quarter of the time for strided arrays."""
    worst = 0
    for sample in range(one.shape[-1]):
        a, b = one[..., sample], other[..., sample]
        if not np.array_equal(a, b):
            worst = max(worst, int((np.maximum(a, b) - np.minimum(a, b)).max()))
    return worst


def _read(reader: SecondReader, level: LevelPlan, index: int, place: tuple[int, int]) -> Reading | Unjudged:
    """Read a chunk; a decoder that fails cannot judge."""
    try:
        return reader.read(*level.box(*place), index)
    except Exception as error:  # libraries raise many kinds; the first reader's failures are named elsewhere
        return Unjudged(f"the second reader failed ({type(error).__name__})")


def sum_opinions(
    levels: int, first: str, second: str | None, opinions: Iterable[tuple[int, Opinion]]
) -> tuple[LevelOpinion, ...]:
    """Add up what was said about each level."""
    by_level: list[list[Opinion]] = [[] for _ in range(levels)]
    for level, opinion in opinions:
        by_level[level].append(opinion)
    found = []
    for level, parts in enumerate(by_level):
        alone: Counter[str] = Counter()
        for part in parts:
            alone.update(part.unjudged)
        confirmed, disagreed = sum(part.confirmed for part in parts), sum(len(part.differing) for part in parts)
        found.append(
            LevelOpinion(
                level=level,
                first=first,
                second=second,
                chunks=confirmed + disagreed + alone.total(),
                confirmed=confirmed,
                disagreed=disagreed,
                tolerance=max((part.tolerance for part in parts), default=0),
                alone=dict(sorted(alone.items())),
            )
        )
    return tuple(found)
