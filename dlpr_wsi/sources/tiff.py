"""Tiled TIFF through tifffile: OME-TIFF and plain pyramids as sources, and the stored tiles of TIFF-based slides."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import MissingDependencyError, SourceError
from dlpr_wsi.sources import Level, SlideFacts, SourceCodec, SourceTile, TileGrid
from dlpr_wsi.sources.codec import tiff_codec

__all__ = ["StoredTiles", "TiffSource", "prefers_tifffile"]

_JPEG = 7
_YCBCR, _RGB, _GREY = 6, 2, 1
_DLPR = 65471
_MAX_SIDE = 4096  # of a stored tile in px; larger ones are no tiles
_SLIDE_VENDORS = re.compile(rb"Aperio|Hamamatsu|Leica|Ventana|iScan|PHILIPS|3DHISTECH|Trestle", re.IGNORECASE)


def _tifffile() -> ModuleType:
    """Import tifffile; it knows DLPR tiles, see `dlpr_wsi._tifffile_hook`."""
    try:
        import tifffile
    except ImportError as error:
        raise MissingDependencyError("tifffile", "wsi") from error
    return tifffile


def prefers_tifffile(path: Path) -> bool:
    """Tell whether a TIFF is better read through tifffile than through OpenSlide.

    So it is when the file is an OME-TIFF, has its pyramid in SubIFDs (which OpenSlide does not look at) or holds DLPR
    tiles, and no slide format that OpenSlide knows by name.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) not in (b"II", b"MM"):
                return False
        with _tifffile().TiffFile(path) as tiff:
            page = tiff.pages[0]
            description = page.tags.get("ImageDescription")
            text = description.value if description is not None else ""
            if isinstance(text, str) and _SLIDE_VENDORS.search(text.encode("utf-8", "replace")):
                return False
            return bool(tiff.is_ome or 330 in page.tags or int(page.compression) == _DLPR)
    except MissingDependencyError:
        return False
    except Exception:  # tifffile raises many kinds for what is no TIFF
        return False


class StoredTiles:
    """The tiles of one tiled TIFF page, raw and decoded.

    Parameters
    ----------
    page : tifffile.TiffPage
        A tiled page of uint8 samples, RGB or grey.
    """

    def __init__(self, page: Any) -> None:
        self._page = page
        self.width, self.height = int(page.imagewidth), int(page.imagelength)
        self.tile_width, self.tile_height = int(page.tilewidth), int(page.tilelength)
        self.columns = -(-self.width // self.tile_width)
        self.rows = -(-self.height // self.tile_height)
        self.is_jpeg = int(page.compression) == _JPEG and int(page.photometric) in (_YCBCR, _RGB)
        self.samples = int(page.samplesperpixel)

    @staticmethod
    def fits(page: Any) -> bool:
        """Tell whether a page is of a kind that this class reads."""
        return bool(
            page.is_tiled
            and page.dtype == np.uint8
            and int(page.planarconfig) == 1
            and int(page.samplesperpixel) in (1, 3, 4)
            and int(page.photometric) in (_YCBCR, _RGB, _GREY)
            and max(page.tilewidth, page.tilelength) <= _MAX_SIDE
        )

    def grid(self) -> TileGrid:
        """Return where the tiles are."""
        return TileGrid(self.tile_width, self.tile_height, self.rows, self.columns)

    def raw(self, row: int, column: int) -> bytes:
        """Return a tile's bytes in the file; empty where it has none."""
        index = row * self.columns + column
        size = int(self._page.databytecounts[index])
        if size == 0:
            return b""
        handle = self._page.parent.filehandle
        handle.seek(int(self._page.dataoffsets[index]))
        data: bytes = handle.read(size)
        return data

    def jpeg(self, row: int, column: int) -> SourceTile | None:
        """Return a JPEG tile as stored; None where the page has none there."""
        data = self.raw(row, column) if self.is_jpeg else b""
        return SourceTile(data, self._page.jpegtables, int(self._page.photometric) == _YCBCR) if data else None

    def read(self, x: int, y: int, width: int, height: int, background: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Return a region as (height, width, 3) RGB."""
        out = np.empty((height, width, 3), np.uint8)
        out[:] = background
        top, bottom = max(y, 0), min(y + height, self.height)
        left, right = max(x, 0), min(x + width, self.width)
        if top >= bottom or left >= right:
            return out
        for row in range(top // self.tile_height, -(-bottom // self.tile_height)):
            for column in range(left // self.tile_width, -(-right // self.tile_width)):
                tile = self._decode(row, column, background)
                if tile is None:
                    continue
                ty, tx = row * self.tile_height, column * self.tile_width
                y0, y1 = max(top, ty), min(bottom, ty + tile.shape[0])
                x0, x1 = max(left, tx), min(right, tx + tile.shape[1])
                out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[y0 - ty : y1 - ty, x0 - tx : x1 - tx]
        return out

    def _decode(self, row: int, column: int, background: tuple[int, int, int]) -> NDArray[np.uint8] | None:
        """Decode a tile to (h, w, 3); None where it is empty."""
        data = self.raw(row, column)
        if not data:
            return None
        options = {"jpegtables": self._page.jpegtables} if int(self._page.compression) in (6, _JPEG) else {}
        tile, _, _ = self._page.decode(data, row * self.columns + column, **options)
        tile = tile[0]  # tifffile's tiles have a depth
        if tile.shape[-1] == 1:
            tile = np.repeat(tile, 3, axis=-1)
        if tile.shape[-1] == 4:
            alpha = tile[..., 3:].astype(np.uint32)
            mixed = tile[..., :3] * alpha + np.array(background, np.uint32) * (255 - alpha)
            tile = ((mixed + 127) // 255).astype(np.uint8)
        return np.asarray(tile, np.uint8)


class TiffSource:
    """A tiled TIFF read by tifffile.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        tifffile is not installed.
    dlpr_wsi.errors.SourceError
        The file is no TIFF of 8-bit RGB or grey tiles.
    """

    def __init__(self, path: Path) -> None:
        tifffile = _tifffile()
        self._path = path
        try:
            self._tiff = tifffile.TiffFile(path)
        except Exception as error:  # tifffile raises many kinds
            raise SourceError(f"{path}: tifffile cannot open it ({error})") from error
        try:
            pages = [level.keyframe for level in self._tiff.series[0].levels]
            if not pages or not StoredTiles.fits(pages[0]):
                raise SourceError(f"{path}: not a TIFF of 8-bit RGB or grey tiles")
            self._levels = [StoredTiles(page) for page in pages if StoredTiles.fits(page)]
            self._facts = self._describe(pages[0])
        except SourceError:
            self._tiff.close()
            raise
        except Exception as error:
            self._tiff.close()
            raise SourceError(f"{path}: its directories are damaged ({error})") from error

    def _describe(self, page: Any) -> SlideFacts:
        first = self._levels[0]
        levels = []
        for stored in self._levels:
            downsample = (first.width / stored.width + first.height / stored.height) / 2
            levels.append(Level(stored.width, stored.height, downsample, tiff_codec(int(stored._page.compression))))
        icc = page.iccprofile
        mpp_x, mpp_y = _resolution(page, self._tiff)
        return SlideFacts(
            name=self._path.name,
            vendor="ome-tiff" if self._tiff.is_ome else "tiff",
            file_bytes=self._path.stat().st_size,
            codec=levels[0].codec,
            levels=tuple(levels),
            tile_width=first.tile_width,
            tile_height=first.tile_height,
            mpp_x=mpp_x,
            mpp_y=mpp_y,
            objective_power=None,
            associated=(),
            background=(255, 255, 255),
            icc_profile=bytes(icc) if icc else None,
        )

    @property
    def facts(self) -> SlideFacts:
        """What the file says about itself."""
        return self._facts

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """Return a region of a level as (height, width, 3) RGB."""
        try:
            return self._levels[level].read(x, y, width, height, self._facts.background)
        except Exception as error:  # tifffile and imagecodecs raise many kinds
            raise SourceError(
                f"{self._path}: reading {width}x{height} px at x={x} y={y} of level {level} failed ({error})"
            ) from error

    def tile_grid(self, level: int) -> TileGrid | None:
        """Return the JPEG tiles of a level, or None."""
        return self._levels[level].grid() if self._levels[level].is_jpeg else None

    def source_tile(self, level: int, row: int, column: int) -> SourceTile | None:
        """Return a stored JPEG tile, or None."""
        return self._levels[level].jpeg(row, column)

    def associated(self, name: str) -> NDArray[np.uint8]:
        """Raise: such a file has no associated images."""
        raise SourceError(f"{self._path}: no associated image {name!r}")

    def close(self) -> None:
        """Release the file."""
        self._tiff.close()


def slide_levels(path: Path, dimensions: list[tuple[int, int]]) -> tuple[Any, dict[int, StoredTiles]]:
    """Open a slide's TIFF and find the tiled pages of its levels.

    Parameters
    ----------
    path : Path
        The slide.
    dimensions : list of (int, int)
        Width and height of each level as OpenSlide gives them.

    Returns
    -------
    tiff : tifffile.TiffFile or None
        To be closed by the caller; None where the slide is no TIFF or tifffile is not installed.
    tiles : dict of int to StoredTiles
        By level, those that were found.
    """
    try:
        tifffile = _tifffile()
        with path.open("rb") as file:
            if file.read(2) not in (b"II", b"MM"):
                return None, {}
        tiff = tifffile.TiffFile(path)
    except (MissingDependencyError, OSError, ValueError):
        return None, {}
    except Exception:  # damaged in a way that OpenSlide does not mind
        return None, {}
    found: dict[int, StoredTiles] = {}
    try:
        for entry in tiff.pages:
            page = entry.aspage()
            if not StoredTiles.fits(page):
                continue
            for index, (width, height) in enumerate(dimensions):
                if index not in found and (page.imagewidth, page.imagelength) == (width, height):
                    found[index] = StoredTiles(page)
                    break
    except Exception:
        found = {}
    return tiff, found


def _resolution(page: Any, tiff: Any) -> tuple[float | None, float | None]:
    """Micrometres per px from OME metadata or the resolution tags."""
    if tiff.is_ome and tiff.ome_metadata:
        found = [re.search(rf'PhysicalSize{axis}="([0-9.eE+-]+)"', tiff.ome_metadata) for axis in "XY"]
        units = [re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', tiff.ome_metadata) for axis in "XY"]
        if all(found) and all(unit is None or unit.group(1) in ("µm", "&#181;m") for unit in units):
            values = [float(match.group(1)) for match in found if match]
            if all(math.isfinite(v) and v > 0 for v in values):
                return values[0], values[1]
    unit = {2: 25400.0, 3: 10000.0}.get(int(page.tags["ResolutionUnit"].value) if "ResolutionUnit" in page.tags else 0)
    if unit is None:
        return None, None
    sizes: list[float | None] = []
    for name in ("XResolution", "YResolution"):
        numerator, denominator = page.tags[name].value if name in page.tags else (0, 1)
        sizes.append(unit * denominator / numerator if numerator > 1 and denominator else None)
    return sizes[0], sizes[1]


def codec_of(stored: StoredTiles) -> SourceCodec:
    """Return how a page is compressed."""
    return tiff_codec(int(stored._page.compression))
