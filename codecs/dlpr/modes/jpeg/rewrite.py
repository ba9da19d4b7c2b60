"""A JPEG's very bytes from the coefficients that a chunk's stream holds.

::

    JPEG --split--> template   markers in order, tables or how they follow, restart interval, padding: shared by tiles
                    image      its coefficients: those of the chunk's stream (`dlpr.modes.jpeg.extract.stored_jpeg`)
                    hint       what neither holds of this JPEG: for most tiles nothing
    template + image + hint --join--> JPEG

A template holds all but the entropy-coded bits. Huffman tables of T.81 annex K.3 and those that libjpeg makes for an
image stand there by name, quantisation tables as those of a component, so that tiles with tables of their own share a
template too. Tiles of a level nearly always do: try `join` with the template of the tile before, and `split` only where
that gives other bytes. Whoever calls compares: no template is right before its bytes were seen to be.

`split` refuses what `dlpr.modes.jpeg.parse` refuses (arithmetic coding, 12 bits, four components, ...): keep such
bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dlpr._native import jpeg_join, jpeg_split, jpeg_template_form
from dlpr.errors import CorruptError, UnsupportedInputError
from dlpr.modes.jpeg.difference import hint_of, restored, spliced
from dlpr.modes.jpeg.grid import Grid
from dlpr.modes.jpeg.hint import Splice, unpack_hint
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.parse import image_from
from dlpr.modes.jpeg.prior import Prior

__all__ = ["Split", "Template", "join", "split"]

FORMAT, INTERVAL, ZEROS = 1, 1, 2
"""First byte of a template; flags in its second."""


@dataclass(frozen=True)
class Template:
    """All of a JPEG but its entropy-coded bits. Equal ones compare equal; they can be keys of dictionaries.

    Parameters
    ----------
    data : bytes
        The template itself, some 60 to 700 bytes: keep it as it is; compress several together.

    Examples
    --------
    >>> Template(bytes([1, 3])).is_interval
    True
    """

    data: bytes

    @property
    def is_interval(self) -> bool:
        """Whether it gives the bytes of restart intervals (`dlpr.modes.jpeg.intervals`)."""
        return len(self.data) > 1 and bool(self.data[1] & INTERVAL)

    @cached_property
    def grid(self) -> Grid:
        """MCUs, sampling and components of the JPEGs that it is for; rows and columns mean nothing for intervals.

        Raises
        ------
        CorruptError
            It is damaged.
        """
        error, rows, columns, v, h, components = jpeg_template_form(self.data)
        if error:
            raise CorruptError(f"the template of a JPEG: {error}")
        return Grid(rows, columns, (v, h), components)


@dataclass(frozen=True, eq=False)
class Split:
    """A JPEG taken apart.

    Parameters
    ----------
    template : Template
        What it shares with others.
    image : JpegImage
        Its coefficients.
    splices : tuple
        Where its bytes are not those of template and coefficients: (offset, bytes removed, bytes put in).
    """

    template: Template
    image: JpegImage
    splices: tuple[Splice, ...]

    def hint(self, stored: JpegImage | None, prior: Prior | None = None) -> bytes:
        """Say what `join` needs beside the template and ``stored``.

        Parameters
        ----------
        stored : JpegImage or None
            What the chunk's stream holds; None where it is of another mode (one colour, say).
        prior : Prior, optional
            The slide's; `join` needs it then too. It helps where ``stored`` is None.

        Returns
        -------
        bytes
            Empty where nothing is missing. Where ``stored`` is None, what a stream of mode jpeg would take; a JPEG of
            one colour takes about ten bytes.
        """
        return hint_of(self.image, stored, self.splices, prior)


def split(data: bytes, tables: bytes | None = None) -> Split:
    """Take a JPEG apart.

    Parameters
    ----------
    data : bytes
        The JPEG as it lies in a file, from its first byte to its last, junk behind EOI too.
    tables : bytes, optional
        An abbreviated JPEG with tables that ``data`` lacks (TIFF: JPEGTables). The template holds them.

    Raises
    ------
    UnsupportedInputError
        It cannot be made from coefficients: keep its bytes.

    Examples
    --------
    >>> from dlpr.modes.jpeg.image import ColourTransform, Upsampling
    >>> from dlpr.modes.jpeg.write import write
    >>> steps, flat = np.full((8, 8), 16, np.uint16), np.zeros((1, 2, 8, 8), np.int16)
    >>> image = JpegImage(8, 16, (0, 0), ColourTransform.NONE, (1, 1), Upsampling.FANCY, True, (steps,), (flat,))
    >>> parts = split(write(image))
    >>> parts.hint(image), join(parts.template, image) == write(image)
    (b'', True)
    """
    return as_split(jpeg_split(bytes(data), bytes(tables or b"")))


def as_split(found: tuple[object, ...]) -> Split:
    """Wrap what the native code found."""
    error, template, splices, *fields = found
    if error:
        raise UnsupportedInputError(f"the JPEG cannot be made from coefficients: {error}; keep its bytes")
    assert isinstance(template, bytes)
    assert isinstance(splices, list)
    return Split(Template(template), image_from(*fields), tuple(splices))  # type: ignore[arg-type]


def join(template: Template, stored: JpegImage | None, hint: bytes = b"", prior: Prior | None = None) -> bytes:
    """Make the bytes of a JPEG.

    Parameters
    ----------
    template : Template
    stored : JpegImage or None
        What the chunk's stream holds; None where ``hint`` holds all.
    hint : bytes
        Of `Split.hint`; empty for none.
    prior : Prior, optional
        What the hint was made with.

    Raises
    ------
    CorruptError
        Template, image and hint do not go together: one of them is damaged or of another JPEG.
    PriorError
        The hint needs a prior.
    """
    if template.is_interval:
        raise CorruptError("the template is one of restart intervals: use `dlpr.modes.jpeg.intervals`")
    parts = unpack_hint(hint)
    image = restored(parts, template.grid, stored, prior)
    return spliced(made(template, image), parts.splices)


def made(template: Template, image: JpegImage) -> bytes:
    """Make what a template gives."""
    steps = np.stack(image.tables).reshape(-1, 64)
    arrays = [np.ascontiguousarray(c) for c in image.coefficients]
    error, data = jpeg_join(template.data, steps, arrays, *image.sampling)
    if error:
        raise CorruptError(f"no JPEG can be made of this template and these coefficients: {error}")
    assert isinstance(data, bytes)
    return data
