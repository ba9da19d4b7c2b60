"""The web application: routes, and what each of them answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from dlpr_wsi.errors import UsageError, WsiError
from dlpr_wsi.reversible.catalogue import Catalogue
from dlpr_wsi.reversible.originals import MakingCache
from dlpr_wsi.viewer import compare, iiif
from dlpr_wsi.viewer.channels import parse
from dlpr_wsi.viewer.deepzoom import NoSuchTileError, TooLargeError
from dlpr_wsi.viewer.engine import BusyError, ChunkEngine, ChunkKey
from dlpr_wsi.viewer.facts import ChunkFacts, ImageFacts, chunk_facts, image_facts
from dlpr_wsi.viewer.files import add_files
from dlpr_wsi.viewer.guard import Guard
from dlpr_wsi.viewer.images import ImageSet
from dlpr_wsi.viewer.metrics import Metrics
from dlpr_wsi.viewer.preview import TileRange
from dlpr_wsi.viewer.pyramid import Box
from dlpr_wsi.viewer.render import ImageFormat
from dlpr_wsi.viewer.responses import Rendered, etag, matches
from dlpr_wsi.viewer.service import Service, Settings

__all__ = ["Settings", "create_app"]

STATIC = Path(__file__).parent / "static"
_CACHE_CONTROL = "private, max-age=300"

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
    metrics.gauge("dlpr_previews", "Tiles of previews", lambda: service.previews)
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

    @app.get(
        "/preview/{image}_files/{level}/{column}_{row}_{last_column}_{last_row}.{format}",
        response_class=Response,
        responses={**_IMAGE, 204: {"description": "the exact tiles are as quick"}},
    )
    async def preview(
        image: ImageId,
        level: Level,
        column: Index,
        row: Index,
        last_column: Index,
        last_row: Index,
        format: ImageFormat,
        icc: Icc = False,
        channels: Channels = None,
    ) -> Response:
        """DeepZoom tiles from the lossy layer in one picture, marked: a first paint, never the pixels of the slide.

        ``X-DLPR-Layer: lossy`` says so too; ``X-DLPR-Tiles`` has a 1 for each tile that it shows, row by row, and a
        0 for each whose exact pixels are as quick.
        """
        found = service.image(image)
        tiles = TileRange(level, column, row, last_column, last_row)
        made = await service.preview(found, tiles, format, icc, parse(channels, found.store))
        headers = {"Cache-Control": "no-store"}
        if made is None:
            return Response(status_code=204, headers=headers)
        return Response(made.body, media_type=made.media_type, headers={**headers, **made.headers})


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
