"""OME-TIFF with its lower levels as SubIFDs, and QPTIFF of bright field: JPEG tiles in TIFFs that tifffile reads.

After the OME-TIFF specification on sub-resolutions, and the description of QPTIFF (what each page is stands in its
ImageDescription).
"""

from __future__ import annotations

from pathlib import Path

from kit_common import ASCII, LONG, LONG8, RATIONAL, SHORT, Change, Pixels, TiffOut, halved, tiled, tissue, unchanged


def ome(
    path: Path,
    pixels: Pixels,
    *,
    levels: int = 3,
    tile: int = 128,
    quality: int = 80,
    subsampling: str = "420",
    rgb: bool = False,
    shared: bool = True,
    kind: str = "big",
    tables: bool = True,
    change: Change = unchanged,
) -> list[Pixels]:
    """Write an OME-TIFF of one RGB image whose lower levels are SubIFDs; return the levels."""
    images = [halved(pixels, level) for level in range(levels)]
    height, width = pixels.shape[:2]
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0" Name="Jane Doe S12-3456"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" '
        f'SizeX="{width}" SizeY="{height}" SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="0.25" PhysicalSizeY="0.25" '
        'Interleaved="true"><Channel ID="Channel:0:0" SamplesPerPixel="3" />'
        '<TiffData IFD="0" PlaneCount="1" /></Pixels></Image></OME>'
    )
    with TiffOut(path, kind) as out:
        pages = [
            tiled(
                out,
                image,
                level=level,
                tile=(tile, tile),
                quality=quality,
                subsampling=subsampling,
                rgb=rgb,
                shared=shared,
                tables=tables,
                change=change,
            )
            for level, image in enumerate(images)
        ]
        below = [out.directory(page | {254: (LONG, (1,))}, linked=False) for page in pages[1:]]
        first = pages[0] | {270: (ASCII, xml)}
        if below:
            first[330] = (LONG8 if out.wide else LONG, below)
        out.directory(first)
    return images


def qptiff(
    path: Path,
    pixels: Pixels,
    *,
    levels: int = 3,
    tile: int = 128,
    quality: int = 80,
    subsampling: str = "422",
    rgb: bool = False,
    tables: bool = True,
    change: Change = unchanged,
) -> list[Pixels]:
    """Write a QPTIFF of bright field: full resolution, thumbnail, reduced resolutions, overview; return the levels."""
    images = [halved(pixels, level) for level in range(levels)]
    kinds = ["FullResolution", "Thumbnail", *["ReducedResolution"] * (levels - 1), "Overview"]
    pictures = [images[0], tissue(120, 90, 0, 0), *images[1:], tissue(160, 64, 0, 0)]
    with TiffOut(path, "classic") as out:
        for kind, image in zip(kinds, pictures, strict=True):
            slide = kind in ("FullResolution", "ReducedResolution")
            level = next((index for index, other in enumerate(images) if other is image), 0)
            tags = tiled(
                out,
                image,
                level=level,
                tile=(tile, tile) if slide else (128, 128),
                quality=quality,
                subsampling=subsampling,
                rgb=rgb,
                tables=tables,
                change=change if slide else unchanged,
            )
            tags[254] = (LONG, (0 if kind == "FullResolution" else 1,))
            tags[270] = (
                ASCII,
                '<?xml version="1.0" encoding="utf-16"?><PerkinElmer-QPI-ImageDescription><SlideID>Jane Doe</SlideID>'
                f"<ImageType>{kind}</ImageType><Objective>20x</Objective></PerkinElmer-QPI-ImageDescription>",
            )
            tags[282] = tags[283] = (RATIONAL, (20000 >> level, 1))
            tags[296] = (SHORT, (3,))
            tags[305] = (ASCII, "PerkinElmer-QPI")
            out.directory(tags)
    return images
