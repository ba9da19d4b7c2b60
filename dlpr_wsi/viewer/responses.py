"""Finished responses: kept for the next who asks, made once for all who ask at the same time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dlpr_wsi.viewer.cache import ByteCache

__all__ = ["Rendered", "ResponseCache", "etag", "matches"]


@dataclass(frozen=True)
class Rendered:
    """The body of a response.

    Parameters
    ----------
    body : bytes
        What is sent.
    media_type : str
        MIME type.
    damaged : int
        Damaged chunks that are marked in it; such a response is never kept.
    headers : dict of str
        More headers.
    """

    body: bytes
    media_type: str
    damaged: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class ResponseCache:
    """Responses by ETag, bounded in bytes.

    Parameters
    ----------
    limit : int
        Bound in bytes.
    """

    def __init__(self, limit: int) -> None:
        self.cache: ByteCache[str, Rendered] = ByteCache(limit, lambda rendered: len(rendered.body))
        self.coalesced = 0
        self._running: dict[str, tuple[asyncio.Task[Rendered], list[None]]] = {}

    async def get(self, key: str, make: Callable[[], Awaitable[Rendered]]) -> Rendered:
        """Return a response; ``make`` is called once for all who wait, and cancelled when all of them are gone."""
        if (found := self.cache.get(key)) is not None:
            return found
        if key in self._running:
            self.coalesced += 1
            task, waiting = self._running[key]
        else:
            task, waiting = asyncio.ensure_future(self._make(key, make)), []
            self._running[key] = task, waiting
        waiting.append(None)
        try:
            return await asyncio.shield(task)
        finally:
            waiting.pop()
            if not waiting and not task.done():
                self._running.pop(key, None)  # the next who asks starts anew
                task.cancel()

    async def _make(self, key: str, make: Callable[[], Awaitable[Rendered]]) -> Rendered:
        try:
            rendered = await make()
        finally:
            if (running := self._running.get(key)) is not None and running[0] is asyncio.current_task():
                del self._running[key]
        if not rendered.damaged and len(rendered.body) <= self.cache.limit // 16:  # one must not drive out all others
            self.cache.put(key, rendered)
        return rendered


def etag(*parts: object) -> str:
    """Return a strong ETag: all that the body depends on, hashed."""
    return '"' + hashlib.sha256(repr(parts).encode()).hexdigest()[:32] + '"'


def matches(if_none_match: str | None, tag: str) -> bool:
    """Tell whether the client's If-None-Match names this ETag."""
    if if_none_match is None:
        return False
    given = [part.strip().removeprefix("W/") for part in if_none_match.split(",")]
    return "*" in given or tag in given
