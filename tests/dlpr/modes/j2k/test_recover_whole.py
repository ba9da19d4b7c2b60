"""The decoder that rounds every resolution to whole numbers, found from pixels; and its arithmetic, on real pixels."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import dlpr
from dlpr._native import wave_forward
from dlpr.modes.j2k.fields import Colour
from dlpr.modes.j2k.recover import recover
from dlpr.modes.j2k.recover_tile import NORMS
from dlpr.modes.j2k.synthesis import synthesise
from dlpr.modes.j2k.whole import whole_pass

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
BASE, LEVELS, TILE = 10.52, 4, 256
REAL = Path(__file__).parents[5] / "shared" / "data" / "dev" / "bm_graz"
"""What the decoder itself made: nobody else's pixels can tell that its arithmetic was understood."""


def down(x: Floats, bits: int, half: float = 0.0) -> Floats:
    """Round down to so many bits behind the point."""
    return np.asarray(np.floor(x * 2.0**bits + half) / 2.0**bits)


def sums(other: Floats, before: bool) -> Floats:
    """Sums of the lines around each line of the other kind; lines begin at an even place."""
    moved = np.concatenate([other[:1], other[:-1]]) if before else np.concatenate([other[1:], other[-1:]])
    return np.asarray(moved + other)


def one_pass(low: Floats, high: Floats, columns: bool) -> Floats:
    """A pass in floating point, rounded as the decoder's 16-bit numbers are; an even number of lines."""
    alpha, beta, gamma, delta = -12993 / 2**13, -13887 / 2**18, 28931 / 2**15, 14533 / 2**15
    more = int(columns)
    e, o = down(low * 20155 / 2**14, 4), down(high * 26637 / 2**15, 4 + more)
    e = e - down(delta * sums(o, True), 4 + more)
    o = down(o, 3 + more, 0.5) - down(gamma * sums(e, False), 3 + more)
    e = e - down(beta * sums(o, True), 5, 0.5 * more)
    o = o - down(alpha * sums(e, False), 3)
    out = np.empty((2 * len(e), *e.shape[1:]))
    out[::2], out[1::2] = e, o
    return out


def decode(bands: dict[tuple[int, int], Floats]) -> Floats:
    """Samples of a tile from whole numbers by depth and orientation."""
    low = bands[LEVELS, 0]
    for depth in range(LEVELS, 0, -1):
        hl, lh, hh = (bands[depth, o] for o in (1, 2, 3))
        rows = [one_pass(a.T, b.T, False).T for a, b in ((low, hl), (lh, hh))]
        low = np.floor(one_pass(rows[0], rows[1], True) + 0.5)
    return low


def coded(plane: Floats) -> Floats:
    """What the decoder makes of a tile whose coefficients were quantised."""
    height, width = plane.shape
    c = wave_forward((0, 0, height, width), LEVELS, np.ascontiguousarray(plane, np.float32)).astype(np.float64)
    bands, start = {}, 0
    places = [(LEVELS, 0), *((d, o) for d in range(1, LEVELS + 1) for o in (1, 2, 3))]
    for depth, orientation in places:
        shape = height >> depth, width >> depth
        v = c[start : start + shape[0] * shape[1]].reshape(shape)
        start += v.size
        if orientation:
            step = BASE / NORMS[depth, orientation] * (2 if orientation == 3 else 1)
            gain = 4 if orientation == 3 else 2
            v = np.sign(v) * np.floor(np.floor(np.abs(v) / step + 0.2) * step * gain + 0.5)
        bands[depth, orientation] = np.rint(v)
    return decode(bands)


def textured(height: int, width: int, rng: np.random.Generator, contrast: float) -> Floats:
    """Something with detail at all scales."""
    total = np.zeros((height, width))
    for step in (2, 4, 8, 16, 32):
        coarse = rng.standard_normal((height // step + 2, width // step + 2)) * step**0.3
        total += np.repeat(np.repeat(coarse, step, 0), step, 1)[:height, :width]
    for axis in (0, 1):
        total = (np.roll(total, 1, axis) + 2 * total + np.roll(total, -1, axis)) / 4
    return np.asarray(total * contrast)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """2 x 2 tiles, chroma at half the width, turned to RGB with factors of 8 bits."""
    rng = np.random.default_rng(11)
    planes = []
    for across, contrast, mean in ((1, 6, 20), (2, 3, 5), (2, 3, -5)):
        plane = textured(2 * TILE, 2 * TILE // across, rng, contrast) + mean
        tiles = [[coded(t) for t in np.split(row, 2, 1)] for row in np.split(plane, 2, 0)]
        planes.append(np.repeat(np.clip(np.block(tiles), -128, 127), across, 1).astype(np.int64))
    y, cb, cr = planes
    y = y + 128
    rgb = y + ((360 * cr + 128) >> 8), y + ((-88 * cb - 184 * cr + 128) >> 8), y + ((452 * cb + 128) >> 8)
    return np.asarray(np.clip(np.stack(rgb, -1), 0, 255), np.uint8)


def test_passes_are_those_of_numbers_with_few_bits() -> None:
    rng = np.random.default_rng(2)
    low, high = rng.integers(-1000, 1000, (2, 16, 9)).astype(np.float64)
    rows = whole_pass(low.astype(np.int64), high.astype(np.int64), 0, 32, columns=False)
    np.testing.assert_array_equal(rows / 32, one_pass(low, high, False))
    low, high = rng.integers(-30000, 30000, (2, 16, 9))
    columns = whole_pass(low, high, 0, 32, columns=True)
    np.testing.assert_array_equal(columns / 32, one_pass(low / 32, high / 32, True))


@pytest.mark.parametrize(("top", "left", "side"), [(90, 141, 192), (40, 20, 160)], ids=["borders", "inside a tile"])
def test_it_is_found(pixels: Pixels, top: int, left: int, side: int) -> None:
    crop = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    image = recover(crop)
    assert image is not None
    assert image.fields.colour is Colour.YCBCR_BYTE
    assert all(c.whole for c in image.fields.components)
    right = (synthesise(image) == crop).all(-1)
    assert right[16:-16, 16:-16].mean() > 0.97


def test_a_stream_of_it_is_smaller_and_exact(pixels: Pixels) -> None:
    crop = np.ascontiguousarray(pixels[90:282, 141:333])
    plain, found = dlpr.encode(crop, j2k="given"), dlpr.encode(crop)
    assert dlpr.inspect(found).mode == "j2k"
    assert len(found) < 0.75 * len(plain)
    np.testing.assert_array_equal(dlpr.decode(found), crop)


@pytest.mark.skipif(not REAL.exists(), reason="the real images are not here")
@pytest.mark.parametrize("name", ["BM_GRAZ_HE_0008_01", "BM_GRAZ_HE_0020_01"])
def test_the_real_decoder_gave_the_same_pixels(name: str) -> None:
    with Image.open(REAL / f"{name}.png") as opened:
        crop = np.ascontiguousarray(np.asarray(opened.convert("RGB"))[400:656, 300:556])
    image = recover(crop)
    assert image is not None
    assert all(c.whole for c in image.fields.components)
    right = (synthesise(image) == crop).all(-1)
    assert right[24:-24, 24:-24].mean() > 0.996  # every channel; 0.998, 0.9985 are reached
    data = dlpr.encode(crop)
    assert len(data) < 0.6 * len(dlpr.encode(crop, j2k="given"))
    np.testing.assert_array_equal(dlpr.decode(data), crop)


@pytest.mark.parametrize("tau", [1, 4])
def test_a_bound_costs_no_more_than_none(pixels: Pixels, tau: int) -> None:
    crop = np.ascontiguousarray(pixels[90:282, 141:333])
    bounded = dlpr.encode(crop, tau)
    assert len(bounded) < len(dlpr.encode(crop))
    assert np.abs(dlpr.decode(bounded).astype(int) - crop).max() <= tau


@pytest.mark.parametrize("source", ["whole numbers", "OpenJPEG"])
def test_a_border_seen_wrongly_is_harmless(pixels: Pixels, source: str) -> None:
    """Tiles of 54 px, of which a second one would begin at another phase."""
    if source == "OpenJPEG":
        tiles = np.zeros((512, 512, 3), np.uint8)
        for y, x in ((0, 0), (0, 256), (256, 0), (256, 256)):
            tile = np.ascontiguousarray(pixels[y : y + 256, x : x + 256])
            data = imagecodecs.jpeg2k_encode(tile, level=38, codecformat="j2k", resolutions=6, reversible=False)
            tiles[y : y + 256, x : x + 256] = imagecodecs.jpeg2k_decode(data)
        pixels = tiles
    for top, left, height, width in ((13, 249, 215, 65), (224, 217, 105, 93)):
        crop = np.ascontiguousarray(pixels[top : top + height, left : left + width])
        np.testing.assert_array_equal(dlpr.decode(dlpr.encode(crop)), crop)
