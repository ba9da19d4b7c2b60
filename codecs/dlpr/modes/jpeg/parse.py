"""JPEG bytes to a `JpegImage`: sequential or progressive Huffman coding with 8 bits, as slides and libjpeg write it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dlpr._native import jpeg_add_restarts, jpeg_parse
from dlpr.errors import UnsupportedInputError
from dlpr.modes.jpeg.image import Coefficients, ColourTransform, JpegImage, Table, Upsampling
from dlpr.modes.jpeg.pieces import Piece, join

__all__ = [
    "JpegPiece",
    "SourceJpeg",
    "SourcePieces",
    "add_restarts",
    "extend",
    "image_from",
    "image_of",
    "images_of",
    "parse",
    "window",
]


@dataclass(frozen=True)
class SourceJpeg:
    """The JPEG that pixels were decoded from.

    Examples
    --------
    >>> SourceJpeg(b"...", transform=ColourTransform.NONE).offset
    (0, 0)
    """

    data: bytes
    """A JPEG, with or without its tables."""
    tables: bytes | None = None
    """Tables of an abbreviated JPEG (TIFF: JPEGTables)."""
    transform: ColourTransform | None = None
    """What the components are, where the container says so (TIFF: PhotometricInterpretation); None reads the JPEG."""
    offset: tuple[int, int] = (0, 0)
    """Row and column of the pixels' top left corner in the JPEG."""
    extended: bool = False
    """Whether pixels may go on beyond the JPEG's right and lower edge, where their values do not matter."""


@dataclass(frozen=True)
class JpegPiece:
    """A JPEG behind a part of a chunk."""

    source: SourceJpeg
    """The whole JPEG; its ``offset`` is not used."""
    at: tuple[int, int]
    """Row and column of the JPEG's top left pixel in the chunk; negative where it begins outside."""
    shown: tuple[int, int, int, int]
    """Top, left, height and width of the part of the JPEG that is seen, in pixels of the JPEG."""


@dataclass(frozen=True)
class SourcePieces:
    """The JPEGs behind a chunk, see `dlpr.modes.jpeg.pieces`.

    Examples
    --------
    >>> piece = JpegPiece(SourceJpeg(b"..."), (0, -40), (0, 0, 256, 256))
    >>> SourcePieces((piece,)).background
    (255, 255, 255)
    """

    pieces: tuple[JpegPiece, ...]
    """Those that hide others last."""
    background: tuple[int, ...] = (255, 255, 255)
    """Colour where no JPEG is seen."""


def parse(data: bytes, tables: bytes | None = None, transform: ColourTransform | None = None) -> JpegImage:
    """Read a JPEG up to its coefficients.

    Parameters
    ----------
    data : bytes
        The JPEG.
    tables : bytes, optional
        An abbreviated JPEG with tables that ``data`` lacks.
    transform : ColourTransform, optional
        What the three components are; by default as libjpeg decides: JFIF, Adobe's marker, the components' names.

    Returns
    -------
    JpegImage
        All of it: phase (0, 0), crop_edges.

    Raises
    ------
    UnsupportedInputError
        Damaged, or of a kind that the codec has no use for: arithmetic, 12 bits, four components, unusual sampling,
        a progressive image that lacks scans. Code the pixels alone then.
    """
    error, height, width, sampling, names, steps, coefficients = jpeg_parse(bytes(data), bytes(tables or b""))
    if error:
        raise UnsupportedInputError(f"the source JPEG is not used: {error}; code the pixels alone")
    return image_from(height, width, sampling, names, steps, coefficients, transform)


def image_from(
    height: int,
    width: int,
    sampling: tuple[int, int],
    names: tuple[bool, int, list[int]],
    steps: list[Table],
    coefficients: list[Coefficients],
    transform: ColourTransform | None = None,
) -> JpegImage:
    """Make an image of what the native parser found; ``names`` are JFIF, Adobe's transform (-1: none), components."""
    jfif, adobe, ids = names
    if len(steps) == 1:
        transform = ColourTransform.NONE
    elif transform is None:
        plain = not jfif and (adobe == 0 or (adobe < 0 and bytes(ids) == b"RGB"))
        transform = ColourTransform.NONE if plain else ColourTransform.YCBCR
    # libjpeg repeats chroma of up to two columns instead of filtering it
    narrow = sampling[1] == 2 and width <= 4
    upsampling = Upsampling.BOX if narrow else Upsampling.FANCY
    return JpegImage(height, width, (0, 0), transform, sampling, upsampling, True, tuple(steps), tuple(coefficients))


def add_restarts(header: bytes, scan: bytes) -> tuple[int, bytes, npt.NDArray[np.uint64]]:
    """Write the scan of a JPEG anew, with a restart marker behind each row of MCUs; the coefficients stay.

    Parameters
    ----------
    header : bytes
        Markers of a sequential JPEG of three components without restart markers, up to and with SOS.
    scan : bytes
        Its entropy-coded bytes.

    Returns
    -------
    columns : int
        MCUs in a row, which is what DRI has to say.
    data : bytes
        Entropy-coded bytes with markers between the rows, none behind the last.
    starts : numpy.ndarray
        uint64: where each row begins in ``data``.

    Raises
    ------
    UnsupportedInputError
        Damaged, or of another kind.
    """
    error, columns, data, starts = jpeg_add_restarts(bytes(header), bytes(scan))
    if error:
        raise UnsupportedInputError(f"the source JPEG is not used: {error}; code the pixels alone")
    return columns, data, starts


def window(image: JpegImage, top: int, left: int, height: int, width: int) -> JpegImage:
    """Cut a window out of a JPEG image.

    Parameters
    ----------
    image : JpegImage
    top, left, height, width : int
        The window in pixels of ``image``, inside of it.

    Returns
    -------
    JpegImage
        Its pixels are those of the window, save for subsampled chroma beside a cut that is not the image's edge.
    """
    if top < 0 or left < 0 or height < 1 or width < 1 or top + height > image.height or left + width > image.width:
        raise UnsupportedInputError(
            f"a window of {height} x {width} at {top}, {left} is not inside a JPEG of {image.height} x {image.width}"
        )
    if (top, left, height, width) == (0, 0, image.height, image.width):
        return image
    (mv, mh), (v, h) = image.mcu, image.sampling
    y, x = image.phase[0] + top, image.phase[1] + left
    rows, columns = slice(y // mv, -(-(y + height) // mv)), slice(x // mh, -(-(x + width) // mh))
    first = image.coefficients[0][rows.start * v : rows.stop * v, columns.start * h : columns.stop * h]
    others = [c[rows, columns] for c in image.coefficients[1:]]
    at_edge = image.crop_edges and (top + height == image.height or left + width == image.width)
    return JpegImage(
        height,
        width,
        (y % mv, x % mh),
        image.transform,
        image.sampling,
        image.upsampling,
        at_edge,
        image.tables,
        tuple(np.ascontiguousarray(c) for c in (first, *others)),
    )


def extend(image: JpegImage, height: int, width: int) -> JpegImage:
    """Let a JPEG image go on beyond its right and lower edge, at next to no cost.

    Parameters
    ----------
    image : JpegImage
    height, width : int
        At least those of ``image``, in pixels.

    Returns
    -------
    JpegImage
        Blocks beyond the edge are flat and as bright as the edge's mean.
    """
    if (height, width) == (image.height, image.width):
        return image
    out = []
    for c, blocks in enumerate(image.coefficients):
        v, h = image.sampling if c == 0 else (1, 1)
        rows = -(-(image.phase[0] + height) // image.mcu[0]) * v
        columns = -(-(image.phase[1] + width) // image.mcu[1]) * h
        more = ((0, rows - blocks.shape[0]), (0, columns - blocks.shape[1]))
        whole = np.pad(blocks, (*more, (0, 0), (0, 0)))
        whole[..., 0, 0] = np.pad(blocks[..., 0, 0], more, "edge")
        out.append(whole)
    return replace(image, height=height, width=width, coefficients=tuple(out))


def image_of(source: object, height: int, width: int) -> JpegImage | None:
    """The part of a source that has an image's size; None where the source is of no use.

    Parameters
    ----------
    source : object
        Bytes, SourceJpeg, SourcePieces or JpegImage; anything else is for other modes.
    height, width : int
        Size of the image in pixels.
    """
    return images_of([(source, height, width)])[0]


def images_of(sources: Sequence[tuple[object, int, int]], threads: int = 1) -> list[JpegImage | None]:
    """Do what `image_of` does for several images; JPEG bytes that several of them lie in are parsed once.

    Parameters
    ----------
    sources : sequence of (source, height, width)
    threads : int
        Threads to use.
    """
    described = [_described(source) for source, _, _ in sources]
    shared: dict[tuple[object, ...], SourceJpeg] = {}
    for one in described:
        for jpeg in _jpegs(one):
            shared.setdefault(_identity(jpeg), jpeg)
    with ThreadPoolExecutor(threads) as pool:  # parsing is native and frees the interpreter
        parsed = dict(zip(shared, pool.map(_parsed, shared.values()), strict=True))
    out: list[JpegImage | None] = []
    for one, (_, height, width) in zip(described, sources, strict=True):
        if one is None:
            out.append(None)
        elif isinstance(one, JpegImage):
            out.append(one if (one.height, one.width) == (height, width) else None)
        elif isinstance(one, SourcePieces):
            found = [Piece(parsed[_identity(piece.source)], piece.at, piece.shown) for piece in one.pieces]
            out.append(join(found, height, width, one.background))
        else:
            whole = parsed[_identity(one)]
            out.append(None if whole is None else _part(whole, one, height, width))
    return out


def _jpegs(source: SourceJpeg | SourcePieces | JpegImage | None) -> list[SourceJpeg]:
    """Return what is to be parsed of a source."""
    if isinstance(source, SourcePieces):
        return [piece.source for piece in source.pieces]
    return [source] if isinstance(source, SourceJpeg) else []


def _described(source: object) -> SourceJpeg | SourcePieces | JpegImage | None:
    """Return a source with all that is said of it; None for one of another mode."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return SourceJpeg(bytes(source))
    return source if isinstance(source, (SourceJpeg, SourcePieces, JpegImage)) else None


def _identity(source: SourceJpeg) -> tuple[object, ...]:
    """Tell apart what is to be parsed: by object, so that nothing is compared."""
    return id(source.data), id(source.tables), source.transform


def _parsed(source: SourceJpeg) -> JpegImage | None:
    """Parse a whole JPEG; None where it is of no use."""
    try:
        return parse(source.data, source.tables, source.transform)
    except UnsupportedInputError:
        return None


def _part(whole: JpegImage, source: SourceJpeg, height: int, width: int) -> JpegImage | None:
    """Cut the window that a source names; None where it is not inside."""
    top, left = source.offset
    inside = (height, width)
    if source.extended:
        inside = min(height, whole.height - top), min(width, whole.width - left)
    try:
        return extend(window(whole, top, left, *inside), height, width)
    except UnsupportedInputError:
        return None
