"""Images of channels as pictures: each channel in its colour, added up; sums stop at 255."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import UsageError
from dlpr_wsi.viewer.engine import ChunkKey
from dlpr_wsi.viewer.pyramid import Box, overlap
from dlpr_wsi.viewer.stores import ChunkStore

__all__ = ["chosen", "colour_table", "mix", "parse", "put"]


def parse(text: str | None, store: ChunkStore) -> tuple[int, ...] | None:
    """Return the channels that a query names: ``0,2``; nothing where it is empty; all where it is None.

    Returns
    -------
    tuple of int or None
        Ascending, each once; None for an RGB picture.

    Raises
    ------
    dlpr_wsi.errors.UsageError
        It is malformed, or the image has no such channel.
    """
    if text is None:
        return chosen(store, None)
    parts = text.split(",") if text else []
    if not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
        raise UsageError("channels", f"must be numbers with commas between them, as in 0,2; not {text[:80]!r}")
    return chosen(store, [int(part) for part in parts])


def chosen(store: ChunkStore, channels: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return some channels of an image in ascending order, each once; None chooses all, and is all for RGB.

    Raises
    ------
    dlpr_wsi.errors.UsageError
        The image has no such channel.
    """
    if store.facts.channels is None:
        if channels is not None:
            raise UsageError("channels", f"{store.name} is an RGB picture: it has no channels to choose from")
        return None
    count = len(store.facts.channels)
    for channel in channels or ():
        if not 0 <= channel < count:
            raise UsageError("channels", f"{store.name} has the channels 0..{count - 1}, not {channel}")
    return tuple(range(count) if channels is None else sorted(set(channels)))


@lru_cache(maxsize=1024)
def colour_table(colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return what each sample of a channel adds to red, green and blue: (256, 3), rounded.

    Examples
    --------
    >>> colour_table((255, 128, 0))[[0, 100, 255]].tolist()
    [[0, 0, 0], [100, 50, 0], [255, 128, 0]]
    """
    table: NDArray[np.uint8] = ((np.arange(256)[:, None] * np.asarray(colour) + 127) // 255).astype(np.uint8)
    table.flags.writeable = False
    return table


def _samples(key: ChunkKey, channels: Sequence[int]) -> list[tuple[int, int]]:
    """Return (sample of the chunk, channel) for each of some channels that a chunk holds."""
    return [(0, key.channel)] if key.store.coded else [(channel, channel) for channel in channels]


def mix(out: NDArray[np.uint8], box: Box, key: ChunkKey, pixels: NDArray[np.uint8], channels: Sequence[int]) -> None:
    """Add a chunk to a picture, its channels in their colours.

    Parameters
    ----------
    out : ndarray of uint8, (box.height, box.width, 3)
        RGB; 0 before the first chunk.
    box : Box
        What it shows.
    key : ChunkKey
        The chunk.
    pixels : ndarray of uint8, (h, w, samples)
        One channel, or all where the store's chunks hold all.
    channels : sequence of int
        Those to show.
    """
    shown, part = overlap(box, key)
    region = out[shown]
    for sample, channel in _samples(key, channels):
        colour = colour_table((key.store.facts.channels or ())[channel].colour)[pixels[part][..., sample]]
        np.add(region, np.minimum(colour, 255 - region), out=region)


def put(out: NDArray[np.uint8], box: Box, key: ChunkKey, pixels: NDArray[np.uint8], channels: Sequence[int]) -> None:
    """Copy a chunk's samples into an array (box.height, box.width, len(channels)); see `mix`."""
    shown, part = overlap(box, key)
    for sample, channel in _samples(key, channels):
        out[shown][..., channels.index(channel)] = pixels[part][..., sample]
