"""The web application: routes, and what each of them answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image

from dlpr_wsi.errors import UsageError, WsiError
from dlpr_wsi.reversible.catalogue import Catalogue
from dlpr_wsi.reversible.originals import MakingCache
from dlpr_wsi.viewer import compare, iiif
from dlpr_wsi.viewer.channels import parse
from dlpr_wsi.viewer.deepzoom import MAX_SOURCE_PIXELS, DeepZoomTile, NoSuchTileError, TooLargeError, shrink
from dlpr_wsi.viewer.engine import BusyError, ChunkEngine, ChunkKey
from dlpr_wsi.viewer.facts import ChunkFacts, ImageFacts, chunk_facts, image_facts
from dlpr_wsi.viewer.files import add_files
from dlpr_wsi.viewer.guard import Guard
from dlpr_wsi.viewer.images import ImageSet, PixelReader, ViewedImage
from dlpr_wsi.viewer.metrics import Metrics
from dlpr_wsi.viewer.pyramid import Box, best_level, blend, sampling
from dlpr_wsi.viewer.render import ImageFormat, encode_image, to_srgb
from dlpr_wsi.viewer.responses import Rendered, ResponseCache, etag, matches

__all__ = ["Settings", "create_app"]

STATIC = Path(__file__).parent / "static"
_CACHE_CONTROL = "private, max-age=300"
T = TypeVar("T")

ImageId = Annotated[str, InPath(description="id of an image, from /api/images", pattern="^[a-z0-9-]{1,90}$")]
Level = Annotated[int, InPath(ge=0, le=64)]
Index = Annotated[int, InPath(ge=0, le=1 << 31)]
Part = Annotated[str, InPath(max_length=64)]
Icc = Annotated[bool, Query(description="convert the colours from the slide's ICC profile to sRGB")]
Corner = Annotated[int, Query(ge=0, le=1 << 31)]
Side = Annotated[int, Query(ge=1, le=4096)]
Channels = Annotated[
    str | None, Query(max_length=4096, description="channels to show, as in 0,2; all by default; none for RGB")
]
Peak = Annotated[int, Query(ge=1, le=255, description="the error that gets the brightest colour")]


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


async def _answer(
    service: Service, request: Request, key: tuple[object, ...], make: Callable[[], Awaitable[Rendered]]
) -> Response:
    """Answer with a kept or new response, or 304 where the client has it."""
    tag = etag(metadata.version("dlpr-wsi"), *key)
    headers = {"ETag": tag, "Cache-Control": _CACHE_CONTROL}
    if matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    rendered = await service.responses.get(tag, make)
    if rendered.damaged:
        headers = {"Cache-Control": "no-store", "X-DLPR-Damaged": str(rendered.damaged)}
    return Response(rendered.body, media_type=rendered.media_type, headers={**headers, **rendered.headers})


def create_app(
    images: ImageSet, engine: ChunkEngine, settings: Settings | None = None, originals: Catalogue | None = None
) -> FastAPI:
    """Return the ASGI application.

    Parameters
    ----------
    images : ImageSet
        What it shows, and all that it shows.
    engine : ChunkEngine
        Decodes and keeps chunks.
    settings : Settings, optional
        Bounds.
    originals : Catalogue, optional
        The slides' own files, of those archives that are reversible.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        service.pool.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="dlpr-wsi viewer",
        version=metadata.version("dlpr-wsi"),
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    service = Service(images, engine, settings)
    metrics = Metrics(engine)
    responses = service.responses
    metrics.gauge("dlpr_response_cache_bytes", "Finished responses kept", lambda: responses.cache.bytes)
    metrics.gauge("dlpr_response_cache_hits", "Responses found", lambda: responses.cache.hits)
    metrics.gauge("dlpr_response_coalesced", "Requests that joined another", lambda: responses.coalesced)
    metrics.gauge("dlpr_damaged_shown", "Damaged chunks that were marked", lambda: service.reader.damaged)
    app.state.metrics, app.state.service = metrics, service
    app.add_middleware(
        Guard,
        metrics=metrics,
        hosts=settings.hosts,
        origins=settings.origins,
        concurrency=settings.concurrency,
        timeout=settings.timeout,
    )
    _errors(app)
    _pages(app, metrics, service)
    _facts(app, service)
    _deepzoom(app, service)
    _compare(app, service)
    _iiif(app, service)
    add_files(app, originals or Catalogue((), MakingCache(0)), service.aside)
    return app


def _errors(app: FastAPI) -> None:
    """Map this package's errors to status codes."""
    codes: list[tuple[type[WsiError], int]] = [
        (NoSuchTileError, 404),
        (TooLargeError, 422),
        (compare.IncomparableError, 422),
        (UsageError, 422),
        (BusyError, 503),
    ]
    for kind, status in codes:

        def handler(_request: Request, error: Exception, status: int = status) -> Response:
            headers = {"Retry-After": "1"} if status == 503 else None
            return JSONResponse({"detail": str(error)}, status, headers)

        app.add_exception_handler(kind, handler)

    def wrong(_request: Request, error: Exception) -> Response:
        status = error.status if isinstance(error, iiif.IiifError) else 400
        return JSONResponse({"detail": str(error)}, status)

    app.add_exception_handler(iiif.IiifError, wrong)


def _pages(app: FastAPI, metrics: Metrics, service: Service) -> None:
    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/view", include_in_schema=False)
    async def view() -> FileResponse:
        return FileResponse(STATIC / "view.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", StaticFiles(directory=STATIC))

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Tell that the server answers."""
        return {"status": "ok", "images": len(service.images.images)}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def read_metrics() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.text(), headers={"Content-Type": Metrics.media_type})


def _facts(app: FastAPI, service: Service) -> None:
    @app.get("/api/images")
    async def images() -> list[ImageFacts]:
        """List all images."""
        return [image_facts(image) for image in service.images.images.values()]

    @app.get("/api/images/{image}", responses={404: {}})
    async def one(image: ImageId) -> ImageFacts:
        """Facts of an image."""
        return image_facts(service.image(image))

    @app.get("/api/images/{image}/chunks/{level}/{row}/{column}", responses={404: {}, 503: {}})
    async def chunk(
        image: ImageId,
        level: Level,
        row: Index,
        column: Index,
        channel: Annotated[int, Query(ge=0, le=1 << 20)] = 0,
    ) -> ChunkFacts:
        """What the codec says of a chunk: its mode, its size, the time it took to decode."""
        store = service.image(image).store
        if level >= len(store.levels) or row >= store.levels[level].rows or column >= store.levels[level].columns:
            raise HTTPException(404, "no such chunk")
        if channel >= store.levels[level].stack:
            raise HTTPException(404, "no such channel")
        key = ChunkKey(store, level, row, column, channel if store.coded else 0)
        return await service.aside(chunk_facts, service.reader.engine, key)


_IMAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}, "image/jpeg": {}, "image/webp": {}}, "description": "the picture"},
    304: {"description": "the client has it already"},
    404: {"description": "no such image, level or tile"},
    422: {"description": "the image has no such channel, or it would take more pixels than are read for one response"},
    503: {"description": "busy"},
}


def _deepzoom(app: FastAPI, service: Service) -> None:
    @app.get(
        "/deepzoom/{image}.dzi",
        response_class=Response,
        responses={200: {"content": {"application/xml": {}}}, 404: {}},
    )
    async def dzi(image: ImageId, format: ImageFormat = ImageFormat.JPG) -> Response:
        """Describe an image for DeepZoom; ``format`` is that of its tiles."""
        return Response(service.image(image).deepzoom.dzi(format), media_type="application/xml")

    @app.get("/deepzoom/{image}_files/{level}/{column}_{row}.{format}", response_class=Response, responses={**_IMAGE})
    async def tile(
        request: Request,
        image: ImageId,
        level: Level,
        column: Index,
        row: Index,
        format: ImageFormat,
        icc: Icc = False,
        channels: Channels = None,
    ) -> Response:
        """A DeepZoom tile."""
        found = service.image(image)
        at = found.deepzoom.tile_at(level, column, row)
        shown = parse(channels, found.store)
        key = ("deepzoom", found.store.fingerprint, level, column, row, format.media_type, icc, shown)
        return await _answer(service, request, key, lambda: service.tile(found, at, format, icc, shown))


def _compare(app: FastAPI, service: Service) -> None:
    @app.get("/compare/{image}/{other}_files/{level}/{column}_{row}.png", response_class=Response, responses={**_IMAGE})
    async def heat(
        request: Request, image: ImageId, other: ImageId, level: Level, column: Index, row: Index, peak: Peak = 1
    ) -> Response:
        """A DeepZoom tile of the map of |error| between two images: clear where they are equal."""
        a, b = service.image(image), service.image(other)
        key = ("heat", a.store.fingerprint, b.store.fingerprint, level, column, row, peak)
        return await _answer(service, request, key, lambda: service.heat(a, b, level, column, row, peak))

    @app.get("/api/compare/{image}/{other}", responses={404: {}, 503: {}})
    async def difference(
        image: ImageId,
        other: ImageId,
        x: Corner = 0,
        y: Corner = 0,
        width: Side = 1024,
        height: Side = 1024,
    ) -> compare.Difference:
        """Count the errors between two images in a region of level 0."""
        a, b = service.image(image), service.image(other)
        grid = a.store.levels[0]
        width, height = min(width, grid.width - x), min(height, grid.height - y)
        if width <= 0 or height <= 0:
            raise HTTPException(422, "the region lies outside the image")
        return await service.difference(a, b, Box(x, y, width, height))


def _iiif(app: FastAPI, service: Service) -> None:
    @app.get("/iiif/{image}", response_class=RedirectResponse, status_code=303, responses={404: {}})
    async def base(request: Request, image: ImageId) -> RedirectResponse:
        """Lead to the description."""
        service.image(image)
        return RedirectResponse(f"{request.scope.get('root_path', '')}/iiif/{image}/info.json", 303)

    @app.get("/iiif/{image}/info.json", responses={404: {}})
    async def info(request: Request, image: ImageId) -> Response:
        """Describe an image for IIIF viewers."""
        found = service.image(image)
        url = str(request.base_url).rstrip("/") + f"/iiif/{image}"
        factor = 1 << (found.deepzoom.levels - 1 - found.deepzoom.min_level)
        content_type = 'application/ld+json;profile="http://iiif.io/api/image/3/context.json"'
        return JSONResponse(
            iiif.info(found.store, url, found.deepzoom.tile, factor), headers={"Content-Type": content_type}
        )

    @app.get(
        "/iiif/{image}/{region}/{size}/{rotation}/{quality}.{format}",
        response_class=Response,
        responses={**_IMAGE, 400: {"description": "malformed"}, 501: {"description": "not offered"}},
    )
    async def picture(
        request: Request,
        image: ImageId,
        region: Part,
        size: Part,
        rotation: Part,
        quality: Part,
        format: ImageFormat,
        icc: Icc = False,
        channels: Channels = None,
    ) -> Response:
        """A region of an image, scaled, turned and encoded: IIIF Image API 3.0, level 2."""
        found = service.image(image)
        grid = found.store.levels[0]
        at = iiif.parse(region, size, rotation, quality, (grid.width, grid.height))
        shown = parse(channels, found.store)
        key = ("iiif", found.store.fingerprint, at, format.media_type, icc, shown)
        return await _answer(service, request, key, lambda: service.region(found, at, format, icc, shown))
