"""A chunk that lies anywhere in a JPEG 2000 image: its window, with what of the image reaches it.

::

    codec's grid and the chunk's place on it --window_fields--> Fields with the smallest area that decides the chunk
    its coefficients, planes cut by block    --window_image--> J2kImage, for `j2k_streams` or ``encode(source=)``
    a whole J2kImage and a place in it       --window_of-----> the same, cut out

Tiles' true edges are kept, for there the wavelet starts anew. Where a tile goes on, the area ends so far from the
window that nothing behind matters: 109 samples with five decompositions, and one coefficient of each band more. Rows
of a tile that no stripe could end at go on to its edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlpr.errors import UnsupportedInputError
from dlpr.modes.j2k.fields import MAX_MARGIN, MAX_PLANES, Colour, Component, Fields
from dlpr.modes.j2k.image import Coefficients, Counts, J2kImage
from dlpr.modes.j2k.reach import Interval, farthest

__all__ = ["window_fields", "window_image", "window_of"]

_STRIPE = 4
"""Rows of a band that a significance pass goes through together."""
_FAR = 1 << 40


@dataclass(frozen=True)
class _Axis:
    """One axis of a window on the grid of the image that it is cut out of."""

    edges: Interval
    """Of the area that is kept of the image."""
    tile: Interval
    """First row or column and size of the first tile."""
    first: int
    """Number of the image's tile that is the window's first one."""
    moved: int
    """What coordinates of the image are larger than those of the window."""


def _axis(chunk: Interval, components: Sequence[Component], axis: int, tiles: Interval, whole: Interval) -> _Axis:
    """Cut one axis."""
    sampling, depth = max(c.sampling[axis] for c in components), max(c.levels for c in components)
    (begin, end), (start, size) = chunk, tiles
    first, last = (begin - start) // size, (end - 1 - start) // size
    margin = min(sampling * (farthest(depth) + (1 << depth) + 1), MAX_MARGIN)
    low, high = begin - margin, end + margin
    if axis == 0:  # stripes are counted from the tile's first row
        unit = _STRIPE * sampling << depth
        aligned = start + first * size if (start + first * size) % unit else low - low % unit
        low = aligned if begin - aligned <= MAX_MARGIN else low
    low, high = max(low, start + first * size, whole[0]), min(high, start + (last + 1) * size, whole[1])
    tile = start + first * size, size
    if first == last:
        tile = low, high - low
    elif first + 1 == last:
        edge = start + last * size
        size = max(edge - low, high - edge)
        tile = edge - size, size
    # Blocks begin at multiples of their size in coordinates of their band.
    period = sampling << max(
        pair[axis] + c.levels - max(r - 1, 0) for c in components for r, pair in enumerate(c.blocks)
    )
    moved = tile[0] // period * period
    return _Axis((low - moved, high - moved), (tile[0] - moved, tile[1]), first, moved)


def _cut(
    chunk: tuple[int, int, int, int],
    tiles: tuple[int, int, int, int] | None,
    components: Sequence[Component],
    area: tuple[int, int, int, int] | None,
) -> tuple[_Axis, _Axis]:
    """Cut both axes."""
    out = []
    for axis in (0, 1):
        grid = (-_FAR, 2 * _FAR) if tiles is None else (tiles[axis], tiles[axis + 2])
        whole = (-_FAR, _FAR) if area is None else (area[axis], area[axis + 2])
        out.append(_axis((chunk[axis], chunk[axis + 2]), components, axis, grid, whole))
    return out[0], out[1]


def window_fields(
    chunk: tuple[int, int, int, int],
    tiles: tuple[int, int, int, int] | None,
    components: Sequence[Component],
    transform: bool,
    colour: Colour = Colour.NONE,
    area: tuple[int, int, int, int] | None = None,
) -> Fields:
    """Return the fields of the smallest image that decides a chunk's pixels.

    Parameters
    ----------
    chunk : tuple of int
        Top, left, bottom, right of the chunk on the reference grid of the image that it is cut out of. What is not
        known of its place is free, but for its phase at each decomposition, the edges of tiles and code blocks.
    tiles : tuple of int or None
        Top, left, height, width of one of the image's tiles, as all have; None where no tile's edge is near.
    components : sequence of Component
    transform : bool
        The components went through RCT or ICT.
    colour : Colour
        What they are after that.
    area : tuple of int, optional
        Top, left, bottom, right of the whole image, if its edges may be near.

    Returns
    -------
    Fields
        With a window; everything is moved by a multiple of what decompositions and code blocks need.

    Raises
    ------
    UnsupportedInputError
        The fields are out of their ranges.

    Examples
    --------
    >>> from dlpr.modes.j2k.fields import Wavelet
    >>> one = Component((1, 1), Wavelet.IRREVERSIBLE, ((6, 6),) * 3, ((8, 0),) * 7, 1)
    >>> fields = window_fields((9000, 500, 9064, 564), (0, 0, 256, 256), [one], False)
    >>> fields.area, fields.tiles, fields.window
    ((16, 228, 120, 324), (16, 188, 104, 68), (40, 244, 104, 308))
    """
    rows, columns = _cut(chunk, tiles, components, area)
    return Fields(
        (rows.edges[0], columns.edges[0], rows.edges[1], columns.edges[1]),
        (rows.tile[0], columns.tile[0], rows.tile[1], columns.tile[1]),
        tuple(components),
        transform,
        colour,
        (chunk[0] - rows.moved, chunk[1] - columns.moved, chunk[2] - rows.moved, chunk[3] - columns.moved),
    )


def window_image(
    fields: Fields, coefficients: Sequence[Coefficients], lowest: Sequence[Counts] | None = None
) -> J2kImage:
    """Return the image of coefficients whose passes nobody knows.

    Parameters
    ----------
    fields : Fields
    coefficients : sequence of numpy.ndarray
        int32 [rows, columns] for each band of ``fields.bands``; what does not reach the window is ignored.
    lowest : sequence of numpy.ndarray, optional
        uint8 [block rows, block columns] for each band: the lowest bit plane that is known of each block's
        coefficients, which have zeros below; 0 where left out.

    Returns
    -------
    J2kImage
        All planes of a block down to its lowest one are complete.

    Raises
    ------
    UnsupportedInputError
        A coefficient needs more bit planes than its band has.
    """
    kept, passes, missing = [], [], []
    for number, band in enumerate(fields.bands):
        q = np.zeros_like(coefficients[number])
        count, gone = np.zeros(band.grid, np.uint8), np.zeros(band.grid, np.uint8)
        for at in band.reaching:
            place = band.block(*at)
            low = 0 if lowest is None else int(lowest[number][at])
            block = coefficients[number][place]
            magnitude = np.abs(block.astype(np.int64)) >> low
            if not magnitude.any():
                continue
            planes = min(band.planes, MAX_PLANES)
            if int(magnitude.max()) >> max(planes - low, 0):
                raise UnsupportedInputError(
                    f"{int(magnitude.max())} in a band of {band.planes} planes; code the pixels alone"
                )
            q[place] = np.sign(block) * (magnitude << low)
            gone[at], count[at] = band.planes - planes, 3 * (planes - low) - 2
        kept.append(q)
        passes.append(count)
        missing.append(gone)
    return J2kImage(fields, tuple(kept), tuple(passes), tuple(missing))


def window_of(image: J2kImage, top: int, left: int, height: int, width: int) -> J2kImage:
    """Cut a window out of an image.

    Parameters
    ----------
    image : J2kImage
        Without a window.
    top, left, height, width : int
        In pixels, from the image's first one.

    Returns
    -------
    J2kImage
        Whose pixels are the image's, with the coefficients that reach them, known as far. No codestream is to be made
        of it, so no block has missing planes: that takes the fewest bytes.

    Raises
    ------
    UnsupportedInputError
        No place in the image, or one that the mode takes no window of.
    """
    f = image.fields
    if f.window is not None or not (0 <= top < top + height <= f.height and 0 <= left < left + width <= f.width):
        raise UnsupportedInputError(f"a window of {height} x {width} px at {top}, {left}; take one inside of the image")
    top, left = top + f.area[0], left + f.area[1]
    chunk = top, left, top + height, left + width
    rows, columns = _cut(chunk, f.tiles, f.components, f.area)
    fields = window_fields(chunk, f.tiles, f.components, f.transform, f.colour, f.area)
    each = sum(3 * c.levels + 1 for c in f.components)
    q, passes, missing = [], [], []
    for number, band in enumerate(fields.bands):
        row, column = divmod(band.tile, fields.tile_columns)
        tile = (rows.first + row) * f.tile_columns + columns.first + column
        source = tile * each + number % each
        whole, c = f.bands[source], f.components[band.component]
        depth = c.levels - max(band.resolution - 1, 0)
        y = band.top + (rows.moved // c.sampling[0] >> depth)
        x = band.left + (columns.moved // c.sampling[1] >> depth)
        out, grid = np.zeros([max(n, 0) for n in band.shape], np.int32), band.grid
        counts = np.zeros((2, *grid), np.uint8)
        for at in band.reaching:
            place = band.block(*at)
            ys, xs = (
                slice(s.start + start - o, s.stop + start - o)
                for s, start, o in zip(place, (y, x), (whole.top, whole.left), strict=True)
            )
            out[place] = image.coefficients[source][ys, xs]
            block = (
                at[0] + (y >> band.block_height) - (whole.top >> band.block_height),
                at[1] + (x >> band.block_width) - (whole.left >> band.block_width),
            )
            count = int(image.passes[source][block])
            if count and out[place].any():
                planes = min(band.planes, MAX_PLANES)
                counts[0][at] = count + 3 * (int(image.missing[source][block]) - band.planes + planes)
                counts[1][at] = band.planes - planes
        q.append(out)
        passes.append(counts[0])
        missing.append(counts[1])
    return J2kImage(fields, tuple(q), tuple(passes), tuple(missing))
