"""JPEG bytes to a `JpegImage`: sequential or progressive Huffman coding with 8 bits, as slides and libjpeg write it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlpr._native import jpeg_parse
from dlpr.errors import UnsupportedInputError
from dlpr.modes.jpeg.image import Coefficients, ColourTransform, JpegImage, Table, Upsampling

__all__ = ["SourceJpeg", "image_from", "parse", "window"]


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
