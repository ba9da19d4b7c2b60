"""JPEG 2000 bytes to coefficients and samples: what OpenJPEG reads the same way, typed refusals, damage.

streams/ holds codestreams with options that imagecodecs lacks (make_streams.py says how each was made).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlpr.errors import UnsupportedInputError
from dlpr.modes.j2k.fields import Colour, Wavelet
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.parse import parse
from dlpr.modes.j2k.synthesis import synthesise

imagecodecs = pytest.importorskip("imagecodecs")

STREAMS = {path.stem: path for path in sorted((Path(__file__).parent / "streams").iterdir())}
REFUSED = {"region-of-interest"}


def stream(name: str) -> bytes:
    return STREAMS[name].read_bytes()


def picture(height: int = 75, width: int = 90, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([170 + 60 * np.sin(x / s) * np.cos(y / 9) for s in (6, 8, 11)], axis=-1)
    return np.clip(waves + rng.normal(0, 6, waves.shape), 0, 255).astype(np.uint8)


def decoded(data: bytes) -> np.ndarray:
    out = imagecodecs.jpeg2k_decode(data)
    return out[..., None] if out.ndim == 2 else out


def as_sycc(samples: np.ndarray) -> np.ndarray:
    """What OpenJPEG makes of three components with subsampled chroma."""
    y, cb, cr = (samples[..., c].astype(int) for c in range(3))
    cb, cr = cb - 128, cr - 128
    green = y - np.trunc(0.344 * cb + 0.714 * cr).astype(int)
    return np.stack([y + np.trunc(1.402 * cr), green, y + np.trunc(1.772 * cb)], axis=-1).clip(0, 255).astype(int)


def agree(image: J2kImage, data: bytes) -> None:
    """5/3 to the bit; 9/7 save for a few samples that lie beside a rounding threshold."""
    samples, expected = synthesise(image), decoded(data)
    if any(c.sampling != (1, 1) for c in image.fields.components):
        samples = as_sycc(samples)
    assert samples.shape == expected.shape
    difference = np.abs(samples.astype(int) - expected)
    if image.fields.components[0].wavelet is Wavelet.REVERSIBLE:
        assert not difference.any()
    else:
        assert difference.max() <= (2 if samples.dtype != np.uint8 else 1)
        assert np.mean(difference > 0) < 3e-4


@pytest.mark.parametrize("name", sorted(set(STREAMS) - REFUSED))
def test_samples_of_openjpeg(name: str) -> None:
    data = stream(name)
    agree(parse(data), data)


@pytest.mark.parametrize("level", [0, 25, 32, 38, 45])
@pytest.mark.parametrize("reversible", [False, True])
@pytest.mark.parametrize("mct", [False, True])
def test_samples_of_imagecodecs(level: int, reversible: bool, mct: bool) -> None:
    for image in (picture(), picture(64, 64), picture(1, 1), picture(3, 40), picture()[..., 0]):
        for form in ("j2k", "jp2"):
            data = imagecodecs.jpeg2k_encode(image, level=level, reversible=reversible, mct=mct, codecformat=form)
            agree(parse(data), data)


@pytest.mark.parametrize("resolutions", [1, 2, 4])
def test_lossless_gives_the_pixels(resolutions: int) -> None:
    image = picture(130, 97)
    data = imagecodecs.jpeg2k_encode(image, level=0, reversible=True, resolutions=resolutions)
    read = parse(data)
    assert np.array_equal(synthesise(read), image)
    assert {c.levels for c in read.fields.components} == {resolutions - 1}


def test_flat_images_round_as_openjpeg() -> None:
    """Where all samples lie on a rounding threshold, a difference would be one of all samples."""
    for grey in range(0, 256, 15):
        data = imagecodecs.jpeg2k_encode(np.full((32, 32), grey, np.uint8), level=0, reversible=False)
        agree(parse(data), data)


def test_more_passes_than_needed_are_known() -> None:
    """`lowest_planes` against the numbers themselves: bits below are zero, and fewer passes leave more open."""
    cut, whole = parse(stream("layers-9-7")), parse(stream("no-transform"))
    for image in (cut, whole):
        for number in range(len(image.fields.bands)):
            lowest = image.lowest_planes(number)
            assert not np.any(np.abs(image.coefficients[number].astype(np.int64)) & ((1 << lowest) - 1))
    assert any(cut.lowest_planes(number).max(initial=0) > 0 for number in range(len(cut.fields.bands)))


def test_ycbcr_becomes_rgb() -> None:
    y, cb, cr = 180, 90, 160
    flat = np.broadcast_to(np.array([y, cb, cr], np.uint8), (16, 16, 3)).copy()
    data = imagecodecs.jpeg2k_encode(flat, level=0, reversible=True, mct=False)
    red, green, blue = y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)
    assert synthesise(parse(data, Colour.YCBCR))[3, 4].tolist() == [round(v) for v in (red, green, blue)]


def replaced(data: bytes, marker: bytes, at: int, value: int) -> bytes:
    """A stream with one byte of a marker segment changed; `at` counts from the marker."""
    changed = bytearray(data)
    changed[data.index(marker) + at] = value
    return bytes(changed)


def with_segment(data: bytes, marker: int) -> bytes:
    """A stream with a segment of 3 bytes put before QCD."""
    at = data.index(b"\xff\x5c")
    return data[:at] + bytes([0xFF, marker, 0, 3, 0]) + data[at:]


def refusals() -> dict[str, bytes]:
    plain = stream("lossless")
    deep = (picture().astype(np.uint16) << 4)[..., 0]
    four = np.concatenate([picture(), picture()[..., :1]], axis=-1)
    jp2 = stream("file")
    part = plain.index(b"\xff\x90")
    tile_cod = bytearray(plain[:part] + plain[part : part + 12] + b"\xff\x52\x00\x0c" + bytes(10) + plain[part + 12 :])
    length = int.from_bytes(plain[part + 6 : part + 10], "big") + 14
    tile_cod[part + 6 : part + 10] = length.to_bytes(4, "big")
    return {
        "region of interest": stream("region-of-interest"),
        "8 unsigned bits": imagecodecs.jpeg2k_encode(deep, level=0, bitspersample=12, codecformat="j2k"),
        "one nor three components": imagecodecs.jpeg2k_encode(four, level=0, codecformat="j2k"),
        "high throughput": imagecodecs.htj2k_encode(picture()),
        "high throughput ": replaced(plain, b"\xff\x52", 12, 0x40),
        "PPM": with_segment(plain, 0x60),
        "another part": with_segment(plain, 0x72),
        "coding parameters of its own": bytes(tile_cod),
        "it does not begin": b"\x89PNG" + plain,
        "it does not begin ": b"",
        "Part 2": replaced(plain, b"\xff\x51", 4, 0x80),
        "unusual sampling": replaced(plain, b"\xff\x51", 2 + 2 + 36 + 4, 3),
        "neither sRGB nor grey": jp2.replace(b"colr\x01\x00\x00\x00\x00\x00\x10", b"colr\x01\x00\x00\x00\x00\x00\x12"),
        "more pixels": replaced(plain, b"\xff\x51", 6, 0x10),
        "far more pixels": imagecodecs.jpeg2k_encode(np.full((3600, 3600), 200, np.uint8), level=0),
    }


def test_refused_by_name() -> None:
    for reason, data in refusals().items():
        with pytest.raises(UnsupportedInputError, match=reason.strip()):
            parse(data)


@pytest.mark.parametrize("name", ["layers-9-7", "all-styles-layers", "tiles-parts-rpcl"])
def test_every_beginning_is_refused(name: str) -> None:
    data = stream(name)
    for length in range(len(data) - 2):
        with pytest.raises(UnsupportedInputError, match="source JPEG 2000"):
            parse(data[:length])


@pytest.mark.parametrize("name", sorted(set(STREAMS) - REFUSED))
def test_damage_gives_an_error_or_an_image(name: str) -> None:
    data, rng = stream(name), np.random.default_rng(7)
    headers = data.index(b"\xff\x93")
    for trial in range(40):
        changed = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            changed[int(rng.integers(headers if trial % 2 else len(data)))] = int(rng.integers(256))
        try:
            image = parse(bytes(changed))
        except UnsupportedInputError:
            continue
        if image.fields.height * image.fields.width < 1 << 16:
            assert synthesise(image).shape == (image.fields.height, image.fields.width, len(image.fields.components))


def test_arrays_that_do_not_fit_are_refused() -> None:
    image = parse(stream("small-blocks"))
    q, passes, missing = image.coefficients, image.passes, image.missing
    last = np.full_like(passes[-1], 200)
    for arrays in (
        (q[:-1], passes, missing),
        ((*q[:-1], q[-1].astype(np.int64)), passes, missing),
        ((*q[:-1], q[-1][1:]), passes, missing),
        (q, (*passes[:-1], passes[-1][:, 1:]), missing),
        (q, (*passes[:-1], last), missing),
        (q, passes, (*missing[:-1], last)),
        (q, (*passes[:-1], last * 0), (*missing[:-1], missing[-1] * 0 + 1)),
    ):
        with pytest.raises(UnsupportedInputError, match="not a JPEG 2000 image"):
            J2kImage(image.fields, *arrays)
