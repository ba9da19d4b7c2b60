"""First paint: pixels of the lossy layer, from the beginning of each stream, until the exact ones are there.

What is made here is no measurement of the slide: no bound holds. So it leaves the server by a route of its own, with a
mark drawn into its pixels, a header and a comment in the file that say so, and no cache may keep it.

Only chunks coded by the networks have a preview: it costs a twentieth of their pixels. Chunks of the other modes are
decoded as quickly as they are sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import dlpr
from dlpr.errors import DlprError, TruncatedError
from dlpr.frame import Mode
from dlpr_wsi.errors import WsiError
from dlpr_wsi.viewer.channels import mix
from dlpr_wsi.viewer.deepzoom import MAX_SOURCE_PIXELS, DeepZoom, DeepZoomTile, NoSuchTileError, TooLargeError, shrink
from dlpr_wsi.viewer.engine import ChunkEngine, ChunkError, ChunkKey, as_pixels
from dlpr_wsi.viewer.pyramid import blend, canvas, keys_of, paste
from dlpr_wsi.viewer.render import preview_mark
from dlpr_wsi.viewer.stores import ChunkStore

__all__ = ["MAX_TILES", "Preview", "TileRange", "has_previews", "lossy_pixels", "make_preview"]

MAX_TILES = 144
"""Tiles of one preview: a window of 3072 x 3072 px."""
_FIRST = 4096  # bytes read at first: three times the lossy layer of most tiles of 256 px
_MODE_AT = 5
_QUICK = frozenset({Mode.CONSTANT, Mode.STORED, Mode.JPEG, Mode.J2K})
_PROBED = 8  # chunks of each level that are looked at before previews of an image are offered


@dataclass(frozen=True)
class TileRange:
    """DeepZoom tiles of one level, from the first column and row to the last."""

    level: int
    column: int
    row: int
    last_column: int
    last_row: int

    @property
    def columns(self) -> int:
        """How many beside each other."""
        return self.last_column - self.column + 1

    @property
    def rows(self) -> int:
        """How many above each other."""
        return self.last_row - self.row + 1


@dataclass(frozen=True)
class Preview:
    """Tiles beside each other in one picture.

    Parameters
    ----------
    picture : PIL.Image.Image
        RGB; the tiles that are shown have the mark, the others are of the background's colour.
    shown : str
        A character for each tile, row by row: 1 where the picture shows it, 0 where its exact pixels are as quick.
    """

    picture: Image.Image
    shown: str


def lossy_pixels(key: ChunkKey, beginning: bytes | None = None) -> NDArray[np.uint8] | None:
    """Decode a chunk's lossy layer from the beginning of its stream.

    Parameters
    ----------
    key : ChunkKey
        The chunk.
    beginning : bytes, optional
        What has been read of its stream.

    Returns
    -------
    ndarray of uint8, (h, w, samples), or None
        No bound holds between these samples and those of the slide. None where there is no lossy layer, or the stream
        is damaged: the exact tile tells what is wrong.
    """
    size = _FIRST
    if beginning is None:
        beginning = _beginning(key, size)
    while _mode(beginning) is Mode.CODED:
        try:
            return as_pixels(dlpr.decode(beginning, layer="lossy", threads=1), key)
        except TruncatedError:
            if len(beginning) < size:
                return None
            size *= 8
            beginning = _beginning(key, size)
        except (DlprError, ChunkError):
            return None
    return None


def has_previews(store: ChunkStore) -> bool:
    """Tell from a few chunks of each level whether an image has chunks that are coded by the networks."""
    for level, grid in enumerate(store.levels if store.coded else ()):
        count = grid.rows * grid.columns
        for place in {count * i // _PROBED for i in range(_PROBED)}:
            if _mode(_beginning(ChunkKey(store, level, *divmod(place, grid.columns)), _FIRST)) is Mode.CODED:
                return True
    return False


def _beginning(key: ChunkKey, size: int) -> bytes:
    """Read the beginning of a chunk's stream; nothing where there is none."""
    try:
        return key.store.beginning(key.level, key.row, key.column, key.channel, size) or b""
    except (WsiError, OSError):
        return b""


def _mode(beginning: bytes) -> Mode | None:
    known = len(beginning) > _MODE_AT and beginning[_MODE_AT] in set(Mode)
    return Mode(beginning[_MODE_AT]) if known else None


async def make_preview(
    engine: ChunkEngine, store: ChunkStore, deepzoom: DeepZoom, tiles: TileRange, channels: Sequence[int] | None
) -> Preview | None:
    """Make a preview; None where the exact pixels of all tiles are as quick.

    Parameters
    ----------
    engine : ChunkEngine
        Has the threads; what it keeps is used, what is made here is not kept.
    store : ChunkStore
        The image.
    deepzoom : DeepZoom
        Its tiles.
    tiles : TileRange
        Which of them.
    channels : sequence of int, optional
        Those that are shown; None for RGB pictures.

    Raises
    ------
    NoSuchTileError
        The image has not all of these tiles.
    TooLargeError
        They are more than `MAX_TILES`, or made from more pixels than are read for one response.
    """
    if tiles.columns < 1 or tiles.rows < 1:
        raise NoSuchTileError("the last tile of a preview must not lie before its first")
    if tiles.columns * tiles.rows > MAX_TILES:
        raise TooLargeError(f"a preview of {tiles.columns} x {tiles.rows} tiles: at most {MAX_TILES} are made at once")
    places = [
        deepzoom.tile_at(tiles.level, column, row)
        for row in range(tiles.row, tiles.last_row + 1)
        for column in range(tiles.column, tiles.last_column + 1)
    ]
    pixels = sum(at.sampling.box.width * at.sampling.box.height for at in places)
    if pixels > MAX_SOURCE_PIXELS:
        raise TooLargeError(f"a preview made from {pixels} px: at most {MAX_SOURCE_PIXELS} px are read")
    loop = asyncio.get_running_loop()
    with engine.ahead():
        made = await asyncio.gather(
            *(loop.run_in_executor(engine.previews, _tile, engine, store, at, channels) for at in places)
        )
    if all(tile is None for tile in made):
        return None
    side = deepzoom.tile
    size = (side * (tiles.columns - 1) + places[-1].width, side * (tiles.rows - 1) + places[-1].height)
    picture = Image.new("RGB", size, store.background)
    for number, tile in enumerate(made):
        if tile is not None:
            row, column = divmod(number, tiles.columns)
            picture.paste(tile, (side * column, side * row))
    return Preview(picture, "".join("01"[tile is not None] for tile in made))


def _tile(
    engine: ChunkEngine, store: ChunkStore, at: DeepZoomTile, channels: Sequence[int] | None
) -> Image.Image | None:
    """Make one tile, with the mark; None where its exact pixels are as quick."""
    box = at.sampling.box
    keys = keys_of(store, at.level, box, channels)
    kept = {key: chunk.pixels for key in keys if (chunk := engine.cache.peek(key)) is not None}
    beginnings = {key: _beginning(key, _FIRST) for key in keys if key not in kept}
    if Mode.CODED not in map(_mode, beginnings.values()):
        return None
    out = np.zeros((box.height, box.width, 3), np.uint8)
    if channels is None:
        out = canvas(store, at.level, box, store.background)
    for key in keys:
        pixels = kept[key] if key in kept else _pixels(key, beginnings[key])
        if pixels is None:
            return None
        if channels is None:
            paste(out, box, key, pixels)
        else:
            mix(out, box, key, pixels, channels)
    return preview_mark(shrink(Image.fromarray(blend(out, at.sampling)), at.width, at.height))


def _pixels(key: ChunkKey, beginning: bytes) -> NDArray[np.uint8] | None:
    """Return a chunk's lossy layer, or the chunk itself where that is as quick."""
    if _mode(beginning) not in _QUICK:
        return lossy_pixels(key, beginning)
    try:
        stream = key.store.fetch(key.level, key.row, key.column, key.channel)
        return as_pixels(dlpr.decode(stream, threads=1), key) if isinstance(stream, bytes) else None
    except (DlprError, WsiError, OSError):
        return None
