"""Hamamatsu VMS: a table of JPEGs with restart markers, a map of the whole, a file of the strips' places, and an index.

After openslide-vendor-hamamatsu.c: ``ImageFile(x,y)`` names the JPEGs, the map is the second level; the optimisation
file has 40 bytes for each row of strips, of which the first eight say where it begins in its JPEG.
"""

from __future__ import annotations

import struct
from pathlib import Path

from kit_common import SAMPLING, Change, Pixels, halved, jpeg, tissue, unchanged
from kit_ndpi import restarted


def vms(
    path: Path,
    pixels: Pixels,
    *,
    jpegs: tuple[int, int] = (2, 2),
    strip: int = 128,
    shrink: int = 3,
    subsampling: str = "422",
    quality: int = 80,
    places: bool = True,
    change: Change = unchanged,
) -> tuple[Pixels, Pixels]:
    """Write a VMS with its files beside it and return the pixels coded: the picture and its map.

    Parameters
    ----------
    path : Path
        The index, ``*.vms``.
    pixels : array, (h, w, 3) uint8
        Cut so that all JPEGs are of one size, whole strips.
    jpegs : tuple of int
        Columns and rows of JPEGs.
    strip : int
        Width of a strip in px.
    shrink : int
        Halvings from the picture to the map.
    subsampling, quality : str, int
        Of the JPEGs; OpenSlide cannot read strips at 4:2:0, see `kit_ndpi.ndpi`.
    places : bool
        Whether there is an optimisation file.
    change : callable
        Alters strips: level 0, row and column of strips in the whole picture.
    """
    mcu = [8 * factor for factor in SAMPLING[subsampling]]
    strip = strip // mcu[0] * mcu[0]
    across = pixels.shape[1] // (jpegs[0] * strip) * strip
    down = pixels.shape[0] // (jpegs[1] * mcu[1]) * mcu[1]
    if min(across, down) < 1:
        raise ValueError("too few pixels for that many JPEGs")
    picture = pixels[: down * jpegs[1], : across * jpegs[0]]
    lines = [
        "NoLayers=1",
        f"NoJpegColumns={jpegs[0]}",
        f"NoJpegRows={jpegs[1]}",
        "SourceLens=20",
        f"PhysicalWidth={picture.shape[1] * 500}",
        f"PhysicalHeight={picture.shape[0] * 500}",
        "SlideID=Jane Doe S12-3456",
    ]
    rows = b""
    for y in range(jpegs[1]):
        for x in range(jpegs[0]):

            def altered(level, row, column, data, x=x, y=y):
                return change(level, y * (down // mcu[1]) + row, x * (across // strip) + column, data)

            part = picture[y * down : (y + 1) * down, x * across : (x + 1) * across]
            data, starts = restarted(part, strip // mcu[0], subsampling, quality, change=altered)
            name = f"{path.stem}({x},{y}).jpg" if x or y else f"{path.stem}.jpg"
            path.with_name(name).write_bytes(data)
            lines.append(f"ImageFile({x},{y})={name}" if x or y else f"ImageFile={name}")
            for start in starts[:: across // strip]:
                rows += struct.pack("<q", start).ljust(40, b"\0")
    small = halved(picture, shrink)
    width = max(strip >> shrink, mcu[0]) // mcu[0] * mcu[0]
    small = small[: small.shape[0] // mcu[1] * mcu[1], : small.shape[1] // width * width]
    path.with_name(f"{path.stem}_map.jpg").write_bytes(restarted(small, width // mcu[0], subsampling, quality)[0])
    path.with_name(f"{path.stem}_macro.jpg").write_bytes(jpeg(tissue(160, 64, 0, 0), 85))
    lines += [f"MapFile={path.stem}_map.jpg", f"MacroImage={path.stem}_macro.jpg"]
    if places:
        path.with_suffix(".opt").write_bytes(rows)
        lines.append(f"OptimisationFile={path.stem}.opt")
    path.write_text("[Virtual Microscope Specimen]\n" + "\n".join(lines) + "\n")
    return picture, small
