"""A 100,000 x 100,000 px slide that is mostly background, through Dask: the scheduler's memory, time per task.

    python tests/benchmarks/scale.py [--side 100000] [--tissue 16] [--workers 1] [--empty] [--seconds N] [--folder DIR]

The slide is a BigTIFF of 256 px tiles (deflate) in levels 1, 4 and 16. All tiles but a few are one white tile that the
file stores once for each of them. The embedded cluster's scheduler lives in this process, so its memory is that of this
process; it is read after every task. What is printed last is a row of docs/results/scale.md. --empty schedules the same
tasks without doing them: what scheduling alone costs. --seconds stops after that time; the row says how far it came.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import tifffile

from dlpr_wsi.pipeline.convert import convert, preview
from dlpr_wsi.pipeline.execute import DaskExecutor, default_threads
from dlpr_wsi.pipeline.plan import SourceTiles, Task
from dlpr_wsi.pipeline.work import Job
from dlpr_wsi.sinks.omezarr import OmeVersion

TILE = 256


def tissue_tile(seed: int) -> bytes:
    """Return a deflated tile with texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:TILE, :TILE]
    wave = 40 * np.sin(x / 19 + seed) * np.cos(y / 31)
    image = np.stack([215 + wave / 2, 150 + wave, 190 + wave / 3], axis=-1) + rng.normal(0, 3, (TILE, TILE, 3))
    return zlib.compress(np.clip(image, 0, 255).astype(np.uint8).tobytes(), 1)


def tiles(side: int, tissue: int) -> Iterator[bytes]:
    """Yield a level's tiles, white but for ``tissue`` x ``tissue`` of them in the middle."""
    white = zlib.compress(np.full((TILE, TILE, 3), 255, np.uint8).tobytes(), 9)
    count = -(-side // TILE)
    low, high = (count - tissue) // 2, (count + tissue) // 2
    for row in range(count):
        for column in range(count):
            inside = low <= row < high and low <= column < high
            yield tissue_tile(row * count + column) if inside else white


def write_slide(path: Path, side: int, tissue: int) -> None:
    """Write the slide."""
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for step in (1, 4, 16):
            size = -(-side // step)
            writer.write(
                tiles(size, -(-tissue // step)),
                shape=(size, size, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="zlib",
                subfiletype=0 if step == 1 else 1,
                metadata=None,
            )


class OutOfTimeError(Exception):
    """--seconds are over."""


def nothing(job: Job, task: Task) -> Task:
    """Stand in for a conversion."""
    del job
    return task


class Watch:
    """Progress that watches this process, which holds the scheduler, and its children, the workers."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.process = psutil.Process()
        self.mine: list[int] = []
        self.workers: list[int] = []
        self.begin = self.done = 0.0

    def start(self, total: int) -> None:
        del total
        self.begin = self.done = time.perf_counter()

    def advance(self, tiles: int) -> None:
        del tiles
        self.done = time.perf_counter()
        self.mine.append(self.process.memory_info().rss)
        if len(self.mine) % 20 == 1:
            children = self.process.children(recursive=True)
            self.workers.append(max((child.memory_info().rss for child in children if child.is_running()), default=0))
            print(f"{len(self.mine)} tasks, {self.done - self.begin:.0f} s, {self.mine[-1] >> 20} MiB", flush=True)
        if self.done - self.begin > self.seconds:
            raise OutOfTimeError

    def close(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=100_000, help="px")
    parser.add_argument("--tissue", type=int, default=16, help="side of the part that is not background, in tiles")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--empty", action="store_true", help="schedule the tasks, do nothing in them")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        slide = folder / "large.tiff"
        write_slide(slide, options.side, options.tissue)
        watch = Watch(options.seconds)
        plan = preview(slide).plan
        executor = DaskExecutor(workers=options.workers, threads=default_threads())
        try:
            if options.empty:
                job = Job("empty", slide, folder, plan, OmeVersion.V05, SourceTiles.NEVER, 1)
                watch.start(plan.tiles)
                for _ in executor.run(nothing, job, plan.tasks()):
                    watch.advance(1)
            else:
                convert(slide, folder / "a.zarr", executor=executor, progress=watch)
        except OutOfTimeError:
            pass
        finally:
            executor.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    done = len(watch.mine)
    seconds = watch.done - watch.begin
    memory = [watch.mine[0], watch.mine[done // 4], watch.mine[done // 2], watch.mine[-1], max(watch.workers)]
    what = "scheduled only" if options.empty else "converted"
    print(
        f"| {options.side:,} x {options.side:,} | {what} | {plan.tiles:,} | "
        f"{done:,} of {plan.task_count:,} | {1000 * seconds / done:.0f} ms | "
        + " | ".join(str(size >> 20) for size in memory)
        + " |"
    )


if __name__ == "__main__":
    main()
