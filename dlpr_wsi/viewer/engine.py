"""Decodes chunks on demand.

Whoever needs a chunk calls `ChunkEngine.request` and gets a future. Behind it::

    request --cached--> done
       |--already asked for--> joins that job (coalesced)
       '--> queue of the lane: wanted, then prefetch
                                   |
              one thread a lane takes what waits, a batch at a time, and skips
              jobs whose futures were all cancelled

DLPR streams and pixels of slides have a lane each: a slow file does not hold up decoding. While a batch is
being decoded the next one gathers, so a lone request never waits for company and a burst is decoded together.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr.codec import usable_threads
from dlpr.errors import DlprError
from dlpr_wsi.errors import WsiError
from dlpr_wsi.viewer.cache import ByteCache
from dlpr_wsi.viewer.stores import ChunkStore

__all__ = ["BusyError", "Chunk", "ChunkEngine", "ChunkError", "ChunkKey", "shared_engine"]

_log = logging.getLogger("dlpr_wsi.viewer")
_PREFETCH_WAITING = 64


class ChunkError(WsiError):
    """A chunk cannot be decoded or read.

    Parameters
    ----------
    key : ChunkKey
        Which one.
    message : str
        Why.
    """

    def __init__(self, key: ChunkKey, message: str) -> None:
        place = f"{key.store.name}: level {key.level} row {key.row} column {key.column}"
        channels = key.store.coded and key.store.levels[key.level].channels is not None
        super().__init__(f"{place} channel {key.channel}: {message}" if channels else f"{place}: {message}")
        self.key = key
        self.message = message


class BusyError(WsiError):
    """More chunks wait than the engine accepts; try again."""


class ChunkKey(NamedTuple):
    """A chunk of a level of a store.

    ``channel`` counts where a store's chunks hold a channel each; where they hold all samples it is 0.
    """

    store: ChunkStore
    level: int
    row: int
    column: int
    channel: int = 0


@dataclass(frozen=True)
class Chunk:
    """A decoded chunk.

    Parameters
    ----------
    pixels : ndarray of uint8, (h, w, samples)
        RGB, one channel, or all channels of a slide; read-only; may reach beyond the edge of the level.
    milliseconds : float
        Time to decode it; its share of a batch.
    batch : int
        Chunks in that batch.
    """

    pixels: NDArray[np.uint8]
    milliseconds: float
    batch: int


@dataclass(eq=False)
class _Job:
    """A chunk that somebody waits for; ``waiting`` is empty for a prefetch."""

    key: ChunkKey
    prefetch: bool
    waiting: list[Future[Chunk]] = field(default_factory=list)


class Lane:
    """One thread and what waits for it; counts what it does."""

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[ChunkKey]], list[Chunk | Exception]],
        batch: int,
        limit: int,
        cache: ByteCache[ChunkKey, Chunk],
    ) -> None:
        self._work, self._batch, self._limit, self._cache = work, batch, limit, cache
        self._wanted: deque[_Job] = deque()
        self._prefetch: deque[_Job] = deque()
        self._jobs: dict[ChunkKey, _Job] = {}
        self._ready = threading.Condition()
        self._closed = False
        self.coalesced = self.dropped = self.batches = self.chunks = self.failed = 0
        self._thread = threading.Thread(target=self._run, name=f"dlpr-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Chunks that somebody waits for and that have not begun."""
        return len(self._wanted)

    def request(self, key: ChunkKey) -> Future[Chunk]:
        """Ask for a chunk that is not in the cache."""
        future: Future[Chunk] = Future()
        with self._ready:
            if self._closed:
                raise BusyError("the engine is closed")
            job = self._jobs.get(key)
            if job is None:
                # Between the caller's look into the cache and this lock the chunk may have become ready.
                if (chunk := self._cache.get(key)) is not None:
                    future.set_result(chunk)
                    return future
                if len(self._wanted) >= self._limit:
                    raise BusyError(f"{len(self._wanted)} chunks wait already; try again in a moment")
                job = self._jobs[key] = _Job(key, prefetch=False)
                self._wanted.append(job)
                self._ready.notify()
            else:
                self.coalesced += 1
                if job.prefetch:  # somebody wants it now; its place among the prefetches is skipped later
                    job.prefetch = False
                    if job in self._prefetch:
                        self._prefetch.remove(job)
                        self._wanted.append(job)
            job.waiting.append(future)
        return future

    def prefetch(self, keys: Iterable[ChunkKey]) -> None:
        """Ask for chunks that nobody waits for."""
        with self._ready:
            for key in keys:
                if self._closed or key in self._jobs or key in self._cache:
                    continue
                while len(self._prefetch) >= _PREFETCH_WAITING:
                    del self._jobs[self._prefetch.popleft().key]
                job = self._jobs[key] = _Job(key, prefetch=True)
                self._prefetch.append(job)
                self._ready.notify()

    def close(self) -> None:
        """End the thread; what waits is cancelled."""
        with self._ready:
            self._closed = True
            for job in (*self._wanted, *self._prefetch):
                for future in job.waiting:
                    future.cancel()
            self._wanted.clear()
            self._prefetch.clear()
            self._jobs.clear()
            self._ready.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            jobs = self._take()
            if jobs is None:
                return
            if jobs:
                self._do(jobs)

    def _take(self) -> list[_Job] | None:
        """Wait for jobs and return a batch of those that somebody still wants; None at the end."""
        with self._ready:
            self._ready.wait_for(lambda: self._wanted or self._prefetch or self._closed)
            if self._closed:
                return None
            taken: list[_Job] = []
            while self._wanted and len(taken) < self._batch:
                job = self._wanted.popleft()
                if all(future.cancelled() for future in job.waiting):
                    self.dropped += 1
                    del self._jobs[job.key]
                else:
                    taken.append(job)
            if not taken and not self._wanted and self._prefetch:
                taken.append(self._prefetch.popleft())  # one at a time: what is wanted must not wait long
            return taken

    def _do(self, jobs: list[_Job]) -> None:
        try:
            results = self._work([job.key for job in jobs])
        except Exception as error:  # a bug must not end the thread; everyone who waits gets to see it
            _log.exception("decoding a batch failed")
            results = [error] * len(jobs)
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, Chunk):
                self._cache.put(job.key, result)
            with self._ready:
                self._jobs.pop(job.key, None)
                waiting = list(job.waiting)
            for future in waiting:
                if not future.set_running_or_notify_cancel():
                    continue
                if isinstance(result, Chunk):
                    future.set_result(result)
                else:
                    future.set_exception(result)
        self.batches += 1
        self.chunks += len(jobs)
        self.failed += sum(not isinstance(result, Chunk) for result in results)


class ChunkEngine:
    """Decoded chunks of any number of stores behind one cache.

    Parameters
    ----------
    cache_bytes : int
        Bound on the decoded chunks kept, bytes.
    threads : int, optional
        Threads to decode with; by default one for each CPU of this process.
    queue : int
        Chunks that may wait in each lane.

    Notes
    -----
    All methods may be called from any thread.
    """

    def __init__(self, cache_bytes: int = 256 << 20, threads: int | None = None, queue: int = 4096) -> None:
        self.threads = usable_threads(threads)
        self.cache: ByteCache[ChunkKey, Chunk] = ByteCache(cache_bytes, lambda chunk: chunk.pixels.nbytes)
        # Twice the threads: enough to keep all of them busy, small enough that the first results come soon.
        self.decoding = Lane("decode", self._decode, 2 * self.threads, queue, self.cache)
        self.reading = Lane("read", self._read, 1, queue, self.cache)

    def request(self, key: ChunkKey) -> Future[Chunk]:
        """Ask for a chunk.

        Returns
        -------
        Future of Chunk
            Cancel it when the chunk is no longer needed: work that nobody waits for is not done.
            Its exception is a `ChunkError` where the chunk is damaged.

        Raises
        ------
        BusyError
            Too many chunks wait.
        """
        if (chunk := self.cache.get(key)) is not None:
            done: Future[Chunk] = Future()
            done.set_result(chunk)
            return done
        return self._lane(key.store).request(key)

    def prefetch(self, keys: Sequence[ChunkKey]) -> None:
        """Decode chunks of one store when nothing else is to be done; only the latest few are remembered."""
        if keys:
            self._lane(keys[0].store).prefetch(keys)

    def forget(self, store: ChunkStore) -> None:
        """Drop the chunks of a store from the cache."""
        self.cache.discard(lambda key: key.store is store)

    def close(self) -> None:
        """End the threads; futures that wait are cancelled."""
        self.decoding.close()
        self.reading.close()

    def _lane(self, store: ChunkStore) -> Lane:
        return self.decoding if store.coded else self.reading

    def _read(self, keys: Sequence[ChunkKey]) -> list[Chunk | Exception]:
        results: list[Chunk | Exception] = []
        for key in keys:
            start = time.perf_counter()
            try:
                pixels = _frozen(key.store.fetch(key.level, key.row, key.column, key.channel))
                results.append(Chunk(pixels, 1e3 * (time.perf_counter() - start), 1))
            except (WsiError, DlprError, OSError) as error:
                results.append(ChunkError(key, str(error)))
        return results

    def _decode(self, keys: Sequence[ChunkKey]) -> list[Chunk | Exception]:
        start = time.perf_counter()
        results: list[Chunk | Exception] = []
        streams: dict[int, bytes] = {}
        for i, key in enumerate(keys):
            try:
                found = key.store.fetch(key.level, key.row, key.column, key.channel)
            except (WsiError, DlprError, OSError) as error:
                results.append(ChunkError(key, str(error)))
                continue
            if isinstance(found, bytes):
                streams[i] = found
                results.append(ChunkError(key, "not decoded"))
            else:
                results.append(Chunk(_frozen(found), 0.0, 1))
        decoded = self._decode_streams(list(streams.values()))
        each = 1e3 * (time.perf_counter() - start) / max(1, len(streams))
        for i, value in zip(streams, decoded, strict=True):
            if isinstance(value, Exception):
                results[i] = ChunkError(keys[i], str(value))
                continue
            try:
                results[i] = Chunk(_frozen(_as_pixels(value, keys[i])), each, len(streams))
            except ChunkError as error:
                results[i] = error
        return results

    def _decode_streams(self, streams: list[bytes]) -> list[NDArray[np.uint8] | Exception]:
        """Decode a batch; where it fails, each stream alone, so that one damaged stream spoils no other."""
        if not streams:
            return []
        try:
            return list(dlpr.decode_batch(streams, threads=self.threads))
        except DlprError as error:
            if len(streams) == 1:
                return [error]
        results: list[NDArray[np.uint8] | Exception] = []
        for stream in streams:
            results += self._decode_streams([stream])
        return results


def _as_pixels(array: NDArray[np.uint8], key: ChunkKey) -> NDArray[np.uint8]:
    """Return a decoded chunk as (h, w, 3) or (h, w, 1); refuse one that is not of the size that its level has."""
    array = array.reshape(array.shape[-3:]) if array.ndim > 3 else array
    grid = key.store.levels[key.level]
    height, width = grid.tile_height, grid.tile_width
    samples = grid.chunk_samples
    if array.shape == (samples, height, width):
        array = array.transpose(1, 2, 0)
    if array.shape != (height, width, samples):
        raise ChunkError(key, f"its shape is {array.shape}, not that of a chunk of {width} x {height} px")
    return np.ascontiguousarray(array)


def _frozen(pixels: NDArray[np.uint8] | bytes) -> NDArray[np.uint8]:
    """Return pixels that nobody can change: they are shared by all who asked."""
    if isinstance(pixels, bytes):
        raise TypeError("a store that is not coded returned a stream")
    view = pixels.view()
    view.flags.writeable = False
    return view


_shared: ChunkEngine | None = None
_shared_lock = threading.Lock()


def shared_engine() -> ChunkEngine:
    """Return the engine of this process, started when it is first needed."""
    global _shared  # noqa: PLW0603
    with _shared_lock:
        if _shared is None:
            _shared = ChunkEngine()
            atexit.register(_shared.close)
        return _shared
