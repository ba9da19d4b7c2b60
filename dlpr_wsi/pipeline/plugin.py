"""A Dask worker's state for one conversion."""

from __future__ import annotations

from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from dlpr_wsi.pipeline.opinion import close_second
from dlpr_wsi.pipeline.work import Job, close_source, warm_up

__all__ = ["JobPlugin"]


class JobPlugin(WorkerPlugin):  # type: ignore[misc, unused-ignore]
    """Opens the slide and loads the codec's weights when a worker joins; closes the slide when the job is over.

    Parameters
    ----------
    job : Job
        The conversion.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self, worker: Any) -> None:
        """Get ready before the first task."""
        warm_up(self._job, worker)

    def teardown(self, worker: Any) -> None:
        """Let go of the slide."""
        del worker
        close_source(self._job.key)
        close_second(self._job.key)
