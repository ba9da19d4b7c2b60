"""The table of modes: one line for each."""

from __future__ import annotations

from typing import Final

from dlpr.frame import Mode
from dlpr.modes.colour.mode import ColourMode
from dlpr.modes.constant import ConstantMode
from dlpr.modes.jpeg.mode import JpegMode, Source
from dlpr.modes.networks.mode import NetworksMode
from dlpr.modes.protocol import ChunkMode
from dlpr.modes.stored import StoredMode

__all__ = ["MODES", "Source"]

_DOORS: tuple[ChunkMode, ...] = (
    ConstantMode(),
    JpegMode(),
    StoredMode(),
    ColourMode(),
    NetworksMode(),
)
MODES: Final[dict[Mode, ChunkMode]] = {door.mode: door for door in _DOORS}
"""In the order in which an encoder tries them: cheap before expensive. Of equally small streams the first is kept."""
