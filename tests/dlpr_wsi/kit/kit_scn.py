"""Leica SCN: one TIFF of several images, each with its own pyramid, laid on a slide by sizes and places in nm.

After openslide-vendor-leica.c: an image as large as the collection at its corner is the macro; the others are areas of
the slide, whose levels lie at offsets that are cut to whole px.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kit_common import ASCII, LONG, SHORT, Change, Pixels, TiffOut, halved, tiled, tissue, unchanged

NAMESPACE = "http://www.leica-microsystems.com/scn/2010/10/01"


def scn(
    path: Path,
    areas: Sequence[tuple[int, int, Pixels]],
    *,
    size: tuple[int, int] = (1536, 1280),
    levels: int = 2,
    step: int = 2,
    tile: int = 128,
    quality: int = 80,
    subsampling: str = "422",
    nm: int = 500,
    tables: bool = True,
    change: Change = unchanged,
) -> list[list[Pixels]]:
    """Write an SCN and return the pixels of each area's levels.

    Parameters
    ----------
    path : Path
        Where.
    areas : sequence of (x, y, pixels)
        Scanned areas: where they begin in px of level 0, and their level 0, (h, w, 3) uint8.
    size : tuple of int
        Width and height of the slide in px of level 0.
    levels, step : int
        How many levels; each is ``step`` halvings of the one before.
    tile, quality, subsampling : int, int, str
        Of the tiles.
    nm : int
        nm per px of level 0.
    tables : bool
        Whether the pages have their JPEGTables.
    change : callable
        Alters tiles; the first number is the page of areas, counted area by area, level by level.
    """
    coded, number = [], 0
    macro = tissue(192, 96, 0, 0)
    with TiffOut(path, "big") as out:
        pages = [(macro, unchanged, 0)]
        for _, _, pixels in areas:
            coded.append([halved(pixels, step * level) for level in range(levels)])
            for image in coded[-1]:
                pages.append((image, change, number))
                number += 1
        for index, (image, altered, level) in enumerate(pages):
            tags = tiled(
                out,
                image,
                level=level,
                tile=(tile, tile),
                quality=quality,
                subsampling=subsampling,
                tables=tables,
                change=altered,
            )
            tags[254] = (LONG, (0,))
            tags[296] = (SHORT, (3,))
            if index == 0:
                tags[270] = (ASCII, _xml(areas, coded, size, nm, macro))
            out.directory(tags)
    return coded


def _xml(areas, coded, size, nm, macro) -> str:
    """Return the ImageDescription of the first page."""
    ifd, text = 1, ""
    whole = f'sizeX="{size[0] * nm}" sizeY="{size[1] * nm}"'
    settings = (
        "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>"
        "<numericalAperture>0.4</numericalAperture><illuminationSource>brightfield</illuminationSource>"
        "</illuminationSettings></scanSettings>"
    )
    begin = '<image name="{}"><creationDate>2012-07-03T13:00:00.00Z</creationDate>'
    device = '<device model="Leica SCN400" version="synthetic" />'
    macro_size = f'sizeX="{macro.shape[1]}" sizeY="{macro.shape[0]}"'
    text += (
        f'{begin.format("macro")}{device}<pixels {macro_size}><dimension {macro_size} r="0" ifd="0" /></pixels>'
        f'<view {whole} offsetX="0" offsetY="0" spacingZ="0" />{settings}</image>'
    )
    for (x, y, pixels), images in zip(areas, coded, strict=True):
        lines = ""
        for level, image in enumerate(images):
            lines += f'<dimension sizeX="{image.shape[1]}" sizeY="{image.shape[0]}" r="{level}" ifd="{ifd}" />'
            ifd += 1
        height, width = pixels.shape[:2]
        text += (
            f'{begin.format("area")}{device}<pixels sizeX="{width}" sizeY="{height}">{lines}</pixels>'
            f'<view sizeX="{width * nm}" sizeY="{height * nm}" offsetX="{x * nm}" offsetY="{y * nm}" spacingZ="0" />'
            f"{settings}</image>"
        )
    return (
        f'<?xml version="1.0"?><scn xmlns="{NAMESPACE}" uuid="urn:uuid:0">'
        f'<collection name="Jane Doe" uuid="urn:uuid:1" {whole}><barcode>UzEyLTM0NTY=</barcode>{text}'
        "</collection></scn>"
    )
