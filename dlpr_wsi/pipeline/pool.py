"""Threads with a source each, and a bounded number of tasks in flight."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from dlpr_wsi.sources import SlideSource, open_slide

__all__ = ["NoProgress", "Progress", "SourcePool", "default_threads", "run_bounded"]

Task = TypeVar("Task")
Result = TypeVar("Result")


class Progress(Protocol):
    """Told how far a long run is."""

    def start(self, total: int) -> None:
        """Begin a run of this many tiles."""

    def advance(self, tiles: int) -> None:
        """Count tiles as done."""

    def close(self) -> None:
        """End, complete or not."""


class NoProgress:
    """Keeps silent."""

    def start(self, total: int) -> None:
        """Ignore."""

    def advance(self, tiles: int) -> None:
        """Ignore."""

    def close(self) -> None:
        """Ignore."""


def default_threads() -> int:
    """Return the number of CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class SourcePool:
    """One open slide per thread: OpenSlide's handles are opened where they are used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._opened: list[SlideSource] = []

    def get(self) -> SlideSource:
        """Return the calling thread's slide."""
        source: SlideSource | None = getattr(self._local, "source", None)
        if source is None:
            source = open_slide(self._path)
            self._local.source = source
            with self._lock:
                self._opened.append(source)
        return source

    def close(self) -> None:
        """Close all slides; no thread may be using them."""
        with self._lock:
            for source in self._opened:
                source.close()
            self._opened.clear()


def run_bounded(work: Callable[[Task], Result], tasks: Iterable[Task], threads: int) -> Generator[Result, None, None]:
    """Yield the results of ``work`` over the tasks as they finish.

    At most ``threads`` tasks run and as many wait. When one fails, or the consumer stops (Ctrl-C too), tasks
    that have not begun are dropped, those that run are waited for, and the exception goes on.
    """
    remaining = iter(tasks)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="dlpr-wsi")
    pending: set[Future[Result]] = set()
    try:
        pending.update(pool.submit(work, task) for task in islice(remaining, 2 * threads))
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            pending.update(pool.submit(work, task) for task in islice(remaining, len(done)))
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
