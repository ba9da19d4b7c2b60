"""The kept bytes: written once, in blocks that are compressed each by itself; equal ranges are kept once."""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numcodecs.zstd import compress, decompress

from dlpr_wsi.reversible.layout import BLOCK, KeptBlocks

__all__ = ["KeptWriter", "pack_block", "unpack_block"]

_QUICK, _DENSE = 1, 19  # levels of zstd
_REMEMBERED = 1 << 20  # ranges whose like is looked for


class KeptWriter:
    """Appends kept bytes to a file.

    Parameters
    ----------
    out : binary file
        Where blocks go, from its present place on.
    threads : int
        That compress.
    """

    def __init__(self, out: BinaryIO, threads: int) -> None:
        self._out = out
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="dlpr-kept")
        self._limit = 2 * threads
        self._waiting: deque[Future[tuple[bytes, int]]] = deque()
        self._block = bytearray()
        self._known: dict[bytes, int] = {}
        self._stored: list[int] = []
        self._crcs: list[int] = []
        self.total = 0

    def __enter__(self) -> KeptWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def append(self, data: bytes | memoryview) -> int:
        """Keep some bytes; return where they begin."""
        begin = self.total
        self.total += len(data)
        view = memoryview(data)
        while view:
            room = BLOCK - len(self._block)
            self._block += view[:room]
            view = view[room:]
            if len(self._block) == BLOCK:
                self._flush()
        return begin

    def append_range(self, data: bytes) -> int:
        """Keep the bytes of a part; return where they, or the same bytes kept before, begin."""
        digest = hashlib.sha256(data).digest()
        found = self._known.get(digest)
        if found is None:
            found = self.append(data)
            if len(self._known) < _REMEMBERED:
                self._known[digest] = found
        return found

    def finish(self) -> KeptBlocks:
        """Write what waits; return the list of blocks."""
        if self._block:
            self._flush()
        while self._waiting:
            self._write()
        return KeptBlocks(self.total, np.array(self._stored, np.int64), np.array(self._crcs, np.int64))

    def _flush(self) -> None:
        """Have a block compressed."""
        self._waiting.append(self._pool.submit(pack_block, bytes(self._block)))
        self._block.clear()
        while len(self._waiting) > self._limit:
            self._write()

    def _write(self) -> None:
        """Write the block that waits longest."""
        data, crc = self._waiting.popleft().result()
        self._out.write(data)
        self._stored.append(len(data))
        self._crcs.append(crc)


def pack_block(data: bytes) -> tuple[bytes, int]:
    """Compress a block; as far as it pays where it is compressed data already."""
    quick = bytes(compress(data, _QUICK))
    packed = quick if len(quick) > 0.97 * len(data) else min(quick, bytes(compress(data, _DENSE)), key=len)
    return packed, zlib.crc32(data)


def unpack_block(stored: bytes, size: int, crc: int, damaged: Callable[[str], Exception]) -> bytes:
    """Undo `pack_block`; ``damaged`` makes the error to raise from what is wrong."""
    out = bytearray(size)
    try:
        decompress(stored, out)
    except (RuntimeError, ValueError) as error:
        raise damaged("it does not decompress") from error
    if zlib.crc32(out) != crc:
        raise damaged("its checksum differs")
    return bytes(out)
