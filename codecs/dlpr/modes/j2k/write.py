"""A `J2kImage` to bytes: a codestream of its own, or the very file that it was read from.

What a `J2kImage` says does not decide the bytes of a codestream: an encoder deals the passes out to layers, cuts or
ends its codewords in its own way, and writes markers. `take_apart` gives all that is missing as a `Structure`, and
`rebuild` gives the file again from both. `write` needs no structure: it makes these choices anew, in the plainest way,
and any decoder finds the same coefficients, known to the same bit planes, so the same pixels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dlpr._native import j2k_parse, j2k_rebuild, j2k_write
from dlpr.errors import CorruptError, UnsupportedInputError
from dlpr.modes.j2k.fields import Colour
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.parse import fields_of, parse
from dlpr.modes.j2k.synthesis import native_fields

__all__ = ["Structure", "rebuild", "take_apart", "write"]


class Structure(NamedTuple):
    """What a file holds beside its coefficients and passes."""

    template: bytes
    """Markers and boxes: the file without its packets. Tiles of a slide have the same, or nearly so."""
    details: bytes
    """What the packets hold that does not follow: layers, the ends of codewords, unusual headers. Coded, dense."""


def take_apart(data: bytes, colour: Colour = Colour.NONE, *, check: bool = True) -> tuple[J2kImage, Structure]:
    """Read a codestream or JP2 file so that it can be made again.

    Parameters
    ----------
    data : bytes
        A codestream or a JP2 file.
    colour : Colour
        As for `parse`.
    check : bool
        Make the file and compare; without it the caller has to.

    Returns
    -------
    image : J2kImage
        As `parse` returns it.
    structure : Structure
        ``rebuild(image, structure) == data``: with ``check`` it was tried.

    Raises
    ------
    UnsupportedInputError
        As for `parse`, or the file cannot be made again: keep it whole.
    """
    error, fields, coefficients, passes, missing, template, details = j2k_parse(bytes(data), True)
    if error:
        raise UnsupportedInputError(f"the JPEG 2000 file cannot be taken apart: {error}; keep it whole")
    image = J2kImage(fields_of(fields, colour), coefficients, passes, missing)
    structure = Structure(template, details)
    if check and rebuild(image, structure) != data:
        raise UnsupportedInputError("the JPEG 2000 file cannot be made again from its parts; keep it whole")
    return image, structure


def rebuild(image: J2kImage, structure: Structure) -> bytes:
    """Make a file again.

    Parameters
    ----------
    image : J2kImage
    structure : Structure
        What `take_apart` returned beside the image.

    Returns
    -------
    bytes
        The file.

    Raises
    ------
    CorruptError
        The structure is damaged or of another image.
    """
    error, data = j2k_rebuild(native_fields(image.fields), _arrays(image), structure.template, structure.details)
    if error:
        raise CorruptError(f"the JPEG 2000 file cannot be made again: {error}")
    return bytes(data)


def write(image: J2kImage, *, check: bool = True) -> bytes:
    """Write an image as a codestream of Part 1.

    One layer, packets by resolution and component, one tile part for each tile, code-block styles none but causal
    contexts where the image has them; precincts as large as its code blocks allow. The container has to say what the
    components are where ``image.fields.colour`` is not `Colour.NONE`.

    Parameters
    ----------
    image : J2kImage
    check : bool
        Parse what was written and compare; without it the caller has to.

    Returns
    -------
    bytes
        A codestream, to be wrapped by a file format or not. Decoders give the pixels that they give for the codestream
        that the image was read from: coefficients, passes and missing bit planes of all blocks are the same.

    Raises
    ------
    UnsupportedInputError
        The image is a window of a larger one, or holds numbers that no codestream has: points, code blocks of sizes
        that do not go together, bits of coefficients beyond the planes or passes of their block.

    Examples
    --------
    >>> from dlpr.modes.j2k.fields import Component, Fields, Wavelet
    >>> grey = Component((1, 1), Wavelet.REVERSIBLE, ((6, 6),), ((8, 0),), 2)
    >>> fields = Fields((0, 0, 2, 2), (0, 0, 2, 2), (grey,), False, Colour.NONE)
    >>> q, one = np.array([[8, -4], [0, 24]], np.int32), np.ones((1, 1), np.uint8)
    >>> data = write(J2kImage(fields, (q,), (5 * one,), (4 * one,)))
    >>> data[:4].hex(), data[-2:].hex()
    ('ff4fff51', 'ffd9')
    >>> parse(data).coefficients[0].tolist()
    [[8, -4], [0, 24]]
    """
    top, left, bottom, right = image.fields.area
    if (image.fields.height, image.fields.width) != (bottom - top, right - left):
        raise UnsupportedInputError(
            "the JPEG 2000 image cannot be written: a window of an image is no whole codestream"
        )
    if any(component.points for component in image.fields.components):
        raise UnsupportedInputError(
            "the JPEG 2000 image cannot be written: it was found in pixels, and no codestream holds its points"
        )
    error, data = j2k_write(native_fields(image.fields), _arrays(image))
    if error:
        raise UnsupportedInputError(f"the JPEG 2000 image cannot be written: {error}")
    if check and not _same(parse(data, image.fields.colour), image):
        raise UnsupportedInputError("the JPEG 2000 image cannot be written: it holds numbers that no codestream has")
    return bytes(data)


def _arrays(image: J2kImage) -> tuple[tuple[npt.NDArray[Any], ...], ...]:
    """Return an image's arrays as the native code takes them."""
    groups = (image.coefficients, image.passes, image.missing)
    return tuple(tuple(np.ascontiguousarray(a) for a in group) for group in groups)


def _same(a: J2kImage, b: J2kImage) -> bool:
    """Whether two images have the same fields and numbers."""
    groups = ((a.coefficients, b.coefficients), (a.passes, b.passes), (a.missing, b.missing))
    return a.fields == b.fields and all(all(map(np.array_equal, x, y)) for x, y in groups)
