"""The planes behind pixels, found from the pixels alone (docs/decisions/0013-colour-layer.md).

::

    distinct colours --every matrix and rounding--> the lattice that holds nine tenths of them, if there is one
    pixels --its inverse--> a triple for each; clamped ones take the triple most like their surroundings
    chroma --every filter and phase on windows--> the smaller planes whose upsampling it is, if that is cheaper
    --> luma that gives the pixels

The search may be wrong at no risk: a residual says what the planes lack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dlpr._native import colour_analyse_batch, colour_synthesise_batch
from dlpr.arrays import Bytes8
from dlpr.modes.colour.chroma import ChromaShape, Filter
from dlpr.modes.colour.lattice import MATRICES, Lattice, Products, Rounding

__all__ = ["Planes", "find_batch", "pixels_batch"]

MAX_PIXELS = 1 << 22
"""Larger images are not searched: it takes some 40 bytes of memory for each pixel."""


@dataclass(frozen=True, eq=False)
class Planes:
    """What pixels are made from."""

    lattice: Lattice
    shape: ChromaShape
    planes: tuple[Bytes8, Bytes8, Bytes8]
    """Luma [H, W], Cb and Cr at their own size."""


def find_batch(images: Sequence[Bytes8], threads: int = 1) -> list[Planes | None]:
    """Search the planes behind several images.

    Parameters
    ----------
    images : sequence of numpy.ndarray
        uint8 [H, W, 3], red, green, blue, contiguous.
    threads : int
        Images searched at once.

    Returns
    -------
    list of Planes or None
        None for an image whose colours lie on no lattice, or of more than `MAX_PIXELS` pixels. The result depends on
        the image alone.
    """
    out: list[Planes | None] = [None] * len(images)
    work = [i for i, image in enumerate(images) if image.shape[0] * image.shape[1] <= MAX_PIXELS]
    for i, found in zip(work, colour_analyse_batch([images[i] for i in work], True, threads), strict=True):
        if found is None:
            continue
        _, matrix, rounding, products, (kind, *rest), luma, cb, cr = found
        lattice = replace(MATRICES[matrix - 1], rounding=Rounding(rounding), products=Products(products))
        out[i] = Planes(lattice, ChromaShape(Filter(kind), *rest), (luma, cb, cr))
    return out


def pixels_batch(found: Sequence[Planes], threads: int = 1) -> list[Bytes8]:
    """Make pixels from planes: uint8 [H, W, 3] each, coding order."""
    jobs = [(p.lattice.fields, p.shape.fields, *(np.ascontiguousarray(x) for x in p.planes)) for p in found]
    out: list[Bytes8] = colour_synthesise_batch(jobs, threads)
    return out
