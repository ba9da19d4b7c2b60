"""Aperio SVS: full resolution, thumbnail, lower levels, label and macro, as directories of a classic TIFF or a BigTIFF.

After openslide-vendor-aperio.c and the ImageDescriptions that Aperio's software writes.
"""

from __future__ import annotations

from pathlib import Path

from kit_common import ASCII, LONG, UNDEFINED, Change, Pixels, TiffOut, halved, tiled, tissue, unchanged
from PIL import ImageCms


def svs(
    path: Path,
    pixels: Pixels,
    *,
    steps: tuple[int, ...] = (1, 2),
    tile: int = 128,
    quality: int = 80,
    subsampling: str = "420",
    rgb: bool = False,
    shared: bool = True,
    kind: str = "classic",
    change: Change = unchanged,
) -> list[Pixels]:
    """Write an SVS and return its levels.

    Parameters
    ----------
    path : Path
        Where.
    pixels : array, (h, w, 3) uint8
        Level 0.
    steps : tuple of int
        How often each lower level is halved, counted from level 0.
    tile : int
        Side of a tile in px.
    quality, subsampling, rgb : int, str, bool
        Of the tiles; RGB ones are not subsampled.
    shared : bool
        Whether the tables lie in JPEGTables.
    kind : str
        Of the TIFF: classic or big.
    change : callable
        Alters tiles.
    """
    levels = [pixels, *(halved(pixels, step) for step in steps)]
    height, width = pixels.shape[:2]
    kept = f"({tile}x{tile}) JPEG/{'RGB' if rgb else 'YCC'} Q={quality}"
    facts = "AppMag = 40|MPP = 0.2525|Patient = Jane Doe|Filename = S12-3456"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    form = {"tile": (tile, tile), "quality": quality, "subsampling": subsampling, "rgb": rgb, "shared": shared}
    with TiffOut(path, kind) as out:
        for number, image in enumerate(levels):
            lower = f" -> {image.shape[1]}x{image.shape[0]} -" if number else ""
            about = f"Aperio Image Library v11.2.1\r\n{width}x{height} [0,0 {width}x{height}] {kept}{lower}|{facts}"
            out.directory(
                tiled(out, image, level=number, change=change, **form)
                | {254: (LONG, (0,)), 270: (ASCII, about), 34675: (UNDEFINED, profile)}
            )
            if not number:
                small = halved(pixels, 3)
                side = {"tile": (-(-small.shape[1] // 16) * 16, -(-small.shape[0] // 16) * 16), "shared": False}
                out.directory(_stripped(tiled(out, small, **side)) | {254: (LONG, (0,)), 270: (ASCII, "thumbnail")})
        for number, name, picture in ((1, "label", tissue(96, 80, 0, 0)), (9, "macro", tissue(160, 64, 0, 0))):
            tags = _stripped(tiled(out, picture, tile=(picture.shape[1], picture.shape[0]), shared=False))
            about = f"Aperio Image Library v11.2.1\r\n{name} {picture.shape[1]}x{picture.shape[0]}"
            out.directory(tags | {254: (LONG, (number,)), 270: (ASCII, about)})
    return levels


def _stripped(tags):
    """Return the tags of one strip that holds what one tile does."""
    offset, size, height = tags[324], tags[325], tags[257]
    rest = {tag: value for tag, value in tags.items() if tag not in (322, 323, 324, 325)}
    return rest | {273: offset, 278: height, 279: size}
