"""Where pixels come from.

A source is anything with the methods of `PixelSource`. `dlpr_wsi.sources.opening` picks the implementation:

``dlpr_wsi.sources.openslide``
    Whole slides: SVS, NDPI, MIRAX, SCN, BIF, DICOM, generic tiled TIFF.
``dlpr_wsi.sources.tiff``
    OME-TIFF, QPTIFF and plain TIFF in tiles or strips through tifffile.
``dlpr_wsi.sources.dicom_source``
    The files of one DICOM slide, through OpenSlide.
``dlpr_wsi.sources.zarr``
    Zarr arrays and OME-Zarr groups, our own archives too.
``dlpr_wsi.sources.image``
    Single images (PNG, JPEG, ...) through Pillow.
``dlpr_wsi.sources.pyramid``
    Adds lower levels to a source that has one.

Finished archives, chunk by chunk, are read by `dlpr_wsi.sources.archive`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.sources.codec import SourceCodec

__all__ = [
    "Channel",
    "Chunked",
    "Coding",
    "Level",
    "NoTiles",
    "PixelSource",
    "Selection",
    "SlideFacts",
    "SourceCodec",
    "SourceTile",
    "TileGrid",
    "TilePiece",
]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".jp2"})


class Chunked:
    """What follows from the sizes of a level and of its chunks.

    A chunk of an RGB picture holds the three samples of its px. Where an image has channels, a chunk holds one of them,
    and as many chunks as there are channels lie at a place (a row and a column).
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    channels: int | None

    @property
    def rows(self) -> int:
        """Rows of chunks."""
        return -(-self.height // self.tile_height)

    @property
    def columns(self) -> int:
        """Columns of chunks."""
        return -(-self.width // self.tile_width)

    @property
    def samples(self) -> int:
        """Samples of a px: 3 for RGB, else the number of channels."""
        return 3 if self.channels is None else self.channels

    @property
    def chunk_samples(self) -> int:
        """Samples of a px in one chunk: 3 for RGB, else 1."""
        return 3 if self.channels is None else 1

    @property
    def stack(self) -> int:
        """Chunks at a place: 1 for RGB, else the number of channels."""
        return 1 if self.channels is None else self.channels

    def at(self, row: int, column: int, channel: int = 0) -> tuple[int, ...]:
        """Return a chunk's index in a table of all: [row, column], with channels [channel, row, column]."""
        return (row, column) if self.channels is None else (channel, row, column)

    def part(self, pixels: NDArray[np.uint8], channel: int) -> NDArray[np.uint8]:
        """Return what a chunk holds of (h, w, samples) pixels: all of them, with channels (h, w, 1)."""
        return pixels if self.channels is None else pixels[..., channel : channel + 1]


@dataclass(frozen=True)
class Level:
    """One resolution of a slide; sizes in px.

    Parameters
    ----------
    width, height : int
        Size.
    downsample : float
        Size of level 0 over that of this level.
    codec : SourceCodec
        How this level is compressed in the file.
    interpolated : bool
        Whether its pixels are those that a library draws between the stored ones.
    """

    width: int
    height: int
    downsample: float
    codec: SourceCodec = field(default_factory=SourceCodec)
    interpolated: bool = False


@dataclass(frozen=True)
class TileGrid:
    """The stored tiles of one level; the first begins at x = y = 0.

    Parameters
    ----------
    width, height : int
        Of a tile in px.
    rows, columns : int
        Number of tiles.
    together : int
        Tiles of a row that are cheaper to read together: they lie in one run of coded bytes.
    """

    width: int
    height: int
    rows: int
    columns: int
    together: int = 1


class Coding(StrEnum):
    """How a stored tile is coded."""

    JPEG = "jpeg"
    JPEG2000 = "jpeg2000"


@dataclass(frozen=True)
class SourceTile:
    """What the slide's file holds behind a chunk.

    Parameters
    ----------
    data : bytes
        The codestream; a JPEG without its tables where these are shared.
    tables : bytes or None
        The tables shared by all tiles (TIFF's JPEGTables).
    ycbcr : bool
        Whether the components are Y, Cb, Cr; else they are R, G, B.
    coding : Coding
        What ``data`` is.
    offset : tuple of int
        Row and column of the chunk's first px in the image that ``data`` holds, which may be larger.
    extended : bool
        Whether the image may end before the chunk does, which then goes on beyond the level's edge.
    size : int or None
        Bytes of the file for this chunk, where ``data`` is shared with others.
    pieces : tuple of TilePiece
        Where the chunk lies across several images: these, those that hide others last. ``data`` is empty then.
    background : tuple of int
        RGB where no piece is seen.
    """

    data: bytes
    tables: bytes | None
    ycbcr: bool
    coding: Coding = Coding.JPEG
    offset: tuple[int, int] = (0, 0)
    extended: bool = False
    size: int | None = None
    pieces: tuple[TilePiece, ...] = ()
    background: tuple[int, int, int] = (255, 255, 255)

    @property
    def bytes(self) -> int:
        """Size of the tile in the file."""
        return len(self.data) if self.size is None else self.size


@dataclass(frozen=True)
class TilePiece:
    """One of several images behind a chunk.

    Parameters
    ----------
    tile : SourceTile
        The image.
    at : tuple of int
        Row and column of its top left px in the chunk; negative where it begins outside.
    shown : tuple of int
        Top, left, height and width of the part of it that is seen, in px of the image.
    """

    tile: SourceTile
    at: tuple[int, int]
    shown: tuple[int, int, int, int]


@dataclass(frozen=True)
class Channel:
    """One channel of an image that is no RGB picture (fluorescence, a single grey channel, ...).

    Parameters
    ----------
    name : str
        As the file calls it ("DAPI"), printable and at most 64 characters; "channel N" where it has no name.
    colour : tuple of int
        RGB in which it is shown.
    """

    name: str
    colour: tuple[int, int, int]

    @property
    def hexadecimal(self) -> str:
        """The colour as RRGGBB."""
        return "{:02X}{:02X}{:02X}".format(*self.colour)


@dataclass(frozen=True)
class Selection:
    """Which of several pictures in a file is meant; every number counts from 0, None where there is nothing to choose.

    A source refuses a file of several, by name, where the choice is missing; it refuses a choice out of range too.

    Parameters
    ----------
    image : int or None
        Image (series) of a file that holds several (OME-TIFF, bioformats2raw's layout, SCN).
    page : int or None
        Page of a TIFF whose pages are pictures of their own.
    plane : int or None
        Focal plane (axis z).
    time : int or None
        Time point (axis t).
    """

    image: int | None = None
    page: int | None = None
    plane: int | None = None
    time: int | None = None

    def to_json(self) -> dict[str, int]:
        """Return the choices that were made."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class SlideFacts:
    """What a slide says about itself, chosen by allow-list.

    Free text, barcodes, dates and user names of the file are never here: they can show who the patient is.

    Parameters
    ----------
    name : str
        File name without its folder.
    vendor : str
        OpenSlide's name of the format.
    file_bytes : int
        Size on disk.
    codec : SourceCodec
        How the pixels are compressed inside, as far as it can be told.
    levels : tuple of Level
        Largest first.
    tile_width, tile_height : int or None
        Stored tiles of level 0, px.
    mpp_x, mpp_y : float or None
        Micrometres per px.
    objective_power : float or None
        Magnification of the scanner's objective.
    associated : tuple of str
        Names of the images beside the slide (label, macro, thumbnail).
    background : tuple of int
        Colour of pixels that were not scanned, RGB.
    icc_profile : bytes or None
        The colour profile of the pixels.
    bounds : tuple of int or None
        x, y, width, height in px of level 0: the part that was scanned, where the slide says so.
    properties : mapping of str to str
        Technical properties of the vendor, by allow-list (`dlpr_wsi.sources.properties`).
    channels : tuple of Channel or None
        None: an RGB picture, three samples a px. Else one sample a px for each channel, in this order.
    reader : str
        The library whose pixels these are, with its version ("OpenSlide 4.0.1").
    notes : tuple of str
        What the reader left out or decided, one sentence each, for the report; never text from the file.
    """

    name: str
    vendor: str
    file_bytes: int
    codec: SourceCodec
    levels: tuple[Level, ...]
    tile_width: int | None
    tile_height: int | None
    mpp_x: float | None
    mpp_y: float | None
    objective_power: float | None
    associated: tuple[str, ...]
    background: tuple[int, int, int]
    icc_profile: bytes | None = None
    bounds: tuple[int, int, int, int] | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[Channel, ...] | None = None
    reader: str = ""
    notes: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """Samples of a px: 3 for RGB, else the number of channels."""
        return 3 if self.channels is None else len(self.channels)

    def to_json(self) -> dict[str, Any]:
        """Return all facts; of the colour profile only its size."""
        facts = {"kind": "slide", **asdict(self)}
        facts["icc_profile"] = None if self.icc_profile is None else len(self.icc_profile)
        return facts


class NoTiles:
    """The part of `PixelSource` about stored tiles, for sources that have none."""

    def tile_grid(self, level: int) -> TileGrid | None:
        """Return None: there are no JPEG tiles."""
        del level
        return None

    def source_tile(self, level: int, row: int, column: int) -> SourceTile | None:
        """Return None: there are no JPEG tiles."""
        del level, row, column
        return None


class PixelSource(Protocol):
    """Something that is open for reading. One thread at a time uses one source."""

    @property
    def facts(self) -> SlideFacts:
        """What the slide says about itself."""

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """Return a region of a level as (height, width, samples), background filled in.

        RGB where ``facts.channels`` is None, else one sample for each channel. ``x``, ``y``, ``width`` and ``height``
        are px of that level. Raises `dlpr_wsi.errors.SourceError`; the source
        may be of no use afterwards.
        """

    def tile_grid(self, level: int) -> TileGrid | None:
        """Return the stored tiles of a level that is made of JPEG tiles; None for any other level."""

    def source_tile(self, level: int, row: int, column: int) -> SourceTile | None:
        """Return a stored JPEG tile; None where the file has none at that place."""

    def associated(self, name: str) -> NDArray[np.uint8]:
        """Return an associated image as (height, width, 3) RGB."""

    def close(self) -> None:
        """Release the file."""
