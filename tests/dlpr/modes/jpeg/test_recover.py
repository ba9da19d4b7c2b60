"""The search for the JPEG behind pixels: real tissue, coded by Pillow (libjpeg-turbo) and cropped anywhere."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlpr.modes.jpeg.image import ColourTransform
from dlpr.modes.jpeg.recover import MIN_SIDE, recover_batch
from dlpr.modes.jpeg.synthesis import synthesise

tifffile = pytest.importorskip("tifffile")
SLIDE = Path(__file__).parents[4] / "examples" / "CMU-1-Small-Region.svs"


@pytest.fixture(scope="module")
def tissue():
    """Tissue without traces of a JPEG: the slide at a third of its size, [H,W,3]."""
    rgb = Image.fromarray(tifffile.imread(SLIDE, key=0))
    return np.asarray(rgb.resize((rgb.width // 3, rgb.height // 3), Image.Resampling.BOX))


def jpeg(rgb, quality, subsampling):
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return Image.open(buffer)


def tables(image):
    """Quantisation tables in natural order by component."""
    luma, chroma = (np.array(image.quantization[k]).reshape(8, 8) for k in (0, 1))
    return luma, chroma, chroma


def inner(array, margin=16):
    return array[margin:-margin, margin:-margin]


@pytest.mark.parametrize(
    ("quality", "subsampling", "sampling"),
    [
        (75, "4:4:4", (1, 1)),
        (75, "4:2:2", (1, 2)),
        (75, "4:2:0", (2, 2)),
        (50, "4:2:0", (2, 2)),
        (30, "4:2:0", (2, 2)),
        (90, "4:4:4", (1, 1)),
        (90, "4:2:0", (2, 2)),
    ],
)
def test_jpeg_of_a_crop_is_found(tissue, quality, subsampling, sampling):
    decoded = jpeg(tissue, quality, subsampling)
    truth = tables(decoded)
    pixels = np.asarray(decoded)
    for y, x in ((400, 320), (403, 317)):
        crop = np.ascontiguousarray(pixels[y : y + 192, x : x + 208])
        (found,) = recover_batch([crop])
        assert found is not None
        image = found.image
        assert image.transform is ColourTransform.YCBCR
        assert image.sampling == sampling
        assert image.phase == (y % image.mcu[0], x % image.mcu[1])
        # Steps of coefficients that are all zero cannot be known, and do not matter.
        for c in range(3):
            used = (image.coefficients[c] != 0).sum((0, 1)) > 20
            used[0, 0] = True
            np.testing.assert_array_equal(image.tables[c][used], truth[c][used])
        shown = synthesise(image)
        wrong = (shown != crop).any(2)
        assert found.wrong == int(wrong.sum())
        assert inner(wrong).mean() < 0.002, "away from the border a JPEG is reproduced exactly"


@pytest.mark.parametrize(
    ("quality", "subsampling", "most"), [(95, 0, 0.01), (97, 0, 0.03), (98, 0, 0.04), (97, 1, 0.06), (98, 1, 0.12)]
)
def test_high_quality_is_exact_inside(tissue, quality, subsampling, most):
    """Steps of 1 and 2: rounding each coefficient by itself would leave 5 to 30 % of the pixels wrong."""
    decoded = jpeg(tissue, quality, subsampling)
    crop = np.ascontiguousarray(np.asarray(decoded)[403:563, 317:493])
    (found,) = recover_batch([crop])
    assert found is not None
    assert found.image.phase == (403 % found.image.mcu[0], 317 % found.image.mcu[1])
    luma, _, _ = tables(decoded)
    used = (found.image.coefficients[0] != 0).sum((0, 1)) > 60
    np.testing.assert_array_equal(found.image.tables[0][used], luma[used])
    wrong = (synthesise(found.image) != crop).any(2)
    assert found.wrong == int(wrong.sum())
    assert inner(wrong).mean() < most


def test_rgb_jpeg_and_grey_are_found(tissue):
    channels = [np.asarray(jpeg(tissue[..., c], 70, 0)) for c in range(3)]
    rgb = np.stack(channels, -1)[200:392, 200:392]
    for crop in (np.ascontiguousarray(rgb), np.ascontiguousarray(rgb[..., :1])):
        (found,) = recover_batch([crop])
        assert found is not None
        assert found.image.transform is ColourTransform.NONE
        assert found.wrong == 0, "the crop begins and ends on the grid"


def test_tables_of_ones_own(tissue):
    steps = [2 + (k * 7) % 23 for k in range(64)]
    buffer = io.BytesIO()
    Image.fromarray(tissue).save(buffer, "JPEG", qtables=[steps, [3 + k // 4 for k in range(64)]], subsampling=0)
    pixels = np.asarray(Image.open(buffer))[104:360, 304:560]
    (found,) = recover_batch([np.ascontiguousarray(pixels)])
    assert found is not None
    assert (inner(synthesise(found.image)) != inner(pixels)).any(2).mean() < 0.02


def test_no_jpeg_no_result(tissue):
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    crops = [np.ascontiguousarray(tissue[y : y + 192, x : x + 192]) for y, x in ((300, 100), (500, 300), (700, 400))]
    assert recover_batch([noise, np.full((64, 64, 3), 200, np.uint8), *crops]) == [None] * 5


@pytest.mark.parametrize(
    "shape", [(1, 1, 3), (MIN_SIDE - 1, 200, 3), (MIN_SIDE, MIN_SIDE, 3), (25, 40, 1), (333, 24, 3)]
)
def test_small_images_are_no_trouble(tissue, shape):
    pixels = np.asarray(jpeg(tissue, 60, "4:2:0"))[400 : 400 + shape[0], 300 : 300 + shape[1], : shape[2]]
    (found,) = recover_batch([np.ascontiguousarray(pixels)])
    if min(shape[:2]) < MIN_SIDE:
        assert found is None
    elif found is not None:
        assert synthesise(found.image).shape == shape


def test_result_depends_on_the_image_alone(tissue):
    pixels = np.asarray(jpeg(tissue, 80, "4:2:0"))
    crops = [np.ascontiguousarray(pixels[y : y + 128, y : y + 128]) for y in (100, 203, 306, 500)]
    alone = [recover_batch([c])[0] for c in crops]
    for threads in (1, 3):
        for a, b in zip(alone, recover_batch(crops, threads), strict=True):
            assert a is not None
            assert b is not None
            assert a.wrong == b.wrong
            for p, q in zip(a.image.coefficients, b.image.coefficients, strict=True):
                np.testing.assert_array_equal(p, q)


def test_hostile_pixels_end(tissue):
    """Saturated, striped and constant pixels, coded as JPEG: whatever is found has the image's shape."""
    rng = np.random.default_rng(1)
    stripes = np.zeros((80, 80, 3), np.uint8)
    stripes[::2] = 255
    for pixels in (stripes, rng.choice(np.array([0, 255], np.uint8), (80, 80, 3)), tissue[300:380, 200:280] // 64 * 85):
        for subsampling in ("4:4:4", "4:2:0"):
            crop = np.asarray(jpeg(np.ascontiguousarray(pixels), 20, subsampling))
            (found,) = recover_batch([crop])
            assert found is None or synthesise(found.image).shape == crop.shape
