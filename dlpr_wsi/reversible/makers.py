"""How bytes of the slide's files are made of the archive's chunks: one maker for each kind of coded data.

A maker splits a part into a template, which parts have in common, and a hint, which is what of this part the template
and the chunks do not say; it makes the part of these again. What it makes is compared with the slide's bytes when the
archive is made: a maker that cannot, or is wrong, costs bytes, never a slide.
"""

from __future__ import annotations

from itertools import count
from typing import NamedTuple, Protocol

from dlpr.modes.jpeg.extract import stored_jpeg
from dlpr.modes.jpeg.image import JpegImage
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.sources.archive import Archive, ArchiveLevel
from dlpr_wsi.stored import PartKind
from dlpr_wsi.viewer.cache import ByteCache

__all__ = ["MAKERS", "Chunks", "Maker", "PartData", "Place", "chunk_cache", "maker_of"]


class Place(NamedTuple):
    """What a part shows, in px of a level; it may reach beyond the level's edge."""

    level: int
    x: int
    y: int
    width: int
    height: int


class PartData(NamedTuple):
    """A part in the slide's file: kind, bytes, what it shares with others (`dlpr_wsi.stored.StoredPart`)."""

    kind: PartKind
    data: bytes
    shared: bytes


class Chunks:
    """What an archive's chunks hold, for makers. May be used from many threads.

    Parameters
    ----------
    archive : Archive
        The archive.
    cache : ByteCache
        Where chunks are kept that several parts are made of: from `chunk_cache`.
    """

    def __init__(self, archive: Archive, cache: ByteCache[tuple[int, int, int, int], JpegImage]) -> None:
        self._archive, self._jpegs = archive, cache
        self._serial = next(_serials)

    def level(self, index: int) -> ArchiveLevel:
        """Return a level's sizes."""
        return self._archive.levels[index]

    def at(self, place: Place) -> tuple[int, int] | None:
        """Return row and column of the chunk that a place is in; None where it is in several, or in none."""
        level = self.level(place.level)
        row, column = place.y // level.tile_height, place.x // level.tile_width
        inside = (place.y + place.height - 1) // level.tile_height == row
        inside &= (place.x + place.width - 1) // level.tile_width == column
        return (row, column) if inside and level.channels is None and level.has(row, column) else None

    def stream(self, level: int, row: int, column: int) -> bytes:
        """Return a chunk's stream.

        Raises
        ------
        dlpr_wsi.errors.ArchiveError
            It is missing, or its shard damaged.
        """
        stream = self._archive.stream(level, row, column)
        if stream is None:
            raise ArchiveError("the chunk is missing")
        return stream

    def jpeg(self, level: int, row: int, column: int, *, again: bool) -> JpegImage | None:
        """Return the JPEG that a chunk holds; None where it holds none.

        ``again``: it is wanted for other parts too, so it is kept for a while. Raises as `stream` does, and
        `dlpr.errors.DlprError` where the chunk is damaged.
        """
        key = (self._serial, level, row, column)
        found = self._jpegs.get(key) if again else None
        if found is None:
            found = stored_jpeg(self.stream(level, row, column))
            if again and found is not None:
                self._jpegs.put(key, found)
        return found


_serials = count()


def chunk_cache(limit: int) -> ByteCache[tuple[int, int, int, int], JpegImage]:
    """Return a cache of decoded chunks, of one archive or of many; ``limit`` in bytes."""
    return ByteCache(limit, lambda image: sum(blocks.nbytes for blocks in image.coefficients))


class Maker(Protocol):
    """Splits and makes parts of one kind. Its number is part of the format."""

    number: int

    def split(self, part: PartData, place: Place, chunks: Chunks) -> tuple[bytes, bytes] | None:
        """Return template and hint of a part; None where it is of another kind or cannot be made."""

    def make(self, template: bytes, hint: bytes, place: Place, chunks: Chunks) -> bytes:
        """Make a part.

        Raises
        ------
        dlpr_wsi.errors.ArchiveError, dlpr.errors.DlprError
            The chunks do not hold it, or they, template or hint are damaged.
        """


MAKERS: dict[int, Maker] = {}
"""By number, in the order in which they are tried."""


def maker_of(number: int) -> Maker:
    """Return a maker.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        There is none of this number.
    """
    try:
        return MAKERS[number]
    except KeyError:
        raise ArchiveError(f"bytes of kind {number} are not known to this software; update it") from None
