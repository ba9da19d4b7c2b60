"""Codestreams written afresh: other decoders see in them what they see in the original."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dlpr
from dlpr.errors import BitstreamError, UnsupportedInputError
from dlpr.modes.j2k.extract import stored_j2k
from dlpr.modes.j2k.fields import Colour, Component, Fields, Wavelet
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.parse import parse
from dlpr.modes.j2k.synthesis import synthesise
from dlpr.modes.j2k.window import window_of
from dlpr.modes.j2k.write import write

imagecodecs = pytest.importorskip("imagecodecs")

STREAMS = {path.stem: path for path in sorted((Path(__file__).parent / "streams").iterdir())}
REFUSED = {"region-of-interest"}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([170 + 60 * np.sin(x / s) * np.cos(y / 9) for s in (6, 8, 11)], axis=-1)
    return np.clip(waves + rng.normal(0, 6, waves.shape), 0, 255).astype(np.uint8)


def same(a: J2kImage, b: J2kImage) -> bool:
    groups = zip((a.coefficients, a.passes, a.missing), (b.coefficients, b.passes, b.missing), strict=True)
    return a.fields == b.fields and all(np.array_equal(x, y) for g, h in groups for x, y in zip(g, h, strict=True))


def through_pillow(data: bytes, less: int) -> np.ndarray | None:
    """Samples, with fewer resolutions; None for what Pillow does not decode (images off the grid's corner)."""
    with Image.open(io.BytesIO(data)) as image:
        image.reduce = less
        try:
            return np.asarray(image)
        except OSError:
            return None


def same_to_others(data: bytes, written: bytes) -> bool:
    """OpenJPEG (imagecodecs' build, and Pillow's) decodes both to the same samples, with fewer resolutions too."""
    assert np.array_equal(imagecodecs.jpeg2k_decode(written), imagecodecs.jpeg2k_decode(data))
    fields = parse(data).fields
    if any(c.sampling != (1, 1) for c in fields.components):
        return False
    shown = [
        through_pillow(one, less) for less in range(2) for one in (data, written) if less <= fields.components[0].levels
    ]
    for one, other in zip(shown[::2], shown[1::2], strict=True):
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other)
    return all(one is not None for one in shown)


@pytest.mark.parametrize("name", sorted(set(STREAMS) - REFUSED))
def test_every_kind_of_codestream(name: str) -> None:
    """All progressions, layers, precincts, styles, tiles, sizes, samplings, wavelets of streams/."""
    data = STREAMS[name].read_bytes()
    image = parse(data)
    written = write(image)
    assert same(image, parse(written))
    assert written[:4] == b"\xff\x4f\xff\x51"
    assert same_to_others(data, written) or name.startswith(("half", "off", "size")) or "off-grid" in name
    assert write(parse(written)) == written
    if name not in ("all-styles", "terminate-all", "all-styles-layers"):  # whose codewords had ends of their own
        assert len(written) < 1.05 * len(data) + 64


@pytest.mark.parametrize("level", [0, 20, 28, 36, 44])
@pytest.mark.parametrize("reversible", [False, True])
@pytest.mark.parametrize("mct", [False, True])
def test_every_rate(level: int, reversible: bool, mct: bool) -> None:
    for number, size in enumerate([(150, 200), (64, 64), (1, 1), (7, 90)]):
        options = {"reversible": reversible, "mct": mct, "resolutions": 6 if size[0] > 32 else 1}
        data = imagecodecs.jpeg2k_encode(picture(*size, number), level=level, codecformat="j2k", **options)
        written = write(parse(data))
        assert same_to_others(data, written)
        assert len(written) < 1.05 * len(data)


def test_components_of_their_own_kind() -> None:
    """COC and QCC: levels, wavelets, block sizes, precincts and guard bits by component, offsets of image and tiles."""
    rng = np.random.default_rng(3)

    def component(levels: int, wavelet: Wavelet, blocks: tuple[int, int], guard: int, causal: bool) -> Component:
        sizes = tuple((blocks[0] - (r == 0), blocks[1]) for r in range(levels + 1))
        steps = tuple((9, 0 if wavelet is Wavelet.REVERSIBLE else 100 * r) for r in range(3 * levels + 1))
        return Component((1, 1), wavelet, sizes, steps, guard, causal)

    fields = Fields(
        (5, 9, 75, 83),
        (2, 7, 40, 33),
        (
            component(2, Wavelet.IRREVERSIBLE, (4, 5), 2, False),
            component(0, Wavelet.REVERSIBLE, (3, 6), 1, True),
            component(3, Wavelet.IRREVERSIBLE, (5, 2), 3, True),
        ),
        False,
        Colour.NONE,
    )
    coefficients, passes, missing = [], [], []
    for band in fields.bands:
        coefficients.append(rng.integers(-15, 16, tuple(max(n, 0) for n in band.shape), np.int32))
        passes.append(np.full(band.grid, 3 * 4 - 2, np.uint8))
        missing.append(np.full(band.grid, band.planes - 4, np.uint8))
    image = J2kImage(fields, tuple(coefficients), tuple(passes), tuple(missing))
    shown = imagecodecs.jpeg2k_decode(write(image))
    assert np.abs(shown.astype(int) - synthesise(image)).max() <= 1
    grey = replace(fields, components=fields.components[:1])
    first = [n for n, band in enumerate(fields.bands) if band.component == 0]
    alone = J2kImage(grey, *(tuple(group[n] for n in first) for group in (coefficients, passes, missing)))
    assert np.abs(imagecodecs.jpeg2k_decode(write(alone)).astype(int) - synthesise(alone)[..., 0]).max() <= 1


def test_from_a_stream_of_the_mode() -> None:
    data = imagecodecs.jpeg2k_encode(picture(64, 64), level=34, reversible=False, codecformat="j2k")
    pixels = imagecodecs.jpeg2k_decode(data)
    stream = dlpr.encode(pixels, source=data)
    image = stored_j2k(stream)
    assert image is not None
    assert np.array_equal(imagecodecs.jpeg2k_decode(write(image)), pixels)
    assert stored_j2k(dlpr.encode(pixels, j2k="never")) is None
    found = stored_j2k(dlpr.encode(pixels))
    assert found is not None
    with pytest.raises(UnsupportedInputError, match="points"):
        write(found)
    with pytest.raises(BitstreamError):
        stored_j2k(stream[:-9])


def test_numbers_that_no_codestream_has_are_refused() -> None:
    image = parse(STREAMS["layers-9-7"].read_bytes())
    number = max(range(len(image.coefficients)), key=lambda n: image.coefficients[n].size)
    for value in (1 << 29, 1):  # beyond the planes of its block, below the last plane that was coded
        wrong = image.coefficients[number].copy()
        wrong[0, 0] = value
        arrays = (*image.coefficients[:number], wrong, *image.coefficients[number + 1 :])
        with pytest.raises(UnsupportedInputError, match="no codestream has"):
            write(replace(image, coefficients=arrays))
    odd = Component((1, 1), Wavelet.REVERSIBLE, ((10, 2), (2, 10)), ((8, 0),) * 4, 2)
    fields = Fields((0, 0, 8, 8), (0, 0, 8, 8), (odd,), False, Colour.NONE)
    empty = [
        tuple(np.zeros(shape, kind) for shape in shapes)
        for shapes, kind in (
            ([b.shape for b in fields.bands], np.int32),
            ([b.grid for b in fields.bands], np.uint8),
            ([b.grid for b in fields.bands], np.uint8),
        )
    ]
    with pytest.raises(UnsupportedInputError, match="do not go together"):
        write(J2kImage(fields, *empty))


def test_a_window_is_no_codestream():
    pixels = picture(96, 128)
    whole = parse(bytes(imagecodecs.jpeg2k_encode(pixels, level=40, reversible=False, mct=True, resolutions=4)))
    window = window_of(whole, 20, 31, 48, 64)
    stream = dlpr.encode(np.ascontiguousarray(synthesise(window)), source=window, keep_source=True)
    found = stored_j2k(stream)
    assert dlpr.inspect(stream).mode == "j2k"
    assert found is not None
    with pytest.raises(UnsupportedInputError, match="a window of an image is no whole codestream"):
        write(found)
