"""The slide's prior: learnt from a sample of its JPEG tiles, kept where it pays (docs/format section 20).

::

    level 0's tiles --64 of them, evenly--> `dlpr.Prior` --some others, coded with and without--> kept, or None
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.prior import MAX_BYTES
from dlpr.modes.jpeg.synthesis import synthesise
from dlpr_wsi.errors import SourceError
from dlpr_wsi.pipeline.encode import jpeg_image
from dlpr_wsi.pipeline.plan import LevelPlan, Plan, SourceTiles
from dlpr_wsi.sources import Coding, PixelSource

__all__ = ["slide_prior"]

_LEARN, _TRY = 64, 16
"""Tiles to learn from at most, and to compare with."""
_FEWEST = 512
"""Tiles of level 0 below which no prior is tried: it would take more than it saves."""
_SHARE = 100
"""A prior takes at most one part in so many of the slide's JPEG tiles."""


def slide_prior(source: PixelSource, plan: Plan, source_tiles: SourceTiles) -> dlpr.Prior | None:
    """Learn a prior; None where the slide has too few JPEG tiles or it saves less than it takes.

    The choice of tiles and the result depend on the slide and the plan alone.
    """
    level = plan.levels[0]
    places = level.rows * level.columns
    if places < _FEWEST or not level.follows_source or source_tiles is SourceTiles.NEVER or level.channels is not None:
        return None
    count = _LEARN + _TRY
    found = [_tile(source, level, *divmod((2 * i + 1) * places // (2 * count), level.columns)) for i in range(count)]
    tried = [image for i, image in enumerate(found) if i % 5 == 4 and image is not None]
    taught = [image for i, image in enumerate(found) if i % 5 != 4 and image is not None]
    if len(taught) < _LEARN // 4 or not tried:
        return None
    most = sum(map(_size, taught)) * places // _LEARN // _SHARE
    prior = dlpr.Prior.learn(taught, max_bytes=min(most, MAX_BYTES))
    if prior is None:
        return None
    pixels = [_pixels(image) for image in tried]
    plain, shorter = (
        sum(map(len, dlpr.encode_batch(pixels, source_jpegs=tried, jpeg="given", threads=1, prior=p)))
        for p in (None, prior)
    )
    saved = (plain - shorter) / _TRY * places
    return prior if saved > 1.2 * len(prior.data) else None


def _tile(source: PixelSource, level: LevelPlan, row: int, column: int) -> JpegImage | None:
    """Read a tile's coefficients; None where there is no tile that the codec reads."""
    try:
        tile = source.source_tile(0, row, column)
    except SourceError:  # the conversion names every tile that cannot be read
        return None
    if tile is None or tile.coding is not Coding.JPEG:
        return None
    return jpeg_image(tile, level.tile_height, level.tile_width)


def _size(image: JpegImage) -> int:
    """Bytes that a JPEG takes at about five bits for each coefficient that is not zero."""
    return sum(int(np.count_nonzero(q)) for q in image.coefficients) * 5 // 8


def _pixels(image: JpegImage) -> NDArray[np.uint8]:
    """Return a tile's samples as the codec takes them."""
    pixels = synthesise(image)
    return pixels if pixels.shape[2] == 3 else pixels[..., 0]
