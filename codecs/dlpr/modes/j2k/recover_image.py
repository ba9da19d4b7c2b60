"""Found coefficients as a window of a JPEG 2000 image (docs/decisions/0018)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dlpr.errors import UnsupportedInputError
from dlpr.modes.j2k.fields import BandPlace, Colour, Component, Fields, Wavelet
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.recover_steps import Quantiser
from dlpr.modes.j2k.recover_tile import SeenPart
from dlpr.modes.j2k.window import window_fields

__all__ = ["low_step", "to_image"]

Ints = npt.NDArray[np.int64]

_LOW_STEPS = {3: (14, 1024), 4: (14, 0)}
"""Step of LL by the number of decompositions, 1/43 and 1/64 of a level: so fine that little rounding comes from it."""
_WHOLE_STEP = (8, 0)
_GUARD = 7


def low_step(part: SeenPart) -> tuple[int, int]:
    """Return the step of LL: a fraction of a level, or whole numbers."""
    return _WHOLE_STEP if part.whole else _LOW_STEPS[part.shape.levels]


def to_image(
    parts: Mapping[tuple[int, int, int], SeenPart],
    size: tuple[int, int],
    corner: tuple[int, int],
    tile: tuple[int, int],
    quantiser: Quantiser,
    sampling: tuple[int, ...],
    colour: Colour,
) -> J2kImage:
    """Return the window.

    Parameters
    ----------
    parts : mapping
        By component, row and column of the tile.
    size : tuple of int
        Rows and columns of the pixels.
    corner : tuple of int
        Where they begin in the first tile.
    tile : tuple of int
        Height and width of a tile.
    quantiser : Quantiser
    sampling : tuple of int
        Pixels for each sample across, of each component.
    colour : Colour
        YCBCR: without the codec's own transform.

    Returns
    -------
    J2kImage
        Newly significant coefficients that no significance pass finds are 0.

    Raises
    ------
    UnsupportedInputError
        The transforms of the tiles do not begin with the same phase, or a field is out of its range.
    """
    first = next(iter(parts.values()))
    levels, low = first.shape.levels, low_step(first)
    order = [quantiser.steps[depth, orientation] for depth in range(levels, 0, -1) for orientation in (1, 2, 3)]
    blocks = ((6, 6),) * (levels + 1)
    points = levels + 1 if quantiser.whole else 1
    components = [
        Component((1, s), Wavelet.IRREVERSIBLE, blocks, (low, *order), _GUARD, False, points, quantiser.whole)
        for s in sampling
    ]
    chunk = (*corner, corner[0] + size[0], corner[1] + size[1])
    grey = len(sampling) == 1
    fields = window_fields(chunk, (0, 0, *tile), components, not grey and colour is Colour.NONE, colour)
    window = fields.kept
    moved = corner[0] - window[0], corner[1] - window[1]
    coefficients, passes, missing = [], [], []
    for band in fields.bands:
        row, column = divmod(band.tile, fields.tile_columns)
        part = parts[band.component, row, column]
        begin = row * tile[0] - moved[0], (column * tile[1] - moved[1]) // sampling[band.component]
        if any(start % (1 << levels) for start in begin):
            raise UnsupportedInputError(f"tiles of {tile[0]} x {tile[1]} px do not begin alike; code the pixels alone")
        q, count = _band(band, part, (begin[0] + part.shape.tile[0], begin[1] + part.shape.tile[1]), fields)
        coefficients.append(q)
        passes.append(count)
        missing.append(np.zeros(band.grid, np.uint8))
    return J2kImage(fields, tuple(coefficients), tuple(passes), tuple(missing))


def _band(
    band: BandPlace, part: SeenPart, begin: tuple[int, int], fields: Fields
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Coefficients and passes of a band; those of the part begin at ``begin``."""
    levels = fields.components[band.component].levels
    depth = levels - max(band.resolution - 1, 0)
    s = part.shape
    here = (s.depth == depth) & (s.orientation == band.orientation)
    shape = s.shapes[depth, band.orientation]
    value = (part.values + part.base)[here].reshape(shape)
    plane, half = part.plane[here].reshape(shape), part.half[here].reshape(shape)
    step = 2.0 ** (8 - band.exponent) * (1 + band.mantissa / 2048)
    half_depth = (1 << depth) >> 1
    first = [
        edge + ((half_depth * high - start) >> depth)
        for edge, start, high in zip(
            (band.top, band.left), begin, (band.orientation >> 1, band.orientation & 1), strict=True
        )
    ]
    q = np.zeros([max(n, 0) for n in band.shape], np.int32)
    count = np.zeros(band.grid, np.uint8)
    for at in band.reaching:
        rows, columns = band.block(*at)
        window = (
            slice(rows.start + first[0], rows.stop + first[0]),
            slice(columns.start + first[1], columns.stop + first[1]),
        )
        v = np.abs(value[window]) / step
        low, more = 0, False
        if band.orientation == 0:
            c = np.rint(v).astype(np.int64)
        elif part.whole:
            low = int(plane[window].min())
            c = np.rint(v / 2.0**low).astype(np.int64) << low
        else:
            low = int(plane[window].min())
            more = bool(half[window].all() and plane[window].max() == low)
            c = _magnitudes(v / 2.0**low, more) << low
            if more:
                c[(c == 1 << low) & ~_found(c, low, rows.start - band.block_edges(*at)[0])] = 0
        if not c.any():
            continue
        q[rows, columns] = np.where(value[window] < 0, -c, c)
        count[at] = 3 * (band.planes - low - more) - 2 + more
    return q, count


def _magnitudes(m: npt.NDArray[np.float64], more: bool) -> Ints:
    """Whole numbers of values in steps of the lowest plane."""
    if more:
        doubled = 2 * np.floor((m + 1e-3) / 2)
        return np.asarray(np.where(m < 0.75, 0, np.where(m < 2.25, 1, doubled)), np.int64)
    return np.asarray(np.where(m < 0.75, 0, np.maximum(np.floor(m + 1e-3), 1)), np.int64)


def _found(c: Ints, plane: int, skipped: int) -> npt.NDArray[np.bool_]:
    """Which of the coefficients that are exactly 2**plane a significance pass of that plane finds."""
    significant = np.pad(c >= 2 << plane, 1)
    rows, columns = np.nonzero(c == 1 << plane)
    found = np.zeros(c.shape, np.bool_)
    for i in np.lexsort((rows, columns, (rows + skipped) // 4)):
        y, x = rows[i], columns[i]
        if significant[y : y + 3, x : x + 3].any():
            found[y, x] = significant[y + 1, x + 1] = True
    return found
