"""What routes answer with: the bodies of responses, bounded in memory and off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from fastapi import HTTPException
from PIL import Image

from dlpr_wsi.viewer import compare, iiif
from dlpr_wsi.viewer.deepzoom import MAX_SOURCE_PIXELS, DeepZoomTile, NoSuchTileError, TooLargeError, shrink
from dlpr_wsi.viewer.engine import ChunkEngine
from dlpr_wsi.viewer.images import ImageSet, PixelReader, ViewedImage
from dlpr_wsi.viewer.preview import MAX_TILES, TileRange, make_preview
from dlpr_wsi.viewer.pyramid import Box, best_level, blend, sampling
from dlpr_wsi.viewer.render import ImageFormat, encode_image, encode_preview, to_srgb
from dlpr_wsi.viewer.responses import Rendered, ResponseCache

__all__ = ["Service", "Settings"]

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """Bounds of a server.

    Parameters
    ----------
    response_bytes : int
        Bound on finished responses kept.
    hosts : tuple of str or None
        Names under which it may be asked; None for all.
    origins : tuple of str
        Origins whose pages may read its responses.
    concurrency : int
        Requests answered at the same time.
    timeout : float
        Seconds until a request is given up.
    """

    response_bytes: int = 64 << 20
    hosts: tuple[str, ...] | None = None
    origins: tuple[str, ...] = ()
    concurrency: int = 800
    timeout: float = 30.0


class Service:
    """Makes the bodies of responses; knows nothing of HTTP but status codes."""

    def __init__(self, images: ImageSet, engine: ChunkEngine, settings: Settings) -> None:
        self.images = images
        self.reader = PixelReader(engine)
        self.responses = ResponseCache(settings.response_bytes)
        self.pool = ThreadPoolExecutor(engine.threads, thread_name_prefix="dlpr-render")
        self.previews = 0

    def image(self, identifier: str) -> ViewedImage:
        """Return a named image, or raise 404."""
        try:
            return self.images.images[identifier]
        except KeyError:
            raise HTTPException(404, "no such image; /api/images lists all") from None

    async def aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run work off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work, *arguments)

    async def tile(
        self, image: ViewedImage, at: DeepZoomTile, form: ImageFormat, icc: bool, shown: tuple[int, ...] | None
    ) -> Rendered:
        """Make a DeepZoom tile."""
        async with self.reader.room(at.sampling.box.width * at.sampling.box.height):
            pixels = await self.reader.read(image.store, at.level, at.sampling.box, True, shown)

            def finish() -> bytes:
                tile = shrink(Image.fromarray(blend(pixels.array, at.sampling)), at.width, at.height)
                return self._encode(image, tile, form, icc)

            return Rendered(await self.aside(finish), form.media_type, len(pixels.damaged))

    async def preview(
        self, image: ViewedImage, tiles: TileRange, form: ImageFormat, icc: bool, shown: tuple[int, ...] | None
    ) -> Rendered | None:
        """Make a preview of some tiles; None where the exact ones are as quick."""
        side = image.deepzoom.tile
        async with self.reader.room(min(MAX_TILES, max(1, tiles.columns * tiles.rows)) * side * side):
            made = await make_preview(self.reader.engine, image.store, image.deepzoom, tiles, shown)
            if made is None:
                return None
            self.previews += made.shown.count("1")

            def finish() -> bytes:
                profile = image.profile if icc else None
                return encode_preview(made.picture if profile is None else to_srgb(made.picture, profile), form)

            headers = {"X-DLPR-Layer": "lossy", "X-DLPR-Tiles": made.shown}
            return Rendered(await self.aside(finish), form.media_type, headers=headers)

    async def region(
        self, image: ViewedImage, at: iiif.IiifRequest, form: ImageFormat, icc: bool, shown: tuple[int, ...] | None
    ) -> Rendered:
        """Make an IIIF response."""
        store = image.store
        level = best_level(store, max(1.0, min(at.width / at.out_width, at.height / at.out_height)))
        scale = store.levels[level].downsample
        size = (max(1, round(at.width / scale)), max(1, round(at.height / scale)))
        if size[0] * size[1] > MAX_SOURCE_PIXELS:
            raise TooLargeError(
                f"the region has {size[0]} x {size[1]} px on the level it would be made from; at most "
                f"{MAX_SOURCE_PIXELS} px are read for one response: ask for a smaller region"
            )
        source = sampling(store, level, (at.x, at.y), size)
        async with self.reader.room(source.box.width * source.box.height + at.out_width * at.out_height):
            pixels = await self.reader.read(store, level, source.box, channels=shown)

            def finish() -> bytes:
                region = Image.fromarray(blend(pixels.array, source))
                if region.size != (at.out_width, at.out_height):
                    region = region.resize((at.out_width, at.out_height), Image.Resampling.LANCZOS)
                return self._encode(image, region, form, icc, at)

            return Rendered(await self.aside(finish), form.media_type, len(pixels.damaged))

    @staticmethod
    def _encode(
        image: ViewedImage,
        pixels: Image.Image,
        form: ImageFormat,
        icc: bool,
        turned: iiif.IiifRequest | None = None,
    ) -> bytes:
        if icc and image.profile is not None:
            pixels = to_srgb(pixels, image.profile)
        if turned is not None:
            pixels = iiif.turn(pixels, turned)
        return encode_image(pixels, form)

    async def difference(self, a: ViewedImage, b: ViewedImage, box: Box) -> compare.Difference:
        """Compare a region of level 0."""
        compare.shared_level(a.store, b.store, 1.0)
        async with self.reader.room(2 * box.width * box.height):
            counts = np.zeros(256, np.int64)
            for part in _one_by_one(a):
                left = await self.reader.samples(a.store, 0, box, part)
                right = await self.reader.samples(b.store, 0, box, part)
                if left.damaged or right.damaged:
                    raise HTTPException(422, "a chunk of this region is damaged: there is nothing to compare")
                counts += await self.aside(compare.error_counts, left.array, right.array)
            return compare.summary(counts)

    async def heat(self, a: ViewedImage, b: ViewedImage, level: int, column: int, row: int, peak: int) -> Rendered:
        """Make a tile of the map of |error|."""
        zoomed = float(1 << max(0, a.deepzoom.levels - 1 - level))
        first, second = compare.shared_level(a.store, b.store, zoomed)
        a.deepzoom.tile_at(level, column, row)  # refuses what does not exist
        grid, side = a.store.levels[first], a.deepzoom.tile
        factor = zoomed / grid.downsample
        x, y = int(column * side * factor), int(row * side * factor)
        width = min(max(1, int((column + 1) * side * factor)), grid.width) - x
        height = min(max(1, int((row + 1) * side * factor)), grid.height) - y
        if width <= 0 or height <= 0:
            raise NoSuchTileError("no such tile")
        out_width, out_height = min(width, max(1, round(width / factor))), min(height, max(1, round(height / factor)))
        box = Box(x, y, width, height)
        async with self.reader.room(2 * width * height):
            worst = np.zeros((height, width), np.uint8)
            damaged = 0
            for part in _one_by_one(a):
                left = await self.reader.samples(a.store, first, box, part)
                right = await self.reader.samples(b.store, second, box, part)
                damaged += len(left.damaged) + len(right.damaged)
                error = await self.aside(compare.absolute_error, left.array, right.array)
                np.maximum(worst, error.max(axis=2), out=worst)

            def finish() -> bytes:
                pooled = compare.pool_max(worst, out_height, out_width)
                return encode_image(Image.fromarray(compare.heat(pooled, peak)), ImageFormat.PNG)

            return Rendered(await self.aside(finish), ImageFormat.PNG.media_type, damaged)


def _one_by_one(image: ViewedImage) -> list[tuple[int] | None]:
    """Return the channels one at a time, so that memory does not grow with their number; [None] for RGB."""
    channels = image.store.facts.channels
    return [None] if channels is None else [(channel,) for channel in range(len(channels))]
