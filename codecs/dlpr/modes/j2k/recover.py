"""The JPEG 2000 image that pixels were decoded from, found from the pixels alone (docs/decisions/0018).

::

    pixels --ICT, or the planes of mode colour--> components --comb, borders--> the codec's tiles inside the crop
           --what is exactly known--> base step, planes of each block --fit, round, fit again--> coefficients
           --> a window of a JPEG 2000 image (`J2kImage`), which ``encode(source=)`` takes; the residual says the rest

Inside a tile that is seen whole the transform gives every coefficient. Where the crop cuts a tile, those near the cut
are not determined, the deeper the fewer: they are fitted with what is usual of their band, and rounded one group after
the other, while LL, fine enough to hold any value, takes up what rounding leaves. The search may be wrong at no risk.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from dlpr._native import colour_analyse_batch
from dlpr.arrays import Bytes8
from dlpr.errors import UnsupportedInputError
from dlpr.modes.j2k.fields import Colour
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.margin import thinned
from dlpr.modes.j2k.recover_bands import Samples, first_blocks
from dlpr.modes.j2k.recover_grid import MARGIN, Axis, Grid, find_grid
from dlpr.modes.j2k.recover_image import to_image
from dlpr.modes.j2k.recover_phase import find_axes
from dlpr.modes.j2k.recover_solve import refine, settle
from dlpr.modes.j2k.recover_steps import (
    Quantiser,
    band_steps,
    base_gain,
    exact_blocks,
    find_base,
    shows_base,
)
from dlpr.modes.j2k.recover_tile import LEVELS, Floats, SeenPart
from dlpr.modes.j2k.recover_whole import solve_whole

__all__ = ["MAX_PIXELS", "recover"]

MAX_PIXELS = 1 << 20
"""Larger images are not searched: it takes some 300 bytes of memory for each pixel."""
LEAST_GAIN = 0.5
"""Nats for each coefficient that a quantiser must explain."""
REACH = 52
"""Samples beside a cut that a coefficient of the last decomposition may be made of."""
_SMALL = 64
"""Side of a crop that tells which numbers made its colours."""
_MANY = 500
"""Coefficients that are not 0 with which a decomposition tells what there is."""
_LITTLE = 120
"""Coefficients that tell the phases apart."""
_ICT = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
_COLOURS = {(1, 0, 0): Colour.YCBCR, (1, 1, 0): Colour.YCBCR_DOWN, (2, 0, 0): Colour.YCBCR_BYTE}
"""Matrix, rounding and products of the colour layer (C2)."""
_WHOLE = Colour.YCBCR_BYTE
"""What the decoder of whole numbers comes with."""
_REPETITION = 2
"""Its filter that repeats samples (C3)."""


@dataclass(frozen=True, eq=False)
class _Planes:
    """Components of an image, level 128 taken off."""

    planes: tuple[Floats, ...]
    valid: tuple[npt.NDArray[np.bool_], ...]
    """bool, the same shapes: the sample was not cut off."""
    noise: float
    across: tuple[int, ...]
    """Pixels for each sample of a row."""
    shift: int
    """Pixels of the first chroma sample that lie before the image."""
    colour: Colour


def recover(pixels: Bytes8) -> J2kImage | None:  # noqa: PLR0911 - each return is a trace that is not there
    """Search the JPEG 2000 image behind pixels.

    Parameters
    ----------
    pixels : numpy.ndarray
        uint8 [rows, columns, 3] (red, green, blue) or [rows, columns, 1].

    Returns
    -------
    J2kImage or None
        A window whose pixels are nearly those given. None where no comb is seen or no quantiser fits; for fewer than
        64 rows or columns, or more than `MAX_PIXELS` pixels. The result depends on the pixels alone.

    Examples
    --------
    >>> recover(np.zeros((128, 128, 3), np.uint8)) is None
    True
    """
    height, width = pixels.shape[:2]
    if height * width > MAX_PIXELS or min(height, width) < 64:
        return None
    grid = find_grid(pixels)
    if grid is None:
        return None
    placed = _place(pixels, grid)
    if placed is None:
        return None
    axes, seen, whole = placed
    if seen.across[-1] == 2 and (axes[1].corner + seen.shift) % 2:
        return None
    parts = _parts(seen, axes, range(1), Quantiser({}, whole))
    if parts is None:
        return None
    base, gain = find_base(exact_blocks(list(parts.values()), Quantiser({}, whole)))
    if gain < LEAST_GAIN:
        return None
    others = _parts(seen, axes, range(1, len(seen.planes)), Quantiser({}, whole))
    if others is None:
        return None
    parts |= others
    quantiser = Quantiser(band_steps(base), whole)
    if whole:
        solve_whole(parts, quantiser, base)
    else:
        settle(list(parts.values()), quantiser)
        refine(parts, _ICT if seen.colour is Colour.NONE and len(seen.planes) == 3 else None)
    corner, sides = (axes[0].corner, axes[1].corner), (axes[0].side, axes[1].side)
    try:
        return thinned(to_image(parts, (height, width), corner, sides, quantiser, seen.across, seen.colour))
    except UnsupportedInputError:
        return None


def _may_be_whole(pixels: Bytes8) -> bool:
    """Tell from the busiest of some small crops whether the reader is that of the decoder of whole numbers."""
    side = min(_SMALL, *pixels.shape[:2])
    places = [[n * k // 3 - side * k // 3 for k in range(4)] for n in pixels.shape[:2]]
    crops = [pixels[y : y + side, x : x + side] for y, x in product(*places)]
    busiest = max(crops, key=lambda c: float(c[::4, ::4, 1].std()))
    stored = _stored(np.ascontiguousarray(busiest))
    return stored is not None and stored.colour is _WHOLE


def _place(pixels: Bytes8, grid: Grid) -> tuple[tuple[Axis, Axis], _Planes, bool] | None:
    """Where the crop lies on the grid of tiles, the codec's components, and whether its decoder has whole numbers."""
    colours = pixels.shape[2] == 3
    seen = _transformed(pixels)
    axes = _axes(seen, grid, False)
    if axes is not None:
        return axes, (_stored(pixels) if colours else None) or seen, False
    stored = _stored(pixels) if colours and _may_be_whole(pixels) else None
    if stored is None or stored.colour is not _WHOLE:
        return None
    axes = _axes(stored, grid, True)
    return None if axes is None else (axes, stored, True)


def _axes(seen: _Planes, grid: Grid, whole: bool) -> tuple[Axis, Axis] | None:
    """Place the crop, by the first component; None where no base fits, or no comb is seen further on."""
    components = [Samples(plane, valid) for plane, valid in zip(seen.planes, seen.valid, strict=True)]
    begun = _begin(components[0], grid, whole)
    if begun is None:
        return None
    grid, depth, base = begun
    if whole:
        components = components[:1]  # chroma may have other sizes
    return find_axes(components, grid, depth, Quantiser(band_steps(base), whole))


def _begin(samples: Samples, grid: Grid, whole: bool) -> tuple[Grid, int, float] | None:
    """The phase of the first decomposition, or the second where the first holds next to nothing; and the base."""
    combs = Quantiser({}, whole)
    first = first_blocks(samples, grid, 1, combs)
    shown = shows_base(first)
    # Whole numbers of the first decomposition are few, so that many bases give them.
    if shown and not whole and sum(len(b.magnitudes) for b in first) >= _MANY:
        return grid, 1, find_base(first)[0]
    phases = product(*(range(b[0] % 2, 4, 2) if b else range(4) for b in (grid.rows, grid.columns)))
    grids = [grid._replace(phase=(down, across)) for down, across in phases]
    tried = [(first_blocks(samples, g, 2, combs), g) for g in grids]
    tried = [(blocks, g) for blocks, g in tried if sum(len(b.magnitudes) for b in blocks) >= _MANY]
    if tried:
        best, now = max(tried, key=lambda t: base_gain(t[0], _LITTLE))
        if shows_base(best):
            return now, 2, find_base(best)[0]
    return (grid, 1, find_base(first)[0]) if shown else None


def _valid(pixels: Bytes8) -> npt.NDArray[np.bool_]:
    """Whether a pixel has no sample that may have been cut off."""
    return np.asarray(((pixels > 0) & (pixels < 255)).all(-1), np.bool_)


def _transformed(pixels: Bytes8) -> _Planes:
    """Components before the codec's ICT, as nearly as pixels say; or grey."""
    valid = _valid(pixels)
    values = pixels.astype(np.float64) - 128
    if pixels.shape[2] == 1:
        return _Planes((values[..., 0],), (valid,), 0.29, (1,), 0, Colour.NONE)
    planes = values @ _ICT.T
    return _Planes(tuple(planes[..., k] for k in range(3)), (valid,) * 3, 0.19, (1, 1, 1), 0, Colour.NONE)


def _stored(pixels: Bytes8) -> _Planes | None:
    """The planes that a reader made RGB of (Aperio's 33003), if its numbers are those of the format."""
    (found,) = colour_analyse_batch([np.ascontiguousarray(pixels)], True, 1)
    if found is None:
        return None
    _, matrix, rounding, products, (filter_, vertical, wide, _, shift), *arrays = found
    colour = _COLOURS.get((matrix, rounding, products))
    if colour is None or vertical != 1 or wide not in (1, 2) or (wide == 2 and filter_ != _REPETITION):
        return None
    valid = _valid(pixels)
    planes = tuple(plane.astype(np.float64) - 128 for plane in arrays)
    fewer = valid
    if wide == 2:
        columns = planes[1].shape[1]
        padded = np.pad(valid, ((0, 0), (shift, 2 * columns - shift - valid.shape[1])), constant_values=True)
        fewer = padded[:, ::2] & padded[:, 1::2]
    return _Planes(planes, (valid, fewer, fewer), 0.29, (1, wide, wide), shift, colour)


def _levels(axes: tuple[Axis, Axis], across: int) -> int:
    """Decompositions that are worth while: the last one where samples give most of its coefficients exactly."""
    columns = axes[1]
    if across == 2 and len(columns.edges) == 2 and not columns.spans[0].begins:
        return LEVELS - 1  # the phase of the last one is known of luma alone
    known = 1.0
    for axis in axes:
        long = [span for span in axis.spans if span.end - span.first >= 40]
        cut = sum((not span.begins) + (not span.ends) for span in long)
        known *= max(1 - cut * REACH / axis.edges[-1], 0)
    return LEVELS if known > 0.61 else LEVELS - 1


def _parts(
    seen: _Planes, axes: tuple[Axis, Axis], components: range, quantiser: Quantiser
) -> dict[tuple[int, int, int], SeenPart] | None:
    """Cut components at the tiles' borders."""
    out, levels = {}, quantiser.levels if quantiser.whole else _levels(axes, seen.across[-1])
    for (i, rows), (j, columns) in product(*(enumerate(axis.spans) for axis in axes)):
        for k in components:
            s = seen.across[k]
            shift = seen.shift if s == 2 else 0
            first, end = (columns.first + shift) // s, (columns.end - 1 + shift) // s + 1
            left, right = columns.at // s, (columns.at + columns.end - columns.first - 1) // s + 1
            inside = rows.at, left, rows.at + rows.end - rows.first, right
            sides = rows.side, -(-columns.side // s)
            if end - first != right - left or inside[2] > sides[0] or right > sides[1]:
                return None
            near = (max(rows.at - MARGIN, 0), max(left - MARGIN, 0))
            tile = *near, min(inside[2] + MARGIN, sides[0]), min(right + MARGIN, sides[1])
            window = slice(rows.first, rows.end), slice(first, end)
            samples = seen.planes[k][window], seen.valid[k][window]
            out[k, i, j] = SeenPart(k, tile, inside, *samples, seen.noise, levels, quantiser.whole)
    return out
