"""3DHISTECH MIRAX: photographs at places of their own, cut into JPEGs, listed in an index file.

After the long comments and the arithmetic of openslide-vendor-mirax.c: an image of a level is 2 x 2 images of the level
below, halved; pictures of several photographs are cut again and drawn where their photographs lie, between px where
places are not divisible.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kit_common import Change, Pixels, halved, jpeg, tissue, unchanged

ID = "0123456789ABCDEF0123456789ABCDEF"
_VERSION = "01.02"


@dataclass(frozen=True)
class Mirax:
    """What was written: pixels coded as images of each level by (row, column) in images of level 0, and geometry."""

    images: tuple[dict[tuple[int, int], Pixels], ...]
    size: tuple[int, int]
    divisions: int
    places: dict[tuple[int, int], tuple[int, int]]


def mirax(
    path: Path,
    canvas: Pixels,
    *,
    photos: tuple[int, int] = (3, 2),
    divisions: int = 1,
    size: tuple[int, int] = (128, 96),
    overlap: tuple[int, int] = (0, 0),
    places: Callable[[int, int], tuple[int, int]] | None = None,
    missing: Sequence[tuple[int, int]] = (),
    levels: int = 2,
    quality: int = 80,
    subsampling: str = "420",
    change: Change = unchanged,
) -> Mirax:
    """Write a MIRAX slide: ``path`` and the folder of its name.

    Parameters
    ----------
    path : Path
        The index, ``*.mrxs``.
    canvas : array, (h, w, 3) uint8
        What was photographed.
    photos : tuple of int
        Columns and rows of photographs.
    divisions : int
        Images along a side of a photograph.
    size : tuple of int
        Width and height of an image in px, on every level.
    overlap : tuple of int
        Of neighbouring photographs in px; where they lie if ``places`` is not given.
    places : callable, optional
        x and y of photograph (column, row): stored in a table of positions.
    missing : sequence of (column, row)
        Photographs that were not taken.
    levels, quality, subsampling : int, int, str
        Of the pyramid; of the JPEGs.
    change : callable
        Alters images; row and column are those of the image's first image of level 0.
    """
    width, height = size
    across, down = photos[0] * divisions, photos[1] * divisions
    nominal = {
        (c, r): (c * (width * divisions - overlap[0]), r * (height * divisions - overlap[1]))
        for r in range(photos[1])
        for c in range(photos[0])
    }
    where = nominal if places is None else {key: places(*key) for key in nominal}
    first = {}
    for row in range(down):
        for column in range(across):
            photo = (column // divisions, row // divisions)
            if photo in missing:
                continue
            x = where[photo][0] + width * (column % divisions)
            y = where[photo][1] + height * (row % divisions)
            first[row, column] = np.ascontiguousarray(canvas[y : y + height, x : x + width])
    images = [first]
    for level in range(1, levels):
        images.append(_joined(images[-1], 1 << level, size))
    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(jpeg(tissue(64, 48, 0, 0), 70))
    head = _VERSION + ID + "0".rjust(3, "0") + " " * 250
    data = bytearray(head.encode())
    pages = []
    for level, level_images in enumerate(images):
        entries = []
        for (row, column), image in level_images.items():
            coded = change(level, row, column, jpeg(image, quality, subsampling))
            entries.append((row * across + column, len(data), len(coded), 0))
            data += coded
        pages.append(entries)
    beside = [jpeg(tissue(96, 64, 0, 0), 85), jpeg(tissue(64, 64, 100, 0), 85)]
    records = []
    if places is not None:
        table = b"".join(struct.pack("<Bii", 0, *where[c, r]) for r in range(photos[1]) for c in range(photos[0]))
        beside.append(table)
    for record in beside:
        records.append((len(data), len(record), 0))
        data += record
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(_index(pages, records))
    (folder / "Slidedat.ini").write_text(
        _slidedat(across, down, divisions, size, overlap, levels, places is not None), encoding="utf-8-sig"
    )
    return Mirax(tuple(images), size, divisions, {key: where[key] for key in where if key not in missing})


def _joined(below: dict[tuple[int, int], Pixels], step: int, size: tuple[int, int]) -> dict[tuple[int, int], Pixels]:
    """Return the images of a level: each four of the one below, halved, white where there is none."""
    width, height = size
    fours: dict[tuple[int, int], Pixels] = {}
    for (row, column), part in below.items():
        key = (row // step * step, column // step * step)
        four = fours.setdefault(key, np.full((2 * height, 2 * width, 3), 255, np.uint8))
        y, x = height * ((row - key[0]) > 0), width * ((column - key[1]) > 0)
        four[y : y + height, x : x + width] = part
    return {key: halved(four) for key, four in sorted(fours.items())}


def _index(pages, records) -> bytes:
    """Return Index.dat: roots, one list of pages for each level, one for each other record."""
    out = bytearray((_VERSION + ID).encode())
    root = len(out)
    out += bytes(8)

    def put(values):
        at = len(out)
        out.extend(struct.pack(f"<{len(values)}i", *values))
        return at

    heads = []
    for entries in pages:
        half = max(len(entries) // 2, 1)  # two pages of entries, one behind the other
        parts = [entries[:half], entries[half:]] if len(entries) > 1 else [entries]
        begin = len(out)
        for part in parts:
            following = len(out) + 8 + 16 * len(part) if part is not parts[-1] else 0
            put([len(part), following, *(value for entry in part for value in entry)])
        heads.append(put([0, begin]))
    hierarchy = put(heads)
    others = [put([0, put([1, 0, 0, 0, *record])]) for record in records]
    rest = put(others)
    out[root : root + 8] = struct.pack("<ii", hierarchy, rest)
    return bytes(out)


def _slidedat(across, down, divisions, size, overlap, levels, placed) -> str:
    """Return Slidedat.ini."""
    lines = [
        "[GENERAL]",
        f"SLIDE_ID = {ID}",
        "SLIDE_NAME = Jane Doe S12-3456",
        f"IMAGENUMBER_X = {across}",
        f"IMAGENUMBER_Y = {down}",
        "OBJECTIVE_MAGNIFICATION = 20",
        f"CameraImageDivisionsPerSide = {divisions}",
        "[HIERARCHICAL]",
        "HIER_COUNT = 1",
        f"NONHIER_COUNT = {2 if placed else 1}",
        "INDEXFILE = Index.dat",
        "HIER_0_NAME = Slide zoom level",
        f"HIER_0_COUNT = {levels}",
    ]
    for level in range(levels):
        lines += [
            f"HIER_0_VAL_{level} = ZoomLevel_{level}",
            f"HIER_0_VAL_{level}_SECTION = LAYER_0_LEVEL_{level}_SECTION",
        ]
    lines += [
        "NONHIER_0_NAME = Scan data layer",
        "NONHIER_0_COUNT = 2",
        "NONHIER_0_VAL_0 = ScanDataLayer_SlideThumbnail",
        "NONHIER_0_VAL_0_SECTION = NONHIERLAYER_0_LEVEL_0_SECTION",
        "NONHIER_0_VAL_1 = ScanDataLayer_SlideBarcode",
        "NONHIER_0_VAL_1_SECTION = NONHIERLAYER_0_LEVEL_1_SECTION",
    ]
    if placed:
        lines += [
            "NONHIER_1_NAME = VIMSLIDE_POSITION_BUFFER",
            "NONHIER_1_COUNT = 1",
            "NONHIER_1_VAL_0 = default",
            "NONHIER_1_VAL_0_SECTION = NONHIERLAYER_1_SECTION",
        ]
    lines += ["[DATAFILE]", "FILE_COUNT = 1", "FILE_0 = Data0000.dat"]
    lines += ["[NONHIERLAYER_0_LEVEL_0_SECTION]", "THUMBNAIL_IMAGE_TYPE = JPEG"]
    lines += ["[NONHIERLAYER_0_LEVEL_1_SECTION]", "BARCODE_IMAGE_TYPE = JPEG"]
    for level in range(levels):
        shrunk = [side / 2**level if 2**level >= divisions else side / divisions for side in overlap]
        lines += [
            f"[LAYER_0_LEVEL_{level}_SECTION]",
            f"OVERLAP_X = {overlap[0] if not level else shrunk[0]:g}",
            f"OVERLAP_Y = {overlap[1] if not level else shrunk[1]:g}",
            f"MICROMETER_PER_PIXEL_X = {0.25 * 2**level:g}",
            f"MICROMETER_PER_PIXEL_Y = {0.25 * 2**level:g}",
            "IMAGE_FORMAT = JPEG",
            "IMAGE_FILL_COLOR_BGR = 16777215",
            f"DIGITIZER_WIDTH = {size[0]}",
            f"DIGITIZER_HEIGHT = {size[1]}",
            f"IMAGE_CONCAT_FACTOR = {1 if level else 0}",
        ]
    return "\r\n".join(lines) + "\r\n"


def drawn(slide: Mirax, level: int, decoded: dict[tuple[int, int], Pixels], overlap: bool) -> Pixels:
    """Lay a level's decoded images as OpenSlide does, where all places are whole numbers; (h, w, 4) up to the last.

    ``overlap`` says whether the slide has overlaps or a table of positions: only then are images of several
    photographs cut.
    """
    (width, height), step = slide.size, 1 << level
    cuts = max(1, step // slide.divisions) if overlap else 1
    divisor = min(step, slide.divisions) if overlap else step
    parts = {}
    for (row, column), image in decoded.items():
        for v in range(cuts):
            for h in range(cuts):
                y, x = row + v * slide.divisions, column + h * slide.divisions
                photo = (x // slide.divisions, y // slide.divisions)
                if photo not in slide.places:
                    continue
                left = slide.places[photo][0] + width * (x % slide.divisions)
                top = slide.places[photo][1] + height * (y % slide.divisions)
                if left % step or top % step or width % cuts or height % cuts:
                    raise ValueError(f"an image at {left}, {top} lies between the px of level {level}")
                tile_width, tile_height = width // cuts, height // cuts
                tile = image[v * tile_height : (v + 1) * tile_height, h * tile_width : (h + 1) * tile_width]
                parts[row // divisor + v, column // divisor + h] = (top // step, left // step, tile)
    size = [max(part[axis] + part[2].shape[axis] for part in parts.values()) for axis in (0, 1)]
    out = np.zeros((*size, 4), np.uint8)
    for _, (top, left, tile) in sorted(parts.items(), key=lambda part: part[0]):
        out[top : top + tile.shape[0], left : left + tile.shape[1], :3] = tile
        out[top : top + tile.shape[0], left : left + tile.shape[1], 3] = 255
    return out
