"""A codestream taken apart and made again, byte for byte.

What a `J2kImage` says does not decide the bytes of a codestream: an encoder deals the passes out to layers, cuts or
ends its codewords in its own way, and writes markers. `take_apart` gives all that is missing as a `Structure`, and
`rebuild` gives the file again from both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dlpr._native import j2k_parse, j2k_rebuild
from dlpr.errors import CorruptError, UnsupportedInputError
from dlpr.modes.j2k.fields import Colour
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.parse import fields_of
from dlpr.modes.j2k.synthesis import native_fields

__all__ = ["Structure", "rebuild", "take_apart"]


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
    arrays = tuple(
        tuple(np.ascontiguousarray(a) for a in group) for group in (image.coefficients, image.passes, image.missing)
    )
    error, data = j2k_rebuild(native_fields(image.fields), arrays, structure.template, structure.details)
    if error:
        raise CorruptError(f"the JPEG 2000 file cannot be made again: {error}")
    return bytes(data)
