"""Hamamatsu NDPI: each level one JPEG cut by restart markers into strips that are one MCU high.

After openslide-vendor-hamamatsu.c (which pages are levels, what tag 65426 holds, how a strip is decoded) and the
directories of hamamatsu-test3-DAPI.ndpi: order of the JPEG's markers, types of the tags.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from kit_common import (
    ASCII,
    FLOAT,
    LONG,
    LONG8,
    RATIONAL,
    SAMPLING,
    SHORT,
    SLONG,
    Change,
    Pixels,
    TiffOut,
    halved,
    jpeg,
    scan,
    segment,
    segments,
    tissue,
    unchanged,
)

COMMENT = b"Hamamatsu NanoZoomer JPEG, synthetic\0"
_LIMIT = 65500  # libjpeg's; larger levels say 0, as scanners write them


def ndpi(
    path: Path,
    pixels: Pixels | Sequence[Pixels],
    *,
    levels: int = 3,
    step: int = 1,
    strip: int = 256,
    subsampling: str = "422",
    quality: int = 80,
    lens: float = 20.0,
    planes: Sequence[int] = (0,),
    whole: Sequence[int] = (),
    macro: bool = True,
    starts: str = "low",
    hole: int = 0,
    padded: bool = True,
    tables: bool = True,
    change: Change = unchanged,
) -> list[Pixels]:
    """Write an NDPI and return the pixels that were coded of each level.

    Parameters
    ----------
    path : Path
        Where.
    pixels : array or sequence of arrays
        (h, w, 3) uint8: level 0, or all levels.
    levels, step : int
        How many levels, where ``pixels`` is one; each is ``step`` halvings of the one before.
    strip : int
        Width of a strip in px, brought to whole MCUs; no strip is wider than its level. Its height is that of an MCU,
        8 or 16 px: the restart interval is a part of a row of MCUs.
    subsampling, quality : str, int
        Of the JPEGs: 444, 422, 420. OpenSlide 4 cannot read strips at 4:2:0: its libjpeg wants the row of MCUs below
        for the chroma of the last lines, finds EOI, and OpenSlide takes the warning for an error. It reads ``whole``
        levels.
    lens : float
        Magnification.
    planes : sequence of int
        Offsets of the focal planes in nm; every plane has all levels. OpenSlide reads 0.
    whole : sequence of int
        Levels that are one JPEG without restart markers, as small ones may be.
    macro : bool
        Whether there are a macro image (JPEG) and a map (grey, not compressed).
    starts : str
        Tag 65426: "low", "high" (with 65432, the upper halves), "missing" or "short" (OpenSlide looks for the markers
        itself), "nonsense" (places without a restart marker, which OpenSlide refuses).
    hole : int
        Bytes left out in front of the second level, to get offsets beyond 4 GiB.
    padded : bool
        Whether levels are cut to whole strips, as scanners have them; else the level's sizes stay, and OpenSlide leaves
        out what is no whole strip.
    tables : bool
        Whether the JPEGs have their tables DQT and DHT.
    change : callable
        Alters strips: (level, row, column, bytes), of the plane at 0 only.
    """
    given = [pixels] if isinstance(pixels, Pixels) else list(pixels)
    while isinstance(pixels, Pixels) and len(given) < levels:
        given.append(halved(given[-1], step))
    mcu = [8 * factor for factor in SAMPLING[subsampling]]
    coded = []
    with TiffOut(path, "ndpi") as out:
        for plane in planes:
            for level, full in enumerate(given):
                image = full
                width = max(min(strip, image.shape[1]) // mcu[0], 1) * mcu[0]
                if padded and level not in whole:
                    image = full[: image.shape[0] // mcu[1] * mcu[1], : image.shape[1] // width * width]
                interval = 0 if level in whole else width // mcu[0]
                altered = change if plane == 0 else unchanged
                data, places = restarted(
                    image, interval, subsampling, quality, level=level, tables=tables, change=altered
                )
                if hole and level == 1 and plane == planes[0]:
                    out.skip(hole)
                at = out.append(data)
                tags = _tags(image, at, len(data), lens * full.shape[1] / given[0].shape[1], SAMPLING[subsampling])
                tags[65424] = (SLONG, (plane,))
                if len(places) > 1:
                    tags.update(_starts(places, starts))
                out.directory(tags)
                if plane == 0:
                    coded.append(image)
        if macro:
            _beside(out, given[0].shape)
    return coded


def restarted(
    image: Pixels,
    interval: int,
    subsampling: str,
    quality: int,
    *,
    level: int = 0,
    tables: bool = True,
    change: Change = unchanged,
) -> tuple[bytes, list[int]]:
    """Return a JPEG with a restart marker after every ``interval`` MCUs, and where its strips begin in it.

    Each strip is coded by itself. An interval of 0 gives a plain JPEG, and no places.
    """
    if not interval:
        return change(level, 0, 0, jpeg(image, quality, subsampling)), []
    width, height = (8 * factor for factor in SAMPLING[subsampling])
    header, body, places = b"", [], []
    at = 0
    for row, top in enumerate(range(0, image.shape[0], height)):
        for column, left in enumerate(range(0, image.shape[1], interval * width)):
            piece = jpeg(image[top : top + height, left : left + interval * width], quality, subsampling)
            if not header:
                header = _header(segments(piece), image.shape, interval, tables)
                at = len(header)
            data = change(level, row, column, scan(piece)) + struct.pack("BB", 0xFF, 0xD0 + len(places) % 8)
            places.append(at)
            body.append(data)
            at += len(data)
    joined = b"".join(body)
    return header + joined[:-1] + b"\xd9", places


def _header(parts, shape, interval, tables):
    """Return the markers up to SOS in the scanner's order: APP0, COM, DQT, DHT, SOF0, DRI, SOS."""

    def of(marker):
        return b"".join(segment(marker, content) for found, content in parts if found == marker)

    frame = next(content for found, content in parts if found == 0xC0)
    height, width = (size if max(shape[:2]) <= _LIMIT else 0 for size in shape[:2])
    frame = frame[:1] + struct.pack(">HH", height, width) + frame[5:]
    coding = of(0xDB) + of(0xC4) if tables else b""
    restart = segment(0xDD, struct.pack(">H", interval))
    return b"\xff\xd8" + of(0xE0) + segment(0xFE, COMMENT) + coding + segment(0xC0, frame) + restart + of(0xDA)


def _tags(image, at, size, lens, sampling):
    """Return what each page has."""
    height, width, samples = image.shape
    resolution = max(int(2000 * lens), 1)  # px per cm
    return {
        256: (LONG, (width,)),
        257: (LONG, (height,)),
        258: (SHORT, (8,) * samples),
        259: (SHORT, (7,)),
        262: (SHORT, (6,)),
        271: (ASCII, "Hamamatsu"),
        272: (ASCII, "synthetic"),
        273: (LONG8, (at,)),
        277: (SHORT, (samples,)),
        278: (LONG, (height,)),
        279: (LONG8, (size,)),
        282: (RATIONAL, (resolution, 1)),
        283: (RATIONAL, (resolution, 1)),
        296: (SHORT, (3,)),
        530: (SHORT, sampling),
        65420: (SHORT, (1,)),
        65421: (FLOAT, (lens,)),
        65422: (SLONG, (1000,)),
        65423: (SLONG, (-2000,)),
        65424: (SLONG, (0,)),
        65427: (ASCII, "Jane Doe S12-3456"),  # the slide's reference: must never come out again
    }


def _starts(places, kind):
    """Return the tags on where strips begin, in bytes from the JPEG's first."""
    places = list(places)
    if kind == "missing":
        return {}
    if kind == "short":
        places.pop()
    if kind == "nonsense":
        places = [place + 3 for place in places]
    tags = {65426: (LONG, [place & 0xFFFFFFFF for place in places])}
    if kind == "high":
        tags[65432] = (LONG, [place >> 32 for place in places])
    return tags


def _beside(out, shape):
    """Write macro (lens -1) and map (lens -2)."""
    image = tissue(240, 80, 0, 0)
    data = jpeg(image, 90, "444")
    out.directory(_tags(image, out.append(data), len(data), -1.0, (1, 1)) | {282: (RATIONAL, (156, 1))})
    grey = image[::2, ::2, :1]
    tags = _tags(grey, out.append(grey.tobytes()), grey.size, -2.0, (1, 1))
    del tags[530]
    out.directory(tags | {259: (SHORT, (1,)), 262: (SHORT, (1,))})
