"""Pixels of a JPEG 2000 image, in integers: exactly those of any decoder with 5/3, almost always OpenJPEG's with 9/7.

::

    coefficients --middle of what is open, times the step--> bands --inverse wavelet, level by level--> components
                 --RCT or ICT--> --level shift, cut to 0 .. 255--> --chroma repeated, YCbCr to RGB--> pixels
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dlpr.modes.j2k.fields import BandPlace, Colour, Component, Fields, Wavelet
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.whole import WHOLE, whole_pass, wrap
from dlpr.modes.mixed.levels import fine_level

__all__ = ["FRACTION", "SURE", "native_fields", "synthesise", "synthesise_reference", "synthesise_with_doubts"]

U8 = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

FRACTION = 18
"""Bits of a 9/7 sample behind the point."""
SURE = 31
"""The doubt of samples that are whole or cut off."""

_ALPHA, _BETA, _GAMMA, _DELTA = -1703098781, -56886969, 948018548, 476211856  # 2**30 times table F.4
_LOW, _HIGH = 1320889387, 1745616896  # K, and OpenJPEG's 2/K, 3e-5 too small
_RED, _GREEN_BLUE, _GREEN_RED, _BLUE = 1505386037, 369506774, 766801986, 1902670512


def synthesise(image: J2kImage) -> U8:
    """Compute the pixels of a JPEG 2000 image.

    Parameters
    ----------
    image : J2kImage

    Returns
    -------
    numpy.ndarray
        uint8 [height, width, components]; red, green, blue where there are three.
    """
    from dlpr._native import j2k_synthesise  # the rest of this module works in a tree without the extension

    arrays = tuple(
        tuple(np.ascontiguousarray(a) for a in group) for group in (image.coefficients, image.passes, image.missing)
    )
    pixels: U8 = j2k_synthesise(native_fields(image.fields), arrays)
    return pixels


def native_fields(fields: Fields) -> tuple[object, ...]:
    """Return fields as the native code takes them."""
    components = tuple(
        (c.sampling, int(c.wavelet), c.blocks, c.steps, c.guard, int(c.causal), c.points, int(c.whole))
        for c in fields.components
    )
    return fields.area, fields.tiles, components, int(fields.transform), int(fields.colour), fields.window


def synthesise_reference(image: J2kImage) -> U8:
    """Compute what `synthesise` computes, in NumPy."""
    return synthesise_with_doubts(image)[0]


def synthesise_with_doubts(image: J2kImage) -> tuple[U8, U8]:
    """Compute the pixels, and how near each sample came to the next one.

    Returns
    -------
    tuple of numpy.ndarray
        uint8 [height, width, components] both. Doubts of J2, step 6; where pixels are made of Y, Cb and Cr, green has
        Y's, blue and red those of Cb and Cr.
    """
    fields = image.fields
    (y, x, y1, x1), (kept_top, kept_left, kept_bottom, kept_right) = fields.area, fields.kept
    out: U8 = np.zeros((y1 - y, x1 - x, len(fields.components)), np.uint8)
    unsure = np.zeros_like(out)
    for tile in range(fields.tile_rows * fields.tile_columns):
        planes = [_inverse_wavelet(image, tile, component) for component in range(len(fields.components))]
        kinds = [component.wavelet for component in fields.components]
        if fields.transform:
            planes = _inverse_transform(planes, kinds[0])
        shift = 30 + FRACTION if fields.transform else FRACTION
        doubts = [
            np.full(plane.shape, SURE, np.uint8)
            if kind is Wavelet.REVERSIBLE
            else _doubts(plane, shift, component.whole)
            for plane, kind, component in zip(planes, kinds, fields.components, strict=True)
        ]
        planes = [
            plane if kind is Wavelet.REVERSIBLE else _nearest(plane, shift, component.whole)
            for plane, kind, component in zip(planes, kinds, fields.components, strict=True)
        ]
        top, left, bottom, right = fields.tile_edges(tile)
        place = slice(top - y, bottom - y), slice(left - x, right - x)
        for number, plane in enumerate(planes):
            if not plane.size:
                continue
            v, h = fields.components[number].sampling
            y0, x0, _, _ = fields.tile_component(tile, number)
            rows = np.clip(np.arange(top, bottom) // v - y0, 0, plane.shape[0] - 1)
            columns = np.clip(np.arange(left, right) // h - x0, 0, plane.shape[1] - 1)
            out[(*place, number)] = np.clip(plane + 128, 0, 255)[np.ix_(rows, columns)]
            channel = number if fields.colour is Colour.NONE else (number + 1) % 3
            unsure[(*place, channel)] = doubts[number][np.ix_(rows, columns)]
    kept = slice(kept_top - y, kept_bottom - y), slice(kept_left - x, kept_right - x)
    out, unsure = np.ascontiguousarray(out[kept]), np.ascontiguousarray(unsure[kept])
    return _to_rgb(out, fields.colour), unsure


def _nearest(values: Ints, shift: int, up: bool = False) -> Ints:
    """Values / 2**shift, halves to the even number, or up."""
    return (values + (1 << (shift - 1)) - 1 + (1 if up else values >> shift & 1)) >> shift


def _doubts(values: Ints, shift: int, up: bool) -> U8:
    """How near values / 2**shift came to another sample than theirs."""
    whole = _nearest(values, shift, up)
    part = values - (whole << shift)
    level = np.array([fine_level(i) for i in range(257)])[((1 << (shift - 1)) - np.abs(part)) >> (shift - 9)]
    cut = (whole < -128) | (whole > 127)
    return np.asarray(np.where(cut, SURE, level + 128 * (part < 0)), np.uint8)


def dequantise(band: BandPlace, component: Component, coefficients: Ints, lowest: Ints) -> Ints:
    """Middle of what is left open, times the step; 9/7: with `FRACTION` bits behind the point, or whole numbers."""
    wavelet = component.wavelet
    top, left, bottom, right = band.near
    inside = np.zeros(coefficients.shape, np.bool_)
    inside[top:bottom, left:right] = True
    magnitude = np.where(inside, np.abs(coefficients), 0)
    twice = 2 * magnitude
    if band.resolution >= component.points:
        twice += np.int64(1) << lowest
    if wavelet is Wavelet.REVERSIBLE:
        value = twice >> 1
    else:
        points = bin(band.orientation).count("1") if component.whole else FRACTION
        value, shift = twice * (2048 + band.mantissa), 12 + band.exponent - 8 - points
        value = (value + (1 << (shift - 1))) >> shift if shift > 0 else value << -shift
    return wrap(np.where(magnitude == 0, 0, np.where(coefficients < 0, -value, value)))


def _inverse_wavelet(image: J2kImage, tile: int, number: int) -> Ints:
    """Samples of a component of a tile before the component transform."""
    fields, component = image.fields, image.fields.components[number]
    edges = fields.tile_component(tile, number)
    low = np.zeros((0, 0), np.int64)
    for index, band in enumerate(fields.bands):
        if (band.tile, band.component) != (tile, number):
            continue
        lowest = image.lowest_planes(index)
        values = dequantise(band, component, image.coefficients[index].astype(np.int64), lowest)
        if band.orientation == 0:
            low = values
            continue
        if band.orientation == 1:
            high = values
        elif band.orientation == 2:
            lows = values
        else:
            down = component.levels - band.resolution
            top, left, bottom, right = (-(-edge // (1 << down)) for edge in edges)
            if component.whole:
                upper, lower = (
                    whole_pass(a.T, b.T, left, right - left, columns=False).T for a, b in ((low, high), (lows, values))
                )
                low = whole_pass(upper, lower, top, bottom - top, columns=True)
                # Of the samples themselves the fraction is wanted; of other resolutions whole numbers are.
                low = wrap(low << (FRACTION - WHOLE)) if down == 0 else wrap(low + (1 << (WHOLE - 1))) >> WHOLE
                continue
            upper = _inverse_pass(low.T, high.T, left, right - left, component.wavelet).T
            lower = _inverse_pass(lows.T, values.T, left, right - left, component.wavelet).T
            low = _inverse_pass(upper, lower, top, bottom - top, component.wavelet)
    return wrap(low << FRACTION) if component.whole and not component.levels else low


def _inverse_pass(low: Ints, high: Ints, start: int, count: int, wavelet: Wavelet) -> Ints:
    """Interleave low and high lines, the first at `start`, and undo the lifting steps along the first axis."""
    lows, highs = slice(start % 2, None, 2), slice(1 - start % 2, None, 2)
    x = np.zeros((count, max(low.shape[1], high.shape[1])), np.int64)
    x[lows], x[highs] = low, high
    if count <= 1:
        halved = start % 2 == 1 and wavelet is Wavelet.REVERSIBLE
        return np.sign(x) * (np.abs(x) // 2) if halved else x

    def neighbours(lines: slice) -> Ints:
        """Sum of the lines before and after; beyond the ends lines are mirrored."""
        at = np.arange(count)[lines]
        after = np.where(at + 1 >= count, count - 2, at + 1)
        return wrap(x[np.abs(at - 1)] + x[after])

    if wavelet is Wavelet.REVERSIBLE:
        x[lows] = wrap(x[lows] - (wrap(neighbours(lows) + 2) >> 2))
        x[highs] = wrap(x[highs] + (neighbours(highs) >> 1))
        return x
    x[lows], x[highs] = _scaled(x[lows], _LOW), _scaled(x[highs], _HIGH)
    for lines, factor in ((lows, _DELTA), (highs, _GAMMA), (lows, _BETA), (highs, _ALPHA)):
        x[lines] = wrap(x[lines] - _scaled(neighbours(lines), factor))
    return x


def _scaled(values: Ints, factor: int) -> Ints:
    """Values times factor / 2**30, rounded."""
    return wrap((values * factor + (1 << 29)) >> 30)


def _inverse_transform(planes: list[Ints], wavelet: Wavelet) -> list[Ints]:
    """RCT, or ICT with 30 more bits behind the point."""
    y, u, v = planes
    if wavelet is Wavelet.REVERSIBLE:
        green = wrap(y - (wrap(u + v) >> 2))
        return [wrap(v + green), green, wrap(u + green)]
    sums = ((y << 30) + v * _RED, (y << 30) - u * _GREEN_BLUE - v * _GREEN_RED, (y << 30) + u * _BLUE)
    return list(sums)


def _to_rgb(pixels: U8, colour: Colour) -> U8:
    """YCbCr to RGB: as libjpeg and OpenSlide compute it, or with one of the other kinds' numbers."""
    if colour is Colour.NONE:
        return pixels
    red, green_blue, green_red, blue, half, shift = {
        Colour.YCBCR: (91881, -22554, -46802, 116130, 32768, 16),
        Colour.YCBCR_DOWN: (91881, -22554, -46802, 116130, 0, 16),
        Colour.YCBCR_BYTE: (360, -88, -184, 452, 128, 8),
    }[colour]
    y, cb, cr = (pixels[..., c].astype(np.int64) for c in range(3))
    cb, cr = cb - 128, cr - 128
    channels = (red * cr, green_blue * cb + green_red * cr, blue * cb)
    return np.asarray(np.clip(np.stack([y + ((c + half) >> shift) for c in channels], axis=-1), 0, 255), np.uint8)
