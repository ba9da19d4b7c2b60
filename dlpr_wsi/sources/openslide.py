"""Slides through OpenSlide: SVS, NDPI, MIRAX, DICOM, generic tiled TIFF and the rest of its list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import MissingDependencyError, SourceError
from dlpr_wsi.sources import Level, SlideFacts, SourceTile, TileGrid
from dlpr_wsi.sources.codec import SourceCodec, source_codec
from dlpr_wsi.sources.files import slide_bytes
from dlpr_wsi.sources.properties import allowed_properties
from dlpr_wsi.sources.tiff import StoredTiles, codec_of, slide_levels

try:
    import openslide
    from PIL import Image
except ImportError as error:
    raise MissingDependencyError("openslide-python (with openslide-bin)", "wsi") from error

__all__ = ["OpenSlideSource"]

_MAX_WHOLE = 1 << 26  # px of a level that is read as a whole and kept


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
            self._tiff, self._stored = slide_levels(path, list(self._slide.level_dimensions))
            self._facts = _facts(path, self._slide, self._stored)
        except (openslide.OpenSlideError, OSError, ValueError) as error:
            raise SourceError(f"{path}: OpenSlide cannot open it as a slide ({error})") from error
        self._path = path
        self._whole: dict[int, NDArray[np.uint8]] = {}

    @property
    def facts(self) -> SlideFacts:
        """What the slide says about itself."""
        return self._facts

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """Return a region of a level.

        Parameters
        ----------
        x, y : int
            Upper left corner in px of the level.
        width, height : int
            Size in px.
        level : int
            Which level.

        Returns
        -------
        ndarray of uint8, (height, width, 3)
            RGB. What was not scanned has the slide's background colour.

        Raises
        ------
        dlpr_wsi.errors.SourceError
            OpenSlide cannot read the region; the source is of no use afterwards.

        Notes
        -----
        OpenSlide takes positions in px of level 0. Where the downsample is no whole number a region would begin
        between two pixels and OpenSlide would interpolate. Such a level is read from the slide's own tiles through
        tifffile, or as a whole, which begins at 0, and kept; only where neither is possible as OpenSlide gives it.
        """
        downsample = self._slide.level_downsamples[level]
        try:
            if not float(downsample).is_integer():
                level_width, level_height = self._slide.level_dimensions[level]
                if level in self._stored:
                    return self._stored[level].read(x, y, width, height, self._facts.background)
                if level_width * level_height <= _MAX_WHOLE:
                    if level not in self._whole:
                        self._whole[level] = self._region((0, 0), level, level_width, level_height)
                    return self._crop(self._whole[level], x, y, width, height)
            return self._region((round(x * downsample), round(y * downsample)), level, width, height)
        except SourceError:
            raise
        except Exception as error:  # OpenSlide's, tifffile's, and what the decoders behind it raise
            raise SourceError(
                f"{self._path}: reading {width}x{height} px at x={x} y={y} of level {level} failed ({error})"
            ) from error

    def _region(self, location: tuple[int, int], level: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read through OpenSlide and composite on the background."""
        region = self._slide.read_region(location, level, (width, height))
        if region.getchannel("A").getextrema() != (255, 255):
            backdrop = Image.new("RGBA", region.size, (*self._facts.background, 255))
            region = Image.alpha_composite(backdrop, region)
        return np.asarray(region, dtype=np.uint8)[..., :3]

    def _crop(self, whole: NDArray[np.uint8], x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Cut a region out of a level, background outside of it."""
        out = np.empty((height, width, 3), np.uint8)
        out[:] = self._facts.background
        part = whole[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
        top, left = max(-y, 0), max(-x, 0)
        out[top : top + part.shape[0], left : left + part.shape[1]] = part
        return out

    def tile_grid(self, level: int) -> TileGrid | None:
        """Return the JPEG tiles of a level, or None."""
        stored = self._stored.get(level)
        return stored.grid() if stored is not None and stored.is_jpeg else None

    def source_tile(self, level: int, row: int, column: int) -> SourceTile | None:
        """Return a stored JPEG tile, or None."""
        stored = self._stored.get(level)
        try:
            return None if stored is None else stored.jpeg(row, column)
        except Exception as error:
            raise SourceError(
                f"{self._path}: the stored tile at level {level} row {row} column {column} cannot be read ({error})"
            ) from error

    def associated(self, name: str) -> NDArray[np.uint8]:
        """Return an associated image as (height, width, 3) RGB."""
        try:
            image = self._slide.associated_images[name]
        except KeyError as error:
            raise SourceError(f"{self._path}: no associated image {name!r}") from error
        except openslide.OpenSlideError as error:
            raise SourceError(f"{self._path}: the associated image {name!r} cannot be read ({error})") from error
        backdrop = Image.new("RGBA", image.size, (*self._facts.background, 255))
        return np.asarray(Image.alpha_composite(backdrop, image.convert("RGBA")), dtype=np.uint8)[..., :3]

    def close(self) -> None:
        """Release the file."""
        self._slide.close()
        if self._tiff is not None:
            self._tiff.close()


def _facts(path: Path, slide: openslide.OpenSlide, stored: Mapping[int, StoredTiles]) -> SlideFacts:
    """Pick from OpenSlide's properties what may leave the slide."""
    properties = slide.properties
    codec = source_codec(path, properties)
    levels = tuple(
        Level(width, height, float(slide.level_downsamples[index]), _level_codec(index, codec, stored))
        for index, (width, height) in enumerate(slide.level_dimensions)
    )
    tile_width = _number(properties, "openslide.level[0].tile-width")
    tile_height = _number(properties, "openslide.level[0].tile-height")
    return SlideFacts(
        name=path.name,
        vendor=properties.get("openslide.vendor", "unknown"),
        file_bytes=slide_bytes(path),
        codec=codec,
        levels=levels,
        tile_width=None if tile_width is None else int(tile_width),
        tile_height=None if tile_height is None else int(tile_height),
        mpp_x=_number(properties, "openslide.mpp-x"),
        mpp_y=_number(properties, "openslide.mpp-y"),
        objective_power=_number(properties, "openslide.objective-power"),
        associated=tuple(sorted(slide.associated_images)),
        background=_colour(properties.get("openslide.background-color", "FFFFFF")),
        icc_profile=_icc(path, slide),
        bounds=_bounds(properties),
        properties=allowed_properties(properties),
    )


def _level_codec(index: int, codec: SourceCodec, stored: Mapping[int, StoredTiles]) -> SourceCodec:
    """A level's own codec where its page was found; the quality is known for the slide as a whole."""
    if index not in stored:
        return codec
    own = codec_of(stored[index])
    return codec if own.name == codec.name else own


def _icc(path: Path, slide: openslide.OpenSlide) -> bytes | None:
    """Return the colour profile as stored."""
    try:
        profile = slide.color_profile
    except (openslide.OpenSlideError, OSError, ValueError) as error:
        raise SourceError(f"{path}: its ICC profile cannot be read ({error})") from error
    return None if profile is None else bytes(profile.tobytes())


def _bounds(properties: Mapping[str, str]) -> tuple[int, int, int, int] | None:
    """Return the part that was scanned, where the slide says so."""
    numbers = [_number(properties, f"openslide.bounds-{name}") for name in ("x", "y", "width", "height")]
    if any(number is None for number in numbers):
        return None
    x, y, width, height = (int(number) for number in numbers if number is not None)
    return (x, y, width, height)


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
