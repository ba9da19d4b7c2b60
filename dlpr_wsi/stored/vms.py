"""Hamamatsu VMS: a text file names the JPEGs of level 0, which lie on a grid, and that of the smallest level (the map).

Each is cut into strips by restart markers, as in NDPI. The file of the markers' places (OptimisationFile) names one in
each row only; they are searched for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from dlpr_wsi.stored.container import SlideFile
from dlpr_wsi.stored.scan import JpegScan
from dlpr_wsi.stored.strips import StripLevel, StripStore

__all__ = ["open_vms"]

_MOST_INDEX = 64 << 10  # bytes; OpenSlide's
_MOST_FILES = 4096
_GROUP = "[Virtual Microscope Specimen]"
_IMAGE = re.compile(r"ImageFile(?:\((?:(\d{1,4}),)?(\d{1,4}),(\d{1,4})\)|\((\d{1,4})\))?")


def open_vms(slide: SlideFile) -> StripStore:
    """Find the JPEGs of a VMS.

    Raises
    ------
    ValueError
        It is none, or names files that are not beside it.
    OSError
        A file cannot be read.
    """
    keys = _keys(slide.path)
    columns, rows = int(keys.get("NoJpegColumns", 0)), int(keys.get("NoJpegRows", 0))
    if min(columns, rows) < 1 or columns * rows > _MOST_FILES:
        raise ValueError("a grid of no JPEGs, or of too many")
    names = _grid(keys, columns, rows)
    paths = [_beside(slide.path, names[row, column]) for row in range(rows) for column in range(columns)]
    paths.append(_beside(slide.path, keys["MapFile"]))
    with ExitStack() as stack:
        scans = []
        for number, path in enumerate(paths, 1):
            file = stack.enter_context(path.open("rb"))
            scans.append(JpegScan(file, number, 0, path.stat().st_size))
        store = StripStore((slide.path, *paths), (stack.pop_all(),))
    base = [scans[row * columns : (row + 1) * columns] for row in range(rows)]
    found = {}
    for grid in (base, [[scans[-1]]]):
        size = (sum(scan.header.width for scan in grid[0]), sum(row[0].header.height for row in grid))
        level = next((level for level, said in enumerate(slide.dimensions) if tuple(said) == size), None)
        if level is not None:
            found[level] = partial(_level, grid, *size)
    store.fill(slide.dimensions, found)
    return store


def _keys(path: Path) -> Mapping[str, str]:
    """Read the text file."""
    with path.open("rb") as file:
        text = file.read(_MOST_INDEX).decode("utf-8", "replace")
    keys: dict[str, str] = {}
    inside = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == _GROUP
        elif inside and "=" in line:
            key, _, value = line.partition("=")
            keys.setdefault(key.strip(), value.strip())
    return keys


def _grid(keys: Mapping[str, str], columns: int, rows: int) -> dict[tuple[int, int], str]:
    """Return the name of the JPEG at each row and column, of the first layer."""
    names = {}
    for key, value in keys.items():
        found = _IMAGE.fullmatch(key)
        if found is None:
            continue
        layer, column, row, only = (int(number or 0) for number in found.groups())
        if layer == only == 0:
            names[row, column] = value
    if set(names) != {(row, column) for row in range(rows) for column in range(columns)}:
        raise ValueError("JPEGs that do not fill their grid")
    return names


def _beside(path: Path, name: str) -> Path:
    """Return a file in the slide's folder."""
    if not name or Path(name).name != name:
        raise ValueError("a name that is no file beside it")
    return path.with_name(name)


def _level(grid: Sequence[Sequence[JpegScan]], width: int, height: int) -> StripLevel:
    """Cut the JPEGs of a level into strips."""
    first = grid[0][0].header
    strip = (first.interval * first.mcu_width, first.mcu_height)
    if not first.interval:
        raise ValueError("no restart markers")
    for row in grid:
        for scan in row:
            header = scan.header
            if (header.interval * header.mcu_width, header.mcu_height) != strip or header.width % strip[0]:
                raise ValueError("JPEGs cut into strips that differ")
            if header.height % strip[1] and row is not grid[-1]:
                raise ValueError("JPEGs of heights that are no whole strips")
            scan.cut((header.width // strip[0]) * (header.height // strip[1]))
    return StripLevel(grid, strip, width, height)
