"""Restart intervals by themselves: the entropy-coded bytes of runs of MCUs of a JPEG that chunks cut differently.

A level that is one JPEG with restart markers (NDPI, VMS) is a head, intervals and the markers between them. A chunk is
a rectangle of it, so an interval lies in one chunk or in several side by side: `paste` puts their coefficients
together, `join_intervals` makes the bytes of runs of MCUs. Bytes are those between markers: neither RSTn nor EOI.

    template = interval_template(head)            # once a level; head: segments up to and with SOS
    whole = paste([(0, 0, left), (0, 32, right)])
    made = join_intervals(template, whole, [(0, 64), (64, 64)])

Where the bytes made are not those of the file, `split_interval` says why; then its hint makes the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dlpr._native import jpeg_join_intervals, jpeg_split_interval, jpeg_template
from dlpr.errors import CorruptError, UnsupportedInputError
from dlpr.modes.jpeg.difference import restored, spliced
from dlpr.modes.jpeg.grid import Grid
from dlpr.modes.jpeg.hint import Hint, unpack_hint
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.rewrite import Split, Template, as_split

__all__ = ["interval_template", "join_intervals", "paste", "run_of_mcus", "split_interval"]


def interval_template(head: bytes, *, zeros: bool = False) -> Template:
    """Make the template of a JPEG's restart intervals.

    Parameters
    ----------
    head : bytes
        Its marker segments from SOI up to and with SOS. Size and restart interval that stand there have no meaning.
    zeros : bool
        Bits that fill up the last byte of an interval are 0; else 1, as nearly everybody writes them.

    Raises
    ------
    UnsupportedInputError
        No intervals can be made with this head.
    """
    error, data = jpeg_template(bytes(head), zeros)
    if error:
        raise UnsupportedInputError(f"restart intervals cannot be made from coefficients: {error}; keep their bytes")
    return Template(data)


def split_interval(head: bytes, data: bytes, count: int) -> Split:
    """Take a restart interval apart.

    Parameters
    ----------
    head : bytes
        As for `interval_template`.
    data : bytes
        The interval, without the marker behind it.
    count : int
        MCUs, 1 or more.

    Returns
    -------
    Split
        Its image is one row of MCUs; for `Split.hint` give the same run of what is stored (`run_of_mcus`).

    Raises
    ------
    UnsupportedInputError
        It cannot be made from coefficients: keep its bytes.
    """
    return as_split(jpeg_split_interval(bytes(head), bytes(data), 1, count))


def join_intervals(
    template: Template, image: JpegImage, runs: Sequence[tuple[int, int]], hints: Sequence[bytes] = ()
) -> list[bytes]:
    """Make the bytes of restart intervals.

    Parameters
    ----------
    template : Template
        Of `interval_template` or `split_interval`.
    image : JpegImage
        What is stored. Its MCUs count row by row from 0.
    runs : sequence of tuple of int
        First MCU and number of MCUs of each interval.
    hints : sequence of bytes
        Of `Split.hint`, one for each interval; none for none.

    Raises
    ------
    CorruptError
        Template, image and hints do not go together.
    """
    if not template.is_interval:
        raise CorruptError("the template is one of a whole JPEG: use `dlpr.modes.jpeg.rewrite.join`")
    if hints and len(hints) != len(runs):
        raise CorruptError(f"{len(hints)} hints of {len(runs)} restart intervals")
    parts = [unpack_hint(hint) for hint in hints] if any(hints) else []
    plain = [i for i in range(len(runs)) if not parts or parts[i].only_splices]
    whole = restored(Hint(), Grid.of(image), image)
    found = dict(zip(plain, _made(template, whole, [runs[i] for i in plain]), strict=True))
    for i, (first, count) in enumerate(runs):
        if i not in found:
            form = Grid.of(image)
            run = run_of_mcus(image, first, count)
            found[i] = _made(template, restored(parts[i], replace(form, rows=1, columns=count), run), [(0, count)])[0]
    return [spliced(found[i], parts[i].splices if parts else ()) for i in range(len(runs))]


def _made(template: Template, image: JpegImage, runs: list[tuple[int, int]]) -> list[bytes]:
    """Make what a template gives."""
    steps = np.stack(image.tables).reshape(-1, 64)
    arrays = [np.ascontiguousarray(c) for c in image.coefficients]
    out = []
    for error, data in jpeg_join_intervals(template.data, steps, arrays, *image.sampling, runs):
        if error:
            raise CorruptError(f"no restart interval can be made of this template and these coefficients: {error}")
        out.append(data)
    return out


def run_of_mcus(image: JpegImage, first: int, count: int) -> JpegImage:
    """Return a run of MCUs as an image of one row.

    Parameters
    ----------
    image : JpegImage
    first, count : int
        MCUs, row by row.

    Returns
    -------
    JpegImage
        Blocks that ``image`` does not show are filled as `dlpr.modes.jpeg.hint` says.
    """
    grid = Grid.of(image)
    if first < 0 or count < 1 or first + count > grid.rows * grid.columns:
        raise CorruptError(f"MCUs {first} to {first + count} of {grid.rows * grid.columns}")
    whole = restored(Hint(), grid, image)
    row = replace(grid, rows=1, columns=count)
    arrays = []
    for c, blocks in enumerate(whole.coefficients):
        in_mcu = grid.sampling[0] * grid.sampling[1] if c == 0 else 1
        ordered = grid.scan(c, blocks)[first * in_mcu : (first + count) * in_mcu]
        arrays.append(row.raster(c, ordered.reshape(-1, 64)))
    return row.image(image.tables, tuple(arrays))


def paste(pieces: Sequence[tuple[int, int, JpegImage]]) -> JpegImage:
    """Put the coefficients of several windows of a JPEG together.

    Parameters
    ----------
    pieces : sequence of tuple
        Row and column, in MCUs of the whole, of each piece's first MCU; the piece. Windows may share MCUs.

    Returns
    -------
    JpegImage
        The MCUs from the first to the last that a piece has: its MCU 0 is the one at the smallest row and column.

    Raises
    ------
    UnsupportedInputError
        Pieces have different tables or sampling, or do not cover a rectangle.

    Examples
    --------
    >>> from dlpr.modes.jpeg.image import ColourTransform, Upsampling
    >>> steps, flat = np.full((8, 8), 16, np.uint16), np.zeros((1, 2, 8, 8), np.int16)
    >>> image = JpegImage(8, 16, (0, 0), ColourTransform.NONE, (1, 1), Upsampling.FANCY, True, (steps,), (flat,))
    >>> paste([(4, 0, image), (4, 2, image)]).blocks(0)
    (1, 4)
    """
    if not pieces:
        raise UnsupportedInputError("no pieces to put together")
    first = pieces[0][2]
    grids = [Grid.of(image) for _, _, image in pieces]
    top, left = min(row for row, _, _ in pieces), min(column for _, column, _ in pieces)
    bottom = max(row + g.rows for (row, _, _), g in zip(pieces, grids, strict=True))
    right = max(column + g.columns for (_, column, _), g in zip(pieces, grids, strict=True))
    whole = replace(grids[0], rows=bottom - top, columns=right - left)
    if len(pieces) == 1:
        return first
    arrays = [np.zeros((*whole.shape(c), 8, 8), np.int16) for c in range(whole.components)]
    shown = np.zeros(whole.shape(0), np.bool_)
    held = np.zeros((whole.rows, whole.columns), np.bool_)
    for (row, column, image), grid in zip(pieces, grids, strict=True):
        same = (grid.sampling, grid.components) == (whole.sampling, whole.components)
        if not same or not all(np.array_equal(a, b) for a, b in zip(image.tables, first.tables, strict=True)):
            raise UnsupportedInputError("pieces of JPEGs with different tables or sampling")
        for c, blocks in enumerate(image.coefficients):
            _place(arrays[c], blocks, grid, c, (row - top, column - left), image, shown)
        held[row - top : row - top + grid.rows, column - left : column - left + grid.columns] = True
    if not held.all():
        raise UnsupportedInputError("pieces that cover no rectangle")
    (y, x), (height, width) = _window(shown)
    kind = (first.transform, whole.sampling, first.upsampling, first.crop_edges)
    return JpegImage(height, width, (y, x), *kind, first.tables, tuple(arrays))


def _place(
    into: npt.NDArray[np.int16],
    blocks: npt.NDArray[np.int16],
    grid: Grid,
    component: int,
    at: tuple[int, int],
    image: JpegImage,
    shown: npt.NDArray[np.bool_],
) -> None:
    """Copy a piece's blocks that it has: of component 0 those that show a pixel."""
    v, h = grid.sampling if component == 0 else (1, 1)
    y, x = at[0] * v, at[1] * h
    top = left = 0
    bottom, right = grid.shape(component)
    if component == 0:
        top, left = image.phase[0] // 8, image.phase[1] // 8
        bottom, right = -(-(image.phase[0] + image.height) // 8), -(-(image.phase[1] + image.width) // 8)
        shown[y + top : y + bottom, x + left : x + right] = True
    into[y + top : y + bottom, x + left : x + right] = blocks[top:bottom, left:right]


def _window(shown: npt.NDArray[np.bool_]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Phase and size of the pixels of the blocks that are shown, which must be a rectangle."""
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if not shown[top:bottom, left:right].all():
        raise UnsupportedInputError("pieces that cover no rectangle")
    return (8 * top, 8 * left), (8 * (bottom - top), 8 * (right - left))
