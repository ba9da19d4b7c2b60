"""The plan and the pool."""

import io
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlpr_wsi.pipeline.plan import MAX_RUN, make_plan
from dlpr_wsi.pipeline.pool import run_bounded
from dlpr_wsi.progress import LineProgress, make_progress


@given(st.integers(1, 900), st.integers(1, 900), st.integers(16, 300), st.integers(1, 9))
def test_runs_cover_the_slide_once(width, height, tile, threads):
    plan = make_plan(width, height, tile, threads)
    seen = np.zeros((height, width), np.uint8)
    tiles = 0
    for run in plan.runs():
        assert 1 <= run.count <= MAX_RUN
        assert (run.x, run.y) == (run.column * tile, run.row * tile)
        seen[run.y : run.y + run.height, run.x : run.x + run.width] += 1
        tiles += run.count
    assert (seen == 1).all()
    assert tiles == plan.tiles
    assert plan.raw_bytes == 3 * width * height


def test_results_of_all_tasks():
    assert sorted(run_bounded(lambda n: n * n, range(20), 3)) == [n * n for n in range(20)]


def test_few_tasks_are_in_flight():
    taken = []

    def tasks():
        for number in range(50):
            taken.append(number)
            yield number

    results = run_bounded(lambda n: n, tasks(), 2)
    next(results)
    assert len(taken) <= 8
    results.close()


def test_first_failure_cancels_the_rest():
    ran = []
    lock = threading.Lock()

    def work(number):
        with lock:
            ran.append(number)
        if number == 3:
            raise ValueError("task 3")
        time.sleep(0.01)
        return number

    with pytest.raises(ValueError, match="task 3"):
        list(run_bounded(work, range(1000), 2))
    assert len(ran) < 20


def test_plain_lines_without_a_terminal():
    stream = io.StringIO()
    progress = make_progress("convert", stream)
    assert isinstance(progress, LineProgress)
    progress.start(40)
    for _ in range(40):
        progress.advance(1)
    progress.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("convert 40/40 tiles")
    assert "\r" not in stream.getvalue()


def test_bar_on_a_terminal():
    pytest.importorskip("tqdm")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    progress = make_progress("convert", stream)
    progress.start(2)
    progress.advance(2)
    progress.close()
    assert "\r" in stream.getvalue()
    assert "convert" in stream.getvalue()
