"""Latency of the viewer's tiles on this machine: cold and warm, one tile and a whole view.

    python tests/benchmarks/viewer_latency.py ARCHIVE [--rounds 5] [--format png]

Starts ``dlpr-wsi serve`` anew for every round, so that its caches are empty, and asks over loopback. Cold: a tile of
level 0 that nobody asked for. View: the 5 x 5 tiles that a window of 1024 x 1024 px touches, six at a time as a
browser asks. Warm: the same tiles again. Prints medians and 95th percentiles in ms. What else the machine does makes
these longer; the server's CPU time, printed beside them, much less so.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import local


@contextmanager
def server(archive: Path, *options: str) -> Iterator[tuple[int, int]]:
    """Run the command; yield its port and process id."""
    command = [Path(sys.executable).with_name("dlpr-wsi"), "serve", archive, "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("serving "))
        try:
            yield int(line.split()[1].rstrip("/").rpartition(":")[2]), process.pid
        finally:
            process.terminate()


def cpu_ms(process: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return 1e3 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Client:
    """One kept connection for each thread."""

    def __init__(self, port: int) -> None:
        self._port, self._kept = port, local()

    def get(self, path: str) -> tuple[float, bytes]:
        """Return the time in ms and the body."""
        start = time.perf_counter()
        if not hasattr(self._kept, "connection"):
            self._kept.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        self._kept.connection.request("GET", path)
        response = self._kept.connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: status {response.status}: {body[:200]!r}")
        return 1e3 * (time.perf_counter() - start), body


def summary(name: str, values: Sequence[float]) -> str:
    """Return a line with median and 95th percentile."""
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return f"{name:34} n {len(values):4}   median {statistics.median(values):7.1f} ms   p95 {p95:7.1f} ms"


def tissue(client: Client, facts: dict[str, object], side: int) -> list[tuple[int, int]]:
    """Return (column, row) of windows of side x side tiles, those that cost most bytes first."""
    level = facts["levels"][0]  # type: ignore[index]
    rows, columns = level["rows"] - 1, level["columns"] - 1  # whole tiles only
    sizes = {}
    for row in range(rows):
        for column in range(columns):
            chunk = json.loads(client.get(f"/api/images/{facts['id']}/chunks/0/{row}/{column}")[1])
            sizes[column, row] = chunk["bytes"] or 0
    places = [(c, r) for r in range(rows - side + 1) for c in range(columns - side + 1)]
    weight = {(c, r): sum(sizes[c + i, r + j] for i in range(side) for j in range(side)) for c, r in places}
    return sorted(places, key=weight.__getitem__, reverse=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--format", default="jpg")
    options = parser.parse_args()
    cold: list[float] = []
    views: list[float] = []
    warm: list[float] = []
    warm_views: list[float] = []
    cpu_cold: list[float] = []
    cpu_views: list[float] = []
    rng = random.Random(0)
    for number in range(options.rounds):
        with server(options.archive) as (port, process):
            client = Client(port)
            facts = json.loads(client.get("/api/images")[1])[0]
            top = facts["deepzoom_levels"] - 1

            def tile(place: tuple[int, int], client: Client = client, facts=facts, top=top) -> float:  # type: ignore[no-untyped-def]
                url = f"/deepzoom/{facts['id']}_files/{top}/{place[0]}_{place[1]}.{options.format}"
                return client.get(url)[0]

            singles = tissue(client, facts, 1)
            half = singles[: max(30, len(singles) // 2)]  # tissue, not background
            windows = tissue(client, facts, 5)
            tile(singles[-1])  # the decoder's weights are read once
            time.sleep(0.5)
            column, row = windows[number % min(3, len(windows))]
            view = [(column + i, row + j) for j in range(5) for i in range(5)]
            with ThreadPoolExecutor(6) as pool:
                spent = cpu_ms(process)
                start = time.perf_counter()
                list(pool.map(tile, view))
                views.append(1e3 * (time.perf_counter() - start))
                cpu_views.append(cpu_ms(process) - spent)
                start = time.perf_counter()
                list(pool.map(tile, view))
                warm_views.append(1e3 * (time.perf_counter() - start))
            warm += [tile(place) for place in view]
        with server(options.archive) as (port, process):
            client = Client(port)
            facts = json.loads(client.get("/api/images")[1])[0]
            tile(singles[-1], client, facts, top)
            time.sleep(1)
            # Far apart, so that none of them is a neighbour that was decoded ahead.
            apart = [place for place in half if place[0] % 3 == 1 and place[1] % 3 == 1]
            rng.shuffle(apart)
            for place in apart[:12]:
                time.sleep(1.0)  # decoding ahead of the last one has ended
                spent = cpu_ms(process)
                cold.append(tile(place, client, facts, top))
                cpu_cold.append(cpu_ms(process) - spent)
    print(
        f"{options.archive.name}, {options.format}, {len(os.sched_getaffinity(0))} CPUs, load {os.getloadavg()[0]:.1f}"
    )
    print(summary("one tile, cold", cold))
    print(summary("  CPU time of the server", cpu_cold))
    print(summary("1024 x 1024 px, 25 tiles, cold", views))
    print(summary("  CPU time of the server", cpu_views))
    print(summary("one tile, warm", warm))
    print(summary("1024 x 1024 px, 25 tiles, warm", warm_views))


if __name__ == "__main__":
    main()
