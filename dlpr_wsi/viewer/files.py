"""The slides' own files out of reversible archives, ``/files/NAME``, whole or by byte ranges (RFC 9110, section 14)."""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse

from dlpr_wsi.errors import WsiError
from dlpr_wsi.reversible.catalogue import Catalogue, Listed
from dlpr_wsi.viewer.guard import HEAD
from dlpr_wsi.viewer.responses import matches

__all__ = ["ByteRange", "add_files", "parse_range"]

_PIECE = 1 << 20  # bytes made at a time
_MOST_RANGES = 16
_RANGE = re.compile(r"([0-9]{0,19})-([0-9]{0,19})")
_TYPE = "application/octet-stream"

Aside = Callable[..., Awaitable[Any]]


class ByteRange(NamedTuple):
    """Bytes from ``start`` to before ``end``."""

    start: int
    end: int


def parse_range(value: str | None, size: int) -> list[ByteRange] | None:
    """Return what the header Range asks for of ``size`` bytes.

    Returns
    -------
    list of ByteRange or None
        None where the whole is asked for, or the header is malformed; an empty list where it names nothing that is
        there, or more ranges than are given.

    Examples
    --------
    >>> parse_range("bytes=0-9, -5", 100)
    [ByteRange(start=0, end=10), ByteRange(start=95, end=100)]
    >>> parse_range("bytes=100-", 100), parse_range("lines=1-2", 100)
    ([], None)
    """
    unit, found, listed = (value or "").partition("=")
    if not found or unit.strip().lower() != "bytes":
        return None
    wanted = []
    for text in listed.split(","):
        match = _RANGE.fullmatch(text.strip())
        if match is None or match[0] == "-":
            return None
        first, last = (int(number) if number else None for number in match.groups())
        if first is None:
            start, end = max(0, size - (last or 0)), size
        elif last is not None and last < first:
            return None
        else:
            start, end = first, size if last is None else min(last + 1, size)
        if start < end:
            wanted.append(ByteRange(start, end))
    return wanted if len(wanted) <= _MOST_RANGES else []


def add_files(app: FastAPI, originals: Catalogue, aside: Aside) -> None:
    """Add the routes.

    Parameters
    ----------
    app : FastAPI
        The application.
    originals : Catalogue
        The files.
    aside : callable
        Runs work off the event loop.
    """

    @app.get("/files")
    async def names() -> list[dict[str, Any]]:
        """List the slides' files that reversible archives give back."""
        return await aside(_list, originals)  # type: ignore[no-any-return]

    @app.get(
        "/files/{name:path}",
        response_class=Response,
        responses={
            200: {"content": {_TYPE: {}}, "description": "the file"},
            206: {"content": {_TYPE: {}, "multipart/byteranges": {}}, "description": "the bytes asked for"},
            304: {"description": "the client has it already"},
            404: {"description": "no such file"},
            412: {"description": "it is not the file that If-Match names"},
            416: {"description": "there are no such bytes"},
            500: {"description": "the archive is damaged where these bytes would come from"},
        },
    )
    async def file(request: Request, name: Annotated[str, InPath(max_length=4096)]) -> Response:
        """A slide's file as it was, byte for byte; its ETag is its SHA-256."""
        found = await aside(originals.file, name)
        if found is None:
            raise HTTPException(404, "no such file; /files lists all")
        return await _answer(request, found, originals, aside)


def _list(originals: Catalogue) -> list[dict[str, Any]]:
    """Describe every file of the tree."""
    out: list[dict[str, Any]] = []
    folders = [""]
    while folders:
        folder = folders.pop()
        for name in originals.names(folder) or ():
            path = f"{folder}/{name}" if folder else name
            found = originals.file(path)
            if found is None:
                folders.append(path)
                continue
            url = "/files/" + quote(path, errors="surrogateescape")
            shown = path.encode("utf-8", "replace").decode()
            out.append({"name": shown, "bytes": found.entry.size, "sha256": found.entry.sha256.hex(), "url": url})
    return sorted(out, key=lambda one: str(one["name"]))


async def _answer(request: Request, found: Listed, originals: Catalogue, aside: Aside) -> Response:
    """Answer with all of a file, ranges of it, or a status."""
    size, digest = found.entry.size, found.entry.sha256
    tag = f'"{digest.hex()}"'
    plain = quote(found.entry.name.rpartition("/")[2], errors="surrogateescape")
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=300",
        "Content-Disposition": f"attachment; filename*=UTF-8''{plain}",
        "Repr-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
    }
    given = request.headers
    if "if-match" in given and not matches(given["if-match"], tag):
        return Response(status_code=412, headers=headers)
    if matches(given.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    ranges = parse_range(given.get("range"), size)
    if given.get("if-range", tag).strip() != tag:
        ranges = None  # it has a part of another file
    if ranges == []:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    parts: Sequence[ByteRange | bytes]
    if ranges is None:
        status, parts, kind = 200, [ByteRange(0, size)] if size else [], _TYPE
    elif len(ranges) == 1:
        status, parts, kind = 206, ranges, _TYPE
        headers["Content-Range"] = f"bytes {ranges[0].start}-{ranges[0].end - 1}/{size}"
    else:
        boundary = secrets.token_hex(16)
        status, parts, kind = 206, _multipart(ranges, size, boundary), f"multipart/byteranges; boundary={boundary}"
    length = sum(len(part) if isinstance(part, bytes) else part.end - part.start for part in parts)
    headers["Content-Length"] = str(length)
    if request.scope.get(HEAD) or not length:
        return Response(status_code=status, headers=headers, media_type=kind)
    body = _body(parts, found, originals, aside)
    try:
        first = await anext(body)
    except WsiError:  # which bytes, and why, is in the log
        raise HTTPException(500, "these bytes cannot be made: the archive is damaged where they come from") from None
    return StreamingResponse(_joined(first, body), status, headers, kind)


def _multipart(ranges: Sequence[ByteRange], size: int, boundary: str) -> list[ByteRange | bytes]:
    """Put the parts' headers between ranges."""
    out: list[ByteRange | bytes] = []
    for one in ranges:
        where = f"bytes {one.start}-{one.end - 1}/{size}"
        head = f"\r\n--{boundary}\r\nContent-Type: {_TYPE}\r\nContent-Range: {where}\r\n\r\n"
        out += [head.encode(), one]
    return [*out, f"\r\n--{boundary}--\r\n".encode()]


async def _body(
    parts: Sequence[ByteRange | bytes], found: Listed, originals: Catalogue, aside: Aside
) -> AsyncIterator[bytes]:
    """Yield the bytes of a response; the next piece is made while the client takes one."""
    following: asyncio.Future[bytes] | None = None
    try:
        for part in parts:
            if isinstance(part, bytes):
                yield part
                continue
            starts = range(part.start, part.end, _PIECE)
            for start in starts:
                if following is None:
                    following = _make(aside, originals, found, start, part.end)
                data = await following
                following = _make(aside, originals, found, start + _PIECE, part.end) if start != starts[-1] else None
                yield data
    finally:
        if following is not None:
            following.cancel()


def _make(aside: Aside, originals: Catalogue, found: Listed, start: int, end: int) -> asyncio.Future[bytes]:
    """Begin to make a piece."""
    return asyncio.ensure_future(aside(originals.read, found, start, min(_PIECE, end - start)))


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
