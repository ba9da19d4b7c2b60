"""What stands before every route: limits, headers, and giving up work that nobody waits for.

`Guard` is an ASGI middleware; `GuardedProtocol` watches the sockets below it.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import TimerHandle, Transport
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from dlpr_wsi.viewer.metrics import Metrics

__all__ = ["CSP", "HEAD", "Guard", "GuardedProtocol"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# The one style sheet that OpenSeadragon 6.1.1 adds to a page (data-openseadragon-mobile-css), by its hash.
_OPENSEADRAGON_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
CSP = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {_OPENSEADRAGON_STYLE}; "
    "img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
]
HEAD = "dlpr_wsi.head"
"""Key of a scope that tells a route that only the headers of its answer are wanted."""
_SHARED = (
    (
        b"access-control-expose-headers",
        b"Accept-Ranges, Content-Length, Content-Range, ETag, Repr-Digest, X-DLPR-Damaged, X-DLPR-Layer, X-DLPR-Tiles",
    ),
    (b"access-control-allow-methods", b"GET, HEAD"),
    (b"access-control-allow-headers", b"Range, If-Range, If-None-Match, If-Match"),
)
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1", "testserver"})


class Guard:
    """Bounds every request and adds the security headers.

    Parameters
    ----------
    app : ASGI application
        What answers.
    metrics : Metrics
        Counts requests.
    hosts : collection of str, optional
        Names under which the server may be asked, without port; others get 400. A page of another site whose
        name was made to point to this machine (DNS rebinding) is refused that way. None allows all.
    origins : collection of str
        Origins of other sites whose pages may read responses (CORS); none by default.
    concurrency : int
        Requests answered at the same time; the rest get 503.
    timeout : float
        Seconds until a request that is not answered gets 503.
    """

    def __init__(
        self,
        app: App,
        metrics: Metrics,
        hosts: Collection[str] | None = None,
        origins: Collection[str] = (),
        concurrency: int = 800,
        timeout: float = 30.0,
    ) -> None:
        self._app, self._metrics = app, metrics
        self._hosts = None if hosts is None else frozenset(hosts) | _LOCAL
        self._origins = frozenset(origins)
        self._concurrency, self._timeout = concurrency, timeout
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        has_body = headers.get(b"content-length", "0") != "0" or b"transfer-encoding" in headers
        started = time.perf_counter()
        head = scope["method"] == "HEAD"
        inner = {**scope, "method": "GET", HEAD: True} if head else scope  # a copy: the server looks at its own
        status = 499  # the client went away before there was an answer

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS, *self._cross_origin(headers)]
                if has_body:  # no route reads one: do not wait for its end
                    message["headers"].append((b"connection", b"close"))
            elif head and message["type"] == "http.response.body":  # answered as GET is, but for the body
                message = {**message, "body": b""}
            await send(message)

        if self._hosts is not None and _host(headers.get(b"host", "")) not in self._hosts:
            await _refuse(guarded, 400, "this server is not known by that name; see the option --host")
        elif scope["method"] == "OPTIONS" and self._origins and b"access-control-request-method" in headers:
            await _permit(guarded)
        elif self._running >= self._concurrency:
            await _refuse(guarded, 503, "too many requests at once; try again in a moment")
        else:
            self._running += 1
            try:
                await self._bounded(inner, receive, guarded, lambda: status == 499)
            finally:
                self._running -= 1
        route = getattr(inner.get("route"), "path", "other")
        self._metrics.request(route, status, time.perf_counter() - started)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send, unanswered: Callable[[], bool]) -> None:
        """Run the application until it answers, the client goes away or time is up."""

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        answer = asyncio.ensure_future(self._app(scope, receive, send))
        leave = asyncio.ensure_future(watch())
        try:
            await asyncio.wait((answer, leave), timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if not unanswered():  # a long body takes its time; `GuardedProtocol` cuts off who takes nothing
                await asyncio.wait((answer, leave), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                answer.result()
            elif not leave.done() and unanswered():
                answer.cancel()
                self._metrics.timeouts.inc()
                await _refuse(send, 503, "the answer took too long; try again")
            else:
                self._metrics.cancelled.inc()
        finally:
            for task in (answer, leave):
                task.cancel()
            await asyncio.gather(answer, leave, return_exceptions=True)

    def _cross_origin(self, headers: dict[bytes, str]) -> list[tuple[bytes, bytes]]:
        origin = headers.get(b"origin")
        if not self._origins:
            return [(b"cross-origin-resource-policy", b"same-origin")]
        found = [(b"cross-origin-resource-policy", b"cross-origin"), (b"vary", b"Origin")]
        if "*" in self._origins:
            found.append((b"access-control-allow-origin", b"*"))
        elif origin is not None and origin in self._origins:
            found.append((b"access-control-allow-origin", origin.encode("latin-1")))
        return [*found, *_SHARED] if len(found) > 2 else found


def _host(value: str) -> str:
    """Return the name in a Host header, without port and brackets."""
    if value.startswith("["):
        return value[1:].partition("]")[0]
    return value.partition(":")[0].lower()


async def _permit(send: Send) -> None:
    """Answer a browser's question whether a page of another site may ask; the headers say so."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(send: Send, status: int, text: str) -> None:
    body = f'{{"detail":"{text}"}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with bounds on connections and on slow clients.

    A connection is closed when it sends no complete request within `header_seconds`, when it takes no byte of a
    response for `write_seconds`, or when `max_connections` are open already.
    """

    header_seconds = 10.0
    write_seconds = 20.0
    max_connections = 900  # below the 1024 files that a process may usually open

    _header_timer: TimerHandle | None = None
    _write_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Accept a connection, or close it if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
            return
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop(header=True)
        elif self._header_timer is None:
            self._expect_request()

    def on_response_complete(self) -> None:
        """Wait for the next request; uvicorn closes the connection if none begins."""
        super().on_response_complete()
        if self.cycle is not None and not self.cycle.response_complete:  # it had come already
            self._stop(header=True)

    def pause_writing(self) -> None:
        """Start to watch a client that does not read what it asked for."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.write_seconds, self._abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._stop(header=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop(header=True)
        self._stop(header=False)
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even if its client never takes the rest of what was sent."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(self.write_seconds, self._abort)

    def _expect_request(self) -> None:
        self._header_timer = self.loop.call_later(self.header_seconds, self._abort)

    def _stop(self, header: bool) -> None:
        timer = self._header_timer if header else self._write_timer
        if timer is not None:
            timer.cancel()
        if header:
            self._header_timer = None
        else:
            self._write_timer = None

    def _abort(self) -> None:
        self.transport.abort()
