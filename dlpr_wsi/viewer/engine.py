"""Decodes chunks on demand.

Whoever needs a chunk calls `ChunkEngine.request` and gets a future. Behind it::

    request --cached--> done
       |--already asked for--> joins that job (coalesced)
       '--> queue of the lane: wanted, then prefetch
                                   |
              threads of the lane take what waits, one chunk each, and skip
              jobs whose futures were all cancelled

DLPR streams and pixels of slides have a lane each: a slow file does not hold up decoding. A chunk that is decoded alone
gets all threads; where more wait, each gets its share. No chunk waits for another: as a batch, four would end when the
slowest does.

Previews (`viewer/preview.py`) have threads of their own; while some are made, no other chunk is begun (`ahead`).
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
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

__all__ = ["BusyError", "Chunk", "ChunkEngine", "ChunkError", "ChunkKey", "as_pixels", "shared_engine"]

_log = logging.getLogger("dlpr_wsi.viewer")
_PREFETCH_WAITING = 64
_QUIET = 0.2  # s without a request before chunks are decoded ahead: a browser takes a moment from one tile to the next
_LONGEST_PAUSE = 0.25  # s that a chunk is held back for previews: several times what those of a view take


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
        Time to decode it.
    """

    pixels: NDArray[np.uint8]
    milliseconds: float


@dataclass(eq=False)
class _Job:
    """A chunk that somebody waits for; ``waiting`` is empty for a prefetch."""

    key: ChunkKey
    prefetch: bool
    waiting: list[Future[Chunk]] = field(default_factory=list)


class Lane:
    """Threads and what waits for them; counts what they do.

    Parameters
    ----------
    name : str
        Of the threads.
    work : callable
        Makes a chunk, with a number of threads; raises what is wrong with it.
    workers : int
        Chunks that are made at the same time.
    threads : int
        Threads that all of them share.
    limit : int
        Chunks that may wait.
    cache : ByteCache
        Gets what was made.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[ChunkKey, int], Chunk],
        workers: int,
        threads: int,
        limit: int,
        cache: ByteCache[ChunkKey, Chunk],
    ) -> None:
        self._work, self._shared, self._limit, self._cache = work, threads, limit, cache
        self._wanted: deque[_Job] = deque()
        self._prefetch: deque[_Job] = deque()
        self._jobs: dict[ChunkKey, _Job] = {}
        self._ready = threading.Condition()
        self._closed = False
        self._busy = 0
        self._ahead = 0
        self._quiet_from = 0.0
        self.coalesced = self.dropped = self.chunks = self.failed = 0
        self._threads = [
            threading.Thread(target=self._run, name=f"dlpr-{name}-{i}", daemon=True) for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

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
            self._quiet_from = time.monotonic() + _QUIET
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
                self._ready.notify_all()
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
                self._ready.notify_all()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Begin no chunk while the block runs, unless it takes long."""
        with self._ready:
            self._ahead += 1
        try:
            yield
        finally:
            with self._ready:
                self._ahead -= 1
                self._ready.notify_all()

    def close(self) -> None:
        """End the threads; what waits is cancelled."""
        with self._ready:
            self._closed = True
            for job in (*self._wanted, *self._prefetch):
                for future in job.waiting:
                    future.cancel()
            self._wanted.clear()
            self._prefetch.clear()
            self._jobs.clear()
            self._ready.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            self._do(*taken)

    def _take(self) -> tuple[_Job, int] | None:
        """Wait for a job that somebody still wants; return it and its share of the threads, None at the end."""
        with self._ready:
            while True:
                self._ready.wait_for(lambda: self._wanted or self._prefetch or self._closed)
                while not self._wanted and not self._closed and (left := self._quiet_from - time.monotonic()) > 0:
                    self._ready.wait(left)
                if self._ahead and not self._closed:
                    self._ready.wait_for(lambda: not self._ahead or self._closed, _LONGEST_PAUSE)
                if self._closed:
                    return None
                while self._wanted:
                    job = self._wanted.popleft()
                    if not all(future.cancelled() for future in job.waiting):
                        return self._begin(job)
                    self.dropped += 1
                    del self._jobs[job.key]
                if self._prefetch and not self._busy:  # one at a time: what is wanted must not wait long
                    return self._begin(self._prefetch.popleft())
                if self._prefetch:
                    self._ready.wait()

    def _begin(self, job: _Job) -> tuple[_Job, int]:
        self._busy += 1
        rivals = min(len(self._threads), self._busy + len(self._wanted))
        return job, max(1, self._shared // rivals)

    def _do(self, job: _Job, threads: int) -> None:
        result: Chunk | Exception
        try:
            result = self._work(job.key, threads)
        except ChunkError as error:
            result = error
        except Exception as error:  # a bug must not end the thread; everyone who waits gets to see it
            _log.exception("decoding a chunk failed")
            result = error
        if isinstance(result, Chunk):
            self._cache.put(job.key, result)
        with self._ready:
            self._jobs.pop(job.key, None)
            waiting = list(job.waiting)
            self._busy -= 1
            self.chunks += 1
            self.failed += not isinstance(result, Chunk)
            if self._prefetch:
                self._ready.notify_all()
        for future in waiting:
            if not future.set_running_or_notify_cancel():
                continue
            if isinstance(result, Chunk):
                future.set_result(result)
            else:
                future.set_exception(result)


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
        self.decoding = Lane("decode", self._decode, self.threads, self.threads, queue, self.cache)
        self.reading = Lane("read", self._read, 1, 1, queue, self.cache)
        self.previews = ThreadPoolExecutor(self.threads, thread_name_prefix="dlpr-preview")
        """Threads for `viewer/preview.py`; use them within `ahead`."""

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

    def ahead(self) -> AbstractContextManager[None]:
        """Begin to decode no chunk while the block runs, for a quarter of a second at most: previews come first."""
        return self.decoding.pause()

    def close(self) -> None:
        """End the threads; futures that wait are cancelled."""
        self.previews.shutdown(wait=False, cancel_futures=True)
        self.decoding.close()
        self.reading.close()
        self.previews.shutdown()

    def _lane(self, store: ChunkStore) -> Lane:
        return self.decoding if store.coded else self.reading

    @staticmethod
    def _read(key: ChunkKey, _threads: int) -> Chunk:
        start = time.perf_counter()
        try:
            pixels = _frozen(key.store.fetch(key.level, key.row, key.column, key.channel))
        except (WsiError, DlprError, OSError) as error:
            raise ChunkError(key, str(error)) from error
        return Chunk(pixels, 1e3 * (time.perf_counter() - start))

    @staticmethod
    def _decode(key: ChunkKey, threads: int) -> Chunk:
        start = time.perf_counter()
        try:
            found = key.store.fetch(key.level, key.row, key.column, key.channel)
            if not isinstance(found, bytes):
                return Chunk(_frozen(found), 0.0)
            pixels = as_pixels(dlpr.decode(found, threads=threads), key)
        except ChunkError:
            raise
        except (WsiError, DlprError, OSError) as error:
            raise ChunkError(key, str(error)) from error
        return Chunk(_frozen(pixels), 1e3 * (time.perf_counter() - start))


def as_pixels(array: NDArray[np.uint8], key: ChunkKey) -> NDArray[np.uint8]:
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
