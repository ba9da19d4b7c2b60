"""The engine: coalescing, threads, priorities, cancellation, bounds, damage."""

import shutil
import threading
import time
from concurrent.futures import CancelledError, wait

import numpy as np
import pytest

from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.viewer.cache import ByteCache
from dlpr_wsi.viewer.engine import BusyError, ChunkEngine, ChunkError, ChunkKey
from dlpr_wsi.viewer.stores import Grid, open_store


class GatedStore:
    """A store whose chunks come when the test opens the gate; remembers the order in which they were read."""

    name, facts, background, icc_profile, fingerprint = "gated", None, (255, 255, 255), None, "0"

    def __init__(self, coded=False, streams=None):
        self.coded, self.streams = coded, streams
        self.levels = (Grid(64 * 64, 64, 64, 64, 1.0),)
        self.gate = threading.Event()
        self.reading = threading.Event()
        self.order = []

    def fetch(self, level, row, column, channel=0):
        self.order.append(column)
        self.reading.set()
        assert self.gate.wait(20)
        if self.streams is not None:
            return self.streams[column]
        return np.full((64, 64, 3), column, np.uint8)

    def close(self):
        pass


def key(store, column):
    return ChunkKey(store, 0, 0, column)


def test_chunks_of_an_archive_are_the_decoded_pixels(engine, archives):
    path, levels = archives[3]
    store = open_store(path)
    futures = {
        (row, column): engine.request(ChunkKey(store, 1, row, column))
        for row in range(store.levels[1].rows)
        for column in range(store.levels[1].columns)
    }
    for (row, column), future in futures.items():
        part = levels[1][row * 64 : row * 64 + 64, column * 64 : column * 64 + 64]
        pixels = future.result(20).pixels
        np.testing.assert_array_equal(pixels[: part.shape[0], : part.shape[1]], part)
        assert not pixels.flags.writeable


def test_the_same_chunk_is_read_once_for_all_who_ask(engine):
    store = GatedStore()
    futures = [engine.request(key(store, 7)) for _ in range(20)]
    store.gate.set()
    assert {int(future.result(20).pixels[0, 0, 0]) for future in futures} == {7}
    assert store.order == [7]
    assert engine.reading.coalesced == 19
    engine.request(key(store, 7)).result(20)
    assert store.order == [7]  # kept


def test_threads_are_shared_among_the_chunks_that_wait(monkeypatch):
    import dlpr

    rng = np.random.default_rng(0)
    tiles = [rng.integers(100, 140, (3, 64, 64), dtype=np.uint8) for _ in range(9)]
    store = GatedStore(coded=True, streams=dlpr.encode_batch(tiles, search=False))
    used = []
    decode = dlpr.decode
    monkeypatch.setattr(dlpr, "decode", lambda stream, threads: used.append(threads) or decode(stream, threads=threads))
    engine = ChunkEngine(64 << 20, threads=4)
    first = engine.request(key(store, 0))  # alone: all of them
    assert store.reading.wait(20)
    others = [engine.request(key(store, column)) for column in range(1, 9)]
    store.gate.set()
    wait([first, *others], 20)
    for column, future in enumerate([first, *others]):
        np.testing.assert_array_equal(future.result().pixels, tiles[column].transpose(1, 2, 0))
    engine.close()
    assert used.count(4) >= 1
    assert used.count(1) >= 4  # four rivals at least, until few are left
    assert engine.decoding.chunks == 9


def test_no_chunk_is_begun_while_previews_are_made(engine):
    store = GatedStore(coded=True)
    store.gate.set()
    start = time.monotonic()
    with engine.ahead():
        future = engine.request(key(store, 0))
        time.sleep(0.03)
        assert store.order == []
    future.result(20)
    with engine.ahead():  # but previews that go on for ever do not hold it back for ever
        engine.request(key(store, 1)).result(20)
    assert store.order == [0, 1]
    assert time.monotonic() - start < 10


def test_one_damaged_stream_spoils_no_other_of_its_batch(engine):
    import dlpr

    tiles = [np.full((3, 64, 64), n, np.uint8) for n in range(4)]
    streams = dlpr.encode_batch(tiles)
    streams[2] = streams[2][:-1] + bytes([streams[2][-1] ^ 1])
    store = GatedStore(coded=True, streams=streams)
    first = engine.request(key(store, 0))
    assert store.reading.wait(20)
    others = [engine.request(key(store, column)) for column in (1, 2, 3)]
    store.gate.set()
    assert int(first.result(20).pixels[0, 0, 0]) == 0
    assert int(others[0].result(20).pixels[0, 0, 0]) == 1
    assert int(others[2].result(20).pixels[0, 0, 0]) == 3
    with pytest.raises(ChunkError, match=r"gated: level 0 row 0 column 2: .*checksum"):
        others[1].result(20)
    assert engine.decoding.failed == 1


def test_a_stream_of_another_size_is_refused(engine):
    import dlpr

    store = GatedStore(coded=True, streams=dlpr.encode_batch([np.zeros((3, 32, 64), np.uint8)]))
    store.gate.set()
    with pytest.raises(ChunkError, match="shape"):
        engine.request(key(store, 0)).result(20)


def test_wanted_chunks_come_before_prefetched_ones(engine):
    store = GatedStore()
    futures = [engine.request(key(store, 0))]
    assert store.reading.wait(20)
    engine.prefetch([key(store, column) for column in (1, 2, 3)])
    futures += [engine.request(key(store, column)) for column in (4, 2)]  # 2 is promoted
    store.gate.set()
    wait(futures, 20)
    engine.request(key(store, 3)).result(20)
    assert store.order[:3] == [0, 4, 2]
    assert sorted(store.order) == [0, 1, 2, 3, 4]


def test_only_the_latest_prefetches_are_remembered(engine):
    store = GatedStore()
    first = engine.request(key(store, 0))
    assert store.reading.wait(20)
    engine.prefetch([key(store, column % 64) for column in range(1, 200)])
    engine.prefetch([ChunkKey(store, 0, 1, column) for column in range(200)])
    store.gate.set()
    first.result(20)
    last = engine.request(ChunkKey(store, 0, 2, 63))
    last.result(20)
    engine.close()
    assert len(store.order) <= 2 + 64


def test_cancelled_requests_are_not_read(engine):
    store = GatedStore()
    first = engine.request(key(store, 0))
    assert store.reading.wait(20)
    gone = engine.request(key(store, 1))
    shared, other = engine.request(key(store, 2)), engine.request(key(store, 2))
    last = engine.request(key(store, 3))
    assert gone.cancel()
    assert shared.cancel()
    store.gate.set()
    wait([first, other, last], 20)
    assert other.result().pixels[0, 0, 0] == 2
    assert store.order == [0, 2, 3]
    assert engine.reading.dropped == 1


def test_a_full_queue_refuses(engine):
    small = ChunkEngine(1 << 20, threads=1, queue=2)
    store = GatedStore()
    first = small.request(key(store, 0))
    assert store.reading.wait(20)
    waiting = [small.request(key(store, column)) for column in (1, 2)]
    with pytest.raises(BusyError, match="try again"):
        small.request(key(store, 3))
    store.gate.set()
    wait([first, *waiting], 20)
    small.close()
    with pytest.raises(BusyError, match="closed"):
        small.request(key(store, 4))


def test_closing_cancels_what_waits():
    engine = ChunkEngine(1 << 20, threads=1)
    store = GatedStore()
    engine.request(key(store, 0))
    assert store.reading.wait(20)
    late = engine.request(key(store, 1))
    closing = threading.Thread(target=engine.close)
    closing.start()
    with pytest.raises(CancelledError):
        late.result(20)
    store.gate.set()
    closing.join(20)
    assert not closing.is_alive()


def test_a_missing_chunk_is_damage(engine, tmp_path, slide_pixels, make_archive):
    path = tmp_path / "a.zarr"
    make_archive(path, [slide_pixels[1]])
    shutil.rmtree(path / "0" / "c" / "0" / "0")
    with pytest.raises(ChunkError, match="no chunk"):
        engine.request(ChunkKey(open_store(path), 0, 0, 0)).result(20)


def test_the_cache_is_bounded_and_forgets_what_was_used_least_recently():
    cache = ByteCache(10, len)
    for name in "abc":
        cache.put(name, bytes(3))
    assert cache.get("a") is not None
    cache.put("d", bytes(4))
    assert [cache.peek(name) is not None for name in "abcd"] == [True, False, True, True]
    assert cache.bytes == 10
    cache.put("e", bytes(11))  # larger than the cache
    cache.put("a", bytes(1))
    assert (cache.peek("e"), cache.bytes, len(cache)) == (None, 8, 3)
    cache.discard(lambda name: name == "d")
    assert (cache.bytes, len(cache), cache.hits, cache.misses) == (4, 2, 1, 0)


def test_forgetting_a_store_keeps_the_others(engine):
    stores = GatedStore(), GatedStore()
    for store in stores:
        store.gate.set()
        engine.request(key(store, 0)).result(20)
    engine.forget(stores[0])
    assert [entry.store for entry in engine.cache._items] == [stores[1]]


def test_errors_of_a_store_become_chunk_errors(engine):
    class Failing(GatedStore):
        def fetch(self, level, row, column, channel=0):
            raise ArchiveError("the shard is damaged")

    for coded in (False, True):
        with pytest.raises(ChunkError, match="the shard is damaged"):
            engine.request(key(Failing(coded), 0)).result(20)
