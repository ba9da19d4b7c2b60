"""The JPEG 2000 image behind pixels, found from crops of what OpenJPEG decoded."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

import dlpr
from dlpr._native import comb_cells, comb_gains, wave_seen
from dlpr.modes.j2k.fields import Wavelet
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.parse import parse
from dlpr.modes.j2k.recover import recover
from dlpr.modes.j2k.recover_bands import Samples
from dlpr.modes.j2k.recover_grid import Grid, find_grid
from dlpr.modes.j2k.recover_phase import find_axes
from dlpr.modes.j2k.recover_steps import Quantiser, band_steps, rounded, step_of
from dlpr.modes.j2k.recover_tile import LEVELS, SeenPart, tile_shape
from dlpr.modes.j2k.synthesis import synthesise

Pixels = NDArray[np.uint8]
SIDE, TOP, LEFT = 192, 90, 141


def textured(height: int, width: int) -> Pixels:
    """Something with detail at all scales, in three channels that go together."""
    rng = np.random.default_rng(7)
    total = np.zeros((height, width, 3))
    for step in (2, 4, 8, 16, 32):
        coarse = rng.standard_normal((height // step + 2, width // step + 2, 3)) * 7 * step**0.45
        coarse += coarse[..., 1:2]
        total += np.repeat(np.repeat(coarse, step, 0), step, 1)[:height, :width]
    for axis in (0, 1):
        total = (np.roll(total, 1, axis) + 2 * total + np.roll(total, -1, axis)) / 4
    return np.asarray(np.clip(150 + total, 5, 250), np.uint8)


@pytest.fixture(scope="module")
def decoded() -> tuple[Pixels, bytes]:
    """Pixels of 2 x 2 tiles of 256 px, each a codestream of its own; and one of these."""
    image, out, data = textured(512, 512), np.zeros((512, 512, 3), np.uint8), b""
    options = {"codecformat": "j2k", "resolutions": 6, "reversible": False, "mct": True}
    for y in (0, 256):
        for x in (0, 256):
            tile = np.ascontiguousarray(image[y : y + 256, x : x + 256])
            data = bytes(imagecodecs.jpeg2k_encode(tile, level=38, **options))
            out[y : y + 256, x : x + 256] = imagecodecs.jpeg2k_decode(data)
    return out, data


def test_tiles_and_quantiser_are_the_codestreams(decoded: tuple[Pixels, bytes]) -> None:
    pixels, data = decoded
    crop = np.ascontiguousarray(pixels[TOP : TOP + SIDE, LEFT : LEFT + SIDE])
    image = recover(crop)
    assert image is not None
    f = image.fields
    assert (f.tile_rows, f.tile_columns) == (2, 2)
    assert f.tile_edges(3)[0] - f.kept[0] == 256 - TOP
    assert f.tile_edges(3)[1] - f.kept[1] == 256 - LEFT
    true = parse(data).fields.components[0]
    assert f.components[0].wavelet is Wavelet.IRREVERSIBLE
    assert f.components[0].steps[1:] == true.steps[7:]  # all bands but those of the last two decompositions
    right = (synthesise(image) == crop).all(-1)
    assert right[32:-32, 32:-32].mean() > 0.8


def test_a_stream_of_it_is_smaller_and_exact(decoded: tuple[Pixels, bytes]) -> None:
    crop = np.ascontiguousarray(decoded[0][TOP : TOP + SIDE, LEFT : LEFT + SIDE])
    plain = dlpr.encode(crop, j2k="given")
    found = dlpr.encode(crop)
    assert dlpr.inspect(found).mode == "j2k"
    assert len(found) < 0.75 * len(plain)
    np.testing.assert_array_equal(dlpr.decode(found), crop)


@pytest.mark.parametrize("kind", ["flat", "noise", "never decoded", "small"])
def test_nothing_is_found_where_nothing_is(kind: str, decoded: tuple[Pixels, bytes]) -> None:
    pixels = {
        "flat": np.full((128, 128, 3), 200, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8),
        "never decoded": textured(192, 192),
        "small": np.ascontiguousarray(decoded[0][230:290, 230:290]),
    }[kind]
    assert recover(pixels) is None


@pytest.mark.parametrize(
    ("options", "searched"),
    [
        ({}, True),
        ({"jpeg": "given"}, False),
        ({"jpeg": "never"}, False),
        ({"j2k": "given"}, False),
        ({"j2k": "never"}, False),
        ({"jpeg": "never", "j2k": "auto"}, True),
    ],
)
def test_pixels_are_searched_unless_jpeg_or_j2k_say_no(
    options: dict[str, Any], searched: bool, decoded: tuple[Pixels, bytes]
) -> None:
    crop = np.ascontiguousarray(decoded[0][TOP : TOP + SIDE, LEFT : LEFT + SIDE])
    assert (dlpr.inspect(dlpr.encode(crop, **options)).mode == "j2k") == searched


def test_a_chunk_with_a_source_is_not_searched(decoded: tuple[Pixels, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, data = decoded
    monkeypatch.setattr("dlpr.modes.j2k.mode.recover", lambda _: pytest.fail("searched"))
    crop = np.ascontiguousarray(pixels[TOP : TOP + 128, LEFT : LEFT + 128])
    assert dlpr.encode(crop, source=data)  # of other pixels


def test_a_border_is_where_the_tile_begins(decoded: tuple[Pixels, bytes]) -> None:
    for top, left in ((100, 160), (101, 161), (100, 161)):
        crop = np.ascontiguousarray(decoded[0][top : top + 256, left : left + 256])
        assert find_grid(crop) == ((256 - top,), (256 - left,), (top % 2, left % 2))


OPTIONS = {"codecformat": "j2k", "resolutions": 6, "reversible": False}


@pytest.fixture(scope="module", params=["rgb", "grey"])
def one_tile(request: pytest.FixtureRequest) -> Pixels:
    """Pixels of an image that is a single tile, 400 x 440 px."""
    image = textured(400, 440)
    if request.param == "grey":
        image = np.ascontiguousarray(image[..., 1])
    data = imagecodecs.jpeg2k_encode(image, level=37, mct=request.param == "rgb", **OPTIONS)
    pixels = np.asarray(imagecodecs.jpeg2k_decode(bytes(data)), np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def found_in(crop: Pixels) -> J2kImage:
    """The image found, with a stream that is clearly smaller than the others and exact."""
    image = recover(crop)
    assert image is not None
    pixels = crop if crop.shape[2] == 3 else crop[..., 0]
    data = dlpr.encode(pixels)
    assert dlpr.inspect(data).mode == "j2k"
    assert len(data) < 0.85 * len(dlpr.encode(pixels, j2k="given"))
    np.testing.assert_array_equal(dlpr.decode(data), pixels)
    return image


def starts(image: J2kImage) -> tuple[int, int]:
    """Coordinates of the crop's first pixel on the grid of the image."""
    return image.fields.kept[0], image.fields.kept[1]


@pytest.mark.parametrize(("top", "left"), [(101, 138), (94, 151)])
def test_the_phase_is_found_inside_one_tile(top: int, left: int, one_tile: Pixels) -> None:
    image = found_in(np.ascontiguousarray(one_tile[top : top + 192, left : left + 192]))
    assert [at % 16 for at in starts(image)] == [top % 16, left % 16]
    assert (image.fields.tile_rows, image.fields.tile_columns) == (1, 1)


def test_a_border_along_one_axis_and_none_along_the_other(decoded: tuple[Pixels, bytes]) -> None:
    for turned in (False, True):
        pixels = decoded[0].swapaxes(0, 1) if turned else decoded[0]
        image = found_in(np.ascontiguousarray(pixels[152:344, 37:229]))
        f = image.fields
        rows, columns = (f.tile_rows, f.tile_columns)
        assert (rows, columns) == (2, 1)
        assert f.tile_edges(1)[0] - f.kept[0] == 256 - 152
        assert starts(image)[1] % 16 == 37 % 16


@pytest.mark.parametrize("away", [0, 2, 5])
def test_borders_right_beside_the_crops_edges(away: int, decoded: tuple[Pixels, bytes]) -> None:
    """The tile begins ``away`` rows behind the crop's first, and ends as many columns before its last."""
    image = found_in(np.ascontiguousarray(decoded[0][256 - away : 448 - away, 64 + away : 256 + away]))
    f = image.fields
    assert (f.tile_rows, f.tile_columns) == (2 if away else 1, 2 if away else 1)
    last = f.tile_rows * f.tile_columns - 1
    assert f.tile_edges(last)[0] - f.kept[0] == away
    assert f.tile_edges(0)[3] - f.kept[3] == -away


def test_the_fourth_decomposition_is_searched_where_it_is_seen(decoded: tuple[Pixels, bytes]) -> None:
    whole, cut = decoded[0][256:, 256:], decoded[0][TOP : TOP + SIDE, LEFT : LEFT + SIDE]
    levels = [found_in(np.ascontiguousarray(crop)).fields.components[0].levels for crop in (whole, cut)]
    assert levels == [4, 3]


def test_a_tile_of_its_own_is_exact_but_for_its_deepest_coefficients(decoded: tuple[Pixels, bytes]) -> None:
    tile = np.ascontiguousarray(decoded[0][256:, 256:])
    image = found_in(tile)
    assert image.fields.area == (0, 0, 256, 256)
    assert (synthesise(image) == tile).all(-1).mean() > 0.9


def test_code_blocks_are_counted_from_a_corner_that_is_not_seen() -> None:
    """Blocks of the first decomposition are cut at two planes; steps of the others are too small to tell."""
    rng = np.random.default_rng(3)
    top, left, steps = 1024 + 90, 1024 + 74, band_steps(1.0)
    tile = top - 64, left - 64, top + 256, left + 256
    shape = tile_shape(tile, (top, left, top + 192, left + 192))
    c = np.zeros(len(shape.depth))
    for depth, orientation, here in shape.blocks:
        step = step_of(steps[depth, orientation]) * 2 ** (rng.integers(3, 6) if depth == 1 else 3)
        k = rng.geometric(0.4, len(here)) - 1
        c[here] = rng.choice((-1, 1), len(here)) * np.where(k, k + 0.5, 0) * step
    samples = np.rint(wave_seen(tile, LEVELS, shape.seen, c.astype(np.float32)).astype(np.float64))
    known = Samples(samples, np.ones(samples.shape, np.bool_))
    axes = find_axes([known], Grid((), (), (top % 2, left % 2)), 1, Quantiser(steps))
    assert axes is not None
    assert [axis.corner % 128 for axis in axes] == [90, 74]


def nats(u: NDArray[np.float64], step: float, kind: int, noise: float, unit: float) -> float:
    """As the docstring of the native function has it, the nearest value found among all."""
    k = np.arange(1, 4001)
    given = [k + 0.5, np.array([1.5, *range(3, 4001, 2)]), np.rint(k * step / unit) * unit / step if unit else k][kind]
    m = u / step
    away = np.where(m < (0.5 if kind == 2 else 0.75), u, np.abs(m[:, None] - given).min(1) * step)
    density = 0.97 * step / (noise * np.sqrt(2 * np.pi)) * np.where((kind == 1) & (m > 2.25), 2, 1)
    return float(np.log(density * np.exp(-0.5 * (away / noise) ** 2) + 0.001).sum())


@pytest.mark.parametrize(("kind", "unit"), [(0, 0.0), (1, 0.0), (2, 0.0), (2, 1.01)])
def test_nats_of_a_comb(kind: int, unit: float) -> None:
    u = np.random.default_rng(1).laplace(0, 40, 333)
    u = np.abs(u)[np.abs(u) > 1.2]
    steps = np.geomspace(2.02 if unit else 0.5, 600, 50)
    gains = comb_gains(u.astype(np.float32), steps.astype(np.float32), np.full(50, kind, np.uint8), 0.3, unit)
    np.testing.assert_allclose(gains, [nats(u, step, kind, 0.3, unit) for step in steps], rtol=2e-3, atol=0.5)


def test_nats_of_cells_are_those_of_their_coefficients() -> None:
    u = np.abs(np.random.default_rng(2).laplace(0, 9, (20, 33))).astype(np.float32)
    rows, columns = np.array([0, 7, 7, 20], np.int32), np.array([1, 16, 33], np.int32)
    steps, half = np.array([2, 3, 8], np.float32), np.array([0, 1, 0], np.uint8)
    cells = comb_cells(u, rows, columns, steps, half, 0.3, 0.0)
    for i, (top, bottom) in enumerate(pairwise(rows)):
        for k, (left, right) in enumerate(pairwise(columns)):
            here = u[top:bottom, left:right].ravel()
            np.testing.assert_array_equal(cells[i, k], comb_gains(here[here > 1.2], steps, half, 0.3, 0.0))
    for wrong in ([0, 21], [3, 2], []):
        with pytest.raises(ValueError, match="cells"):
            comb_cells(u, np.array(wrong, np.int32), columns, steps, half, 0.3, 0.0)


def test_settled_is_what_rounding_and_fitting_in_turn_give() -> None:
    samples = np.rint(textured(96, 80)[..., 1].astype(np.float64)) - 128
    seen = (0, 0, 160, 160), (32, 0, 128, 80)
    both = [SeenPart(0, *seen, samples, np.ones((96, 80), np.bool_), 0.3, 3) for _ in range(2)]
    shape = both[0].shape
    for part in both:
        part.step[:] = np.where(shape.orientation > 0, 8 / shape.norm, 2**-6)
        part.half[:] = shape.depth == 2
        part.variance[:] = np.where(shape.orientation > 0, 400 / shape.norm**2, 1e6)
        part.relevant = shape.energy > 1e-3
        part.free = part.relevant & (~shape.inside | (shape.orientation == 0))
    shares = (0.9, 0.5, 0.0)
    both[0].settle(shares, 12)
    part = both[1]
    for share in shares:
        now = part.free & (shape.share >= share) & (shape.orientation > 0)
        part.values = np.where(now, rounded(part), part.values)
        part.free &= ~now
        part.fit(12)
    np.testing.assert_array_equal(both[0].free, part.free)
    here = part.relevant & (shape.orientation > 0)
    assert np.mean(np.abs(both[0].values - part.values)[here] < 1e-3 * part.step[here]) > 0.99


def test_steps_follow_from_the_base() -> None:
    ratio = [2.0 ** (8 - e) * (1 + m / 2048) for e, m in (band_steps(1.25)[2, 1], band_steps(1.6)[2, 1])]
    assert ratio[1] / ratio[0] == pytest.approx(1.28, rel=1e-3)
