"""A cache that forgets what was used least recently, bounded in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["ByteCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteCache(Generic[K, V]):
    """Least recently used first out; safe to use from many threads.

    Parameters
    ----------
    limit : int
        Largest sum of the sizes of all values, bytes. A value larger than this is not kept.
    size : callable
        Returns a value's size in bytes.

    Examples
    --------
    >>> cache = ByteCache(8, len)
    >>> for name in ("a", "b", "c"):
    ...     cache.put(name, bytes(4))
    >>> cache.get("a") is None, cache.get("b") is None, cache.bytes
    (True, False, 8)
    """

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        self.limit = limit
        self._size = size
        self._items: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: K) -> V | None:
        """Return a value and mark it as used, or None."""
        with self._lock:
            value = self._items.get(key)
            if value is None:
                self.misses += 1
                return None
            self.hits += 1
            self._items.move_to_end(key)
            return value

    def peek(self, key: K) -> V | None:
        """Return a value or None, without marking it as used."""
        return self._items.get(key)

    def __contains__(self, key: K) -> bool:
        return key in self._items

    def put(self, key: K, value: V) -> None:
        """Keep a value, and drop old ones until the limit holds."""
        size = self._size(value)
        with self._lock:
            old = self._items.pop(key, None)
            if old is not None:
                self.bytes -= self._size(old)
            if size > self.limit:
                return
            self._items[key] = value
            self.bytes += size
            while self.bytes > self.limit:
                _, dropped = self._items.popitem(last=False)
                self.bytes -= self._size(dropped)

    def discard(self, unwanted: Callable[[K], bool]) -> None:
        """Drop every value whose key is unwanted."""
        with self._lock:
            for key in [key for key in self._items if unwanted(key)]:
                self.bytes -= self._size(self._items.pop(key))
