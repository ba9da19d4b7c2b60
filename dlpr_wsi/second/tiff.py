"""TIFF-based slides and TIFF images: directories parsed here, tiles and strips decoded by Pillow."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.second import NoSecond, Reading, Unjudged
from dlpr_wsi.second.colours import shown, ycbcr_to_rgb
from dlpr_wsi.second.ifd import Directory, read_directories
from dlpr_wsi.second.ome import ome_planes, ome_xml
from dlpr_wsi.second.segments import NAME, decode_segment, reversible
from dlpr_wsi.sources import Selection, SlideFacts

__all__ = ["SegmentCache", "TiffReader", "assemble"]

_DLPR = 65471
_J2K, _J2K_YCBCR = (33003, 33005, 34712), 33003
_CACHE_BYTES = 1 << 26
_OTHER_SIZE = "tiles that decode to another size than the file says"
_SEVERAL = "several images of this size"


class SegmentCache:
    """Decoded tiles, the latest used ones, up to a number of bytes; threads may share it."""

    def __init__(self, limit: int = _CACHE_BYTES) -> None:
        self._limit, self._held = limit, 0
        self._kept: OrderedDict[object, Reading | Unjudged] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object, make: Callable[[], Reading | Unjudged]) -> Reading | Unjudged:
        """Return what is kept, or make it."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._held += _size(made)
            while self._held > self._limit and len(self._kept) > 1:
                self._held -= _size(self._kept.popitem(last=False)[1])
        return made


def _size(reading: Reading | Unjudged) -> int:
    return reading.pixels.nbytes if isinstance(reading, Reading) else 0


def assemble(
    box: tuple[int, int, int, int],
    tile: tuple[int, int],
    samples: int,
    segment: Callable[[int, int], Reading | Unjudged],
) -> Reading | Unjudged:
    """Put a region together from the segments of a grid.

    Parameters
    ----------
    box : tuple of int
        x, y, width, height in px.
    tile : tuple of int
        Width and height of a segment.
    samples : int
        Of a px.
    segment : callable
        Given row and column, returns a segment.
    """
    x, y, width, height = box
    across, down = tile
    if y // down == (y + height - 1) // down and x // across == (x + width - 1) // across:
        found = segment(y // down, x // across)
        if isinstance(found, Unjudged):
            return found
        inside = found.pixels[y % down : y % down + height, x % across : x % across + width]
        if inside.shape == (height, width, samples):
            return Reading(inside, found.tolerance)
        return Unjudged(_OTHER_SIZE)
    out = np.empty((height, width, samples), np.uint8)
    tolerance = 0
    for row in range(y // down, -(-(y + height) // down)):
        for column in range(x // across, -(-(x + width) // across)):
            found = segment(row, column)
            if isinstance(found, Unjudged):
                return found
            top, left = row * down, column * across
            y0, y1 = max(y, top), min(y + height, top + down)
            x0, x1 = max(x, left), min(x + width, left + across)
            part = found.pixels[y0 - top : y1 - top, x0 - left : x1 - left]
            if part.shape != (y1 - y0, x1 - x0, samples):
                return Unjudged(_OTHER_SIZE)
            out[y0 - y : y1 - y, x0 - x : x1 - x] = part
            tolerance = max(tolerance, found.tolerance)
    return Reading(out, tolerance)


class TiffReader:
    """Reads levels whose pages it finds by their size.

    Raises
    ------
    NoSecond
        The pages are not of a kind that it can judge.
    """

    def __init__(self, path: Path, facts: SlideFacts, selection: Selection) -> None:
        self._file = path.open("rb")
        self._lock = threading.Lock()
        self._facts = facts
        self._cache = SegmentCache()
        try:
            chain = read_directories(self._file)
            if not chain:
                raise NoSecond("the TIFF has no pages")
            if chain[0].number(259, 1) == _DLPR:
                raise NoSecond("DLPR tiles are decoded by this package alone")
            self._levels = _find_levels(chain, facts, selection)
            self._missing = _missing(self._levels) if facts.vendor == "aperio" else []
        except BaseException:
            self._file.close()
            raise

    @property
    def name(self) -> str:
        """What reads."""
        return f"dlpr-wsi's own TIFF parser with {NAME}"

    def read(self, x: int, y: int, width: int, height: int, level: int) -> Reading | Unjudged:
        """Return a region of a level."""
        pages = self._levels[level]
        if isinstance(pages, Unjudged):
            return pages
        box = (x, y, width, height)
        if any(_touches(holes, box, pages[0]) for holes in self._missing[: level + 1]):
            return Unjudged("no tile is stored there, or in a level above: OpenSlide draws from another level")
        if self._facts.channels is None and len(pages) == 1:
            return self._region(pages[0], box, 3, as_shown=True)
        parts = [self._region(page, box, page.number(277, 1), as_shown=False) for page in pages]
        planes: list[NDArray[np.uint8]] = []
        for part in parts:
            if isinstance(part, Unjudged):
                return part
            planes.append(part.pixels)
        stack = np.concatenate(planes, -1)
        if stack.shape[-1] != self._facts.samples:
            return Unjudged("another number of samples than the archive holds")
        return Reading(stack, max(part.tolerance for part in parts if isinstance(part, Reading)))

    def _region(
        self, page: Directory, box: tuple[int, int, int, int], samples: int, *, as_shown: bool
    ) -> Reading | Unjudged:
        """Return a region of a page: RGB where it is wanted as shown, else its samples."""
        problem = _problem(page, as_shown)
        if problem:
            return Unjudged(problem)
        tile = _grid(page)
        if samples != 3 and as_shown:
            return Unjudged("no RGB picture")
        return assemble(
            box,
            tile,
            samples,
            lambda row, column: self._cache.get(
                (id(page), row, column, as_shown), lambda: self._segment(page, row, column, as_shown)
            ),
        )

    def _segment(self, page: Directory, row: int, column: int, as_shown: bool) -> Reading | Unjudged:
        """Read and decode one tile or strip."""
        across, down = _grid(page)
        height = down if 322 in page.tags else min(down, page.size[1] - row * down)
        columns, rows = -(-page.size[0] // across), -(-page.size[1] // down)
        samples = page.number(277, 1)
        apart = page.number(284, 1) == 2 and samples > 1
        parts, tolerance = [], 0
        for plane in range(samples if apart else 1):
            data = self._stored(page, (plane * rows + row) * columns + column)
            if not data:
                return Unjudged("no tile is stored there")
            decoded = decode_segment(page, data, across, height, 1 if apart else samples)
            if isinstance(decoded, Unjudged):
                return decoded
            compression = page.number(259, 1)
            if compression in _J2K and not reversible(data):
                tolerance = 3 if compression == _J2K_YCBCR else 1
            elif compression == _J2K_YCBCR:
                tolerance = 1  # one px in ten thousand falls on the other side of a half
            parts.append(ycbcr_to_rgb(decoded) if compression == _J2K_YCBCR and decoded.shape[-1] == 3 else decoded)
        stored = np.concatenate(parts, -1) if apart else parts[0]
        if not as_shown:
            return Reading(stored, tolerance)
        reading = shown(page, stored, self._facts.background)
        if isinstance(reading, Unjudged):
            return reading
        return Reading(reading.pixels, reading.tolerance + tolerance)

    def _stored(self, page: Directory, index: int) -> bytes:
        """Return the bytes of a tile or strip; empty where there are none."""
        offsets, counts = (page.tags.get(tag[322 in page.tags], ()) for tag in ((273, 324), (279, 325)))
        if index >= min(len(offsets), len(counts)):
            return b""
        offset, size = offsets[index], counts[index]
        if isinstance(offset, bytes) or isinstance(size, bytes) or not offset or not size:
            return b""
        with self._lock:
            self._file.seek(int(offset))
            return self._file.read(int(size))

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def _missing(levels: list[list[Directory] | Unjudged]) -> list[NDArray[np.float64]]:
    """Return, for each level, where it lacks tiles: (n, 4) of left, top, right, bottom in shares of the level."""
    found = []
    for pages in levels:
        boxes = np.empty((0, 4))
        if not isinstance(pages, Unjudged):
            page = pages[0]
            (across, down), (width, height) = _grid(page), page.size
            index = np.flatnonzero(np.array(page.numbers(325) or page.numbers(279)) == 0)
            rows, columns = np.divmod(index, -(-width // across))
            left, top = columns * across / width, rows * down / height
            boxes = np.stack([left, top, left + across / width, top + down / height], -1)
        found.append(boxes)
    return found


def _touches(holes: NDArray[np.float64], box: tuple[int, int, int, int], page: Directory) -> bool:
    """Tell whether a region, and a tile around it, has part of a hole."""
    if not len(holes):
        return False
    (across, down), (width, height) = _grid(page), page.size
    left, top = (box[0] - across) / width, (box[1] - down) / height
    right, bottom = (box[0] + box[2] + across) / width, (box[1] + box[3] + down) / height
    hit = (holes[:, 0] < right) & (holes[:, 2] > left) & (holes[:, 1] < bottom) & (holes[:, 3] > top)
    return bool(hit.any())


def _grid(page: Directory) -> tuple[int, int]:
    """Return width and height of a page's tiles or strips."""
    if 322 in page.tags:
        return page.number(322), page.number(323)
    width, height = page.size
    return width, min(page.number(278, height) or height, height)


def _problem(page: Directory, as_shown: bool) -> str:
    """Say why a page cannot be judged; empty if it can."""
    if set(page.numbers(258) or (1,)) != {8} or set(page.numbers(339) or (1,)) != {1}:
        return "samples of other than 8 bits"
    if page.number(274, 1) != 1:
        return "an orientation tag"
    if page.number(266, 1) != 1:
        return "bits in reverse order"
    if not as_shown and page.number(262) not in (1, 2):
        return "channels that are stored in other than grey levels"
    return ""


def _find_levels(chain: list[Directory], facts: SlideFacts, selection: Selection) -> list[list[Directory] | Unjudged]:
    """Return the pages of each level: one for a picture, one a channel where these are pages of their own."""
    sizes = [(level.width, level.height) for level in facts.levels]
    xml = ome_xml(chain[0])
    if xml is not None and not facts.reader.startswith("OpenSlide"):
        planes = ome_planes(xml, chain, facts, selection)
        return [_of_size(planes, size) for size in sizes]
    if selection.page is not None:
        return [_of_size([chain[selection.page]], size) for size in sizes]
    every = [page for top in chain for page in (top, *top.subs)]
    found: list[list[Directory] | Unjudged] = []
    for size in sizes:
        fitting = [page for page in every if page.size == size or (facts.vendor == "philips" and _padded(page, size))]
        if len(fitting) == 1:
            found.append(fitting)
        else:
            found.append(Unjudged(_SEVERAL if fitting else "no page of this size: it is put together from others"))
    if all(isinstance(level, Unjudged) for level in found):
        raise NoSecond("; ".join(sorted({level.reason for level in found if isinstance(level, Unjudged)})))
    return found


def _of_size(planes: list[Directory], size: tuple[int, int]) -> list[Directory] | Unjudged:
    """Return the pages of a level: those of level 0, or one of the SubIFDs of each."""
    pages = []
    for plane in planes:
        fitting = [page for page in (plane, *plane.subs) if page.size == size]
        if len(fitting) != 1:
            return Unjudged(_SEVERAL if fitting else "no page of this size")
        pages += fitting
    return pages


def _padded(page: Directory, size: tuple[int, int]) -> bool:
    """Tell whether a page is a level of that size filled up to whole tiles, as Philips stores them."""
    if 322 not in page.tags:
        return False
    return all(0 <= full - own < tile for full, own, tile in zip(page.size, size, _grid(page), strict=True))
