"""Slides through OpenSlide: SVS, NDPI, MIRAX, DICOM, generic tiled TIFF and the rest of its list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import MissingDependencyError, SourceError
from dlpr_wsi.sources import Level, Selection, SlideFacts, SourceTile, TileGrid
from dlpr_wsi.sources.choose import only_one
from dlpr_wsi.sources.codec import SourceCodec, source_codec, tiff_codec
from dlpr_wsi.sources.files import slide_bytes
from dlpr_wsi.sources.fractional import FractionalLevel
from dlpr_wsi.sources.icc import fitting
from dlpr_wsi.sources.properties import allowed_properties
from dlpr_wsi.sources.units import plausible
from dlpr_wsi.stored import SlideStore
from dlpr_wsi.stored.opening import open_store
from dlpr_wsi.stored.pages import SlidePages
from dlpr_wsi.stored.shrunk import left_out
from dlpr_wsi.stored.strips import StripStore
from dlpr_wsi.stored.tiff import StoredTiles

try:
    import openslide
    from PIL import Image
except ImportError as error:
    raise MissingDependencyError("openslide-python (with openslide-bin)", "wsi") from error

__all__ = ["OpenSlideSource"]

_CACHE = 32 << 20  # bytes; OpenSlide's own
_MOST_CACHE = 2 << 30


class OpenSlideSource:
    """One OpenSlide handle.

    Parameters
    ----------
    path : Path
        The slide.
    selection : Selection, optional
        A slide of OpenSlide's formats is one picture; only a focal plane can be chosen, where it has several.
    notes : tuple of str
        What the caller found to be left out.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        The file is missing, OpenSlide does not know it, or it holds what OpenSlide would cut: more than 8 bits, further
        focal planes.
    """

    def __init__(self, path: Path, selection: Selection | None = None, *, notes: tuple[str, ...] = ()) -> None:
        if not path.exists():
            raise SourceError(f"{path}: no such file")
        self._path = path
        selection = selection or Selection()
        try:
            self._slide = openslide.OpenSlide(path)
        except (openslide.OpenSlideError, OSError, ValueError) as error:
            raise SourceError(f"{path}: OpenSlide cannot open it as a slide ({error})") from error
        self._store: SlideStore | None = None
        try:
            vendor = self._slide.properties.get("openslide.vendor", "unknown")
            only_one(path, selection, *(("plane",) if vendor == "hamamatsu" else ()))
            self._store = open_store(path, vendor, list(self._slide.level_dimensions), selection)
            _hold_largest(self._slide)
            self._pages = self._store if isinstance(self._store, SlidePages) else None
            self._shown = _shown(self._store, self._slide.level_count)
            self._background = _colour(self._slide.properties.get("openslide.background-color", "FFFFFF"))
            self._fractional = self._fractional_levels()
            self._facts = self._describe(notes)
        except SourceError:
            self.close()
            raise
        except Exception as error:  # OpenSlide's, tifffile's, and what the decoders behind it raise
            self.close()
            raise SourceError(f"{path}: OpenSlide cannot open it as a slide ({error})") from error

    def _fractional_levels(self) -> dict[int, FractionalLevel]:
        """Prepare the levels that OpenSlide cannot address everywhere."""
        found = {}
        for index, shown in enumerate(self._shown):
            downsample = float(self._slide.level_downsamples[shown])
            if downsample.is_integer():
                continue
            level = FractionalLevel(
                partial(self._at, index),
                downsample,
                *self._slide.level_dimensions[shown],
                None if self._pages is None else self._pages.standing_in(index),
                self._missing.get(index, frozenset()),
                self._background,
            )
            found[index] = level
        return found

    @property
    def _missing(self) -> Mapping[int, frozenset[tuple[int, int]]]:
        """Return the tiles that OpenSlide draws itself, by level."""
        return {} if self._pages is None else self._pages.missing

    def _at(self, level: int, location: tuple[int, int], width: int, height: int) -> NDArray[np.uint8]:
        """Read through OpenSlide at a position of level 0."""
        return self._region(location, level, width, height)

    def _describe(self, notes: tuple[str, ...]) -> SlideFacts:
        """Collect what the slide says."""
        facts = _facts(self._path, self._slide, self._shown, {} if self._pages is None else self._pages.tiles)
        icc, icc_notes = fitting(facts.icc_profile)
        by_tiles = sorted(index for index, level in self._fractional.items() if level.by_tiles)
        proven = tuple(
            f"level {index}: its downsample is no whole number; read from stored tiles through tifffile, "
            "which were compared with OpenSlide's pixels on samples"
            for index in by_tiles
        )
        between = [index for index, level in self._fractional.items() if level.interpolated]
        proven += tuple(
            f"level {index}: its downsample is no whole number, and OpenSlide addresses few of its pixels exactly; "
            "kept as OpenSlide shows the whole level, drawn between its pixels"
            for index in sorted(between)
        )
        levels = tuple(replace(level, interpolated=index in between) for index, level in enumerate(facts.levels))
        drawn = tuple(
            f"level {index}: {len(places)} tiles that the file lacks are as OpenSlide draws them from the level above"
            for index, places in self._missing.items()
            if places and index
        )
        lacking = self._missing.get(0) or (not self._missing and self._pages is not None and self._pages.lacking())
        empty = ("tiles that the file lacks are background",) if lacking else ()
        stored = () if self._store is None else self._store.notes
        notes = (*notes, *stored, *left_out(self._slide.level_count, self._shown), *icc_notes, *proven, *drawn, *empty)
        return replace(facts, levels=levels, icc_profile=icc, notes=notes)

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
        OpenSlide takes positions in px of level 0. Where the downsample is no whole number see
        `dlpr_wsi.sources.fractional`.
        """
        try:
            if level in self._fractional:
                return self._fractional[level].read(x, y, width, height)
            downsample = self._slide.level_downsamples[self._shown[level]]
            return self._region((round(x * downsample), round(y * downsample)), level, width, height)
        except Exception as error:  # OpenSlide's, tifffile's, and what the decoders behind it raise
            raise SourceError(
                f"{self._path}: reading {width}x{height} px at x={x} y={y} of level {level} failed ({error})"
            ) from error

    def _region(self, location: tuple[int, int], level: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read through OpenSlide and composite on the background."""
        region = self._slide.read_region(location, self._shown[level], (width, height))
        if region.getchannel("A").getextrema() != (255, 255):
            backdrop = Image.new("RGBA", region.size, (*self._background, 255))
            region = Image.alpha_composite(backdrop, region)
        return np.asarray(region, dtype=np.uint8)[..., :3]

    @property
    def store(self) -> SlideStore | None:
        """What lies in the slide's files."""
        return self._store

    def tile_grid(self, level: int) -> TileGrid | None:
        """Return the chunks that follow the stored data of a level, or None."""
        stored = None if self._store is None else self._store.levels.get(level)
        return None if stored is None else stored.grid()

    def source_tile(self, level: int, row: int, column: int) -> SourceTile | None:
        """Return what is stored behind a chunk, or None."""
        stored = None if self._store is None else self._store.levels.get(level)
        try:
            return None if stored is None else stored.tile(row, column)
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
        backdrop = Image.new("RGBA", image.size, (*self._background, 255))
        return np.asarray(Image.alpha_composite(backdrop, image.convert("RGBA")), dtype=np.uint8)[..., :3]

    def close(self) -> None:
        """Release the file."""
        self._slide.close()
        if self._store is not None:
            self._store.close()


def _hold_largest(slide: openslide.OpenSlide) -> None:
    """Let OpenSlide keep the largest tile of a slide that it decodes as a whole (a JPEG without restart markers).

    Otherwise it would decode that tile anew for every region.
    """
    largest = 0
    for level in range(slide.level_count):
        sides = [_number(slide.properties, f"openslide.level[{level}].tile-{side}") for side in ("width", "height")]
        largest = max(largest, 4 * int(sides[0] or 0) * int(sides[1] or 0))
    if _CACHE < largest <= _MOST_CACHE:
        slide.set_cache(openslide.OpenSlideCache(largest + _CACHE))


def _shown(store: SlideStore, count: int) -> tuple[int, ...]:
    """Return OpenSlide's level behind each level of the source."""
    return store.shown if isinstance(store, StripStore) else tuple(range(count))


def _facts(
    path: Path, slide: openslide.OpenSlide, shown: Sequence[int], stored: Mapping[int, StoredTiles]
) -> SlideFacts:
    """Pick from OpenSlide's properties what may leave the slide."""
    properties = slide.properties
    codec = source_codec(path, properties)
    levels = tuple(
        Level(*slide.level_dimensions[level], float(slide.level_downsamples[level]), _level_codec(index, codec, stored))
        for index, level in enumerate(shown)
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
        mpp_x=plausible(_number(properties, "openslide.mpp-x")),
        mpp_y=plausible(_number(properties, "openslide.mpp-y")),
        objective_power=_number(properties, "openslide.objective-power"),
        associated=tuple(sorted(slide.associated_images)),
        background=_colour(properties.get("openslide.background-color", "FFFFFF")),
        icc_profile=_icc(path, slide),
        bounds=_bounds(properties),
        properties=allowed_properties(properties),
        reader=f"OpenSlide {openslide.__library_version__}",
    )


def _level_codec(index: int, codec: SourceCodec, stored: Mapping[int, StoredTiles]) -> SourceCodec:
    """A level's own codec where its page was found; the quality is known for the slide as a whole."""
    if index not in stored:
        return codec
    own = tiff_codec(stored[index].compression)
    return codec if own.name == codec.name else own


def _icc(path: Path, slide: openslide.OpenSlide) -> bytes | None:
    """Return the colour profile as stored; of one that Little CMS does not take, some bytes that are none."""
    try:
        profile = slide.color_profile
    except openslide.OpenSlideError as error:
        raise SourceError(f"{path}: its ICC profile cannot be read ({error})") from error
    except Exception:  # Little CMS's, through Pillow
        return b"damaged"
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
