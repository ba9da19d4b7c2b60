"""Where tasks run: in this process, or on Dask workers.

Both take tasks one by one and keep a bounded number in flight, so that neither this process nor a scheduler ever holds
more of a slide than that. A worker that dies loses its task; Dask gives it to another one, and what fails again is
reported as a `Lost` task, not raised.

In the process: two tasks at a time, each with all codec threads, so that one reads while the other encodes. On Dask:
worker processes, for long conversions (a crash in a decoder of slides then costs one task, not the conversion) and for
clusters.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

from dlpr_wsi.errors import MissingDependencyError, UsageError, WsiError
from dlpr_wsi.pipeline.work import Job, close_source

__all__ = ["DaskExecutor", "Executor", "LocalExecutor", "Lost", "default_threads", "run_bounded"]

Task = TypeVar("Task")
Result = TypeVar("Result")
_CORES_PER_WORKER = 8
_RETRIES = 2


@dataclass(frozen=True)
class Lost:
    """A task whose workers died.

    Parameters
    ----------
    task : object
        Which.
    message : str
        What the scheduler says.
    """

    task: Any
    message: str


class Executor(Protocol):
    """Runs tasks of a job."""

    @property
    def threads(self) -> int:
        """Codec threads of one task."""

    def run(
        self, function: Callable[[Job, Any], Result], job: Job, tasks: Iterable[Any]
    ) -> Generator[Result | Lost, None, None]:
        """Yield results as tasks finish. An exception of a task drops the rest and goes on."""

    def close(self) -> None:
        """Stop workers that belong to this executor."""


def default_threads() -> int:
    """Return the number of CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


class LocalExecutor:
    """Threads of this process.

    Parameters
    ----------
    threads : int, optional
        Codec threads; default: one per CPU core.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or default_threads()

    @property
    def threads(self) -> int:
        """Codec threads of one task."""
        return self._threads

    def run(
        self, function: Callable[[Job, Any], Result], job: Job, tasks: Iterable[Any]
    ) -> Generator[Result | Lost, None, None]:
        """Yield results as tasks finish."""
        try:
            yield from run_bounded(lambda task: function(job, task), tasks, min(2, self._threads))
        finally:
            close_source(job.key)

    def close(self) -> None:
        """Nothing stays."""


class DaskExecutor:
    """Workers of a Dask cluster.

    Parameters
    ----------
    address : str, optional
        Of a scheduler; by default an embedded cluster of worker processes on this machine.
    workers : int, optional
        Worker processes of the embedded cluster; default: one per 8 CPU cores.
    threads : int, optional
        Codec threads of a task; default: the cores of a worker, or 1 on a cluster that was there before.
    gpu : bool
        Some workers have the resource GPU and will use a device; an embedded cluster's one worker does.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        dask.distributed is not installed.
    dlpr_wsi.errors.UsageError
        No scheduler answers at the address, or no worker has a GPU.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        threads: int | None = None,
        gpu: bool = False,
    ) -> None:
        try:
            import dask
            import distributed
        except ImportError as error:
            raise MissingDependencyError("dask with distributed", "wsi") from error
        self._distributed = distributed
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": _RETRIES,
                "distributed.admin.low-level-log-length": 1000,  # the scheduler's diaries must not grow with the slide
                "distributed.diagnostics.computations.max-history": 1,
            }
        )
        self._cluster: Any = None
        cores = threads or default_threads()
        if address is None:
            workers = workers or (1 if gpu else max(1, cores // _CORES_PER_WORKER))
            self._threads = max(1, cores // workers)
            self._cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=2,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # None would try Dask's usual port and warn where it is taken
                resources={"GPU": 1} if gpu else None,
                memory_limit=0,
                silence_logs=50,  # what went wrong is reported here, by tile
            )
            self._client = distributed.Client(self._cluster)
        else:
            self._threads = threads or 1
            try:
                self._client = distributed.Client(address, timeout="20s")
            except (OSError, ValueError) as error:
                raise UsageError("--scheduler", f"no Dask scheduler answers at {address} ({error})") from error
        if (
            gpu
            and address is not None
            and not any(worker.get("resources", {}).get("GPU") for worker in self._workers())
        ):
            self.close()
            raise UsageError("--gpu", "no worker of the cluster has the resource GPU (dask worker --resources GPU=1)")

    def _workers(self) -> list[dict[str, Any]]:
        """Return what the scheduler knows about its workers."""
        return list(self._client.scheduler_info(n_workers=-1)["workers"].values())

    @property
    def threads(self) -> int:
        """Codec threads of one task."""
        return self._threads

    @property
    def client(self) -> Any:
        """The Dask client."""
        return self._client

    def run(
        self, function: Callable[[Job, Any], Result], job: Job, tasks: Iterable[Any]
    ) -> Generator[Result | Lost, None, None]:
        """Yield results as tasks finish."""
        from distributed.scheduler import KilledWorker

        from dlpr_wsi.pipeline.plugin import JobPlugin

        name = f"dlpr-wsi-{job.key}"
        self._client.register_plugin(JobPlugin(job), name=name)
        remaining = iter(tasks)
        running: dict[Any, Any] = {}
        suspects: list[Any] = []
        finished = self._distributed.as_completed()

        def submit(some: Iterable[Any]) -> None:
            for task in some:
                future = self._client.submit(
                    function,
                    job,
                    task,
                    pure=False,
                    retries=_RETRIES,
                )
                running[future] = task
                finished.add(future)

        try:
            submit(islice(remaining, self._in_flight()))
            alone = False
            while running or suspects:
                if not running:  # a dying worker takes its other tasks along: each suspect gets a worker to itself
                    alone = True
                    submit([suspects.pop(0)])
                future = next(finished)
                task = running.pop(future)
                error = future.exception() if future.status == "error" else None
                if not alone:
                    submit(islice(remaining, 1))
                if isinstance(error, KilledWorker):
                    if alone:
                        yield Lost(task, "its worker died, and so did those that tried again")
                    else:
                        suspects.append(task)
                elif error is not None:
                    raise error
                elif future.status == "cancelled":
                    raise WsiError("the Dask scheduler dropped a task; is it still running?")
                else:
                    yield future.result()
                future.release()
        finally:
            with suppress(Exception):
                self._client.cancel(list(running))
            with suppress(Exception):
                self._client.unregister_worker_plugin(name)

    def _in_flight(self) -> int:
        """Return how many tasks are out at once: what runs, and as much again."""
        return max(2, 2 * sum(int(worker["nthreads"]) for worker in self._workers()))

    def close(self) -> None:
        """Leave the cluster; stop it if it is embedded."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()
