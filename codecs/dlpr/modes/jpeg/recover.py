"""The JPEG that pixels were decoded from, found from the pixels alone (docs/decisions/0008-recovered-jpeg.md).

::

    pixels --luma and chroma at full size are exact integers--> where 8x8 blocks begin: more coefficients near zero
           --multiples of steps--> colour transform, quantisation tables, how chroma was sampled
           --inverse of upsampling, DCT, rounding--> coefficients --synthesis--> what differs goes round again

Decoding a JPEG loses nothing that rounding does not: luma follows from a pixel within half a level, and with it
upsampled chroma does too. What a crop cuts through at its border, and samples cut off at 0 or 255, are estimated; the
residual says what the estimate lacks. The search may be wrong at no risk: what it finds is an encoder's choice.

Where steps are 1 or 2 rounding is not enough: coefficients are then fitted from exact planes, chroma's at its own size
(docs/decisions/0014-jpeg-behind-planes.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from dlpr._native import jpeg_recover_batch
from dlpr.modes.jpeg.image import ColourTransform, JpegImage, Upsampling

__all__ = ["MAX_PIXELS", "MIN_SIDE", "Kind", "Recovered", "recover_batch"]

U8 = npt.NDArray[np.uint8]
MIN_SIDE = 24
"""Smaller images are not searched: they hold too few whole blocks."""
MAX_PIXELS = 1 << 22
"""Larger images are not searched: it takes some 80 bytes of memory for each pixel."""
ROUNDS = 6
"""Corrections after which a fit is taken as it is."""


class Kind(IntEnum):
    """What an image of one channel is."""

    IMAGE = 0
    LUMA = 1
    """A plane that a decoder made: a faint trace is followed."""
    CHROMA = 2
    """Likewise, of Cb or Cr: standard tables are others than luma's."""


@dataclass(frozen=True, eq=False)
class Recovered:
    """A JPEG whose pixels are nearly those of an image.

    Parameters
    ----------
    image : JpegImage
        Its coefficients and tables.
    wrong : int
        Pixels of the image that its synthesis does not give exactly.
    """

    image: JpegImage
    wrong: int


def recover_batch(
    images: Sequence[U8], threads: int = 1, *, kinds: Sequence[Kind] | None = None
) -> list[Recovered | None]:
    """Search the JPEGs behind several images.

    Parameters
    ----------
    images : sequence of numpy.ndarray
        uint8 [H, W, 3] (red, green, blue) or [H, W, 1].
    threads : int
        Images searched at once.
    kinds : sequence of Kind, optional
        What images of one channel are.

    Returns
    -------
    list of Recovered or None
        None for an image that shows no trace of a JPEG, has a side below `MIN_SIDE` or more than `MAX_PIXELS` pixels.
        The result depends on the image alone.

    Examples
    --------
    >>> recover_batch([np.zeros((64, 64, 3), np.uint8)])
    [None]
    """
    out: list[Recovered | None] = [None] * len(images)
    work = [i for i, image in enumerate(images) if image.shape[0] * image.shape[1] <= MAX_PIXELS]
    flags = [0 if kinds is None else int(kinds[i]) for i in work]
    found = jpeg_recover_batch([np.ascontiguousarray(images[i]) for i in work], flags, ROUNDS, threads)
    for i, f in zip(work, found, strict=True):
        out[i] = None if f is None else _result(images[i].shape, *f)
    return out


def _result(
    shape: tuple[int, ...],
    wrong: int,
    phase: tuple[int, int],
    transform: int,
    sampling: tuple[int, int],
    box: int,
    tables: list[npt.NDArray[np.uint16]],
    coefficients: list[npt.NDArray[np.int16]],
) -> Recovered:
    """Wrap what the native search gives."""
    image = JpegImage(
        height=shape[0],
        width=shape[1],
        phase=phase,
        transform=ColourTransform(transform),
        sampling=sampling,
        upsampling=Upsampling(box),
        crop_edges=False,
        tables=tuple(tables),
        coefficients=tuple(coefficients),
    )
    return Recovered(image, wrong)
