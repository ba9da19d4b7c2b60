"""A chunk that lies across several JPEGs: their blocks joined to one `JpegImage`.

::

    JPEG | JPEG
    -----+-----  --blocks behind the chunk, at one grid--> JpegImage
    JPEG | JPEG

The chunk may begin anywhere; what must be the same is the grid of MCUs, the sampling and the tables. Where JPEGs do
not agree, those that hold most of the chunk are taken, and the residual has to make up for the others. Chroma that was
decoded JPEG by JPEG differs a little along their edges, which the residual takes too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlpr.modes.jpeg.image import Coefficients, ColourTransform, JpegImage

__all__ = ["Piece", "join"]

_LEAST = 0.75
"""Share of the pixels behind JPEGs that must be behind those that agree; less is not worth a try."""


@dataclass(frozen=True)
class Piece:
    """A parsed JPEG behind a part of a chunk."""

    image: JpegImage | None
    """All of it; None where it is of no use."""
    at: tuple[int, int]
    """Row and column of its top left pixel in the chunk; negative where it begins outside."""
    shown: tuple[int, int, int, int]
    """Top, left, height and width of the part of it that is seen, in its pixels."""


def join(pieces: Sequence[Piece], height: int, width: int, background: tuple[int, ...]) -> JpegImage | None:
    """Join the blocks behind a chunk.

    Parameters
    ----------
    pieces : sequence of Piece
        Those that hide others last.
    height, width : int
        Of the chunk in pixels.
    background : tuple of int
        Colour where no JPEG is seen.

    Returns
    -------
    JpegImage or None
        None where no JPEG is of use, or too much of the chunk is behind JPEGs that do not agree.
    """
    groups: dict[tuple[object, ...], list[tuple[Piece, JpegImage]]] = defaultdict(list)
    areas: dict[tuple[object, ...], int] = defaultdict(int)
    total = 0
    for piece in pieces:
        area, image = _seen(piece, height, width), piece.image
        total += area
        if image is not None and area and image.phase == (0, 0):
            kind = _kind(piece, image)
            groups[kind].append((piece, image))
            areas[kind] += area
    if not groups:
        return None
    best = max(areas, key=lambda kind: areas[kind])
    return _joined(groups[best], background, height, width) if areas[best] >= _LEAST * total else None


def _kind(piece: Piece, image: JpegImage) -> tuple[object, ...]:
    """Return what JPEGs must have in common."""
    (down, across), (top, left) = image.mcu, piece.at
    tables = b"".join(table.tobytes() for table in image.tables)
    return (top % down, left % across, image.transform, image.sampling, image.upsampling, tables)


def _seen(piece: Piece, height: int, width: int) -> int:
    """Return the pixels of the chunk that a piece is behind."""
    (y, x), (top, left, high, wide) = piece.at, piece.shown
    down = min(y + top + high, height) - max(y + top, 0)
    across = min(x + left + wide, width) - max(x + left, 0)
    return max(down, 0) * max(across, 0)


def _joined(
    parts: Sequence[tuple[Piece, JpegImage]], background: tuple[int, ...], height: int, width: int
) -> JpegImage:
    """Lay blocks of JPEGs with one grid over each other."""
    first = parts[0][1]
    (down, across), (v, h) = first.mcu, first.sampling
    phase = (-parts[0][0].at[0] % down, -parts[0][0].at[1] % across)
    rows, columns = -(-(phase[0] + height) // down), -(-(phase[1] + width) // across)
    arrays = _flat(first, background, rows, columns)
    crop = False
    for piece, image in parts:
        (y, x), (top, left, high, wide) = piece.at, piece.shown
        row, column = (y + phase[0]) // down, (x + phase[1]) // across  # of the JPEG's first MCU
        last = (-(-image.height // down), -(-image.width // across))
        r0, r1 = max(top // down, -row, 0), min(-(-(top + high) // down), last[0], rows - row)
        c0, c1 = max(left // across, -column, 0), min(-(-(left + wide) // across), last[1], columns - column)
        if r0 >= r1 or c0 >= c1:
            continue
        for number, blocks in enumerate(image.coefficients):
            dv, dh = (v, h) if number == 0 else (1, 1)
            into = arrays[number][(row + r0) * dv : (row + r1) * dv, (column + c0) * dh : (column + c1) * dh]
            into[:] = blocks[r0 * dv : r1 * dv, c0 * dh : c1 * dh]
        crop |= image.crop_edges and (y + image.height == height or x + image.width == width)
    return JpegImage(
        height, width, phase, first.transform, first.sampling, first.upsampling, crop, first.tables, tuple(arrays)
    )


def _flat(image: JpegImage, background: tuple[int, ...], rows: int, columns: int) -> list[Coefficients]:
    """Return blocks of one colour."""
    levels = [float(value) for value in background[: image.components]]
    levels += levels[-1:] * (image.components - len(levels))
    if image.transform is ColourTransform.YCBCR:
        red, green, blue = levels
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        levels = [luma, 128 + 0.564 * (blue - luma), 128 + 0.713 * (red - luma)]
    out = []
    for number, level in enumerate(levels):
        v, h = image.sampling if number == 0 else (1, 1)
        blocks = np.zeros((rows * v, columns * h, 8, 8), np.int16)
        blocks[..., 0, 0] = round(8 * (level - 128) / int(image.tables[number][0, 0]))
        out.append(blocks)
    return out
