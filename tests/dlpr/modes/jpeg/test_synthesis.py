"""Pixels of JPEG images: native and NumPy agree bit for bit, and both with libjpeg-turbo."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from dlpr.errors import UnsupportedInputError
from dlpr.modes.jpeg.image import ColourTransform, JpegImage, Upsampling
from dlpr.modes.jpeg.parse import parse
from dlpr.modes.jpeg.synthesis import synthesise, synthesise_reference

YCC, NONE = ColourTransform.YCBCR, ColourTransform.NONE


def random_image(rng: np.random.Generator, size: int = 60) -> JpegImage:
    """Any fields; coefficients from sparse to absurd."""
    n = int(rng.choice([1, 3]))
    transform = YCC if n == 3 and rng.random() < 0.7 else NONE
    v, h = (int(s) for s in rng.integers(1, 3, 2)) if transform is YCC else (1, 1)
    phase = int(rng.integers(8 * v)), int(rng.integers(8 * h))
    height, width = (int(s) for s in rng.integers(1, size, 2))
    rows, columns = -(-(phase[0] + height) // (8 * v)), -(-(phase[1] + width) // (8 * h))
    scale, density = float(rng.choice([1, 6, 60, 2000])), float(rng.choice([0.02, 0.2, 1]))
    blocks = []
    for c in range(n):
        shape = (rows * (v if c == 0 else 1), columns * (h if c == 0 else 1), 8, 8)
        q = np.rint(rng.laplace(0, scale, shape) * (rng.random(shape) < density))
        blocks.append(np.clip(q, -2047, 2047).astype(np.int16))
    tables = tuple(rng.integers(1, rng.choice([3, 30, 256]), (8, 8)).astype(np.uint16) for _ in range(n))
    up = Upsampling(int(rng.integers(2)))
    return JpegImage(height, width, phase, transform, (v, h), up, bool(rng.integers(2)), tables, tuple(blocks))


def test_native_equals_the_reference() -> None:
    rng = np.random.default_rng(1)
    for i in range(250):
        image = random_image(rng)
        assert np.array_equal(synthesise(image), synthesise_reference(image)), i


def picture(rng: np.random.Generator, kind: int) -> np.ndarray:
    height, width = (int(v) for v in rng.integers(1, 70, 2))
    y, x = np.mgrid[:height, :width]
    if kind == 0:
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    if kind == 1:
        wave = 128 + 100 * np.sin(y / 5 + x / 7)[..., None] * [1, 0.7, -0.4]
        return np.clip(wave + rng.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8)
    checks = np.where((y // 3 + x // 5) % 2, 255, 0)[..., None]
    return np.ascontiguousarray(np.broadcast_to(checks, (height, width, 3)).astype(np.uint8))


@pytest.mark.parametrize("how", ["444", "422", "440", "420", "rgb", "grey"])
def test_equals_libjpeg_turbo(how: str) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    pillow = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(sum(map(ord, how)))
    options = {"rgb": {"colorspace": "RGB", "outcolorspace": "RGB"}, "grey": {}}.get(how, {"subsampling": how})
    for quality in (*range(1, 101, 9), 96, 98, 99, 100):
        for kind in range(3):
            pixels = picture(rng, kind)
            if how == "grey":
                pixels = np.ascontiguousarray(pixels[..., 0])
            data = imagecodecs.jpeg8_encode(pixels, level=quality, **options)
            image = parse(data)
            out = synthesise(image)
            expected = imagecodecs.jpeg8_decode(data)
            assert image.transform is (NONE if how in ("rgb", "grey") else YCC)
            assert np.array_equal(out if out.shape[2] == 3 else out[..., 0], expected), (quality, kind, pixels.shape)
            with pillow.open(io.BytesIO(data)) as opened:
                assert np.array_equal(np.asarray(opened), expected)


def test_fields_are_checked() -> None:
    good = random_image(np.random.default_rng(5))
    while good.sampling != (2, 2):
        good = random_image(np.random.default_rng(int(good.height) + 7 * good.width))
    q = good.coefficients
    bad = [
        {"height": 0},
        {"width": 1 << 14, "height": 1 << 14},
        {"phase": (16, 0)},
        {"phase": (0, -1)},
        {"transform": NONE},
        {"transform": 7},
        {"sampling": (3, 1)},
        {"upsampling": 5},
        {"tables": good.tables[:2]},
        {"tables": (good.tables[0] * 0, *good.tables[1:])},
        {"tables": (good.tables[0].astype(np.int64), *good.tables[1:])},
        {"coefficients": q[:1]},
        {"coefficients": (q[0][1:], *q[1:])},
        {"coefficients": (q[0] * 0 + 2048, *q[1:])},
        {"coefficients": (q[0].astype(np.int32), *q[1:])},
    ]
    for change in bad:
        with pytest.raises(UnsupportedInputError):
            replace(good, **change)
