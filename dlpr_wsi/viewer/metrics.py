"""What the server counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from dlpr_wsi.viewer.engine import ChunkEngine, Lane

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters of one application; nothing in them says what was looked at.

    Parameters
    ----------
    engine : ChunkEngine
        Its state is read when the metrics are asked for.
    """

    media_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, engine: ChunkEngine) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter("dlpr_http_requests", "Requests answered", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            "dlpr_http_request_seconds", "Time to answer", ["route"], buckets=_SECONDS, registry=registry
        )
        self.timeouts = Counter("dlpr_http_timeouts", "Requests that took too long", registry=registry)
        self.cancelled = Counter("dlpr_http_cancelled", "Requests whose client went away", registry=registry)
        self.gauge("dlpr_chunk_cache_bytes", "Decoded chunks kept", lambda: engine.cache.bytes)
        self.gauge("dlpr_chunk_cache_limit_bytes", "Bound on them", lambda: engine.cache.limit)
        self.gauge("dlpr_chunk_cache_hits", "Chunks found in the cache", lambda: engine.cache.hits)
        self.gauge("dlpr_chunk_cache_misses", "Chunks not found", lambda: engine.cache.misses)
        for name, lane in (("decode", engine.decoding), ("read", engine.reading)):
            self._lane(name, lane)

    def _lane(self, name: str, lane: Lane) -> None:
        self.gauge(f"dlpr_{name}_waiting", "Chunks that wait", lambda: lane.waiting)
        self.gauge(f"dlpr_{name}_chunks", "Chunks done", lambda: lane.chunks)
        self.gauge(f"dlpr_{name}_failed", "Chunks that could not be done", lambda: lane.failed)
        self.gauge(f"dlpr_{name}_coalesced", "Requests that joined another", lambda: lane.coalesced)
        self.gauge(f"dlpr_{name}_dropped", "Chunks given up before they began", lambda: lane.dropped)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a value that is read when it is asked for."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all values."""
        return generate_latest(self.registry)
