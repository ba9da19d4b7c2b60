"""What a JPEG 2000 codestream says of all its coefficients: sizes, tiles, transforms, quantiser (Part 1, Annex A)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt

from dlpr.errors import UnsupportedInputError
from dlpr.layout import MAX_PIXELS
from dlpr.modes.j2k.reach import Interval, bands_behind

__all__ = [
    "MAX_BANDS",
    "MAX_BLOCKS",
    "MAX_LEVELS",
    "MAX_MARGIN",
    "MAX_PLANES",
    "MAX_TILES",
    "BandPlace",
    "Colour",
    "Component",
    "Fields",
    "Wavelet",
]

MAX_LEVELS = 32
"""Largest number of decompositions."""

MAX_PLANES = 30
"""Largest number of bit planes of a code block."""

MAX_TILES = 65535
"""Largest number of tiles."""

MAX_BLOCKS = 1 << 22
"""Largest number of code blocks of a codestream, counted as if no tile shared an edge with its blocks' grid."""

MAX_BANDS = 1 << 17
"""Largest number of bands of all tiles."""


MAX_MARGIN = 1023
"""Largest number of rows or columns of an image before or behind its window."""


class Wavelet(IntEnum):
    """The wavelet, and what belongs to it: 9/7 goes with ICT and steps, 5/3 with RCT and without."""

    IRREVERSIBLE = 0
    """9/7."""
    REVERSIBLE = 1
    """5/3."""


class Colour(IntEnum):
    """What the components are behind the codestream's own component transform."""

    NONE = 0
    """Red, green, blue; or grey."""
    YCBCR = 1
    """Luma and two chroma components, which the reader turns to RGB (Aperio's 33003)."""
    YCBCR_DOWN = 2
    """Likewise, with products rounded down."""
    YCBCR_BYTE = 3
    """Likewise, with factors of 8 bits behind the point."""


@dataclass(frozen=True)
class Component:
    """How one component is coded; the same in all tiles.

    Parameters
    ----------
    sampling : tuple of int
        Rows and columns of the reference grid for each sample (YRsiz, XRsiz), 1, 2 or 4; (1, 1) of the first.
    wavelet : Wavelet
    blocks : tuple of tuple of int
        Exponents (height, width) of a code block's size for each resolution, lowest first: the nominal exponents cut
        by the precinct's (equation B-17, B-18). The number of entries less one is the number of decompositions.
    steps : tuple of tuple of int
        Exponent (0..31) and mantissa (0..2047) of each band's step: LL, then HL, LH, HH of each resolution, lowest
        first. Mantissas are 0 with the reversible wavelet.
    guard : int
        Guard bits, 0..7.
    causal : bool
        Contexts do not look into the next stripe of four rows (decides what a cut significance pass holds).
    points : int
        Number of resolutions, from the lowest, whose coefficients stand for themselves times the step; those of the
        others for the middle of what is open, as decoders have it. Only of a window.
    whole : bool
        Coefficients and the samples of every resolution are rounded to whole numbers, as one widespread decoder does
        (docs/decisions/0018). Only of a window, with 9/7, without component transform.
    """

    sampling: tuple[int, int]
    wavelet: Wavelet
    blocks: tuple[tuple[int, int], ...]
    steps: tuple[tuple[int, int], ...]
    guard: int
    causal: bool = False
    points: int = 0
    whole: bool = False

    @property
    def levels(self) -> int:
        """Number of decompositions."""
        return len(self.blocks) - 1


@dataclass(frozen=True)
class BandPlace:
    """Where a band of a tile lies and how it is quantised."""

    tile: int
    component: int
    resolution: int
    """0: the lowest, which has the band LL only."""
    orientation: int
    """0 LL, 1 HL (high across), 2 LH, 3 HH."""
    top: int
    left: int
    bottom: int
    right: int
    """Rows top .. bottom - 1, columns left .. right - 1 in the band's own coordinates (equation B-15)."""
    block_height: int
    block_width: int
    """Exponents of a code block's size. Blocks begin at multiples of their size, so the first may be cut."""
    planes: int
    """Bit planes of a coefficient (M_b): guard bits + exponent - 1; the block has `planes` less its missing ones."""
    exponent: int
    mantissa: int
    near: tuple[int, int, int, int]
    """Top, left, bottom, right of what reaches the window, in the band's array; all of it without a window."""
    inner: tuple[int, int, int, int]
    """The same of what lies in the window."""

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of coefficients."""
        return self.bottom - self.top, self.right - self.left

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of code blocks; (0, 0) of an empty band."""
        if self.bottom <= self.top or self.right <= self.left:
            return 0, 0
        rows = ((self.bottom - 1) >> self.block_height) - (self.top >> self.block_height) + 1
        columns = ((self.right - 1) >> self.block_width) - (self.left >> self.block_width) + 1
        return rows, columns

    def block_edges(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Top, left, bottom, right of a code block in the band's array."""
        y0 = ((self.top >> self.block_height) + row) << self.block_height
        x0 = ((self.left >> self.block_width) + column) << self.block_width
        y1, x1 = y0 + (1 << self.block_height), x0 + (1 << self.block_width)
        return (
            max(y0, self.top) - self.top,
            max(x0, self.left) - self.left,
            min(y1, self.bottom) - self.top,
            min(x1, self.right) - self.left,
        )

    def block(self, row: int, column: int) -> tuple[slice, slice]:
        """Rows and columns of the band's array that a code block covers, of those that reach the window.

        Slices of no rows or no columns where it does not reach it.
        """
        edges = self.block_edges(row, column)
        top, left = (max(edge, near) for edge, near in zip(edges[:2], self.near[:2], strict=True))
        bottom, right = (min(edge, near) for edge, near in zip(edges[2:], self.near[2:], strict=True))
        return slice(top, max(bottom, top)), slice(left, max(right, left))

    @property
    def reaching(self) -> Iterator[tuple[int, int]]:
        """Row and column of the code blocks that reach the window, by rows."""
        return product(*self._reaching)

    @property
    def reaching_blocks(self) -> int:
        """Number of the code blocks that reach the window."""
        rows, columns = self._reaching
        return len(rows) * len(columns)

    @property
    def _reaching(self) -> tuple[range, range]:
        """Rows and columns of code blocks that reach the window."""
        top, left, bottom, right = self.near
        if not all(self.grid) or top >= bottom or left >= right:
            return range(0), range(0)
        y, x, height, width = self.top, self.left, self.block_height, self.block_width
        rows, columns = (y >> height, x >> width)
        return (
            range((y + top >> height) - rows, (y + bottom - 1 >> height) - rows + 1),
            range((x + left >> width) - columns, (x + right - 1 >> width) - columns + 1),
        )


@dataclass(frozen=True)
class Fields:
    """All that a decoder needs beside coefficients and passes.

    Parameters
    ----------
    area : tuple of int
        Top, left, bottom, right of the image on the reference grid (YOsiz, XOsiz, Ysiz, Xsiz).
    tiles : tuple of int
        Top, left, height, width of the first tile (YTOsiz, XTOsiz, YTsiz, XTsiz).
    components : tuple of Component
        One or three, of 8 unsigned bits.
    transform : bool
        The three components went through RCT or ICT, whichever goes with their wavelet.
    colour : Colour
        What they are after that.
    window : tuple of int, optional
        Top, left, bottom, right of the pixels that are kept, on the reference grid; all of the area without. At most
        `MAX_MARGIN` rows and columns of the area lie outside on each side.

    Raises
    ------
    UnsupportedInputError
        A field is out of its range, or the fields do not fit each other.

    Examples
    --------
    >>> plain = Component((1, 1), Wavelet.REVERSIBLE, ((6, 6), (6, 6)), ((8, 0), (9, 0), (9, 0), (10, 0)), 2)
    >>> fields = Fields((0, 0, 5, 7), (0, 0, 5, 7), (plain,), False, Colour.NONE)
    >>> [(b.orientation, b.shape, b.planes) for b in fields.bands]
    [(0, (3, 4), 9), (1, (3, 3), 10), (2, (2, 4), 10), (3, (2, 3), 11)]
    """

    area: tuple[int, int, int, int]
    tiles: tuple[int, int, int, int]
    components: tuple[Component, ...]
    transform: bool
    colour: Colour
    window: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse what is no image."""
        top, left, bottom, right = self.area
        tile_top, tile_left, tile_height, tile_width = self.tiles
        if not (0 <= top < bottom < 1 << 31 and 0 <= left < right < 1 << 31):
            _refuse(f"an image area of {self.area}")
        if (bottom - top) * (right - left) > MAX_PIXELS:
            _refuse(f"an image of {bottom - top} x {right - left} pixels")
        if not (0 <= tile_top <= top < tile_top + tile_height and 0 <= tile_left <= left < tile_left + tile_width):
            _refuse(f"tiles {self.tiles} for an image area of {self.area}")
        if max(tile_height, tile_width) >= 1 << 31:
            _refuse(f"tiles {self.tiles}")
        if self.tile_rows * self.tile_columns > MAX_TILES:
            _refuse(f"{self.tile_rows * self.tile_columns} tiles")
        _check_kind("colour", self.colour, Colour)
        if len(self.components) not in (1, 3):
            _refuse(f"{len(self.components)} components")
        if len(self.components) == 1 and (self.transform or self.colour is not Colour.NONE):
            _refuse("a colour transform with one component")
        for component in self.components:
            self._check(component)
        if self.components[0].sampling != (1, 1):
            _refuse("a first component with less than all samples")
        if self.transform and len({(c.sampling, c.wavelet) for c in self.components}) != 1:
            _refuse("a component transform over components of different kinds")
        self._check_window(self.window or self.area)
        if self.tile_rows * self.tile_columns * sum(3 * c.levels + 1 for c in self.components) > MAX_BANDS:
            _refuse("more bands than the codec takes")
        if sum(_blocks(self, c) for c in self.components) > MAX_BLOCKS:
            _refuse("more code blocks than the codec takes")

    def _check_window(self, window: tuple[int, int, int, int]) -> None:
        """Check where the window lies in the area."""
        (top, left, bottom, right), (first, beside, behind, end) = self.area, window
        inside = top <= first < behind <= bottom and left <= beside < end <= right
        if not inside or max(first - top, beside - left, bottom - behind, right - end) > MAX_MARGIN:
            _refuse(f"a window {window} of an image area of {self.area}")

    def _check(self, component: Component) -> None:
        """Check a component."""
        levels = component.levels
        if not 0 <= levels <= MAX_LEVELS or len(component.steps) != 3 * levels + 1:
            _refuse(f"{levels} decompositions with {len(component.steps)} steps")
        if not all(s in (1, 2, 4) for s in component.sampling):
            _refuse(f"sampling {component.sampling}")
        _check_kind("wavelet", component.wavelet, Wavelet)
        if not all(0 <= h <= 10 and 0 <= w <= 10 and h + w <= 12 for h, w in component.blocks):
            _refuse(f"code blocks of {component.blocks}")
        if not all(0 <= e <= 31 and 0 <= m <= 2047 for e, m in component.steps) or not 0 <= component.guard <= 7:
            _refuse("a quantiser out of range")
        if component.wavelet is Wavelet.REVERSIBLE and any(m for _, m in component.steps):
            _refuse("steps with the reversible wavelet")
        if not 0 <= component.points <= (levels + 1 if self.window else 0):
            _refuse(f"{component.points} resolutions of points")
        if component.whole and (self.window is None or self.transform or component.wavelet is Wavelet.REVERSIBLE):
            _refuse("whole numbers with 5/3, a component transform or no window")

    @property
    def kept(self) -> tuple[int, int, int, int]:
        """Top, left, bottom, right of the pixels on the reference grid."""
        return self.window or self.area

    @property
    def height(self) -> int:
        """Rows of the pixels."""
        return self.kept[2] - self.kept[0]

    @property
    def width(self) -> int:
        """Columns of the pixels."""
        return self.kept[3] - self.kept[1]

    @property
    def tile_rows(self) -> int:
        """Rows of tiles."""
        return -(-(self.area[2] - self.tiles[0]) // self.tiles[2])

    @property
    def tile_columns(self) -> int:
        """Columns of tiles."""
        return -(-(self.area[3] - self.tiles[1]) // self.tiles[3])

    def tile_edges(self, tile: int) -> tuple[int, int, int, int]:
        """Top, left, bottom, right of a tile on the reference grid (equations B-7 to B-10)."""
        row, column = divmod(tile, self.tile_columns)
        return (
            max(self.tiles[0] + row * self.tiles[2], self.area[0]),
            max(self.tiles[1] + column * self.tiles[3], self.area[1]),
            min(self.tiles[0] + (row + 1) * self.tiles[2], self.area[2]),
            min(self.tiles[1] + (column + 1) * self.tiles[3], self.area[3]),
        )

    def tile_component(self, tile: int, component: int) -> tuple[int, int, int, int]:
        """Top, left, bottom, right of a tile in samples of a component (equation B-12)."""
        v, h = self.components[component].sampling
        top, left, bottom, right = self.tile_edges(tile)
        return -(-top // v), -(-left // h), -(-bottom // v), -(-right // h)

    @cached_property
    def bands(self) -> tuple[BandPlace, ...]:
        """Every band, by tile, component, resolution, orientation."""
        return tuple(
            band
            for tile in range(self.tile_rows * self.tile_columns)
            for component in range(len(self.components))
            for band in self._bands_of(tile, component)
        )

    @cached_property
    def block_planes(self) -> npt.NDArray[np.int64]:
        """Bit planes of each code block's band (M_b), for all bands one after the other, int64 [blocks]."""
        grids = [band.grid for band in self.bands]
        return np.repeat([band.planes for band in self.bands], [rows * columns for rows, columns in grids])

    def _bands_of(self, tile: int, number: int) -> list[BandPlace]:
        """Bands of one component of one tile."""
        component = self.components[number]
        edges = self.tile_component(tile, number)
        out: list[BandPlace] = []
        for resolution in range(component.levels + 1):
            depth = component.levels - max(resolution - 1, 0)
            for orientation in (0,) if resolution == 0 else (1, 2, 3):
                exponent, mantissa = component.steps[len(out)]
                top, left, bottom, right = _in_band(edges, depth, orientation)
                whole = 0, 0, bottom - top, right - left
                out.append(
                    BandPlace(
                        *(tile, number, resolution, orientation, top, left, bottom, right),
                        *component.blocks[resolution],
                        max(component.guard + exponent - 1, 0),
                        *(exponent, mantissa),
                        *(whole, whole),
                    )
                )
        return self._windowed(out, edges) if self.window else out

    def _windowed(self, bands: list[BandPlace], edges: tuple[int, int, int, int]) -> list[BandPlace]:
        """Say what of the bands of a component of a tile reaches the window, and what lies in it."""
        tile, number = bands[0].tile, bands[0].component
        levels, reversible = self.components[number].levels, self.components[number].wavelet is Wavelet.REVERSIBLE
        (y0, y1), (x0, x1) = (self.kept_samples(tile, number, axis) for axis in (0, 1))
        rows = bands_behind((y0, y1), edges[::2], levels, reversible)
        columns = bands_behind((x0, x1), edges[1::2], levels, reversible)
        out = []
        for b in bands:
            at = min(levels - b.resolution, len(rows) - 1)
            (top, bottom), (left, right) = rows[at][b.orientation >> 1], columns[at][b.orientation & 1]
            near = (max(top - b.top, 0), max(left - b.left, 0), max(bottom - b.top, 0), max(right - b.left, 0))
            top, left, bottom, right = _in_band((y0, x0, y1, x1), levels - max(b.resolution - 1, 0), b.orientation)
            inner = (top - b.top, left - b.left, bottom - b.top, right - b.left)
            out.append(replace(b, near=near, inner=inner))
        return out

    def kept_samples(self, tile: int, number: int, axis: int) -> Interval:
        """Rows (axis 0) or columns of a component of a tile that the window shows."""
        start, stop = self.tile_component(tile, number)[axis::2]
        edges, sampling = self.tile_edges(tile)[axis::2], self.components[number].sampling[axis]
        first, end = max(edges[0], self.kept[axis]), min(edges[1], self.kept[axis + 2])
        if first >= end or start >= stop:
            return start, start
        at, last = (min(max(edge // sampling, start), stop - 1) for edge in (first, end - 1))
        return at, last + 1


def _in_band(edges: tuple[int, int, int, int], depth: int, orientation: int) -> tuple[int, int, int, int]:
    """Top, left, bottom, right in samples of a component to those of a band (equation B-15)."""
    half = (1 << depth) >> 1
    highs = (orientation >> 1, orientation & 1) * 2
    top, left, bottom, right = (-(-(e - half * high) // (1 << depth)) for e, high in zip(edges, highs, strict=True))
    return top, left, bottom, right


def _blocks(fields: Fields, component: Component) -> int:
    """Bound of the number of code blocks of a component."""
    v, h = component.sampling
    total = 0
    for resolution, (block_height, block_width) in enumerate(component.blocks):
        down, halved = component.levels - resolution, int(resolution > 0)
        rows = -(-((fields.area[2] - fields.area[0]) // v + 1) // (1 << down)) >> (block_height + halved)
        columns = -(-((fields.area[3] - fields.area[1]) // h + 1) // (1 << down)) >> (block_width + halved)
        total += (3 if halved else 1) * (rows + 2 * fields.tile_rows) * (columns + 2 * fields.tile_columns)
    return total


def _check_kind(name: str, value: object, kind: type) -> None:
    """Refuse a field that is not of its enumeration."""
    if not isinstance(value, kind):
        _refuse(f"{name} {value!r} instead of a {kind.__name__}")


def _refuse(what: str) -> None:
    """Raise for something that the codec takes no JPEG 2000 image with."""
    raise UnsupportedInputError(f"{what}: not a JPEG 2000 image that the codec takes; code the pixels alone")
