"""Hints made and used: what makes a JPEG's coefficients of those that a chunk's stream holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dlpr._native import jpeg_coefficients, jpeg_pack
from dlpr.errors import CorruptError, PriorError, UnsupportedInputError
from dlpr.modes.jpeg.grid import Grid
from dlpr.modes.jpeg.hint import Change, Hint, Splice, pack_hint
from dlpr.modes.jpeg.image import COEFFICIENT_MAX, Coefficients, JpegImage, Upsampling
from dlpr.modes.jpeg.prior import Prior
from dlpr.modes.jpeg.synthesis import native_fields
from dlpr.modes.jpeg.tables import ZIGZAG

__all__ = ["hint_of", "restored", "spliced"]

Known = npt.NDArray[np.bool_]

MANY_CHANGES = 4000
"""Coefficients that differ above which all are coded anew without trying."""
FEW_BYTES = 160
"""Of changes up to which it is not tried to code all coefficients anew."""


def hint_of(
    image: JpegImage, stored: JpegImage | None, splices: tuple[Splice, ...] = (), prior: Prior | None = None
) -> bytes:
    """Say what makes ``image`` of ``stored``, and what changes the bytes made of it."""
    found = _differences(image, stored, splices) if stored is not None else None
    data = None if found is None else pack_hint(found)
    if data is not None and len(data) <= FEW_BYTES:
        return data
    whole = pack_hint(_all(image, splices, prior))
    return whole if data is None or len(whole) < len(data) else data


def _all(image: JpegImage, splices: tuple[Splice, ...], prior: Prior | None) -> Hint:
    """Hint of all of an image's coefficients."""
    grid = Grid.of(image)
    colour = [_only_value(c) for c in image.coefficients]
    if None not in colour:
        return Hint(flat=tuple(v for v in colour if v is not None), tables=image.tables, splices=splices)
    used = prior is not None and prior.components == image.components
    start = prior.native(image.components) if prior is not None and used else None
    full = grid.image(image.tables, image.coefficients)
    whole = jpeg_pack(native_fields(full), [np.ascontiguousarray(c) for c in full.coefficients], start)
    return Hint(whole=whole, splices=splices, prior=used)


def _only_value(blocks: Coefficients) -> int | None:
    """Return the DC of blocks that are all alike and have no AC; None for others."""
    dc = blocks[..., 0, 0]
    value = int(dc[0, 0])
    return value if (dc == value).all() and np.count_nonzero(blocks) == dc.size * bool(value) else None


def _differences(image: JpegImage, stored: JpegImage, splices: tuple[Splice, ...]) -> Hint | None:
    """Make the hint that changes ``stored``; None where nothing but all of the image will do."""
    grid, given = Grid.of(image), Grid.of(stored)
    if (grid.sampling, grid.components) != (given.sampling, given.components):
        return None
    same = all(np.array_equal(a, b) for a, b in zip(image.tables, stored.tables, strict=True))
    changes: list[list[Change]] = []
    for c, blocks in enumerate(image.coefficients):
        if np.array_equal(blocks, stored.coefficients[c]) and (c or _shows_all(stored)):
            changes.append([])
            continue
        base, known = _expected(grid, stored, c)
        wanted = grid.scan(c, blocks).reshape(-1, 64).astype(np.int32)
        added = wanted - base
        before = np.concatenate([[0], wanted[:-1, 0]])
        added[:, 0] -= np.where(known, 0, before)
        at, place = np.nonzero(added[:, ZIGZAG])
        if len(at) > MANY_CHANGES:
            return None
        value = added[at, np.asarray(ZIGZAG)[place]]
        changes.append(list(zip(at.tolist(), place.tolist(), value.tolist(), strict=True)))
    return Hint(tables=None if same else image.tables, changes=tuple(changes) if any(changes) else (), splices=splices)


def _shows_all(image: JpegImage) -> bool:
    """Whether each block of component 0 shows a pixel."""
    return all(
        phase < 8 and -(-(phase + side) // 8) == blocks
        for phase, side, blocks in zip(image.phase, (image.height, image.width), image.blocks(0), strict=True)
    )


def _expected(grid: Grid, stored: JpegImage, component: int) -> tuple[npt.NDArray[np.int32], Known]:
    """Blocks in the order of the scan as far as they are stored, else 0; and whether they are."""
    blocks = stored.coefficients[component]
    rows, columns = (min(a, b) for a, b in zip(grid.shape(component), blocks.shape[:2], strict=True))
    known = np.zeros(grid.shape(component), np.bool_)
    known[:rows, :columns] = True
    if component == 0:  # those that show a pixel
        (y, x), (bottom, right) = stored.phase, (stored.phase[0] + stored.height, stored.phase[1] + stored.width)
        known[: y // 8], known[-(-bottom // 8) :] = False, False
        known[:, : x // 8], known[:, -(-right // 8) :] = False, False
    base = np.zeros((*known.shape, 64), np.int32)
    base[:rows, :columns] = blocks[:rows, :columns].reshape(rows, columns, 64)
    base[~known] = 0
    return grid.scan(component, base), grid.scan(component, known)


def restored(hint: Hint, grid: Grid, stored: JpegImage | None, prior: Prior | None = None) -> JpegImage:
    """Make the image that a hint was made for, of a form; ``stored`` itself where nothing changes.

    Raises
    ------
    CorruptError
        Hint, form and ``stored`` do not go together.
    PriorError
        The hint needs the slide's prior.
    """
    try:
        if hint.flat is not None or hint.whole is not None:
            return _from_all(hint, grid, prior)
        if stored is None:
            raise CorruptError("the coefficients of a JPEG are neither in its chunk nor in its hint")
        given = Grid.of(stored)
        if not hint.changes and hint.tables is None and grid == given and _shows_all(stored):
            return stored
        return _changed(hint, grid, stored)
    except UnsupportedInputError as error:
        raise CorruptError(f"the hint of a JPEG makes {error.message}") from error


def _changed(hint: Hint, grid: Grid, stored: JpegImage) -> JpegImage:
    """Make an image of what is stored and its changes."""
    tables = stored.tables if hint.tables is None else hint.tables
    if (grid.sampling, grid.components, len(tables)) != (stored.sampling, stored.components, stored.components):
        raise CorruptError("the hint of a JPEG of another form than its chunk's")
    arrays = []
    for c in range(grid.components):
        blocks, known = _expected(grid, stored, c)
        for at, place, value in hint.changes[c] if hint.changes else ():
            if at >= len(blocks):
                raise CorruptError("the hint of a JPEG changes a block that is not there")
            blocks[at, ZIGZAG[place]] += value
        if not known.all():
            _follow(blocks[:, 0], known)
        if np.abs(blocks).max() > COEFFICIENT_MAX:
            raise CorruptError("the hint of a JPEG makes a coefficient out of range")
        arrays.append(grid.raster(c, blocks.astype(np.int16)))
    return grid.image(tables, tuple(arrays))


def _follow(dc: npt.NDArray[np.int32], known: Known) -> None:
    """Turn the DC of blocks that are not known from differences to the block before into values."""
    steps = np.cumsum(np.where(known, 0, dc))
    last = np.maximum.accumulate(np.where(known, np.arange(len(dc)), -1))
    base, done = np.where(last < 0, 0, dc[last]), np.where(last < 0, 0, steps[last])
    dc[:] = np.where(known, dc, base + steps - done)


def _from_all(hint: Hint, grid: Grid, prior: Prior | None) -> JpegImage:
    """Make an image whose coefficients a hint holds."""
    if hint.flat is not None:
        if hint.tables is None or len(hint.flat) != grid.components:
            raise CorruptError("the hint of a JPEG of one colour is damaged")
        arrays = []
        for c, value in enumerate(hint.flat):
            blocks = np.zeros((*grid.shape(c), 8, 8), np.int16)
            blocks[..., 0, 0] = value
            arrays.append(blocks)
        return grid.image(hint.tables, tuple(arrays))
    start = None
    if hint.prior:
        if prior is None or prior.components != grid.components:
            raise PriorError("the hint of a JPEG needs the slide's prior; give it as `prior`")
        start = prior.native(grid.components)
    fields = (*grid.size, 0, 0, int(grid.transform), *grid.sampling, int(Upsampling.FANCY), 1, grid.components)
    error, tables, coefficients = jpeg_coefficients(fields, hint.whole, start)
    if error:
        raise CorruptError(f"the hint of a JPEG is damaged: {error}")
    return grid.image(tuple(tables), tuple(coefficients))


def spliced(data: bytes, splices: tuple[Splice, ...]) -> bytes:
    """Change bytes.

    Examples
    --------
    >>> spliced(b"abcdef", ((1, 2, b"X"), (6, 0, b"!")))
    b'aXdef!'
    """
    if not splices:
        return data
    out, end = [], 0
    for at, removed, inserted in splices:
        if at < end or at + removed > len(data):
            raise CorruptError("a hint changes bytes that its JPEG does not have")
        out += [data[end:at], inserted]
        end = at + removed
    return b"".join([*out, data[end:]])
