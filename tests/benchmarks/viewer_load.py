"""Fifty people who pan through an archive at the same time.

    python tests/benchmarks/viewer_load.py ARCHIVE [--clients 50] [--seconds 60] [--cache-mb 512] [--pause 1.0]

Starts ``dlpr-wsi serve`` and asks over loopback. Each client shows a window of 4 x 3 tiles at some zoom, every so often
pans by one tile or zooms, and asks for the tiles that it does not have, six at a time. Prints the number of requests,
errors, median and 95th percentile of the time to answer, and the server's memory at the start and through the run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from pathlib import Path

from viewer_latency import Client, server, summary

WIDE, HIGH = 4, 3


def memory_mb(process: int) -> float:
    """Return the resident size of a process in MB."""
    with open(f"/proc/{process}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Person:
    """A client with six connections and a memory of what it has seen."""

    def __init__(self, port: int, facts: dict[str, object], seed: int, form: str) -> None:
        self.port, self.facts, self.form = port, facts, form
        self.rng = random.Random(seed)
        self.connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.times: list[tuple[float, float]] = []
        self.errors: list[str] = []
        self.level = int(facts["deepzoom_levels"]) - 1  # type: ignore[call-overload]
        self.x = self.y = 0.5
        self.seen: set[tuple[int, int, int]] = set()

    def view(self) -> list[tuple[int, int, int]]:
        """Move a little, and return the tiles in the window that are new."""
        top = int(self.facts["deepzoom_levels"]) - 1  # type: ignore[call-overload]
        tile = int(self.facts["deepzoom_tile"])  # type: ignore[call-overload]
        chance = self.rng.random()
        if chance < 0.1:
            self.level = max(top - 3, self.level - 1)
        elif chance < 0.25:
            self.level = min(top, self.level + 1)
        else:
            step = self.rng.choice([(-1, 0), (1, 0), (0, -1), (0, 1)])
            scale = 2 ** (top - self.level) * tile
            self.x = min(1.0, max(0.0, self.x + step[0] * scale / self.facts["width"]))  # type: ignore[operator]
            self.y = min(1.0, max(0.0, self.y + step[1] * scale / self.facts["height"]))  # type: ignore[operator]
        scale = 2 ** (top - self.level)
        columns = -(-self.facts["width"] // (scale * tile))  # type: ignore[operator]
        rows = -(-self.facts["height"] // (scale * tile))  # type: ignore[operator]
        left = max(0, min(columns - WIDE, int(self.x * columns - WIDE / 2)))
        upper = max(0, min(rows - HIGH, int(self.y * rows - HIGH / 2)))
        window = [
            (self.level, c, r)
            for r in range(upper, min(rows, upper + HIGH))
            for c in range(left, min(columns, left + WIDE))
        ]
        fresh = [place for place in window if place not in self.seen]
        self.seen.update(fresh)
        if len(self.seen) > 200:  # a browser forgets too
            self.seen.clear()
        return fresh

    async def ask(self, number: int, place: tuple[int, int, int]) -> None:
        """Fetch a tile on one of the connections."""
        level, column, row = place
        path = f"/deepzoom/{self.facts['id']}_files/{level}/{column}_{row}.{self.form}"
        start = time.perf_counter()
        try:
            try:
                head = await self._fetch(number, path)
            except (asyncio.IncompleteReadError, ConnectionError):
                # The server closed a connection that was idle for long; a browser asks again on a new one.
                self.connections[number] = await asyncio.open_connection("127.0.0.1", self.port)
                head = await self._fetch(number, path)
            if not head.startswith("http/1.1 200"):
                raise RuntimeError(head.split("\r\n")[0])
        except Exception as error:  # every kind of failure is counted
            self.errors.append(f"{path}: {type(error).__name__} {error}")
            self.connections[number] = await asyncio.open_connection("127.0.0.1", self.port)
        self.times.append((time.perf_counter(), 1e3 * (time.perf_counter() - start)))

    async def _fetch(self, number: int, path: str) -> str:
        """Send a request, read the response, return its head in lower case."""
        reader, writer = self.connections[number]
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).decode("latin-1").lower()
        length = next(line.split(":")[1] for line in head.split("\r\n") if line.startswith("content-length"))
        await reader.readexactly(int(length))
        return head

    async def pan(self, until: float, pause: float) -> None:
        """Look around until the time is over."""
        self.connections = [await asyncio.open_connection("127.0.0.1", self.port) for _ in range(6)]
        await asyncio.sleep(pause * self.rng.random())
        while time.perf_counter() < until:
            queue = self.view()

            async def worker(number: int, queue: list[tuple[int, int, int]] = queue) -> None:
                while queue:
                    await self.ask(number, queue.pop())

            await asyncio.gather(*(worker(number) for number in range(6)))
            await asyncio.sleep(pause * (0.5 + self.rng.random()))
        for _, writer in self.connections:
            writer.close()


async def run(options: argparse.Namespace, port: int, process: int, facts: dict[str, object]) -> None:
    """Let everybody pan, watch the memory, print."""
    begin = time.perf_counter()
    until = begin + options.seconds
    people = [Person(port, facts, seed, options.format) for seed in range(options.clients)]
    memory: list[float] = [memory_mb(process)]

    async def watch() -> None:
        while time.perf_counter() < until:
            await asyncio.sleep(options.seconds / 12)
            memory.append(memory_mb(process))

    await asyncio.gather(watch(), *(person.pan(until, options.pause) for person in people))
    times = [entry for person in people for entry in person.times]
    errors = [error for person in people for error in person.errors]
    load = os.getloadavg()[0]
    print(
        f"{options.archive.name}, {options.format}, {options.clients} clients, {options.seconds:.0f} s, load {load:.1f}"
    )
    print(f"requests {len(times)}, {len(times) / options.seconds:.0f} a second, errors {len(errors)}")
    print(summary("all requests", [ms for _, ms in times]))
    for part in range(4):
        low, high = begin + part * options.seconds / 4, begin + (part + 1) * options.seconds / 4
        inside = [ms for at, ms in times if low <= at < high]
        if inside:
            print(summary(f"  quarter {part + 1}", inside))
    print("memory, MB  " + "  ".join(f"{value:.0f}" for value in memory))
    for error in errors[:5]:
        print(error)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--cache-mb", type=int, default=512)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two moves of a client, on average")
    parser.add_argument("--format", default="jpg")
    options = parser.parse_args()
    with server(options.archive, "--cache-mb", str(options.cache_mb)) as (port, process):
        facts = json.loads(Client(port).get("/api/images")[1])[0]
        asyncio.run(run(options, port, process, facts))


if __name__ == "__main__":
    main()
