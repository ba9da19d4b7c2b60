"""Philips TIFF: levels padded to whole tiles, tiles that are not stored where nothing was scanned, XML about it all.

After openslide-vendor-philips-tiff.c: level 0 keeps its padded size, OpenSlide cuts the lower ones to what the ratio of
the pixel spacings leaves of it; label and macro are JPEGs in base64 inside the XML.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
from kit_common import ASCII, LONG, Change, Pixels, TiffOut, halved, jpeg, tiled, tissue, unchanged


def philips(
    path: Path,
    pixels: Pixels,
    *,
    levels: int = 3,
    tile: int = 128,
    quality: int = 80,
    subsampling: str = "420",
    mpp: float = 0.25,
    kind: str = "classic",
    empty: Callable[[int, int, int], bool] = lambda level, row, column: False,
    tables: bool = True,
    change: Change = unchanged,
) -> list[Pixels]:
    """Write a Philips TIFF and return the padded pixels of each level.

    Parameters
    ----------
    path : Path
        Where.
    pixels : array, (h, w, 3) uint8
        Level 0; it is padded to whole tiles with white.
    levels : int
        How many, each half the one before.
    tile, quality, subsampling : int, int, str
        Of the tiles.
    mpp : float
        um per px of level 0.
    kind : str
        classic or big (BigTIFF).
    empty : callable
        (level, row, column) of a tile that the file does not have: its offset and size are 0.
    tables : bool
        Whether the pages have their JPEGTables.
    change : callable
        Alters tiles.
    """
    padded, image = [], _padded(pixels, tile)
    for level in range(levels):
        padded.append(_padded(halved(image, level), tile))

    def kept(level, row, column, data):
        return b"" if empty(level, row, column) else change(level, row, column, data)

    with TiffOut(path, kind) as out:
        for level, part in enumerate(padded):
            tags = tiled(
                out,
                part,
                level=level,
                tile=(tile, tile),
                quality=quality,
                subsampling=subsampling,
                tables=tables,
                change=kept,
            )
            tags[254] = (LONG, (1 if level else 0,))
            if level == 0:
                tags[270] = (ASCII, _xml(levels, mpp))
                tags[305] = (ASCII, "Philips DP v1.0")
            else:
                tags[270] = (ASCII, f"level={level} mag={40 / 2**level:g} quality={quality}")
            out.directory(tags)
    return padded


def _padded(image: Pixels, tile: int) -> Pixels:
    height, width = (-(-size // tile) * tile for size in image.shape[:2])
    out = np.full((height, width, 3), 255, np.uint8)
    out[: image.shape[0], : image.shape[1]] = image
    return out


def _attribute(name: str, kind: str, value: str) -> str:
    return f'<Attribute Name="{name}" Group="0x0" Element="0x0" PMSVR="{kind}">{value}</Attribute>'


def _xml(levels: int, mpp: float) -> str:
    """Return the ImageDescription of the first page, with a patient's name that must never come out again."""
    spacing = [f"&quot;{mpp * 2**level / 1000:.9f}&quot; " * 2 for level in range(levels)]
    each = "".join(
        '<DataObject ObjectType="PixelDataRepresentation">'
        + _attribute("DICOM_PIXEL_SPACING", "IDoubleArray", spacing[level].strip())
        + _attribute("PIIM_PIXEL_DATA_REPRESENTATION_NUMBER", "IUInt16", str(level))
        + "</DataObject>"
        for level in range(levels)
    )
    label = base64.b64encode(jpeg(tissue(96, 48, 0, 0), 85)).decode()
    macro = base64.b64encode(jpeg(tissue(160, 64, 0, 100), 85)).decode()
    images = (
        ("WSI", _attribute("PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE", "IDataObjectArray", f"<Array>{each}</Array>")),
        ("LABELIMAGE", _attribute("PIM_DP_IMAGE_DATA", "IString", label)),
        ("MACROIMAGE", _attribute("PIM_DP_IMAGE_DATA", "IString", macro)),
    )
    scanned = "".join(
        f'<DataObject ObjectType="DPScannedImage">{_attribute("PIM_DP_IMAGE_TYPE", "IString", name)}{more}</DataObject>'
        for name, more in images
    )
    return (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        + _attribute("DICOM_MANUFACTURER", "IString", "Hamilton")
        + _attribute("DICOM_PATIENT_NAME", "IString", "Jane Doe S12-3456")
        + _attribute("DICOM_DERIVATION_DESCRIPTION", "IString", f"tiff-useBigTIFF=0-levels=40,{levels}")
        + _attribute("DICOM_PIXEL_SPACING", "IDoubleArray", spacing[0].strip())
        + _attribute("PIM_DP_SCANNED_IMAGES", "IDataObjectArray", f"<Array>{scanned}</Array>")
        + "</DataObject>"
    )
