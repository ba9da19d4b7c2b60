"""Coefficients of what is seen of tiles: fitted, and rounded one group after the other (docs/decisions/0018)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlpr.modes.j2k.recover_image import low_step
from dlpr.modes.j2k.recover_steps import Quantiser, choose_planes, rounded, step_of
from dlpr.modes.j2k.recover_tile import LEVELS, Floats, SeenPart

__all__ = ["settle"]

ROUNDS = 10
_SHARES = (0.999, 0.99, 0.97, 0.9, 0.8, 0.6, 0.4, 0.2, 0.05, 0.0)


def _variances(parts: Sequence[SeenPart]) -> None:
    """What is usual of each band: mean squares of what is exactly known, five times as much for each depth beyond."""
    usual: dict[tuple[int, int, int], float] = {}
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
        usual[component, parts[0].shape.levels, 0] = (1000.0 if component == 0 else 300.0) ** 2
    for part in parts:
        s = part.shape
        table = np.zeros(4 * LEVELS + 4)
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
        part.step[part.shape.orientation == 0] = step_of(low_step(quantiser))
    _variances(parts)
    choose_planes(parts, quantiser, [part.shape.inside for part in parts])
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
        s = part.shape
        for share in _SHARES:
            now = part.free & (s.share >= share) & (s.orientation > 0)
            if now.any():
                part.values = np.where(now, rounded(part), part.values)
                part.free &= ~now
                part.fit(10)
        # A block's planes may have been chosen anew since a coefficient was settled.
        part.values = np.where(part.relevant, rounded(part), -part.base * (s.orientation > 0))


def _on_comb(part: SeenPart, values: Floats, free: np.ndarray) -> np.ndarray:
    """Groups of coefficients all near values that a decoder gives."""
    group, size = part.shape.group, 1024
    away = np.minimum(np.abs(part.values - values) / part.step, 0.5)
    count = np.bincount(group[free], minlength=size)
    squares = np.bincount(group[free], away[free] ** 2, minlength=size)
    good = (count >= 6) & (np.sqrt(squares / np.maximum(count, 1)) < 0.13)
    return np.asarray(good[group])
