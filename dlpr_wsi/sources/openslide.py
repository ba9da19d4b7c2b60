"""Slides through OpenSlide: SVS, NDPI, MIRAX, DICOM, generic tiled TIFF and the rest of its list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import MissingDependencyError, SourceError
from dlpr_wsi.sources import Level, SlideFacts
from dlpr_wsi.sources.codec import source_codec

try:
    import openslide
    from PIL import Image
except ImportError as error:
    raise MissingDependencyError("openslide-python (with openslide-bin)", "wsi") from error

__all__ = ["OpenSlideSource"]


class OpenSlideSource:
    """One OpenSlide handle.

    Parameters
    ----------
    path : Path
        The slide.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        The file is missing, or OpenSlide does not know it.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise SourceError(f"{path}: no such file")
        try:
            self._slide = openslide.OpenSlide(path)
            self._facts = _facts(path, self._slide)
        except (openslide.OpenSlideError, OSError, ValueError) as error:
            raise SourceError(f"{path}: OpenSlide cannot open it as a slide ({error})") from error
        self._path = path

    @property
    def facts(self) -> SlideFacts:
        """What the slide says about itself."""
        return self._facts

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region of level 0.

        Parameters
        ----------
        x, y : int
            Upper left corner in px.
        width, height : int
            Size in px.

        Returns
        -------
        ndarray of uint8, (height, width, 3)
            RGB. What was not scanned has the slide's background colour.

        Raises
        ------
        dlpr_wsi.errors.SourceError
            OpenSlide cannot read the region; the handle is of no use afterwards.
        """
        try:
            region = self._slide.read_region((x, y), 0, (width, height))
        except (openslide.OpenSlideError, OSError) as error:
            raise SourceError(f"{self._path}: reading {width}x{height} px at x={x} y={y} failed ({error})") from error
        if region.getchannel("A").getextrema() != (255, 255):
            backdrop = Image.new("RGBA", region.size, (*self._facts.background, 255))
            region = Image.alpha_composite(backdrop, region)
        return np.asarray(region, dtype=np.uint8)[..., :3]

    def close(self) -> None:
        """Release the file."""
        self._slide.close()


def _facts(path: Path, slide: openslide.OpenSlide) -> SlideFacts:
    """Pick from OpenSlide's properties what may leave the slide."""
    properties = slide.properties
    levels = tuple(
        Level(width, height, float(downsample))
        for (width, height), downsample in zip(slide.level_dimensions, slide.level_downsamples, strict=True)
    )
    tile_width = _number(properties, "openslide.level[0].tile-width")
    tile_height = _number(properties, "openslide.level[0].tile-height")
    return SlideFacts(
        name=path.name,
        vendor=properties.get("openslide.vendor", "unknown"),
        file_bytes=_file_bytes(path),
        codec=source_codec(path, properties),
        levels=levels,
        tile_width=None if tile_width is None else int(tile_width),
        tile_height=None if tile_height is None else int(tile_height),
        mpp_x=_number(properties, "openslide.mpp-x"),
        mpp_y=_number(properties, "openslide.mpp-y"),
        objective_power=_number(properties, "openslide.objective-power"),
        associated=tuple(sorted(slide.associated_images)),
        background=_colour(properties.get("openslide.background-color", "FFFFFF")),
    )


def _file_bytes(path: Path) -> int:
    """Size of a slide on disk; a MIRAX slide keeps its pixels in a folder beside the named file."""
    total = path.stat().st_size
    folder = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and folder.is_dir():
        total += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return total


def _number(properties: Mapping[str, str], key: str) -> float | None:
    """Return a property as a number, or None where it is absent or no number."""
    try:
        return float(properties[key])
    except (KeyError, ValueError):
        return None


def _colour(text: str) -> tuple[int, int, int]:
    """Parse RRGGBB; white if it is nothing of the kind."""
    try:
        red, green, blue = bytes.fromhex(text)
    except ValueError:
        return (255, 255, 255)
    return (red, green, blue)
