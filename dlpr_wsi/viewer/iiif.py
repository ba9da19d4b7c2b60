"""IIIF Image API 3.0 (https://iiif.io/api/image/3.0/): parses requests, describes images."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from PIL import Image

from dlpr_wsi.errors import WsiError
from dlpr_wsi.viewer.stores import ChunkStore

__all__ = ["MAX_AREA", "MAX_SIDE", "IiifError", "IiifRequest", "info", "parse", "turn"]

MAX_SIDE = 4096  # px of a response
MAX_AREA = 4096 * 4096
_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
_PIXELS = re.compile(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", re.ASCII)
_PERCENT = re.compile(rf"pct:{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}", re.ASCII)
_SIZE = re.compile(r"(!?)(\d{0,9}),(\d{0,9})", re.ASCII)
_SIZE_PERCENT = re.compile(rf"pct:{_NUMBER}", re.ASCII)
_ROTATION = re.compile(rf"(!?){_NUMBER}", re.ASCII)
_QUALITIES = ("default", "color", "gray", "bitonal")


class IiifError(WsiError):
    """A request that the Image API calls wrong; status 400, or 501 for what is right but not offered."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class IiifRequest:
    """A parsed request.

    Parameters
    ----------
    x, y, width, height : int
        Region in px of level 0, inside the image.
    out_width, out_height : int
        Size of the response before rotation.
    mirror : bool
        Mirror it left to right, before rotation.
    rotation : int
        0, 90, 180 or 270 degrees, clockwise.
    quality : str
        "color", "gray" or "bitonal".
    """

    x: int
    y: int
    width: int
    height: int
    out_width: int
    out_height: int
    mirror: bool
    rotation: int
    quality: str


def parse(region: str, size: str, rotation: str, quality: str, image: tuple[int, int]) -> IiifRequest:
    """Parse the four parts of an image request.

    Parameters
    ----------
    region, size, rotation, quality : str
        As in the URL.
    image : tuple of int
        (width, height) of level 0 in px.

    Raises
    ------
    IiifError
        A part is malformed, or asks for what the image or this server does not have.
    """
    x, y, width, height = _region(region, *image)
    out_width, out_height = _size(size, width, height)
    mirror, degrees = _rotation(rotation)
    if quality not in _QUALITIES:
        raise IiifError(f"quality must be one of {', '.join(_QUALITIES)}, not {quality!r}")
    quality = "color" if quality == "default" else quality
    return IiifRequest(x, y, width, height, out_width, out_height, mirror, degrees, quality)


def _region(text: str, image_width: int, image_height: int) -> tuple[int, int, int, int]:
    if text == "full":
        return 0, 0, image_width, image_height
    if text == "square":
        side = min(image_width, image_height)
        return (image_width - side) // 2, (image_height - side) // 2, side, side
    if match := _PIXELS.fullmatch(text):
        x, y, width, height = (int(part) for part in match.groups())
    elif match := _PERCENT.fullmatch(text):
        px, py, pw, ph = (float(part) / 100 for part in match.groups())
        x, y, width, height = (
            round(px * image_width),
            round(py * image_height),
            round(pw * image_width),
            round(ph * image_height),
        )
    else:
        raise IiifError(f"region must be full, square, x,y,w,h or pct:x,y,w,h, not {text!r}")
    width, height = min(width, image_width - x), min(height, image_height - y)
    if width <= 0 or height <= 0:
        raise IiifError(f"region {text} has no pixel inside the image of {image_width} x {image_height} px")
    return x, y, width, height


def _size(text: str, width: int, height: int) -> tuple[int, int]:
    upscale, rest = text.startswith("^"), text.removeprefix("^")
    confined = False
    if rest == "max":
        factor = min(MAX_SIDE / width, MAX_SIDE / height, math.sqrt(MAX_AREA / (width * height)))
        factor = factor if upscale else min(1.0, factor)
        w, h = int(width * factor), int(height * factor)
    elif match := _SIZE_PERCENT.fullmatch(rest):
        factor = float(match[1]) / 100
        w, h = round(width * factor), round(height * factor)
    elif (match := _SIZE.fullmatch(rest)) and (match[2] or match[3]):
        confined = bool(match[1])
        if confined and not (match[2] and match[3]):
            raise IiifError("a size with ! needs both width and height")
        w, h = int(match[2] or 0), int(match[3] or 0)
        if confined:
            factor = min(w / width, h / height)
            factor = factor if upscale else min(1.0, factor)
            w, h = (min(w, max(1, round(width * factor))), min(h, max(1, round(height * factor)))) if factor else (0, 0)
        elif not match[2]:
            w = max(1, round(width * h / height)) if h else 0
        elif not match[3]:
            h = max(1, round(height * w / width)) if w else 0
    else:
        raise IiifError(f"size must be max, w,h or w, or ,h or pct:n or !w,h, each with ^ to enlarge, not {text!r}")
    w, h = (max(1, w), max(1, h)) if rest == "max" else (w, h)
    if w <= 0 or h <= 0:
        raise IiifError(f"size {text} is less than one px")
    if not upscale and (w > width or h > height):
        raise IiifError(f"size {text} is larger than the region of {width} x {height} px; ^{rest} enlarges")
    if w > MAX_SIDE or h > MAX_SIDE or w * h > MAX_AREA:
        raise IiifError(f"size {text} is more than {MAX_SIDE} px a side")
    return w, h


def _rotation(text: str) -> tuple[bool, int]:
    match = _ROTATION.fullmatch(text)
    if not match or float(match[2]) > 360:
        raise IiifError(f"rotation must be n or !n with n from 0 to 360, not {text!r}")
    degrees = float(match[2]) % 360
    if degrees % 90:
        raise IiifError("this server turns by multiples of 90 degrees only", status=501)
    return bool(match[1]), int(degrees)


def turn(image: Image.Image, request: IiifRequest) -> Image.Image:
    """Mirror, rotate and reduce the colours of an image that already has the size of the request."""
    if request.mirror:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turns = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
    if request.rotation:  # Pillow turns the other way round
        image = image.transpose(turns[request.rotation])
    if request.quality == "gray":
        return image.convert("L")
    if request.quality == "bitonal":
        return image.convert("1", dither=Image.Dither.NONE).convert("L")
    return image


def info(store: ChunkStore, url: str, tile: int, max_factor: int) -> dict[str, Any]:
    """Return info.json.

    Parameters
    ----------
    store : ChunkStore
        The image.
    url : str
        Its base URI.
    tile : int
        Side of a tile in px.
    max_factor : int
        Largest factor of reduction that the server makes tiles for, a power of two.
    """
    width, height = store.levels[0].width, store.levels[0].height
    whole = max(0, math.ceil(math.log2(max(width, height) / tile)))  # reduced so far, the image is one tile
    factors = [1 << n for n in range(whole + 1) if 1 << n <= max_factor]
    sizes = [(max(1, math.ceil(width / n)), max(1, math.ceil(height / n))) for n in reversed(factors)]
    return {
        "@context": "http://iiif.io/api/image/3/context.json",
        "id": url,
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level2",
        "width": width,
        "height": height,
        "maxWidth": MAX_SIDE,
        "maxHeight": MAX_SIDE,
        "maxArea": MAX_AREA,
        "sizes": [{"width": w, "height": h} for w, h in sizes if w <= MAX_SIDE and h <= MAX_SIDE],
        "tiles": [{"width": tile, "height": tile, "scaleFactors": factors}],
        "preferredFormats": ["jpg"],
        "extraFormats": ["jpg", "png", "webp"],
        "extraQualities": ["color", "gray", "bitonal"],
        "extraFeatures": [
            "baseUriRedirect",
            "mirroring",
            "regionByPct",
            "regionByPx",
            "regionSquare",
            "rotationBy90s",
            "sizeByConfinedWh",
            "sizeByH",
            "sizeByPct",
            "sizeByW",
            "sizeByWh",
            "sizeUpscaling",
        ],
    }
