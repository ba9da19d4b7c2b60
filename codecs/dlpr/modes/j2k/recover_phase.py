"""Where the transform of a tile begins whose borders a crop does not show (docs/decisions/0018).

The comb tells the parity of the first decomposition. Of each further one both parities are tried, along each axis
without a border: the steps follow from the base, so that the right one explains thousands of coefficients, and a wrong
one none. Code blocks are counted from the tile's corner, too: where planes change tells where they begin. And what
only a symmetric extension right beside the crop's edge explains is a border too near to it to be seen otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from dlpr._native import comb_cells
from dlpr.modes.j2k.recover_bands import SIDE, Ints, Samples, known
from dlpr.modes.j2k.recover_grid import FAR, Axis, Grid, Span, axis_of
from dlpr.modes.j2k.recover_steps import HALF_PRIOR, Block, Quantiser, gains
from dlpr.modes.j2k.recover_tile import LEVELS, Floats

__all__ = ["find_axes"]

_SEEN = 0.75
"""Share of a coefficient's reach that must be seen where few are seen whole."""
_SOME = 800
_CELL = 1 << LEVELS
"""Samples of a side in which no code block of any depth begins twice."""
_NEAR = 6
"""A border so near to the crop's edge is not found by the lines beside it."""
_LEAST_NATS = 25.0
"""Nats that a border must explain."""
_LEAST_SHARE = 0.1
"""And for each coefficient, where it is beside the crop's edge."""
_LEAST_DEEPER = 0.4
"""Nats for each coefficient of the second decomposition: 0.75 to 2 where the decoder is the one we know, else 0."""
_CHOICE = 3.0
"""Nats that the best of some planes explain by chance."""


def _nats(u: Floats, quantiser: Quantiser, depth: int, orientation: int, share: float = 1.0) -> float:
    """What the best planes explain of magnitudes that are not 0; of coefficients seen in part the noise is larger."""
    noise = quantiser.noise(depth) / share
    block = Block(u[u > 4 * noise][:_SOME], noise, quantiser.unit(depth, orientation))
    if not len(block.magnitudes):
        return 0.0
    steps = quantiser.normed(depth, orientation) * quantiser.powers
    return float((gains(block, steps, quantiser.tried) - quantiser.priors).max())


def _tables(
    u: Floats, edges: tuple[npt.ArrayLike, npt.ArrayLike], quantiser: Quantiser, depth: int, orientation: int
) -> Floats:
    """Nats by planes of each cell of a band [rows, columns, planes]; edges: where cells begin and end."""
    lengths = (quantiser.normed(depth, orientation) * quantiser.powers).astype(np.float32)
    rows, columns = (np.asarray(e, np.int32) for e in edges)
    magnitudes = np.ascontiguousarray(u, np.float32)
    noise, unit = quantiser.noise(depth), quantiser.unit(depth, orientation)
    return np.asarray(comb_cells(magnitudes, rows, columns, lengths, quantiser.tried, noise, unit))


def _fit(samples: Samples, rows: Axis, columns: Axis, depth: int, quantiser: Quantiser) -> tuple[float, int]:
    """Nats that the bands of a depth explain, and coefficients that are not 0."""
    total, count = 0.0, 0
    for down, across in product(rows.spans, columns.spans):
        for o, (u, y, x) in zip((1, 2, 3), samples.bands(down, across, depth), strict=True):
            here = u[known(y, down, depth, o >> 1, _SEEN)][:, known(x, across, depth, o & 1, _SEEN)]
            for i, k in product(*(range(0, n, SIDE) for n in here.shape)):
                block = here[i : i + SIDE, k : k + SIDE].ravel()
                total += _nats(block, quantiser, depth, o, 0.5)
                count += min(int((block > 8 * quantiser.noise(depth)).sum()), _SOME)
    return total, count


def find_axes(components: Sequence[Samples], grid: Grid, depth: int, quantiser: Quantiser) -> tuple[Axis, Axis] | None:
    """Find where the crop lies on the grid of tiles, as far as it shows.

    Parameters
    ----------
    components : sequence of Samples
        The first one decides, others only where code blocks begin.
    grid : Grid
        With the phase at ``depth``.
    depth : int
        The decomposition of which the phase is known.
    quantiser : Quantiser

    Returns
    -------
    tuple of Axis or None
        Rows, columns; None where borders contradict each other, or the second decomposition shows no comb.
    """
    samples = components[0]
    heights, widths = samples.shape
    down, across = axis_of((), heights, grid.phase[0]), axis_of((), widths, grid.phase[1])
    rows = _sure(samples, grid.rows, across, depth, quantiser)
    columns = _sure(samples.turned, grid.columns, down, depth, quantiser)
    down, across = axis_of(rows, heights, grid.phase[0]), axis_of(columns, widths, grid.phase[1])
    if down.corner < 0 or across.corner < 0:
        return None
    for deeper in range(2, quantiser.phases + 1):
        choices = [
            (axis,) if borders else (axis, axis.moved(1 << deeper - 1))
            for axis, borders in ((down, rows or depth >= deeper), (across, columns or depth >= deeper))
        ]
        if deeper > 2 and len(choices[0]) * len(choices[1]) == 1:
            continue
        tried = [(*_fit(samples, y, x, deeper, quantiser), (y, x)) for y, x in product(*choices)]
        nats, count, (down, across) = max(tried, key=lambda t: t[0])
        if deeper == 2:
            if nats < _LEAST_DEEPER * count:
                return None
            rows += _missed(samples, down, across, quantiser.phases if rows else 2, quantiser)
            columns += _missed(samples.turned, across, down, quantiser.phases if columns else 2, quantiser)
            down = axis_of(sorted(rows), heights, down.corner % 4)
            across = axis_of(sorted(columns), widths, across.corner % 4)
            if down.corner < 0 or across.corner < 0:
                return None
    down = _with_edges(samples, down, across, quantiser)
    across = _with_edges(samples.turned, across, down, quantiser)
    return _with_blocks(components, down, across, quantiser)


def _sure(samples: Samples, borders: Sequence[int], across: Axis, depth: int, quantiser: Quantiser) -> list[int]:
    """Borders (or two rows away) that explain more than a tile that goes on there does; the columns' phase is known."""
    out: list[int] = []
    for border in borders:
        tried = []
        for row in (border, border - 2, border + 2):
            explained = _border_nats(samples, row, across, depth, quantiser)
            tried.append((explained - _nats_across(samples, row, across, quantiser), row))
        nats, row = max(tried)
        if nats > _LEAST_NATS and row not in out:
            out.append(row)
    return sorted(out)


def _nats_across(samples: Samples, border: int, across: Axis, quantiser: Quantiser) -> float:
    """Nats of lines of the first decomposition that cross a border, as if it were none."""
    rows = Span(max(border - 32, 0), min(border + 32, samples.shape[0]), 0, 0)
    rows = rows._replace(at=FAR + (rows.first - border) % 2, side=3 * FAR)
    return sum(float(_nats_beside(samples, rows, columns, 1, [border], quantiser)[0]) for columns in across.spans)


def _nats_beside(
    samples: Samples, rows: Span, columns: Span, depth: int, borders: Sequence[int], quantiser: Quantiser
) -> Floats:
    """Nats of lines that cross each border, as if it were none."""
    total = np.zeros(len(borders))
    for o, (u, y, x) in zip((1, 2, 3), samples.bands(rows, columns, depth), strict=True):
        here = u[:, known(x, columns, depth, o & 1)]
        chunks = [*range(0, here.shape[1], SIDE), here.shape[1]]  # tiles and blocks may change anywhere
        table = _tables(here, (np.arange(len(y) + 1), chunks), quantiser, depth, o) - quantiser.priors
        nats = table.max(-1).sum(1) * known(y, rows, depth, o >> 1)
        away = np.abs((y - rows.at + rows.first)[:, None] - np.asarray(borders)) < 3 << depth - 1
        total += nats @ away
    return total


def _missed(samples: Samples, axis: Axis, across: Axis, depth: int, quantiser: Quantiser) -> list[int]:
    """Borders where the phase of a depth allows them and lines stand beside the comb that one explains."""
    out: list[int] = []
    for rows in axis.spans:
        first = rows.first + -rows.at % (1 << depth)
        borders = [b for b in range(first, rows.end, 1 << depth) if rows.first + _NEAR <= b <= rows.end - _NEAR]
        nats = np.zeros(len(borders))
        for columns, d in product(across.spans, (1, 2)):
            nats += _nats_beside(samples, rows, columns, d, borders, quantiser)
        for i in np.argsort(nats):
            border = borders[i]
            if nats[i] >= -_LEAST_NATS or any(abs(border - b) < 2 << LEVELS for b in out):
                continue
            if _border_nats(samples, border, across, 2, quantiser) > 0:
                out.append(border)
    return sorted(out)


def _chunks(lines: Floats, quantiser: Quantiser, depth: int, orientation: int) -> float:
    """Nats that lines explain, less what the choice of planes is worth: tiles and blocks may change anywhere."""
    chunks = [lines[:, k : k + SIDE] for k in range(0, lines.shape[1], SIDE)]
    least = 4 * quantiser.noise(depth)
    return sum(_nats(c.ravel(), quantiser, depth, orientation) - _CHOICE for c in chunks if (c > least).any())


def _with_edges(samples: Samples, axis: Axis, across: Axis, quantiser: Quantiser) -> Axis:
    """Add borders right at the crop's first and last rows, or so near that only they themselves tell."""
    size, period = samples.shape[0], 1 << quantiser.phases
    found = list(axis.edges[1:-1])
    first = -axis.corner % period
    strip = Span(first, min(axis.edges[1], first + 64), 0, FAR)
    if first < _NEAR and _is_edge(*_edge_nats(samples, strip, across, 2, quantiser)):
        found.append(first)
    last, ends = axis.spans[-1], []
    for away in range(_NEAR):
        end = last.at + size - away - last.first
        if not away or end % period == 0:
            begin = max(last.first, size - away - 64)
            strip = Span(begin, size - away, last.at + begin - last.first, end)
            ends.append((_edge_nats(samples, strip, across, 2, quantiser), size - away))
    nats, end = max(ends)
    if _is_edge(*nats):
        found.append(end)
    new = axis_of(sorted(found), size, axis.corner % period)
    return axis if new.corner < 0 or new.spans[-1].at + size - new.edges[-2] > new.side else new


def _is_edge(nats: float, count: int) -> bool:
    return nats > _LEAST_NATS and nats > _LEAST_SHARE * count


def _border_nats(samples: Samples, border: int, across: Axis, depths: int, quantiser: Quantiser) -> float:
    """Nats of what a border between tiles determines on both of its sides."""
    first, end = max(border - 64, 0), min(border + 64, samples.shape[0])
    before, behind = Span(first, border, FAR - border + first, FAR), Span(border, end, 0, FAR)
    return sum(_edge_nats(samples, strip, across, depths, quantiser)[0] for strip in (before, behind))


def _edge_nats(samples: Samples, rows: Span, across: Axis, depths: int, quantiser: Quantiser) -> tuple[float, int]:
    """Nats of coefficients that a tile's edge at one end of the rows determines, and their number."""
    total, count = 0.0, 0
    inside = Span(rows.first, rows.end, rows.at + FAR, rows.side + 2 * FAR)
    for columns in across.spans:
        for depth in range(1, depths + 1):
            for o, (u, y, x) in zip((1, 2, 3), samples.bands(rows, columns, depth), strict=True):
                high = o >> 1
                lines = known(y, rows, depth, high) & ~known(y + FAR, inside, depth, high)
                beside = u[lines][:, known(x, columns, depth, o & 1)]
                total += _chunks(beside, quantiser, depth, o)
                count += int((beside > 4 * quantiser.noise(depth)).sum())
    return total, count


def _with_blocks(components: Sequence[Samples], down: Axis, across: Axis, quantiser: Quantiser) -> tuple[Axis, Axis]:
    """Move corners that are not seen to where code blocks begin, counted from them: planes differ by block."""
    axes = [down, across]
    free = [len(a.edges) == 2 and not a.spans[0].begins for a in axes]
    if not any(free):
        return down, across
    tables = [
        (depth, *table)
        for samples in components
        for rows, columns in product(down.spans, across.spans)
        for depth in range(1, quantiser.levels + 1)
        for table in _cells(samples, rows, columns, depth, quantiser)
    ]
    moved = [0, 0]  # in cells
    for turn, axis in enumerate((0, 1, 0, 1)):
        if free[axis]:
            nats = np.zeros(64)
            for depth, table, places in tables:
                count = (64 << depth) // _CELL  # cells of a code block
                across_blocks = (places[1 - axis] + moved[1 - axis]) // count
                if turn == 0 and free[1 - axis]:  # nothing is known yet: small groups mix few blocks
                    across_blocks = places[1 - axis] // 4
                other = _joined(table, across_blocks, 1 - axis)
                for k in range(count):
                    nats[k::count] += _explained(_joined(other, (places[axis] + k) // count, axis))
            moved[axis] = int(nats.argmax())
    return axes[0].moved(moved[0] * _CELL), axes[1].moved(moved[1] * _CELL)


def _cells(
    samples: Samples, rows: Span, columns: Span, depth: int, quantiser: Quantiser
) -> list[tuple[Floats, tuple[Ints, Ints]]]:
    """Nats by planes of each cell of coefficients of each band [rows, columns, planes], and the cells' numbers."""
    out = []
    for o, (u, y, x) in zip((1, 2, 3), samples.bands(rows, columns, depth), strict=True):
        lines = known(y, rows, depth, o >> 1), known(x, columns, depth, o & 1)
        numbers = [p[k] // _CELL for p, k in zip((y, x), lines, strict=True)]
        if not all(len(n) for n in numbers):
            continue
        starts = [np.flatnonzero(np.diff(n, prepend=-1)) for n in numbers]
        edges = tuple(np.append(start, len(n)) for start, n in zip(starts, numbers, strict=True))
        table = _tables(u[lines[0]][:, lines[1]], (edges[0], edges[1]), quantiser, depth, o)
        out.append((table, (numbers[0][starts[0]], numbers[1][starts[1]])))
    return out


def _joined(table: Floats, blocks: Ints, axis: int) -> Floats:
    """Sums over the cells of each block along an axis."""
    return np.add.reduceat(table, np.flatnonzero(np.diff(blocks, prepend=-1)), axis)


def _explained(table: Floats) -> float:
    """Nats of a band's blocks with the planes that are best for all, or those that are so much better for one."""
    usual = int(table.sum((0, 1)).argmax())
    return float(np.maximum(table[..., usual], table.max(-1) - HALF_PRIOR - _CHOICE).sum())
