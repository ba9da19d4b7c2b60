"""One picture of a TIFF: the pages of its levels, and how their samples make RGB or channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources import Channel
from dlpr_wsi.sources.photometric import CannotReadError, refusal
from dlpr_wsi.stored.tiff import StoredTiles

__all__ = ["Picture", "beside_note", "build_level", "is_level_of", "refuse", "subifds"]

_MAX_DIRECTORIES = 1 << 12  # of sub-directories of a page


@dataclass(frozen=True)
class Picture:
    """What `dlpr_wsi.sources.tiff.TiffSource` reads.

    Parameters
    ----------
    levels : tuple of tuple of StoredTiles
        For each level, largest first, the pages whose samples lie side by side in a px.
    channels : tuple of Channel or None
        None: an RGB picture (a single grey sample is repeated).
    mpp_x, mpp_y : float or None
        um/px.
    vendor : str
        "ome-tiff", "tiff" or "qptiff".
    icc : bytes or None
        Colour profile as stored.
    notes : tuple of str
        What was left out or decided.
    """

    levels: tuple[tuple[StoredTiles, ...], ...]
    channels: tuple[Channel, ...] | None
    mpp_x: float | None
    mpp_y: float | None
    vendor: str
    icc: bytes | None
    notes: tuple[str, ...] = ()

    def read(
        self, level: int, x: int, y: int, width: int, height: int, background: tuple[int, int, int]
    ) -> NDArray[np.uint8]:
        """Return a region of a level as (height, width, samples)."""
        pages = self.levels[level]
        if self.channels is not None:
            parts = [page.read(x, y, width, height, 0) for page in pages]
        elif len(pages) == 3:
            parts = [page.read(x, y, width, height, shade) for page, shade in zip(pages, background, strict=True)]
        else:
            page = pages[0]
            part = page.read(x, y, width, height, background if page.samples == 3 else background[0])
            return part if page.samples == 3 else np.repeat(part, 3, axis=-1)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def refuse(path: Path, reason: str) -> SourceError:
    """Return the error for a picture that cannot be kept whole."""
    return SourceError(f"{path}: {reason}")


def build_level(path: Path, pages: Sequence[Any], *, channels: bool) -> tuple[StoredTiles, ...]:
    """Make the readers of the pages of a level.

    Parameters
    ----------
    path : Path
        The file, for messages.
    pages : sequence of tifffile.TiffPage
        All of one size.
    channels : bool
        Whether samples of grey pages are channels.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        A page cannot be kept whole or not be read.
    """
    made = []
    for page in pages:
        reason = refusal(page, channels=channels)
        if reason is not None:
            raise refuse(path, reason)
        try:
            tiles = StoredTiles(page, channels=channels)
            if tiles.disagrees():
                raise CannotReadError("JPEG data whose markers contradict its directory on Y, Cb, Cr or R, G, B")
        except CannotReadError as error:
            raise refuse(path, f"{error}: not supported") from error
        except Exception as error:  # tifffile raises many kinds
            raise refuse(path, f"its directories are damaged ({type(error).__name__})") from error
        made.append(tiles)
    if len({(tiles.width, tiles.height) for tiles in made}) > 1:
        raise refuse(path, "the pages of its channels have different sizes")
    return tuple(made)


def is_level_of(page: Any, base: Any) -> bool:
    """Tell whether a page is a smaller copy of another by its size and its kind of samples.

    Sides may be rounded up or down at every halving, so the wider one's ratio is taken and a px and a half allowed.
    """
    width, height = int(page.imagewidth), int(page.imagelength)
    base_width, base_height = int(base.imagewidth), int(base.imagelength)
    if (width >= base_width and height >= base_height) or width > base_width or height > base_height:
        return False
    if int(page.samplesperpixel) != int(base.samplesperpixel) or page.bitspersample != base.bitspersample:
        return False
    if (int(page.photometric) in (2, 6)) != (int(base.photometric) in (2, 6)):
        return False
    slack_x, slack_y = 1.5 * base_height, 1.5 * base_width  # px of one side, in the units of the products
    return abs(width * base_height - height * base_width) <= max(slack_x, slack_y)


def subifds(page: Any) -> list[Any]:
    """Return the sub-directories of a page, as pages."""
    if not page.subifds or page.pages is None:
        return []
    if len(page.subifds) > _MAX_DIRECTORIES:
        raise ValueError("too many sub-directories")
    return [entry.aspage() for entry in page.pages]


def beside_note(what: str, width: int, height: int) -> str:
    """Return the note about a picture that is left out."""
    return f"left out: {what}, {width} x {height} px"
