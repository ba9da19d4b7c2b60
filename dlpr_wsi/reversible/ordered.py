"""Work on many threads whose results come in order, a bounded number of them at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ordered"]

Task = TypeVar("Task")
Result = TypeVar("Result")


def ordered(work: Callable[[Task], Result], tasks: Iterable[Task], threads: int) -> Generator[Result, None, None]:
    """Yield ``work(task)`` of every task, in the order of the tasks; at most ``2 * threads`` are under way or wait.

    When one fails, or the consumer stops, tasks that have not begun are dropped and the exception goes on.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="dlpr-originals")
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
