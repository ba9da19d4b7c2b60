"""Native samples against the specification in NumPy, for images that no encoder makes too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlpr.errors import UnsupportedInputError
from dlpr.modes.j2k.fields import Colour, Component, Fields, Wavelet
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.parse import parse
from dlpr.modes.j2k.synthesis import synthesise, synthesise_reference

STREAMS = {path.stem: path for path in sorted((Path(__file__).parent / "streams").iterdir())}
REFUSED = {"region-of-interest"}


def some_component(rng: np.random.Generator, wavelet: Wavelet, sampling: tuple[int, int]) -> Component:
    """A component of any legal kind."""
    levels = int(rng.choice([0, 1, 2, 3, 5, 8]))
    blocks = tuple((int(rng.integers(2, 6)), int(rng.integers(2, 6))) for _ in range(levels + 1))
    mantissa = 0 if wavelet is Wavelet.REVERSIBLE else 2048
    guard = int(rng.integers(1, 4))
    steps = tuple(
        (int(rng.integers(1, 28 if rng.random() < 0.3 else 12)), int(rng.integers(mantissa)) if mantissa else 0)
        for _ in range(3 * levels + 1)
    )
    return Component(sampling, wavelet, blocks, steps, guard, bool(rng.random() < 0.3))


def some_fields(rng: np.random.Generator, most: int = 60) -> Fields:
    """Any legal fields of a small image."""
    while True:
        top, left = (int(v) for v in rng.integers(0, 20, 2))
        height, width = (int(v) for v in rng.choice([1, 2, 3, 5, 8, 17, 31, 32, 33, most], 2))
        tile_top, tile_left = int(rng.integers(top + 1)), int(rng.integers(left + 1))
        tile = [int(v) for v in rng.choice([7, 16, 33, 200], 2)]
        if tile_top + tile[0] <= top or tile_left + tile[1] <= left:
            continue
        wavelet = Wavelet(int(rng.integers(2)))
        count = int(rng.choice([1, 3]))
        transform = count == 3 and bool(rng.random() < 0.5)
        factor = (1, 1) if transform or rng.random() < 0.5 else (int(rng.choice([1, 2])), int(rng.choice([1, 2, 4])))
        components = tuple(some_component(rng, wavelet, (1, 1) if n == 0 else factor) for n in range(count))
        colour = Colour.YCBCR if count == 3 and rng.random() < 0.3 else Colour.NONE
        area = (top, left, top + height, left + width)
        return Fields(area, (tile_top, tile_left, *tile), components, transform, colour)


def some_image(rng: np.random.Generator, most: int = 60) -> J2kImage:
    """An image whose numbers are legal, however unlikely."""
    fields = some_fields(rng, most)
    coefficients, passes, missing = [], [], []
    scale = float(rng.choice([0.5, 3, 40]))
    for band in fields.bands:
        q = np.rint(rng.laplace(0, scale, band.shape))
        count, above = np.zeros(band.grid, np.uint8), np.zeros(band.grid, np.uint8)
        for row, column in np.ndindex(*band.grid):
            window = band.block(row, column)
            most_planes = min(band.planes, 30)
            if most_planes < 1 or rng.random() < 0.2:
                q[window] = 0
                continue
            planes = int(rng.integers(1, most_planes + 1))
            n = int(rng.integers(1, 3 * planes - 1))
            count[row, column], above[row, column] = n, band.planes - planes
            lowest = planes - 1 - (n - 1) // 3 - ((n - 1) % 3 == 2)
            values = np.clip(np.abs(q[window]).astype(np.int64), 0, (1 << planes) - 1)
            q[window] = np.sign(q[window]) * (values >> lowest << lowest)
        coefficients.append(q.astype(np.int32))
        passes.append(count)
        missing.append(above)
    return J2kImage(fields, tuple(coefficients), tuple(passes), tuple(missing))


@pytest.mark.parametrize("name", sorted(set(STREAMS) - REFUSED))
def test_native_is_the_reference(name: str) -> None:
    image = parse(STREAMS[name].read_bytes())
    for colour in (Colour.NONE, Colour.YCBCR) if len(image.fields.components) == 3 else (Colour.NONE,):
        other = J2kImage(
            Fields(image.fields.area, image.fields.tiles, image.fields.components, image.fields.transform, colour),
            image.coefficients,
            image.passes,
            image.missing,
        )
        assert np.array_equal(synthesise(other), synthesise_reference(other))


@pytest.mark.parametrize("seed", range(60))
def test_native_is_the_reference_for_any_image(seed: int) -> None:
    image = some_image(np.random.default_rng(seed))
    assert np.array_equal(synthesise(image), synthesise_reference(image))


def test_numbers_out_of_any_range_have_defined_samples() -> None:
    rng = np.random.default_rng(3)
    for wavelet in Wavelet:
        steps = tuple((int(rng.integers(1, 5)), 0) for _ in range(7))
        component = Component((1, 1), wavelet, ((6, 6),) * 3, steps, 7)
        fields = Fields((0, 0, 40, 37), (0, 0, 40, 37), (component,) * 3, True, Colour.NONE)
        q = tuple(rng.integers(-(1 << 30), 1 << 30, b.shape).astype(np.int32) for b in fields.bands)
        counts = tuple(np.ones(b.grid, np.uint8) for b in fields.bands)
        image = J2kImage(fields, q, counts, tuple(0 * c for c in counts))
        assert np.array_equal(synthesise(image), synthesise_reference(image))


def test_fields_out_of_range_are_refused() -> None:
    good = Component((1, 1), Wavelet.IRREVERSIBLE, ((6, 6),), ((8, 5),), 2)
    area = (0, 0, 9, 9)
    assert Fields(area, area, (good,), False, Colour.NONE).height == 9

    def component(**changes: object) -> Component:
        return Component(**{**good.__dict__, **changes})  # type: ignore[arg-type]

    for fields in (
        lambda: Fields((0, 0, 0, 9), area, (good,), False, Colour.NONE),
        lambda: Fields((0, 0, 1 << 14, 1 << 14), area, (good,), False, Colour.NONE),
        lambda: Fields(area, (1, 0, 9, 9), (good,), False, Colour.NONE),
        lambda: Fields((0, 0, 1000, 1000), (0, 0, 1, 1), (good,), False, Colour.NONE),
        lambda: Fields((0, 0, 1000, 1000), (0, 0, 4, 4), (component(blocks=((6, 6),) * 33, steps=((8, 0),) * 97),),
                       False, Colour.NONE),
        lambda: Fields(area, area, (good, good), False, Colour.NONE),
        lambda: Fields(area, area, (good,), True, Colour.NONE),
        lambda: Fields(area, area, (good,), False, Colour.YCBCR),
        lambda: Fields(area, area, (good,), False, 0),
        lambda: Fields(area, area, (component(sampling=(2, 2)),), False, Colour.NONE),
        lambda: Fields(area, area, (good, component(sampling=(1, 3)), good), False, Colour.NONE),
        lambda: Fields(area, area, (good, component(sampling=(2, 2)), good), True, Colour.NONE),
        lambda: Fields(area, area, (component(blocks=((10, 6),)),), False, Colour.NONE),
        lambda: Fields(area, area, (component(blocks=((2, 2),) * 2),), False, Colour.NONE),
        lambda: Fields(area, area, (component(steps=((32, 0),)),), False, Colour.NONE),
        lambda: Fields(area, area, (component(steps=((8, 2048),)),), False, Colour.NONE),
        lambda: Fields(area, area, (component(guard=8),), False, Colour.NONE),
        lambda: Fields(area, area, (component(wavelet=1),), False, Colour.NONE),
        lambda: Fields(area, area, (component(wavelet=Wavelet.REVERSIBLE),), False, Colour.NONE),
        lambda: Fields((0, 0, 1 << 13, 1 << 13), (0, 0, 1 << 13, 1 << 13), (component(blocks=((1, 1),)),), False,
                       Colour.NONE),
    ):  # fmt: skip
        with pytest.raises(UnsupportedInputError, match="not a JPEG 2000 image"):
            fields()
