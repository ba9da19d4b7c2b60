"""Stored samples of a TIFF page as what is to be seen: by the definitions in the TIFF specification, in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.second import Reading, Unjudged
from dlpr_wsi.second.ifd import Directory

__all__ = ["shown", "ycbcr_to_rgb"]

_JPEG = 7
_ASSOCIATED, _UNASSOCIATED = 1, 2
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # samples by PhotometricInterpretation


def shown(  # noqa: PLR0911 - a list of cases
    page: Directory, stored: NDArray[np.uint8], background: tuple[int, int, int]
) -> Reading | Unjudged:
    """Return stored samples (height, width, samples) as RGB.

    Grey, palette, RGB and what a JPEG decoder made RGB are exact. Others may differ by what rounding allows: YCbCr and
    CMYK by 2, alpha by 2 more (OpenSlide multiplies it in and divides it out again).
    """
    photometric = page.number(262)
    colours = _COLOURS.get(photometric)
    if colours is None:
        return Unjudged("colours of a kind that it does not know")
    base, tolerance = stored[..., :colours], 0
    if photometric == 0:
        base = 255 - base
    elif photometric == 3:
        table = page.numbers(320)
        if len(table) != 768:
            return Unjudged("a palette of other than 256 colours")
        levels = np.array(table).reshape(3, 256)
        base = (levels >> 8 if levels.max() > 255 else levels).astype(np.uint8).T[base[..., 0]]
    elif photometric == 5:
        ink = base.astype(np.float64)
        base = np.rint((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255).astype(np.uint8)
        tolerance = 2
    elif photometric == 6 and page.number(259, 1) != _JPEG:
        if any(page.numbers(532)) and page.numbers(532) != (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1):
            return Unjudged("YCbCr of a reference black and white of its own")
        if page.numbers(530) not in ((1, 1), ()):
            return Unjudged("YCbCr with subsampling outside JPEG")
        base, tolerance = ycbcr_to_rgb(base), 2
    base = np.repeat(base, 3, -1) if base.shape[-1] == 1 else base
    kinds = page.numbers(338)
    if photometric == 0 and stored.shape[-1] > colours:
        return Unjudged("white at 0 with further samples: readers take them differently")
    if stored.shape[-1] == colours:
        return Reading(np.ascontiguousarray(base), tolerance)
    if stored.shape[-1] != colours + 1 or kinds[:1] not in ((_ASSOCIATED,), (_UNASSOCIATED,)):
        return Unjudged("extra samples that are no alpha: readers take them differently")
    alpha = stored[..., colours:].astype(np.float64) / 255
    backdrop = np.array(background) * (1 - alpha)
    front = base if kinds[0] == _ASSOCIATED else base * alpha
    return Reading(np.clip(np.rint(front + backdrop), 0, 255).astype(np.uint8), tolerance + 2)


def ycbcr_to_rgb(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert by JFIF's formulas in 16-bit fixed point, as libjpeg does.

    Examples
    --------
    >>> ycbcr_to_rgb(np.array([[[100, 128, 128]]], np.uint8)).tolist()
    [[[100, 100, 100]]]
    """
    y, cb, cr = (samples[..., k].astype(np.int32) for k in range(3))
    cb -= 128
    cr -= 128
    half = 1 << 15
    red = y + ((91881 * cr + half) >> 16)
    green = y + ((-22554 * cb - 46802 * cr + half) >> 16)
    blue = y + ((116130 * cb + half) >> 16)
    return np.asarray(np.clip(np.stack([red, green, blue], -1), 0, 255), np.uint8)
