"""What the builders share: real tissue, JPEG tiles and their parts, TIFF directories written field by field.

A builder's ``change`` may alter or drop what it stores: it is called with (level, row, column, bytes) for each tile or
strip, and what it returns is written; nothing where it returns nothing.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

EXAMPLE = Path(__file__).parents[3] / "examples" / "CMU-1-Small-Region.svs"
SAMPLING = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}

Change = Callable[[int, int, int, bytes], bytes]
Pixels = np.ndarray
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SLONG, FLOAT, DOUBLE, LONG8 = 1, 2, 3, 4, 5, 7, 9, 11, 12, 16
_FORMATS = {1: "B", 3: "H", 4: "I", 5: "I", 7: "B", 9: "i", 11: "f", 12: "d", 16: "Q"}


def unchanged(level: int, row: int, column: int, data: bytes) -> bytes:
    """Store what was coded."""
    return data


@cache
def _example() -> Pixels:
    return np.ascontiguousarray(tifffile.imread(EXAMPLE))


def tissue(width: int, height: int, x: int = 300, y: int = 600) -> Pixels:
    """Return stained tissue of the example slide, (height, width, 3) uint8; mirrored where it is too small."""
    image = _example()
    rows, columns = np.arange(y, y + height), np.arange(x, x + width)
    return np.ascontiguousarray(image[_mirrored(rows, image.shape[0])][:, _mirrored(columns, image.shape[1])])


def _mirrored(at: Pixels, size: int) -> Pixels:
    at = at % (2 * size)
    return np.minimum(at, 2 * size - 1 - at)


def halved(image: Pixels, times: int = 1) -> Pixels:
    """Return the means of 2 x 2 px, over and over."""
    for _ in range(times):
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
        four = image[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).astype(np.uint16)
        image = ((four.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)
    return image


def jpeg(pixels: Pixels, quality: int = 80, subsampling: str = "420", *, rgb: bool = False, **options) -> bytes:
    """Code a picture with the standard's Huffman tables, so that any two of a quality have the same tables."""
    out = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    sampling = {} if rgb else {"subsampling": ":".join(subsampling)}
    picture.save(out, "JPEG", quality=quality, keep_rgb=rgb, **sampling, **options)
    return out.getvalue()


def decoded(data: bytes) -> Pixels:
    """Decode a JPEG with Pillow, (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def segments(data: bytes) -> list[tuple[int, bytes]]:
    """Return (marker, content) of all segments up to SOS; content is what follows the length."""
    found, at = [], 2
    while True:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((marker, data[at + 4 : at + 2 + length]))
        at += 2 + length
        if marker == 0xDA:
            return found


def segment(marker: int, content: bytes) -> bytes:
    """Return a marker with its length and content."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def scan(data: bytes) -> bytes:
    """Return the entropy-coded bytes of a baseline JPEG, EOI left out."""
    start = 2 + sum(len(content) + 4 for _, content in segments(data))
    return data[start : data.rindex(b"\xff\xd9")]


def abbreviated(data: bytes) -> tuple[bytes, bytes]:
    """Split a JPEG into its tables (DQT, DHT) and an image without them, as TIFF stores them."""
    parts = segments(data)
    tables = b"".join(segment(marker, content) for marker, content in parts if marker in (0xDB, 0xC4))
    rest = b"".join(segment(marker, content) for marker, content in parts if marker not in (0xDB, 0xC4, 0xE0, 0xEE))
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + scan(data) + b"\xff\xd9"


def tiles(image: Pixels, width: int, height: int) -> Iterator[tuple[int, int, Pixels]]:
    """Give (row, column, tile) row by row; what lies beyond the edges repeats the last px."""
    rows, columns = -(-image.shape[0] // height), -(-image.shape[1] // width)
    padded = np.pad(
        image, ((0, rows * height - image.shape[0]), (0, columns * width - image.shape[1]), (0, 0)), mode="edge"
    )
    for row in range(rows):
        for column in range(columns):
            yield row, column, padded[row * height : (row + 1) * height, column * width : (column + 1) * width]


class TiffOut:
    """A little-endian TIFF: data where it is appended, directories with the tags that they are given.

    ``kind`` is classic, big (BigTIFF) or ndpi: directories of a classic TIFF whose links have 64 bits, with the upper
    halves of all values behind the link, as OpenSlide's openslide-decode-tifflike.c and tifffile describe them.
    """

    def __init__(self, path: Path, kind: str = "classic") -> None:
        self._file, self._kind = path.open("wb"), kind
        self.wide = wide = kind != "classic"
        self._file.write(struct.pack("<2sHHH", b"II", 43, 8, 0) if kind == "big" else struct.pack("<2sH", b"II", 42))
        self._link, self._pointer = self._file.tell(), "<Q" if wide else "<I"
        self._file.write(bytes(8 if wide else 4))

    def __enter__(self) -> TiffOut:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, data: bytes) -> int:
        """Write bytes at the end and return where; always at an even place."""
        at = self._file.seek(0, io.SEEK_END)
        if at % 2:
            at += self._file.write(b"\0")
        self._file.write(data)
        return at

    def skip(self, size: int) -> None:
        """Leave a hole, which a file system that can stores as nothing."""
        self._file.truncate(self._file.seek(0, io.SEEK_END) + size)

    def directory(self, tags: dict[int, tuple[int, Sequence[float] | bytes | str]], *, linked: bool = True) -> int:
        """Write a directory of tag: (type, values) and return where; a SubIFD is not linked."""
        inline = 8 if self._kind == "big" else 4
        entries, upper = b"", b""
        for tag, (said, given) in sorted(tags.items()):
            kind = said
            values = given.encode() + b"\0" if isinstance(given, str) else given
            data = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
            count = len(values) // (2 if kind == RATIONAL else 1)
            inside = len(data) <= inline and not (self._kind == "ndpi" and kind == ASCII)
            if self._kind == "ndpi" and kind == LONG8 and count == 1:  # the value's upper half is behind the link
                kind, inside = LONG, True
            word = data.ljust(8, b"\0") if inside else struct.pack("<Q", self.append(data))
            entries += struct.pack("<HHQ" if self._kind == "big" else "<HHI", tag, kind, count)
            entries += word[:inline]
            upper += word[4:8]
        width = 8 if self._kind == "big" else 2
        link = struct.calcsize(self._pointer)
        body = len(tags).to_bytes(width, "little") + entries + bytes(link) + (upper if self._kind == "ndpi" else b"")
        at = self.append(body)
        if linked:
            self._file.seek(self._link)
            self._file.write(struct.pack(self._pointer, at))
            self._link = at + width + len(entries)
        return at


def tiled(
    out: TiffOut,
    image: Pixels,
    *,
    level: int = 0,
    tile: tuple[int, int] = (256, 256),
    quality: int = 80,
    subsampling: str = "420",
    rgb: bool = False,
    shared: bool = True,
    tables: bool = True,
    change: Change = unchanged,
) -> dict[int, tuple[int, Sequence[float] | bytes | str]]:
    """Write the JPEG tiles of a page and return the tags that describe them.

    ``tile`` is (width, height). ``shared`` puts the tables into JPEGTables and leaves them out of the tiles; without
    ``tables`` there are none at all. A tile that ``change`` makes empty has offset and size 0.
    """
    offsets, sizes, common = [], [], b""
    for row, column, part in tiles(image, *tile):
        data = jpeg(part, quality, subsampling, rgb=rgb)
        if shared:
            common, data = abbreviated(data)
        data = change(level, row, column, data)
        offsets.append(out.append(data) if data else 0)
        sizes.append(len(data))
    height, width, samples = image.shape
    tags = {
        256: (LONG, (width,)),
        257: (LONG, (height,)),
        258: (SHORT, (8,) * samples),
        259: (SHORT, (7,)),
        262: (SHORT, (2 if rgb else 6,)),
        277: (SHORT, (samples,)),
        284: (SHORT, (1,)),
        322: (LONG, (tile[0],)),
        323: (LONG, (tile[1],)),
        324: (LONG8 if out.wide else LONG, offsets),
        325: (LONG, sizes),
    }
    if not rgb:
        tags[530] = (SHORT, SAMPLING[subsampling])
    if shared and tables:
        tags[347] = (UNDEFINED, common)
    return tags


def tile_pixels(part: Pixels, quality: int, subsampling: str, rgb: bool = False) -> Pixels:
    """Return what a tile decodes to, by Pillow."""
    return decoded(jpeg(part, quality, subsampling, rgb=rgb))


def page_pixels(
    image: Pixels, tile: tuple[int, int], quality: int = 80, subsampling: str = "420", *, rgb: bool = False
) -> Pixels:
    """Return what `tiled` wrote of a picture, decoded tile by tile by Pillow."""
    out = np.empty_like(image)
    for row, column, part in tiles(image, *tile):
        y, x = row * tile[1], column * tile[0]
        height, width = min(tile[1], image.shape[0] - y), min(tile[0], image.shape[1] - x)
        out[y : y + height, x : x + width] = tile_pixels(part, quality, subsampling, rgb)[:height, :width]
    return out


def whole_level(slide, level: int) -> Pixels:
    """Return a level as OpenSlide gives it, (height, width, 4)."""
    return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))
