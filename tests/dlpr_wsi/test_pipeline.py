"""The plan, the executors, the progress."""

import io
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlpr_wsi.pipeline.convert import ConvertOptions, convert, make_executor
from dlpr_wsi.pipeline.execute import DaskExecutor, LocalExecutor, run_bounded
from dlpr_wsi.pipeline.plan import MAX_SHARD, SHARD_SIDE, Pyramid, make_plan, pyramid_levels
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.progress import LineProgress, make_progress
from dlpr_wsi.sources import Level, SlideFacts, SourceCodec, TileGrid


def facts(*sizes):
    levels = tuple(Level(w, h, sizes[0][0] / w) for w, h in sizes)
    return SlideFacts("a", "v", 1, SourceCodec(), levels, None, None, None, None, None, (), (255, 255, 255))


@settings(deadline=None)
@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(16, 4096))
def test_tasks_cover_every_chunk_once(width, height, tile):
    plan = make_plan(facts((width, height)), [None], tile=tile)
    (level,) = plan.levels
    seen = np.zeros((level.rows, level.columns), np.uint8)
    covered = 0
    for task in plan.tasks():
        chunks = level.chunks(task)
        assert chunks
        for row, column in chunks:
            seen[row, column] += 1
            covered += level.box(row, column)[2] * level.box(row, column)[3]
    assert (seen == 1).all()
    assert covered == width * height
    assert max(level.shard_rows, level.shard_columns) <= MAX_SHARD
    assert max(level.shard_rows, level.shard_columns) * tile <= max(SHARD_SIDE, tile)
    assert plan.task_count == sum(1 for _ in plan.tasks())


def test_chunks_follow_the_slides_tiles():
    grid = TileGrid(240, 240, 10, 10)
    plan = make_plan(facts((2400, 2400), (600, 600)), [grid, None])
    assert [(lv.tile_width, lv.follows_source) for lv in plan.levels] == [(240, True), (256, False)]
    assert not make_plan(facts((2400, 2400)), [grid], tile=256).levels[0].follows_source
    wide = make_plan(facts((4096, 64)), [TileGrid(4096, 8, 8, 1)])
    assert not wide.levels[0].follows_source


def test_which_slides_get_a_pyramid():
    assert pyramid_levels(facts((4096, 4096)), 256, Pyramid.AUTO) == 1
    assert pyramid_levels(facts((4096, 4096)), 256, Pyramid.ALWAYS) == 5
    assert pyramid_levels(facts((4097, 10)), 256, Pyramid.AUTO) == 6
    assert pyramid_levels(facts((90000, 10)), 256, Pyramid.NEVER) == 1
    assert pyramid_levels(facts((90000, 10), (100, 1)), 256, Pyramid.ALWAYS) == 2


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


def test_where_tasks_run_by_default(monkeypatch):
    small = make_executor(1_000_000, threads=2)
    assert isinstance(small, LocalExecutor)
    started = []
    monkeypatch.setattr(
        "dlpr_wsi.pipeline.convert.DaskExecutor", lambda *args, **options: started.append((args, options))
    )
    make_executor(10_000_000_000, threads=2)
    assert started == [((None,), {"workers": None, "threads": 2, "gpu": False})]


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("distributed")
    executor = DaskExecutor(workers=1, threads=2)
    yield executor
    executor.close()


def test_embedded_cluster_gives_the_same_bytes(tmp_path, svs, cluster):
    stored = []
    for name, executor in (("dask", cluster), ("local", LocalExecutor(2))):
        out = tmp_path / f"{name}.zarr"
        convert(svs, out, options=ConvertOptions(tau=1), executor=executor)
        assert verify(out, svs, executor=executor).ok
        stored.append({str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()})
    assert stored[0] == stored[1]


KILLER = """
import os
def work(job, task):
    if task.column == 1:
        os._exit(1)
    return task.column
"""
MAIN = """
import sys
from pathlib import Path
import killer
from dlpr_wsi.pipeline.execute import DaskExecutor, Lost
from dlpr_wsi.pipeline.plan import LevelPlan, Plan, SourceTiles, Task
from dlpr_wsi.pipeline.work import Job
from dlpr_wsi.sinks.omezarr import OmeVersion

if __name__ == "__main__":
    executor = DaskExecutor(workers=1, threads=2)
    plan = Plan((LevelPlan(400, 300, 256, 256, 1, 1, False),))
    job = Job("k", Path(sys.argv[1]), Path("."), plan, OmeVersion.V05, SourceTiles.NEVER, 1)
    for result in executor.run(killer.work, job, [Task(0, 0, column) for column in range(4)]):
        print("LOST", result.task.column, result.message) if isinstance(result, Lost) else print("DONE", result)
    executor.close()
"""


def test_a_task_that_kills_its_workers_is_reported_and_no_other(tmp_path, svs):
    pytest.importorskip("distributed")
    (tmp_path / "killer.py").write_text(KILLER)
    (tmp_path / "main.py").write_text(MAIN)
    done = subprocess.run(
        [sys.executable, "main.py", str(svs)], cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False
    )
    lines = sorted(line for line in done.stdout.splitlines() if line.startswith(("LOST", "DONE")))
    assert lines[:3] == ["DONE 0", "DONE 2", "DONE 3"], done.stderr
    assert lines[3].startswith("LOST 1 its worker died")
    assert len(lines) == 4


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


@pytest.mark.full
def test_decoding_on_a_torch_device_gives_the_same_pixels(svs):
    pytest.importorskip("torch")
    import dlpr
    from dlpr_wsi.pipeline.encode import Decoder, decode_chunks
    from dlpr_wsi.sources.opening import open_source

    source = open_source(svs)
    tiles = [np.ascontiguousarray(source.read(x, 0, 9, 7).transpose(2, 0, 1)) for x in (0, 350)]
    source.close()
    streams = [*dlpr.encode_batch(tiles), dlpr.encode(tiles[0], 2), b"DLPR?"]
    *images, broken = decode_chunks(streams, Decoder(1, dlpr.Device("cpu")))
    for image, tile in zip(images[:2], tiles, strict=True):
        np.testing.assert_array_equal(image, tile)
    np.testing.assert_array_equal(images[2], dlpr.decode(streams[2]))
    assert isinstance(broken, dlpr.errors.DlprError)


def test_gpu_without_one_is_a_clear_error(monkeypatch):
    torch = pytest.importorskip("torch")
    from dlpr_wsi.errors import MissingDependencyError, UsageError
    from dlpr_wsi.pipeline.gpu import ANY, require_device

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UsageError, match=r"--gpu: torch cannot use the device 'cuda'"):
        require_device("cuda")
    with pytest.raises(UsageError, match=r"--gpu: device 'gpus' is not one that torch knows"):
        require_device("gpus")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match="gpu"):
        require_device(ANY)
