"""Coefficients of what is seen of tiles: fitted, and rounded one group after the other (docs/decisions/0018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dlpr.modes.j2k.recover_image import low_step
from dlpr.modes.j2k.recover_steps import Quantiser, choose_planes, rounded, step_of
from dlpr.modes.j2k.recover_tile import Floats, SeenPart

__all__ = ["refine", "settle"]

ROUNDS = 10
LEAST_EFFECT = 0.3
"""Root of the summed squares, in levels, by which a step must move samples that are seen; else it costs more bits."""
_POWER, _REFINEMENTS = 16, 6
_SHARES = (0.999, 0.99, 0.97, 0.9, 0.8, 0.6, 0.4, 0.2, 0.05, 0.0)


def _variances(parts: Sequence[SeenPart]) -> None:
    """What is usual of each band: mean squares of what is exactly known, five times as much for each depth beyond."""
    usual: dict[tuple[int, int, int], float] = {}
    levels = parts[0].shape.levels
    for component in {part.component for part in parts}:
        for depth, orientation in sorted(parts[0].shape.places):
            known = []
            for part in parts:
                s = part.shape
                if part.component == component:
                    band = s.bands[depth, orientation]
                    known.append((part.values[band] * s.norm[band])[s.inside[band]])
            values = np.concatenate(known)
            before = usual.get((component, depth - 1, orientation), 10.0)
            usual[component, depth, orientation] = (
                max(float((values**2).mean()), 4.0) if len(values) >= 12 else 5 * before
            )
        usual[component, levels, 0] = (1000.0 if component == 0 else 300.0) ** 2
    for part in parts:
        s = part.shape
        table = np.zeros(4 * levels + 4)
        for (component, depth, orientation), value in usual.items():
            if component == part.component:
                table[4 * depth + orientation] = value
        part.variance = table[4 * s.depth + s.orientation] / s.norm**2
        part.relevant = s.energy * part.variance > 0.05**2
        part.free = part.relevant.copy()


def settle(parts: Sequence[SeenPart], quantiser: Quantiser) -> None:
    """Fit and round until every coefficient stands where a decoder may have had it.

    Parameters
    ----------
    parts : sequence of SeenPart
        Of one image; ``values`` are written, and all that says how far they are found.
    quantiser : Quantiser
    """
    for part in parts:
        part.step[part.shape.orientation == 0] = step_of(low_step(part))
    _variances(parts)
    choose_planes(parts, quantiser, [part.shape.inside for part in parts])
    for part in parts:
        s = part.shape
        part.relevant &= (s.orientation == 0) | (s.energy * part.step**2 > LEAST_EFFECT**2)
        part.free &= part.relevant
    for turn in range(ROUNDS):
        settled = 0
        for part in parts:
            s, values = part.shape, rounded(part)
            sure = part.free & (s.orientation > 0) & ~part.guessed
            if turn == 0:
                sure &= s.inside & (part.exact | (np.abs(part.values - values) < 0.2 * part.step))
            else:
                sure &= _on_comb(part, values, sure)
            part.values = np.where(sure, values, part.values)
            part.free &= ~sure
            settled += int(sure.sum())
            if not turn or sure.any():
                part.fit(12 if turn else 25)
        if turn and not settled:
            break
        if turn in (1, 3, 5):
            choose_planes(parts, quantiser, [part.shape.inside | ~part.free for part in parts])
    for part in parts:
        if part.whole:
            _settle_whole(part)
            continue
        part.settle(_SHARES, 30)
        # A block's planes may have been chosen anew since a coefficient was settled.
        high = part.shape.orientation > 0
        part.values = np.where(part.relevant & high, rounded(part), np.where(high, -part.base, part.values))


def _settle_whole(part: SeenPart) -> None:
    """Round what is left, LL in the end."""
    s = part.shape
    for share in _SHARES:
        now = part.free & (s.share >= share) & (s.orientation > 0)
        if now.any():
            part.values = np.where(now, rounded(part), part.values)
            part.free &= ~now
            part.fit(5)
    part.values = np.where(part.relevant, rounded(part), -part.base * (s.orientation > 0))


def refine(parts: Mapping[tuple[int, int, int], SeenPart], transform: Floats | None) -> None:
    """Move LL to where as few samples as possible lie beyond what rounding explains.

    Least squares take a pixel's rounding for normal. It is uniform, so that the least mean of a high power tells LL
    several times as exactly: its gradient is the error times a power of it, and has about the same slope.

    Parameters
    ----------
    parts : mapping
        By component, row and column of the tile; LL is written.
    transform : numpy.ndarray or None
        float64 [3, 3], the component transform behind which samples were rounded; None where the components were.
    """
    inverse = None if transform is None else np.linalg.inv(transform)
    for i, j in sorted({place[1:] for place in parts}):
        group = [part for place, part in sorted(parts.items()) if place[1:] == (i, j)]
        for part in group:
            part.free = part.relevant & (part.shape.orientation == 0)
        for _ in range(_REFINEMENTS):
            errors = [part.error() for part in group]
            if inverse is not None:
                errors = list(np.einsum("ij,jyx->iyx", inverse, np.stack(errors)))
            moves = [np.clip(e * np.minimum(np.abs(2 * e), 1) ** (_POWER - 2), -0.5, 0.5) for e in errors]
            if transform is not None:
                moves = list(np.einsum("ij,jyx->iyx", transform, np.stack(moves)))
            for part, move in zip(group, moves, strict=True):
                part.fit(4, part.samples() + move)
        for part in group:
            part.values = np.where(part.free, rounded(part), part.values)


def _on_comb(part: SeenPart, values: Floats, free: np.ndarray) -> np.ndarray:
    """Groups of coefficients all near values that a decoder gives."""
    group, size = part.shape.group, 1024
    away = np.minimum(np.abs(part.values - values) / part.step, 0.5)
    count = np.bincount(group[free], minlength=size)
    squares = np.bincount(group[free], away[free] ** 2, minlength=size)
    good = (count >= 6) & (np.sqrt(squares / np.maximum(count, 1)) < 0.13)
    return np.asarray(good[group])
