"""Streams of mode jpeg back to JPEG files: the very coefficients, and what libjpeg makes of them."""

import io

import numpy as np
import pytest

import dlpr
from dlpr.errors import UnsupportedInputError
from dlpr.modes.jpeg.extract import stored_jpeg
from dlpr.modes.jpeg.image import ColourTransform, JpegImage, Upsampling
from dlpr.modes.jpeg.parse import SourceJpeg, parse
from dlpr.modes.jpeg.write import write

Image = pytest.importorskip("PIL.Image")


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([180 + 60 * np.sin(x / s) * np.cos(y / 9) for s in (7, 9, 12)], axis=-1)
    return np.clip(waves + rng.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)


def jpeg(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def same(a, b):
    assert (a.height, a.width, a.transform, tuple(a.sampling)) == (b.height, b.width, b.transform, tuple(b.sampling))
    for one, other in zip((*a.tables, *a.coefficients), (*b.tables, *b.coefficients), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [5, 50, 90, 100])
@pytest.mark.parametrize("size", [(64, 64), (37, 81), (1, 1), (8, 200)])
def test_colour_comes_back(size, quality, subsampling):
    data = jpeg(picture(*size), quality=quality, subsampling=subsampling)
    written = write(parse(data))
    same(parse(written), parse(data))
    np.testing.assert_array_equal(pixels(written), pixels(data))
    assert len(written) < len(data) + 40


def test_grey_comes_back():
    data = jpeg(picture(50, 61)[..., 0], quality=80)
    same(parse(write(parse(data))), parse(data))
    np.testing.assert_array_equal(pixels(write(parse(data))), pixels(data))


def test_red_green_blue_comes_back():
    imagecodecs = pytest.importorskip("imagecodecs")
    data = imagecodecs.jpeg_encode(picture(48, 40), level=80, colorspace="rgb", outcolorspace="rgb")
    image = parse(data)
    assert image.transform is ColourTransform.NONE
    same(parse(write(image)), image)
    np.testing.assert_array_equal(pixels(write(image)), imagecodecs.jpeg_decode(data))


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_a_stream_gives_its_jpeg_back(quality):
    data = jpeg(picture(64, 96), quality=quality, subsampling=1)
    stream = dlpr.encode(pixels(data), source_jpeg=SourceJpeg(data))
    assert dlpr.inspect(stream).mode == "jpeg"
    same(stored_jpeg(stream), parse(data))
    np.testing.assert_array_equal(pixels(write(stored_jpeg(stream))), dlpr.decode(stream))


def test_other_modes_hold_no_jpeg():
    assert stored_jpeg(dlpr.encode(picture(40, 40))) is None
    assert stored_jpeg(dlpr.encode(np.zeros((40, 40, 3), np.uint8))) is None


@pytest.mark.parametrize("seed", range(8))
def test_any_coefficients(seed):
    """Long runs, blocks that end with a coefficient, extreme values, skewed symbol counts."""
    rng = np.random.default_rng(seed)
    blocks = []
    for shape in ((4, 6), (2, 3), (2, 3)):
        q = rng.integers(-1023, 1024, (*shape, 8, 8)) * (rng.random((*shape, 8, 8)) < rng.choice([0.01, 0.2, 1.0]))
        q[0, 0] = 0
        q[-1, -1, 7, 7] = 1023
        blocks.append(q.astype(np.int16))
    tables = tuple(rng.integers(1, 256, (8, 8)).astype(np.uint16) for _ in range(3))
    ycbcr, fancy = ColourTransform.YCBCR, Upsampling.FANCY
    image = JpegImage(30, 45, (0, 0), ycbcr, (2, 2), fancy, True, tables, tuple(blocks))
    same(parse(write(image)), image)
    assert pixels(write(image)).shape == (30, 45, 3)


def test_codes_stay_within_16_bits():
    """Counts that grow like Fibonacci numbers give the longest Huffman codes."""
    from dlpr.modes.jpeg.write import _HuffmanTable

    counts = [1, 1]
    while len(counts) < 24:
        counts.append(counts[-1] + counts[-2])
    table = _HuffmanTable.of(np.repeat(np.arange(24), counts))
    assert 10 < table.length.max() <= 16
    assert sum(2.0**-n for n in table.length[:24]) < 1
    assert len({(int(n), int(c)) for n, c in zip(table.length[:24], table.code[:24], strict=True)}) == 24
    assert all(c != 2**n - 1 for n, c in zip(table.length[:24], table.code[:24], strict=True))


def test_a_window_is_no_whole_jpeg():
    flat = np.zeros((2, 2, 8, 8), np.int16)
    steps = np.ones((8, 8), np.uint16)
    image = JpegImage(9, 9, (3, 0), ColourTransform.NONE, (1, 1), Upsampling.FANCY, True, (steps,), (flat,))
    with pytest.raises(UnsupportedInputError, match="no whole JPEG"):
        write(image)
