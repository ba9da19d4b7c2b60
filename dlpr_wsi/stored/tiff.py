"""The tiles or strips of one TIFF page: raw, and decoded to pixels one by one.

A strip is a tile as wide as the page. Nothing larger than a segment is decoded at once; of an uncompressed strip only
the rows that are wanted are read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.sources import Coding, SourceTile, TileGrid
from dlpr_wsi.sources.header import jpeg2000_header, jpeg_header
from dlpr_wsi.sources.photometric import APERIO_YCBCR, JPEG, JPEG2000, RGB, YCBCR, CannotReadError, Colour
from dlpr_wsi.stored import FileRange, PartKind, StoredPart

__all__ = ["MAX_SEGMENT", "StoredTiles"]

MAX_SEGMENT = 1 << 28
"""Samples of a compressed tile or strip; it is decoded as a whole."""
_CACHE_BYTES = 1 << 26
_MAX_TILE = 4096  # of a stored tile of a slide in px; larger ones are no tiles
_NONE, _PREDICTOR_NONE = 1, 1


class StoredTiles:
    """The segments of a page.

    Parameters
    ----------
    page : tifffile.TiffPage
        A page of 8 bits a sample or less.
    channels : bool
        Whether the samples of a grey page are channels of their own.
    width, height : int, optional
        Size of the picture in px where the page is padded to whole tiles.
    slide : bool
        Whether the page belongs to a slide of OpenSlide's formats: then Aperio's compression 33003 is read too.

    Raises
    ------
    dlpr_wsi.sources.photometric.CannotReadError
        The page is of a kind that cannot be read here.
    """

    def __init__(
        self,
        page: Any,
        *,
        channels: bool = False,
        width: int | None = None,
        height: int | None = None,
        slide: bool = False,
    ) -> None:
        self.page = page
        self.compression = int(page.compression)
        self.width, self.height = width or int(page.imagewidth), height or int(page.imagelength)
        self.is_tiled = bool(page.is_tiled)
        self._planes = int(page.samplesperpixel) if int(page.planarconfig) == 2 else 1
        if self.is_tiled:
            self.tile_width, self.tile_height = int(page.tilewidth), int(page.tilelength)
        else:
            self.tile_width = int(page.imagewidth)
            self.tile_height = min(int(page.rowsperstrip) or int(page.imagelength), int(page.imagelength))
        if min(self.tile_width, self.tile_height, self.width, self.height) < 1:
            raise CannotReadError("its size is 0")
        self.columns = -(-self.width // self.tile_width)
        self.rows = -(-self.height // self.tile_height)
        self._stored_columns = -(-int(page.imagewidth) // self.tile_width)
        self._stored_rows = -(-int(page.imagelength) // self.tile_height)
        self.is_jpeg = self.compression == JPEG and int(page.photometric) in (YCBCR, RGB)
        self.is_jpeg &= self.is_tiled and self._planes == 1 and int(page.samplesperpixel) == 3
        self.is_jpeg2000 = self.compression in JPEG2000 and self.is_tiled and self._planes == 1
        self.is_jpeg2000 &= int(page.samplesperpixel) == 3 and page.bitspersample == 8
        if self.compression == APERIO_YCBCR and not slide:
            raise CannotReadError("Aperio's JPEG 2000 compression 33003 in a file that is no Aperio slide")
        self._colour = Colour(page, channels=channels)
        self.samples, self.alpha = self._colour.samples, self._colour.alpha
        self._contiguous = self.compression == _NONE and page.predictor == _PREDICTOR_NONE and page.bitspersample == 8
        rows = 1 if self._contiguous and not self.is_tiled else self.tile_height
        if self.tile_width * rows * int(page.samplesperpixel) > MAX_SEGMENT:
            raise CannotReadError(
                f"a single tile or strip of {self.tile_width} x {self.tile_height} px, which is decoded whole"
            )
        if len(page.dataoffsets) < self._stored_rows * self._stored_columns * self._planes:
            raise CannotReadError("its directory names fewer tiles or strips than it has")
        self._cache: OrderedDict[tuple[int, int], NDArray[np.uint8] | None] = OrderedDict()
        self._cached = 0

    @property
    def is_kept(self) -> bool:
        """Whether chunks can be what the tiles are coded as: JPEG or JPEG 2000."""
        return bool(self.is_jpeg or self.is_jpeg2000)

    @staticmethod
    def fits(page: Any) -> bool:
        """Tell whether a page of a slide has tiles of a kind that may stand in for OpenSlide's pixels."""
        return bool(
            page.is_tiled
            and page.dtype == np.uint8
            and page.bitspersample == 8
            and int(page.planarconfig) == 1
            and int(page.samplesperpixel) in (1, 3)
            and int(page.photometric) in (YCBCR, RGB, 1)
            and max(page.tilewidth, page.tilelength) <= _MAX_TILE
        )

    def grid(self) -> TileGrid:
        """Return where the tiles are."""
        return TileGrid(self.tile_width, self.tile_height, self.rows, self.columns)

    def size(self, row: int, column: int) -> int:
        """Return the bytes of a segment in the file, those of the first plane; 0 where it has none."""
        return int(self.page.databytecounts[row * self._stored_columns + column])

    def missing(self) -> list[tuple[int, int]]:
        """Return (row, column) of the segments that the file does not have."""
        counts = np.asarray(self.page.databytecounts[: self._stored_rows * self._stored_columns], np.int64)
        found = np.argwhere(counts.reshape(self._stored_rows, self._stored_columns) == 0)
        return [(int(row), int(column)) for row, column in found]

    def raw(self, row: int, column: int, plane: int = 0) -> bytes:
        """Return a segment's bytes in the file; empty where it has none."""
        index = (plane * self._stored_rows + row) * self._stored_columns + column
        size = int(self.page.databytecounts[index])
        handle = self.page.parent.filehandle
        if size <= 0:
            return b""
        if size > handle.size:
            raise ValueError(f"a tile of {size} bytes is larger than the file")
        handle.seek(int(self.page.dataoffsets[index]))
        data: bytes = handle.read(size)
        if len(data) != size:
            raise ValueError("the file ends inside a tile")
        return data

    def tile(self, row: int, column: int) -> SourceTile | None:
        """Return a JPEG or JPEG 2000 tile as stored; None where the page has none there."""
        data = self.raw(row, column) if self.is_kept else b""
        if not data:
            return None
        if self.is_jpeg2000:
            return SourceTile(data, None, self.compression == APERIO_YCBCR, Coding.JPEG2000)
        return SourceTile(data, self.page.jpegtables, int(self.page.photometric) == YCBCR)

    def parts(self) -> Iterator[StoredPart]:
        """Give the tiles that the file has, as `dlpr_wsi.stored.StoredLevel` says."""
        shared = self.page.jpegtables or b""
        for row in range(self.rows):
            for column in range(self.columns):
                if size := self.size(row, column):
                    offset = int(self.page.dataoffsets[row * self._stored_columns + column])
                    x, y = column * self.tile_width, row * self.tile_height
                    where = (FileRange(0, offset, size),)
                    yield StoredPart(PartKind.IMAGE, where, x, y, self.tile_width, self.tile_height, shared)

    def read(self, x: int, y: int, width: int, height: int, background: int | tuple[int, ...]) -> NDArray[np.uint8]:
        """Return a region as (height, width, ``samples``); what lies outside or is missing has the background."""
        out = np.empty((height, width, self.samples), np.uint8)
        out[:] = background
        top, bottom = max(y, 0), min(y + height, self.height)
        left, right = max(x, 0), min(x + width, self.width)
        if top >= bottom or left >= right:
            return out
        if self._contiguous and not self.is_tiled:
            self._read_rows(out[top - y : bottom - y, left - x : right - x], left, top)
            return out
        for row in range(top // self.tile_height, -(-bottom // self.tile_height)):
            for column in range(left // self.tile_width, -(-right // self.tile_width)):
                tile = self._segment(row, column)
                if tile is None:
                    continue
                ty, tx = row * self.tile_height, column * self.tile_width
                y0, y1 = max(top, ty), min(bottom, ty + tile.shape[0])
                x0, x1 = max(left, tx), min(right, tx + tile.shape[1])
                out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[y0 - ty : y1 - ty, x0 - tx : x1 - tx]
        return out

    def _read_rows(self, out: NDArray[np.uint8], left: int, top: int) -> None:
        """Fill a region from uncompressed strips, row by row."""
        handle = self.page.parent.filehandle
        stored = int(self.page.samplesperpixel) // self._planes
        stride, width = self.tile_width * stored, out.shape[1]
        for y in range(top, top + out.shape[0]):
            strip, inside = divmod(y, self.tile_height)
            planes = []
            for plane in range(self._planes):
                index = plane * self._stored_rows + strip
                at = inside * stride + left * stored
                if not self.page.databytecounts[index]:
                    break
                if at + width * stored > self.page.databytecounts[index]:
                    raise ValueError("a strip is shorter than its rows")
                handle.seek(int(self.page.dataoffsets[index]) + at)
                data = handle.read(width * stored)
                if len(data) != width * stored:
                    raise ValueError("the file ends inside a strip")
                planes.append(np.frombuffer(data, np.uint8).reshape(1, width, stored))
            if len(planes) == self._planes:
                out[y - top : y - top + 1] = self._colour.pixels(np.concatenate(planes, axis=-1))

    def _segment(self, row: int, column: int) -> NDArray[np.uint8] | None:
        """Decode a segment to pixels; None where it is missing. Strips and tiles used last are kept."""
        key = (row, column)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        planes = [self._decode(row, column, plane) for plane in range(self._planes)]
        whole = [plane for plane in planes if plane is not None]
        tile = None if len(whole) < self._planes else self._colour.pixels(np.concatenate(whole, axis=-1))
        if not self.is_tiled:  # read again and again by neighbouring chunks
            self._cache[key] = tile
            self._cached += 0 if tile is None else tile.nbytes
            while self._cached > _CACHE_BYTES and len(self._cache) > 1:
                old = self._cache.popitem(last=False)[1]
                self._cached -= 0 if old is None else old.nbytes
        return tile

    def _decode(self, row: int, column: int, plane: int) -> NDArray[np.uint8] | None:
        """Decode a segment of a plane to samples as stored, (h, w, samples); None where it is missing."""
        data = self.raw(row, column, plane)
        if not data:
            return None
        if self.compression == JPEG:
            return self._decode_jpeg(data)
        if self.compression in JPEG2000:
            self._check_jpeg2000(data)
        index = (plane * self._stored_rows + row) * self._stored_columns + column
        tile, _, _ = self.page.decode(data, index)
        tile = tile[0]  # tifffile's segments have a depth
        if tile.dtype != np.uint8:
            if tile.dtype != np.bool_:
                raise ValueError(f"its data has samples of {tile.dtype}, its directory says 8 bits")
            tile = tile.astype(np.uint8)
        return _aperio_rgb(tile) if self.compression == APERIO_YCBCR else np.asarray(tile)

    def _decode_jpeg(self, data: bytes) -> NDArray[np.uint8]:
        """Decode JPEG data as its tags say, which is how libtiff and OpenSlide do it."""
        import imagecodecs

        photometric, components = int(self.page.photometric), int(self.page.samplesperpixel) // self._planes
        frame = jpeg_header(data)
        if frame is None or frame.precision != 8 or frame.components != components:
            raise ValueError("its JPEG data disagrees with its directory on bits or samples")
        if (frame.width, frame.height) < (1, 1) or frame.width * frame.height > MAX_SEGMENT:
            raise ValueError(f"its JPEG data claims {frame.width} x {frame.height} px")
        spaces = ("YCBCR" if photometric == YCBCR else "RGB", "RGB") if components == 3 else ("GRAYSCALE", "GRAYSCALE")
        tile = imagecodecs.jpeg8_decode(
            data, tables=self.page.jpegtables, colorspace=spaces[0], outcolorspace=spaces[1]
        )
        tile = np.asarray(tile, np.uint8).reshape(frame.height, frame.width, components)
        wanted = self.tile_width if self.is_tiled else int(self.page.imagewidth)
        if frame.width < wanted or (self.is_tiled and frame.height < self.tile_height):
            raise ValueError(f"its JPEG data has {frame.width} x {frame.height} px, fewer than its tile")
        return tile[: self.tile_height, :wanted]

    def disagrees(self) -> bool:
        """Tell whether the markers of the first JPEG segment contradict the page's tag on Y, Cb, Cr or R, G, B."""
        if self.compression != JPEG or int(self.page.samplesperpixel) != 3 or self._planes != 1:
            return False
        for row in range(self._stored_rows):
            for column in range(self._stored_columns):
                if self.size(row, column):
                    frame = jpeg_header(self.raw(row, column))
                    said = None if frame is None else frame.ycbcr
                    return said is not None and said != (int(self.page.photometric) == YCBCR)
        return False

    @staticmethod
    def _check_jpeg2000(data: bytes) -> None:
        """Refuse JPEG 2000 data whose own header says something that decoding would lose."""
        found = jpeg2000_header(data)
        if found is None:
            raise ValueError("no JPEG 2000 data where its directory says so")
        if found[2] > 8 or found[3]:
            raise ValueError(found[3] or f"its JPEG 2000 data has {found[2]} bits a sample")


def _aperio_rgb(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert Aperio's Y, Cb, Cr (JPEG's equations) in OpenSlide's fixed point."""
    centred = np.arange(-128, 128)
    away = np.sign(centred)  # C rounds halves away from zero
    r_cr = away * np.floor(np.abs(1.402 * centred) + 0.5)
    b_cb = away * np.floor(np.abs(1.772 * centred) + 0.5)
    g_cb = np.floor(65536 * (0.5 - 0.34414 * centred) + 0.5).astype(np.int64)
    g_cr = np.floor(65536 * (-0.71414 * centred) + 0.5).astype(np.int64)
    y, cb, cr = tile[..., 0].astype(np.int64), tile[..., 1], tile[..., 2]
    rgb = [y + r_cr[cr].astype(np.int64), y + ((g_cb[cb] + g_cr[cr]) >> 16), y + b_cb[cb].astype(np.int64)]
    return np.asarray(np.clip(np.stack(rgb, axis=-1), 0, 255), np.uint8)
