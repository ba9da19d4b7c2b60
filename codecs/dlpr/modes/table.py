"""The table of modes: one line for each."""

from __future__ import annotations

from typing import Final, TypeAlias

from dlpr.frame import Mode
from dlpr.modes.colour.mode import ColourMode
from dlpr.modes.constant import ConstantMode
from dlpr.modes.j2k import mode as j2k
from dlpr.modes.jpeg import mode as jpeg
from dlpr.modes.networks.mode import NetworksMode
from dlpr.modes.protocol import ChunkMode
from dlpr.modes.stored import StoredMode

__all__ = ["MODES", "SOURCE_KINDS", "Source"]

Source: TypeAlias = jpeg.Source | j2k.Source
"""What a chunk's source can be given as: bytes of a file, or what a mode read from it."""
SOURCE_KINDS: Final[tuple[type, ...]] = (bytes, bytearray, memoryview, *jpeg.SOURCE_KINDS, *j2k.SOURCE_KINDS)

_DOORS: tuple[ChunkMode, ...] = (
    ConstantMode(),
    j2k.J2kMode(),
    jpeg.JpegMode(),
    StoredMode(),
    ColourMode(),
    NetworksMode(),
)
MODES: Final[dict[Mode, ChunkMode]] = {door.mode: door for door in _DOORS}
"""In the order in which an encoder tries them: cheap before expensive. Of equally small streams the first is kept."""
