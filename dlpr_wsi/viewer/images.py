"""What a server shows: named images, and their pixels without blocking its event loop."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.sources import Selection
from dlpr_wsi.viewer.channels import mix, put
from dlpr_wsi.viewer.deepzoom import MAX_SOURCE_PIXELS, DeepZoom, TooLargeError
from dlpr_wsi.viewer.engine import ChunkEngine, ChunkError, ChunkKey
from dlpr_wsi.viewer.preview import has_previews
from dlpr_wsi.viewer.pyramid import Box, canvas, keys_of, paste, ring_of
from dlpr_wsi.viewer.render import marked_tile, usable_profile
from dlpr_wsi.viewer.stores import ChunkStore, open_store

__all__ = ["ImageSet", "PixelReader", "Pixels", "ViewedImage", "open_images"]

_log = logging.getLogger("dlpr_wsi.viewer")
_GROUP = 64
_MAX_LOGGED = 1000  # damaged chunks that are named in the log, each once


@dataclass(frozen=True)
class ViewedImage:
    """An image that the server shows.

    Parameters
    ----------
    id : str
        Its name in URLs: letters, digits and hyphens.
    store : ChunkStore
        Its chunks.
    deepzoom : DeepZoom
        Its tiles.
    profile : bytes or None
        Its ICC profile, if that can be used.
    previews : bool
        Whether it has chunks that are worth a preview.
    """

    id: str
    store: ChunkStore
    deepzoom: DeepZoom
    profile: bytes | None
    previews: bool = False


class ImageSet:
    """The images of a server, by id; nothing else can be asked for.

    Parameters
    ----------
    stores : sequence of ChunkStore
        Open images. Ids are made of their names.
    """

    def __init__(self, stores: Sequence[ChunkStore]) -> None:
        self.images: dict[str, ViewedImage] = {}
        for store in stores:
            name = _slug(store.name)
            count = 1
            while (identifier := name if count == 1 else f"{name}-{count}") in self.images:
                count += 1
            profile = store.icc_profile if usable_profile(store.icc_profile) else None
            if store.icc_profile is not None and profile is None:
                _log.warning("%s: its ICC profile cannot be used", store.name)
            self.images[identifier] = ViewedImage(identifier, store, DeepZoom(store), profile, has_previews(store))

    def close(self) -> None:
        """Release all files."""
        for image in self.images.values():
            image.store.close()


def open_images(paths: Iterable[Path], selection: Selection | None = None) -> ImageSet:
    """Open archives and slides.

    Parameters
    ----------
    paths : iterable of Path
        Archives and slides.
    selection : Selection, optional
        Which picture of slides that hold several.

    Raises
    ------
    dlpr_wsi.errors.WsiError
        One of them cannot be opened; the others are closed again.
    """
    stores: list[ChunkStore] = []
    try:
        for path in paths:
            stores.append(open_store(path, selection))
    except BaseException:
        for store in stores:
            store.close()
        raise
    return ImageSet(stores)


def _slug(name: str) -> str:
    """Return a name that is safe in a URL."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80] or "image"


@dataclass
class Pixels:
    """A region, and which of its chunks are damaged and only marked."""

    array: NDArray[np.uint8]
    damaged: list[ChunkKey] = field(default_factory=list)


class PixelReader:
    """Regions for a server: bounded in memory, chunks of cancelled requests given up.

    Parameters
    ----------
    engine : ChunkEngine
        Decodes.
    budget : int
        Pixels of all regions that are put together at the same time.
    """

    def __init__(self, engine: ChunkEngine, budget: int = MAX_SOURCE_PIXELS) -> None:
        self.engine = engine
        self.damaged = 0
        self._budget = budget
        self._used = 0
        self._freed = asyncio.Condition()
        self._logged: set[tuple[str, int, int, int, int]] = set()

    @asynccontextmanager
    async def room(self, pixels: int) -> AsyncIterator[None]:
        """Wait until there is room for so many pixels; hold it while the block runs."""
        pixels = min(pixels, self._budget)
        async with self._freed:
            await self._freed.wait_for(lambda: self._used + pixels <= self._budget)
            self._used += pixels
        try:
            yield
        finally:
            async with self._freed:
                self._used -= pixels
                self._freed.notify_all()

    async def read(
        self,
        store: ChunkStore,
        level: int,
        box: Box,
        prefetch: bool = False,
        channels: Sequence[int] | None = None,
    ) -> Pixels:
        """Return a region as RGB; damaged chunks are marked in it.

        Parameters
        ----------
        store : ChunkStore
            The image.
        level : int
            Which level.
        box : Box
            What of it.
        prefetch : bool
            Have the chunks around it decoded when nothing else is to be done.
        channels : sequence of int, optional
            Those that are shown in their colours; None for RGB pictures.

        Raises
        ------
        TooLargeError
            The region has more than `MAX_SOURCE_PIXELS` px.
        dlpr_wsi.viewer.engine.BusyError
            Too much waits already.
        """
        if box.width * box.height > MAX_SOURCE_PIXELS:
            raise TooLargeError(f"a region of {box.width} x {box.height} px: at most {MAX_SOURCE_PIXELS} px are read")
        if channels is None:
            out = canvas(store, level, box, store.background)
            damaged = await self._each(keys_of(store, level, box), partial(paste, out, box))
        else:
            out = np.zeros((box.height, box.width, 3), np.uint8)
            keys = keys_of(store, level, box, channels)
            damaged = await self._each(keys, partial(mix, out, box, channels=channels))
        grid = store.levels[level]
        for key in damaged:  # last: no channel is to be added to the mark
            paste(out, box, key, marked_tile(grid.tile_width, grid.tile_height))
        if prefetch:
            self.engine.prefetch(ring_of(store, level, box, channels))
        return Pixels(out, damaged)

    async def samples(self, store: ChunkStore, level: int, box: Box, channels: Sequence[int] | None = None) -> Pixels:
        """Return a region's samples, (h, w, 3) RGB or (h, w, len(channels)); what is damaged is not filled in.

        Raises as `read` does.
        """
        if channels is None:
            return await self.read(store, level, box)
        if box.width * box.height > MAX_SOURCE_PIXELS:
            raise TooLargeError(f"a region of {box.width} x {box.height} px: at most {MAX_SOURCE_PIXELS} px are read")
        out = np.zeros((box.height, box.width, len(channels)), np.uint8)
        keys = keys_of(store, level, box, channels)
        return Pixels(out, await self._each(keys, partial(put, out, box, channels=channels)))

    async def _each(self, keys: list[ChunkKey], use: Callable[[ChunkKey, NDArray[np.uint8]], None]) -> list[ChunkKey]:
        """Hand every chunk to a function; return those that are damaged."""
        damaged: list[ChunkKey] = []
        for group in (keys[i : i + _GROUP] for i in range(0, len(keys), _GROUP)):
            futures = []
            try:
                for key in group:
                    futures.append(self.engine.request(key))
                for key, future in zip(group, futures, strict=True):
                    try:
                        use(key, (await asyncio.wrap_future(future)).pixels)
                    except ChunkError as error:
                        self._report(error)
                        damaged.append(key)
            finally:
                for future in futures:
                    future.cancel()
        return damaged

    def _report(self, error: ChunkError) -> None:
        """Count a damaged chunk; log it when it is met first."""
        self.damaged += 1
        key = error.key
        name = (key.store.fingerprint, key.level, key.row, key.column, key.channel)
        if name not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add(name)
            _log.warning("damaged tile: %s", error)
