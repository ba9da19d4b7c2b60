"""Ventana BIF: areas of tiles that overlap, numbered from the bottom in rows that turn, placed by sums of overlaps.

After openslide-vendor-ventana.c: one average advance for all tiles, the weighted mean of what the joints say; areas at
places counted from below; the first tile that is drawn stays on top, which is the lower right one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kit_common import ASCII, BYTE, LONG, Change, Pixels, TiffOut, halved, tiled, tissue, unchanged


@dataclass(frozen=True)
class Area:
    """Tiles that were scanned together: where in the table of tiles, how many, and where on the slide in px."""

    column: int
    row: int
    columns: int
    rows: int
    x: int
    y: int


def bif(
    path: Path,
    canvas: Pixels,
    areas: Sequence[Area],
    *,
    tile: int = 128,
    overlap: tuple[int, int] = (16, 8),
    uneven: bool = False,
    levels: int = 2,
    quality: int = 80,
    subsampling: str = "422",
    shared: bool = True,
    tables: bool = True,
    change: Change = unchanged,
) -> list[Pixels]:
    """Write a BIF and return the pages of its levels: the tiles side by side, white ones outside of areas.

    Parameters
    ----------
    path : Path
        Where.
    canvas : array, (h, w, 3) uint8
        What was scanned; each tile is cut out of it where it lies.
    areas : sequence of Area
        The topmost must lie at y = 0, as OpenSlide counts from it.
    tile : int
        Side of a tile in px.
    overlap : tuple of int
        Of neighbours across and down in px: twice 2 px makes a level whose tiles have whole places too.
    uneven : bool
        Whether one joint says 1 px more, so that the mean is no whole number and OpenSlide draws between px.
    levels : int
        How many, each half the one before.
    quality, subsampling : int, str
        Of the tiles.
    shared, tables : bool
        Whether the tables lie in JPEGTables; whether there are any.
    change : callable
        Alters tiles.
    """
    step_x, step_y = tile - overlap[0], tile - overlap[1]
    columns, rows = max(a.column + a.columns for a in areas), max(a.row + a.rows for a in areas)
    table = np.full((rows * tile, columns * tile, 3), 255, np.uint8)
    for area in areas:
        for row in range(area.rows):
            for column in range(area.columns):
                y, x = area.y + row * step_y, area.x + column * step_x
                top, left = (area.row + row) * tile, (area.column + column) * tile
                table[top : top + tile, left : left + tile] = canvas[y : y + tile, x : x + tile]
    stored = [halved(table, level) for level in range(levels)]
    with TiffOut(path, "big") as out:
        label = tiled(out, tissue(96, 160, 0, 0), tile=(96, 160), shared=False)
        iscan = (
            '<iScan BarCode1D="S12-3456" OperatorID="Jane Doe" Magnification="20" ScanRes="0.465000" '
            'BuildVersion="3.3.1.1" ScanWhitePoint="235" Z-layers="1" />'
        )
        xml = f"<?xml version='1.0'?><Metadata>{iscan}</Metadata>"
        out.directory(label | {254: (LONG, (0,)), 270: (ASCII, "Label_Image"), 700: (BYTE, xml.encode())})
        for level, image in enumerate(stored):
            tags = tiled(
                out,
                image,
                level=level,
                tile=(tile, tile),
                quality=quality,
                subsampling=subsampling,
                shared=shared,
                tables=tables,
                change=change,
            )
            tags[254] = (LONG, (1 if level else 0,))
            tags[270] = (ASCII, f"level={level} mag={20 / 2**level:g} quality={quality}")
            if level == 0:
                tags[700] = (BYTE, _xml(areas, tile, overlap, uneven).encode())
            out.directory(tags)
    return stored


def drawn(
    table: Pixels, areas: Sequence[Area], level: int, tile: int = 128, overlap: tuple[int, int] = (16, 8)
) -> Pixels:
    """Lay the tiles of a level (of lower ones: their parts) as OpenSlide does, where all places are whole numbers.

    ``table`` holds the decoded tiles side by side. Returns (h, w, 4), transparent where there is no tile.
    """
    part, factor = tile >> level, 1 << level
    placed = {}
    for area in areas:
        for row in range(area.rows):
            for column in range(area.columns):
                x, y = area.x + column * (tile - overlap[0]), area.y + row * (tile - overlap[1])
                if x % factor or y % factor:
                    raise ValueError(f"a tile at {x}, {y} lies between the px of level {level}")
                placed[area.row + row, area.column + column] = y // factor, x // factor
    size = [max(place[axis] for place in placed.values()) + part for axis in (0, 1)]
    out = np.zeros((*size, 4), np.uint8)
    for (row, column), (y, x) in sorted(placed.items()):  # what OpenSlide draws first, at the lower right, stays
        out[y : y + part, x : x + part, :3] = table[row * part : (row + 1) * part, column * part : (column + 1) * part]
        out[y : y + part, x : x + part, 3] = 255
    return out


def _xml(areas, tile, overlap, uneven) -> str:
    """Return the EncodeInfo of level 0."""
    heights = [(area.rows - 1) * (tile - overlap[1]) + tile for area in areas]
    bottom = max(area.y + height for area, height in zip(areas, heights, strict=True))
    infos, origins, first = "", "", uneven
    for index, (area, height) in enumerate(zip(areas, heights, strict=True)):

        def number(row, column, area=area):
            """Number a tile: from the lowest row up, to the right, then to the left, and so on."""
            up = area.rows - 1 - row
            return up * area.columns + (area.columns - 1 - column if up % 2 else column) + 1

        joints = []
        for row in range(area.rows):
            for column in range(area.columns):
                if column + 1 < area.columns:
                    more, first = int(first), False
                    joints.append(("RIGHT", number(row, column), number(row, column + 1), overlap[0] + more, 0))
                if row:
                    joints.append(("UP", number(row, column), number(row - 1, column), 0, overlap[1]))
        infos += (
            f'<ImageInfo AOIScanned="1" AOIIndex="{index}" Width="{tile}" Height="{tile}" NumRows="{area.rows}" '
            f'NumCols="{area.columns}" Pos-X="{area.x}" Pos-Y="{bottom - area.y - height}">'
        )
        for way, one, two, x, y in joints:
            infos += (
                f'<TileJointInfo FlagJoined="1" Confidence="99" Direction="{way}" Tile1="{one}" Tile2="{two}" '
                f'OverlapX="{x}" OverlapY="{y}" />'
            )
        infos += "</ImageInfo>"
        origins += f'<AOI{index} OriginX="{area.column * tile}" OriginY="{area.row * tile}" />'
    return (
        f"<?xml version='1.0'?><EncodeInfo Ver=\"2\"><SlideStitchInfo>{infos}</SlideStitchInfo>"
        f"<AoiOrigin>{origins}</AoiOrigin></EncodeInfo>"
    )
