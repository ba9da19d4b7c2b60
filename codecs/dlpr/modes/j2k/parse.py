"""JPEG 2000 bytes to a `J2kImage`: a codestream of Part 1, alone or in a JP2 file."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from dlpr._native import j2k_parse
from dlpr.errors import UnsupportedInputError
from dlpr.modes.j2k.fields import Colour, Component, Fields, Wavelet
from dlpr.modes.j2k.image import J2kImage

__all__ = ["parse"]


def parse(data: bytes, colour: Colour = Colour.NONE) -> J2kImage:
    """Read a codestream up to its quantised coefficients.

    Parameters
    ----------
    data : bytes
        A codestream or a JP2 file.
    colour : Colour
        What three components are behind the codestream's own transform, where the container says so (Aperio's 33003:
        YCbCr).

    Returns
    -------
    J2kImage
        All tiles, all layers.

    Raises
    ------
    UnsupportedInputError
        Damaged, or of a kind that the codec has no use for: samples other than 8 unsigned bits, other than one or three
        components, regions of interest, packed packet headers, tiles with coding parameters of their own, high
        throughput blocks, a palette. Code the pixels alone then.
    """
    error, fields, coefficients, passes, missing, _, _ = j2k_parse(bytes(data), False)
    if error:
        raise UnsupportedInputError(f"the source JPEG 2000 is not used: {error}; code the pixels alone")
    return J2kImage(fields_of(fields, colour), coefficients, passes, missing)


@lru_cache(64)
def fields_of(native: tuple[Any, ...], colour: Colour) -> Fields:
    """Return fields as the native code gives them; tiles of a slide share them, and their bands."""
    area, tiles, components, transform, _, window = native
    return Fields(
        area,
        tiles,
        tuple(
            Component(sampling, Wavelet(reversible), blocks, steps, guard, bool(causal), points, bool(whole))
            for sampling, reversible, blocks, steps, guard, causal, points, whole in components
        ),
        bool(transform),
        colour,
        window,
    )
