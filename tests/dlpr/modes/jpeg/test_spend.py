"""tau >= 1 on JPEG pixels: other coefficients within the bound (docs/decisions/0012-spending-tau-on-jpeg.md)."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import dlpr
from dlpr import bitstream, reference
from dlpr.bitstream import Header, Mode
from dlpr.layout import Layout, to_planes
from dlpr.modes.jpeg.extract import stored_jpeg
from dlpr.modes.jpeg.image import JpegImage, Upsampling
from dlpr.modes.jpeg.parse import SourceJpeg, parse, window
from dlpr.modes.jpeg.stream import JpegCandidate, jpeg_streams
from dlpr.modes.jpeg.synthesis import synthesise

SAMPLINGS = ["4:4:4", "4:2:2", "4:4:0", "4:2:0", "grey", "rgb"]


def picture(height: int, width: int, seed: int, contrast: float = 60) -> np.ndarray:
    """Noise with the spectrum of a photograph, in colours that go together; some of it cut off at 255."""
    rng = np.random.default_rng(seed)
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) + 1.5 / max(height, width)
    planes = []
    for strength, fall in ((1.0, 1.2), (0.35, 1.8), (0.35, 1.8)):
        field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) / f**fall, (height, width))
        planes.append(strength * contrast * field / field.std())
    y, a, b = planes
    rgb = np.stack([205 + y + a, 175 + y - a / 2 - b / 2, 200 + y + b], -1) + rng.normal(0, 1.5, (height, width, 1))
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def jpeg_of(pixels: np.ndarray, quality: int, sampling: str) -> JpegImage:
    """A JPEG by Pillow, parsed."""
    buffer = io.BytesIO()
    if sampling == "grey":
        Image.fromarray(pixels[..., 1]).save(buffer, "JPEG", quality=quality)
    elif sampling == "rgb":
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, keep_rgb=True)
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=sampling)
    return parse(SourceJpeg(buffer.getvalue()).data)


def stream(image: JpegImage, pixels: np.ndarray, tau: int, threads: int = 1, copies: int = 1) -> list[bytes]:
    """Streams of mode jpeg, all of one image."""
    pixels = pixels if image.components == 3 else pixels.reshape(image.height, image.width)
    layout, height, width = Layout.of(pixels.shape)
    candidate = JpegCandidate(Header(Mode.CODED, tau, layout, height, width, 0), to_planes(pixels, layout), image)
    out = []
    for made in jpeg_streams([candidate] * copies, threads):
        assert made is not None
        out.append(bitstream.pack(made))
    return out


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_samples_stay_within_tau(sampling: str) -> None:
    if sampling == "4:4:0":
        pytest.importorskip("PIL", minversion="9.0")
    rng = np.random.default_rng(SAMPLINGS.index(sampling))
    moved = 0
    for tau in range(1, 11):
        quality = int(rng.choice([60, 85, 92, 97]))
        whole = turned(quality, tau) if sampling == "4:4:0" else jpeg_of(picture(88, 104, tau), quality, sampling)
        height, width = (int(v) for v in rng.integers(17, 42, 2))
        y, x = int(rng.integers(88 - height)), int(rng.integers(104 - width))
        image = window(whole, y, x, height, width)
        if image.sampling != (1, 1):
            image = replace(image, upsampling=Upsampling(tau & 1), crop_edges=bool(tau & 2))
        exact = synthesise(image)
        (lossless,) = stream(image, exact, 0)
        for pixels in (exact, spoilt(rng, exact)):
            (data,) = stream(image, pixels, tau)
            out = dlpr.decode(data)
            assert int(np.abs(out.astype(int) - pixels.reshape(out.shape)).max()) <= tau
            if tau in (1, 6) and pixels is not exact:  # the reference shares no code with the search
                np.testing.assert_array_equal(reference.decode(data), out)
            if pixels is exact:  # the coefficients as they are need no residual at any tau
                assert len(data) <= len(lossless)
                stored = stored_jpeg(data)
                assert stored is not None
                same = [np.array_equal(a, b) for a, b in zip(stored.coefficients, image.coefficients, strict=True)]
                moved += not all(same)
    assert moved >= 5


def turned(quality: int, seed: int) -> JpegImage:
    """Chroma of half the height: 4:2:2 on its side."""
    image = jpeg_of(picture(104, 88, seed), quality, "4:2:2")
    return replace(
        image,
        height=image.width,
        width=image.height,
        sampling=(2, 1),
        tables=tuple(np.ascontiguousarray(t.T) for t in image.tables),
        coefficients=tuple(np.ascontiguousarray(q.transpose(1, 0, 3, 2)) for q in image.coefficients),
    )


def spoilt(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Pixels of which some are not the JPEG's."""
    change = rng.integers(-15, 16, pixels.shape) * (rng.random(pixels.shape) < 0.03)
    return np.clip(pixels.astype(int) + change, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("quality", "least"), [(90, 0.08), (95, 0.12)])
def test_bound_is_spent(quality: int, least: float) -> None:
    for sampling in ("4:4:4", "4:2:0"):
        image = jpeg_of(picture(192, 192, 7, contrast=25), quality, sampling)
        pixels = synthesise(image)
        sizes = [len(stream(image, pixels, tau)[0]) for tau in (0, 1, 2, 4)]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[2] <= (1 - least) * sizes[0], sizes


def test_bytes_depend_on_the_image_alone() -> None:
    image = jpeg_of(picture(72, 72, 3), 90, "4:2:0")
    pixels = synthesise(image)
    (one,) = stream(image, pixels, 3)
    assert set(stream(image, pixels, 3, threads=3, copies=5)) == {one}


def test_values_at_the_ends() -> None:
    """Black and white samples have room beyond their end; coefficients may be as large as the format allows."""
    rng = np.random.default_rng(5)
    base = jpeg_of(np.where(picture(40, 40, 1)[..., 1:2] > 180, 255, 0).repeat(3, 2).astype(np.uint8), 92, "4:4:4")
    wild = tuple(
        np.where(rng.random(q.shape) < 0.02, rng.integers(-2047, 2048, q.shape), q).astype(np.int16)
        for q in base.coefficients
    )
    for image in (base, replace(base, coefficients=wild)):
        pixels = synthesise(image)
        for tau in (1, 60, 255):
            (data,) = stream(image, pixels, tau)
            out = dlpr.decode(data)
            assert int(np.abs(out.astype(int) - pixels).max()) <= tau
            np.testing.assert_array_equal(reference.decode(data), out)
