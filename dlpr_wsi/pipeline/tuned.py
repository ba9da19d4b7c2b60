"""Weights tuned to a slide: learnt from a sample of what the networks code of it, kept where they pay (``--adapt``).

::

    chunks of levels alike --80 of them, evenly--> streams --what the networks coded--> 4 of 5 tune `dlpr.Tuned`
                                                                                   1 of 5, coded with and without
    by what these save, each level takes the weights, or does not

Levels are alike if all are read from the slide, or all are made, and have the same tau.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr.errors import DlprError
from dlpr.modes.networks.tuned import remember
from dlpr_wsi.errors import MissingDependencyError, SourceError
from dlpr_wsi.pipeline.places import encode_places
from dlpr_wsi.pipeline.plan import LevelPlan, Plan, SourceTiles
from dlpr_wsi.sources import PixelSource, SourceTile

if TYPE_CHECKING:
    from dlpr.training.adapt import Part

__all__ = ["Weights", "remember_weights", "remembered", "slide_weights"]

Weights = tuple[dlpr.Tuned | None, ...]
"""Of each level; empty where no level has any."""

_SAMPLE = 80
"""Places of levels alike that are encoded."""
_BATCH = 16
"""Places that are read at once."""
_FEWEST = 10
"""Places below which nothing is tried."""
_WORTH = 100_000
"""Bytes of levels alike that the networks code below which nothing is tried: a tenth of them pays for no weights."""
_MARGIN = 1.2 * 4 / 3
"""What weights must save over their bytes; a third more is what they take in metadata."""


def slide_weights(
    source: PixelSource,
    plan: Plan,
    source_tiles: SourceTiles,
    threads: int,
    *,
    prior: dlpr.Prior | None = None,
    keep_source: bool = False,
) -> Weights:
    """Tune weights to a slide; nothing for levels where they save less than they take.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        torch is not installed.
    """
    try:
        from dlpr.training import adapt
    except ImportError as error:
        raise MissingDependencyError(error.name or "torch", "train") from error
    alike: dict[tuple[bool, int], list[int]] = {}
    for index, level in enumerate(plan.levels):
        alike.setdefault((index >= plan.first_made, level.tau), []).append(index)
    out: list[dlpr.Tuned | None] = [None] * len(plan.levels)
    for levels in alike.values():
        places = [plan.levels[index].rows * plan.levels[index].columns for index in levels]
        parts = _sample(source, plan, levels, source_tiles, threads, prior, keep_source)
        coded = sum(part.size for place in parts for part in place)
        each = coded / max(len(parts), 1)
        if len(parts) < _FEWEST or each * sum(places) < _WORTH:
            continue
        taught = [part for number, place in enumerate(parts) if number % 5 != 4 for part in place]
        tried = [part for number, place in enumerate(parts) if number % 5 == 4 for part in place]
        if not taught or not tried:
            continue
        try:
            tuned = remember(adapt.tune(taught, adapt.AdaptConfig(threads=threads)))
            saved = 1 - sum(adapt.coded_again(tried, tuned, threads)) / sum(part.size for part in tried)
        except DlprError:  # weights that no decoder could rely on
            continue
        for index, count in zip(levels, places, strict=True):
            if saved * each * count > _MARGIN * len(tuned.data):
                out[index] = tuned
    return tuple(out) if any(out) else ()


def _sample(
    source: PixelSource,
    plan: Plan,
    levels: Sequence[int],
    source_tiles: SourceTiles,
    threads: int,
    prior: dlpr.Prior | None,
    keep_source: bool,
) -> list[list[Part]]:
    """What the networks code of some places, spread evenly over levels."""
    from dlpr.training.adapt import network_parts

    sizes = {index: plan.levels[index].rows * plan.levels[index].columns for index in levels}
    every = [(index, place) for index, size in sizes.items() for place in range(size)]
    count = min(len(every), max(_FEWEST, _SAMPLE // plan.levels[levels[0]].stack))
    chosen = [every[(2 * number + 1) * len(every) // (2 * count)] for number in range(count)]
    out = []
    for index in levels:
        level, of_level = plan.levels[index], [divmod(p, plan.levels[index].columns) for i, p in chosen if i == index]
        for start in range(0, len(of_level), _BATCH):
            read = [_read(source, level, index, place, source_tiles) for place in of_level[start : start + _BATCH]]
            pixels, tiles = [p for p, _ in filter(None, read)], [tile for _, tile in filter(None, read)]
            streams = encode_places(pixels, tiles, level, threads, prior, keep_source)
            for at in range(0, len(streams), level.stack):
                out.append([part for stream in streams[at : at + level.stack] for part in network_parts(stream)])
    return out


def _read(
    source: PixelSource, level: LevelPlan, index: int, place: tuple[int, int], source_tiles: SourceTiles
) -> tuple[NDArray[np.uint8], SourceTile | None] | None:
    """Read a place's pixels and stored tile; None where they cannot be read: the conversion names such places."""
    try:
        pixels = source.read(*level.box(*place), index)
        follows = level.follows_source and source_tiles is not SourceTiles.NEVER
        return pixels, source.source_tile(index, *place) if follows else None
    except SourceError:
        return None


def remember_weights(file: Path, tuned: Weights) -> None:
    """Write a conversion's weights beside its journal.

    A conversion that goes on must go on with the same weights, and training does not give the same ones everywhere.
    """
    names = {one.id: one for one in tuned if one is not None}
    content = {
        "levels": [None if one is None else one.id.hex() for one in tuned],
        "weights": {name.hex(): b64encode(one.data).decode() for name, one in names.items()},
    }
    partial = file.with_suffix(".tmp")
    partial.write_text(json.dumps(content))
    partial.replace(file)


def remembered(file: Path) -> Weights | None:
    """Read what `remember_weights` wrote; None where it cannot be read."""
    try:
        content = json.loads(file.read_text())
        known = {name: dlpr.Tuned(b64decode(data)) for name, data in content["weights"].items()}
        return tuple(None if name is None else known[name] for name in content["levels"])
    except (OSError, ValueError, KeyError, TypeError, DlprError):
        return None
