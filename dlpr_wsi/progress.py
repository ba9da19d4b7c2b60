"""How a long run shows itself: a bar on a terminal, a plain line per tenth elsewhere."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Protocol, TextIO

__all__ = ["LineProgress", "NoProgress", "Progress", "make_progress"]


class Progress(Protocol):
    """Told how far a long run is."""

    def start(self, total: int) -> None:
        """Begin a run of this many tiles."""

    def advance(self, tiles: int) -> None:
        """Count tiles as done."""

    def close(self) -> None:
        """End, complete or not."""


class NoProgress:
    """Keeps silent."""

    def start(self, total: int) -> None:
        """Ignore."""

    def advance(self, tiles: int) -> None:
        """Ignore."""

    def close(self) -> None:
        """Ignore."""


def make_progress(label: str, stream: TextIO, unit: str = "tile") -> Progress:
    """Return a bar if the stream is a terminal and tqdm is installed, else plain lines; ``unit`` is what is counted."""
    if stream.isatty():
        try:
            return _BarProgress(label, stream, unit)
        except ImportError:
            pass
    return LineProgress(label, stream, unit)


class LineProgress:
    """Writes a line whenever another tenth is done."""

    def __init__(self, label: str, stream: TextIO, unit: str = "tile") -> None:
        self._label = label
        self._stream = stream
        self._unit = "tiles" if unit == "tile" else unit
        self._total = self._done = self._tenths = 0
        self._begin = time.perf_counter()

    def start(self, total: int) -> None:
        """Begin a run, or its next stage, of this many tiles."""
        self._total, self._begin = total, time.perf_counter()
        self._done = self._tenths = 0

    def advance(self, tiles: int) -> None:
        """Count tiles as done."""
        self._done += tiles
        tenths = 10 * self._done // max(self._total, 1)
        if tenths > self._tenths:
            self._tenths = tenths
            seconds = time.perf_counter() - self._begin
            print(
                f"{self._label} {self._done}/{self._total} {self._unit}, {seconds:.1f} s",
                file=self._stream,
                flush=True,
            )

    def close(self) -> None:
        """Nothing to end."""


class _BarProgress:
    """A tqdm bar."""

    def __init__(self, label: str, stream: TextIO, unit: str = "tile") -> None:
        from tqdm import tqdm

        self._open = partial(tqdm, desc=label, unit=unit, file=stream, leave=False)
        self._bar: Any = None

    def start(self, total: int) -> None:
        """Begin a run, or its next stage, of this many tiles."""
        self.close()
        self._bar = self._open(total=total)

    def advance(self, tiles: int) -> None:
        """Count tiles as done."""
        self._bar.update(tiles)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
