"""What lies in a slide's files: coded images, and which bytes of which file hold them.

One module per container. A level holds a coded image (tiles that are JPEGs of their own, or one JPEG cut by restart
markers); a rectangle of it is what lies behind a chunk. Readers (`dlpr_wsi.sources`) give the pixels, a store gives
what they were decoded from; the codec keeps it only where it reproduces the reader's pixels, so a store that is wrong
costs bytes, never a pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from dlpr_wsi.sources import SourceTile, TileGrid

__all__ = ["FileRange", "PartKind", "SlideStore", "StoredLevel", "StoredPart"]


@dataclass(frozen=True)
class FileRange:
    """Some bytes of one of a slide's files.

    Parameters
    ----------
    file : int
        Which of `SlideStore.files`.
    offset, size : int
        In bytes.
    """

    file: int
    offset: int
    size: int


class PartKind(StrEnum):
    """What the bytes of a part are."""

    IMAGE = "image"
    """A whole codestream from its first to its last marker; of JPEG perhaps without the tables that parts share."""
    INTERVAL = "interval"
    """The entropy-coded bytes of one restart interval of a JPEG scan, without the marker RSTn or EOI behind it."""


@dataclass(frozen=True)
class StoredPart:
    """A run of coded bytes that can be decoded by itself.

    Parameters
    ----------
    kind : PartKind
        What the bytes are.
    ranges : tuple of FileRange
        Where they lie; several where the container cuts them (DICOM's fragments).
    x, y, width, height : int
        What it holds in px of the level, with what lies beyond the level's edge.
    shared : bytes
        What it needs from elsewhere in the file: tables of an abbreviated JPEG; of an interval the JPEG's markers up to
        and with SOS. One object for all parts that share it.
    """

    kind: PartKind
    ranges: tuple[FileRange, ...]
    x: int
    y: int
    width: int
    height: int
    shared: bytes = b""


class StoredLevel(Protocol):
    """One level's coded image."""

    def grid(self) -> TileGrid:
        """Return the chunks that follow the stored data."""

    def tile(self, row: int, column: int) -> SourceTile | None:
        """Return what lies behind a chunk of the grid; None where the file has nothing there.

        Raises whatever reading raises: the file ends early, an offset is wrong.
        """

    def parts(self) -> Iterator[StoredPart]:
        """Give every coded run of bytes of the level once, row by row."""


class SlideStore(Protocol):
    """What is known of a slide's files. One thread at a time uses it."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The slide's files, the one that is opened first."""

    @property
    def levels(self) -> Mapping[int, StoredLevel]:
        """By level of the reader, those whose data was found."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Why a level's data cannot be kept, in sentences for the report; never text from the file."""

    def close(self) -> None:
        """Release the files."""
