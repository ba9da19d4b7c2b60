"""What of each level is kept as the slide's file holds it, and why not: the one place that says so.

A plan, a finished conversion and ``--source-tiles only`` tell it in these words. They name what a user can act on: an
option, a kind of compression, or what a tile lacks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dlpr.errors import DlprError
from dlpr.modes.j2k.fields import Wavelet
from dlpr.modes.j2k.parse import parse as parse_j2k
from dlpr.modes.jpeg.fields import ColourTransform
from dlpr.modes.jpeg.parse import parse
from dlpr_wsi.errors import SourceError
from dlpr_wsi.pipeline.encode import jpeg_image
from dlpr_wsi.pipeline.jpeg2000 import j2k_pixels, source_j2k
from dlpr_wsi.pipeline.plan import LevelPlan, Plan, SourceTiles, why_not_followed
from dlpr_wsi.sources import Coding, PixelSource, SourceTile

__all__ = ["LevelKept", "kept_levels"]

_TRIED = 8  # places that are looked at for a stored tile


@dataclass(frozen=True)
class LevelKept:
    """What becomes of a level's stored data.

    Parameters
    ----------
    level : int
        Which.
    kept : bool
        Whether its chunks keep the stored data, wherever that gives the reader's pixels.
    text : str
        What is kept, or why nothing is and what is done instead.
    """

    level: int
    kept: bool
    text: str


def kept_levels(
    source: PixelSource,
    plan: Plan,
    *,
    tile: int | None = None,
    source_tiles: SourceTiles = SourceTiles.AUTO,
    keep_source: bool = False,
) -> tuple[LevelKept, ...]:
    """Say of each level what is kept of it.

    Parameters
    ----------
    source : PixelSource
        The slide with the levels of the archive.
    plan : Plan
        Its levels.
    tile, source_tiles
        As of `dlpr_wsi.pipeline.plan.make_plan`.
    keep_source : bool
        Whether tiles are kept even where their pixels alone take less.
    """
    found = []
    for index, level in enumerate(plan.levels):
        if index >= plan.first_made:
            within = f" within tau {level.tau}" if level.tau else ""
            found.append(LevelKept(index, False, f"made from the level above, coded as pixels{within}"))
            continue
        why = _why_not(source, index, level, tile, source_tiles)
        if not why:
            stored = list(_some(source, index, level))
            what = _what(stored, level.tau, keep_source=keep_source)
        found.append(LevelKept(index, not why, why or what))
    return tuple(found)


def _what(stored: list[SourceTile], tau: int, *, keep_source: bool) -> str:
    """Say what is kept of a level whose stored tiles can be; some of them are at hand."""
    coding = stored[0].coding if stored else Coding.JPEG
    within = f" within tau {tau}" if tau else ""
    if coding is Coding.JPEG2000 and not keep_source and any(_is_lossless(tile) for tile in stored):
        return (
            f"the slide's own lossless JPEG 2000 tiles, each kept{within or ' as it is'} or coded as pixels, whichever "
            "is smaller (--source-tiles only keeps them all, and is quicker)"
        )
    return f"the slide's own {_NAMES[coding]} tiles, kept{within or ' as they are'}"


def _is_lossless(tile: SourceTile) -> bool:
    """Whether a stored tile is a codestream of the reversible wavelet, which may lose nothing."""
    try:
        found = parse_j2k(*source_j2k(tile))
    except DlprError:
        return False
    return found.fields.components[0].wavelet is Wavelet.REVERSIBLE


def _why_not(source: PixelSource, index: int, level: LevelPlan, tile: int | None, source_tiles: SourceTiles) -> str:
    """Say why a level that is read from the slide is not kept; empty where it is."""
    facts = source.facts
    codec = facts.levels[index].codec
    if facts.levels[index].interpolated:
        return "pixels that the reader draws between the stored ones: coded as pixels"
    grid = source.tile_grid(index)
    if grid is not None:
        if why := why_not_followed(grid, level.channels, tile, source_tiles):
            return f"stored tiles not kept ({why}): coded as pixels"
        return _why_no_tile(source, index, level)
    if codec.name == "JPEG":
        return "JPEG whose data is not known in this file: searched in the pixels, else coded as pixels"
    return f"{codec.name or 'compression that is not known'}: coded as pixels"


def _why_no_tile(source: PixelSource, index: int, level: LevelPlan) -> str:
    """Look at some stored tiles; say why none of them can be kept, empty where one can."""
    why = ""
    for stored in _some(source, index, level):
        if stored.coding is Coding.JPEG2000:
            taken = j2k_pixels(stored) is not None
        else:
            taken = jpeg_image(stored, level.tile_height, level.tile_width) is not None
        if taken:
            return ""
        why = f"{_NAMES[stored.coding]} tiles that the codec does not take ({_refusal(stored)}): coded as pixels"
    return why


def _refusal(stored: SourceTile) -> str:
    """Return the codec's words on a tile that it does not take."""
    one = stored.pieces[0].tile if stored.pieces else stored
    if one.coding is Coding.JPEG2000:
        return _words(lambda: parse_j2k(*source_j2k(one)))
    transform = ColourTransform.YCBCR if one.ycbcr else ColourTransform.NONE
    return _words(lambda: parse(one.data, one.tables, transform))


def _words(read: Callable[[], object]) -> str:
    """Return what the codec says when it reads a tile, without what it says of all tiles."""
    try:
        read()
    except DlprError as error:
        text = re.sub(r"^(dlpr: )?(the source JPEG( 2000)? is not used: )?", "", str(error))
        return text.removesuffix("; code the pixels alone")
    return "it does not cover its chunk"


_NAMES = {Coding.JPEG: "JPEG", Coding.JPEG2000: "JPEG 2000"}


def _some(source: PixelSource, index: int, level: LevelPlan) -> Iterator[SourceTile]:
    """Yield the stored tiles at some places; those that cannot be read are named by the conversion."""
    places = level.rows * level.columns
    count = min(places, _TRIED)
    for number in range(count):
        try:
            tile = source.source_tile(index, *divmod((2 * number + 1) * places // (2 * count), level.columns))
        except SourceError:
            continue
        if tile is not None:
            yield tile
