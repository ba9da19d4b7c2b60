"""How bytes of the slide's files are made of the archive's chunks: one maker for each kind of coded data.

A maker splits a part into a template, which parts have in common, and a hint, which is what of this part the template
and the chunks do not say; it makes the part of these again. What it makes is compared with the slide's bytes when the
archive is made: a maker that cannot, or is wrong, costs bytes, never a slide.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import NamedTuple, Protocol

from dlpr import bitstream
from dlpr.errors import UnsupportedInputError
from dlpr.frame import Mode
from dlpr.modes.j2k.stream import is_window, looks_like_j2k, stored_image
from dlpr.modes.j2k.write import Structure, rebuild, take_apart
from dlpr.modes.jpeg.extract import stored_jpeg
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.intervals import join_intervals, paste, run_of_mcus, split_interval
from dlpr.modes.jpeg.parse import window
from dlpr.modes.jpeg.rewrite import Template, join, split
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.sources.archive import ArchiveLevel
from dlpr_wsi.stored import PartKind
from dlpr_wsi.viewer.cache import ByteCache

__all__ = ["MAKERS", "Chunks", "Maker", "PartData", "Place", "Streams", "chunk_cache", "maker_of"]

_SOI = b"\xff\xd8"
_MOST_CHUNKS = 4096  # that a part may touch


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


class Streams(Protocol):
    """What makers ask of an archive."""

    @property
    def levels(self) -> Sequence[ArchiveLevel]:
        """Its levels."""

    def stream(self, level: int, row: int, column: int, channel: int = 0) -> bytes | None:
        """Return a chunk's stream; None where there is none."""


class Chunks:
    """What an archive's chunks hold, for makers. May be used from many threads.

    Parameters
    ----------
    archive : Streams
        The archive.
    cache : ByteCache
        Where chunks are kept that several parts are made of: from `chunk_cache`.
    """

    def __init__(self, archive: Streams, cache: ByteCache[tuple[int, int, int, int], JpegImage]) -> None:
        self._archive, self._jpegs = archive, cache
        self._serial = next(_serials)

    def level(self, index: int) -> ArchiveLevel:
        """Return a level's sizes."""
        return self._archive.levels[index]

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

    def j2k(self, place: Place) -> bitstream.Stream | None:
        """Return the stream of the one chunk that is a place; None where there is none, or of another mode than j2k.

        Raises as `stream` does, and `dlpr.errors.DlprError` where the chunk is damaged.
        """
        level = self.level(place.level)
        row, column = place.y // level.tile_height, place.x // level.tile_width
        box = (column * level.tile_width, row * level.tile_height, level.tile_width, level.tile_height)
        if level.channels is not None or place[1:] != box or not level.has(row, column):
            return None
        stream = bitstream.parse(self.stream(place.level, row, column))
        if stream.header.mode is not Mode.J2K or is_window(stream):
            return None  # a window was found in the pixels: it is no tile's image
        return stream


_serials = count()


def chunk_cache(limit: int) -> ByteCache[tuple[int, int, int, int], JpegImage]:
    """Return a cache of decoded chunks, of one archive or of many; ``limit`` in bytes."""
    return ByteCache(limit, lambda image: sum(blocks.nbytes for blocks in image.coefficients))


class Maker(Protocol):
    """Splits and makes parts of one kind. Its number is part of the format."""

    number: int
    often_without_hint: bool
    """Whether most parts need no hint: then making one without is tried before it is taken apart."""

    def split(self, part: PartData, place: Place, chunks: Chunks) -> tuple[bytes, bytes] | None:
        """Return template and hint of a part; None where it is of another kind or cannot be made."""

    def make(self, template: bytes, hint: bytes, place: Place, chunks: Chunks) -> bytes:
        """Make a part.

        Raises
        ------
        dlpr_wsi.errors.ArchiveError, dlpr.errors.DlprError
            The chunks do not hold it, or they, template or hint are damaged.
        """


class JpegImages:
    """JPEGs of their own, whole: TIFF tiles, DICOM frames, MIRAX tiles (`dlpr.modes.jpeg.rewrite`)."""

    number = 1
    often_without_hint = True

    def split(self, part: PartData, place: Place, chunks: Chunks) -> tuple[bytes, bytes] | None:
        """Return template and hint; None where the part is no JPEG."""
        if part.kind is not PartKind.IMAGE or not part.data.startswith(_SOI):
            return None
        found = split(part.data, part.shared or None)
        return found.template.data, found.hint(stored_at(place, chunks), chunks.level(place.level).prior)

    def make(self, template: bytes, hint: bytes, place: Place, chunks: Chunks) -> bytes:
        """Make the JPEG."""
        return join(Template(template), stored_at(place, chunks), hint, chunks.level(place.level).prior)


class JpegIntervals:
    """Restart intervals of a JPEG that is a whole level, each one or more whole rows of MCUs, or a piece of a row."""

    number = 2
    often_without_hint = True

    def split(self, part: PartData, place: Place, chunks: Chunks) -> tuple[bytes, bytes] | None:
        """Return template and hint; None where the part is no interval."""
        stored = stored_at(place, chunks) if part.kind is PartKind.INTERVAL else None
        if stored is None:
            return None
        found = split_interval(part.shared, part.data, _mcus(stored))
        return found.template.data, found.hint(run_of_mcus(stored, 0, _mcus(stored)))

    def make(self, template: bytes, hint: bytes, place: Place, chunks: Chunks) -> bytes:
        """Make the interval."""
        stored = stored_at(place, chunks)
        if stored is None:
            raise ArchiveError("the chunks hold no JPEG there")
        return join_intervals(Template(template), stored, [(0, _mcus(stored))], [hint])[0]


class J2kImages:
    """JPEG 2000 codestreams and JP2 files, whole, each a chunk: TIFF tiles, DICOM frames (`dlpr.modes.j2k.write`)."""

    number = 3
    often_without_hint = False

    def split(self, part: PartData, place: Place, chunks: Chunks) -> tuple[bytes, bytes] | None:
        """Return markers, which tiles share, and what the packets hold that does not follow."""
        if part.kind is not PartKind.IMAGE or not looks_like_j2k(part.data):
            return None
        if chunks.j2k(place) is None:
            return None
        return take_apart(part.data, check=False)[1]

    def make(self, template: bytes, hint: bytes, place: Place, chunks: Chunks) -> bytes:
        """Make the codestream or file."""
        stream = chunks.j2k(place)
        if stream is None:
            raise ArchiveError("the chunk holds no JPEG 2000 image")
        return rebuild(stored_image(stream), Structure(template, hint))


def _mcus(image: JpegImage) -> int:
    """Return the number of MCUs of an image."""
    rows, columns = image.blocks(0)
    return rows * columns // (image.sampling[0] * image.sampling[1])


def stored_at(place: Place, chunks: Chunks) -> JpegImage | None:
    """Return the JPEG that chunks hold at a place, its MCUs counted from the place's corner.

    None where a chunk there holds none, or JPEGs that do not go together. Raises as `Chunks.jpeg` does.
    """
    level = chunks.level(place.level)
    th, tw = level.tile_height, level.tile_width
    rows = range(place.y // th, (place.y + place.height - 1) // th + 1)
    columns = range(place.x // tw, (place.x + place.width - 1) // tw + 1)
    if level.channels is not None or len(rows) * len(columns) > _MOST_CHUNKS or not level.has(rows[-1], columns[-1]):
        return None
    alone = len(rows) == len(columns) == 1 and (place.height, place.width) == (th, tw)
    pieces: list[tuple[int, int, JpegImage]] = []
    for row, column in ((row, column) for row in rows for column in columns):
        image = chunks.jpeg(place.level, row, column, again=not alone)
        if image is None or (image.height, image.width) != (th, tw):
            return None
        top, left = max(place.y, row * th), max(place.x, column * tw)
        bottom, right = min(place.y + place.height, (row + 1) * th), min(place.x + place.width, (column + 1) * tw)
        piece = window(image, top - row * th, left - column * tw, bottom - top, right - left)
        at = (top - piece.phase[0] - place.y, left - piece.phase[1] - place.x)  # of its first MCU
        if at[0] % piece.mcu[0] or at[1] % piece.mcu[1] or min(at) < 0:
            return None
        pieces.append((at[0] // piece.mcu[0], at[1] // piece.mcu[1], piece))
    try:
        found = paste(pieces)
    except UnsupportedInputError:
        return None
    whole = found.phase == (0, 0) and (found.height, found.width) == (place.height, place.width)
    return found if whole or len(pieces) > 1 else None


MAKERS: dict[int, Maker] = {1: JpegImages(), 2: JpegIntervals(), 3: J2kImages()}
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
