"""Windows of JPEG 2000 images: what reaches them, cut out of codestreams and out of hypothetical images."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import dlpr
from dlpr import bitstream, reference
from dlpr.errors import CorruptError, UnsupportedInputError
from dlpr.layout import Layout, to_planes
from dlpr.modes.j2k.fields import Colour, Component, Fields, Wavelet
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.margin import thinned
from dlpr.modes.j2k.parse import parse
from dlpr.modes.j2k.stream import J2kCandidate, SourceJ2k, j2k_streams, stored_image
from dlpr.modes.j2k.synthesis import synthesise, synthesise_reference
from dlpr.modes.j2k.window import window_fields, window_image, window_of
from dlpr.modes.j2k.write import Structure, rebuild, take_apart

U8 = npt.NDArray[np.uint8]
STREAMS = Path(__file__).parent / "streams"


def tissue(height: int, width: int) -> U8:
    """Something with edges and texture."""
    rng = np.random.default_rng([height, width])
    y, x = np.mgrid[:height, :width]
    wave = 150 + 60 * np.sin(y / 9 + np.cos(x / 23)) + 30 * np.cos(x / 5) * (y % 90 > 40)
    return np.clip(wave[..., None] + rng.normal(0, 5, (height, width, 1)) - [0, 25, 50], 0, 255).astype(np.uint8)


def coded(image: U8, tile: int, quality: float, levels: int = 5) -> tuple[bytes, U8]:
    """A codestream by OpenJPEG (9/7, ICT), and its pixels by OpenJPEG."""
    out = io.BytesIO()
    Image.fromarray(image).save(
        out,
        "JPEG2000",
        irreversible=True,
        mct=1,
        no_jp2=True,
        num_resolutions=levels + 1,
        quality_mode="dB",
        quality_layers=[quality],
        **({"tile_size": (tile, tile)} if tile else {}),
    )
    return out.getvalue(), np.asarray(Image.open(out))


@pytest.mark.parametrize(("tile", "quality"), [(256, 38), (240, 44), (0, 41)])
def test_chunks_off_the_grid_are_openjpegs(tile: int, quality: float) -> None:
    data, pixels = coded(tissue(420, 400), tile, quality)
    image = parse(data)
    for top, left, height, width in ((0, 0, 100, 90), (190, 201, 120, 128), (310, 170, 97, 33), (255, 239, 1, 1)):
        chunk = np.ascontiguousarray(pixels[top : top + height, left : left + width])
        window = window_of(image, top, left, height, width)
        made = synthesise(window)
        assert np.array_equal(made, synthesise(image)[top : top + height, left : left + width])
        assert np.mean(made == chunk) > 0.999
        out = dlpr.encode(chunk, source=window, jpeg="given")
        assert np.array_equal(dlpr.decode(out), chunk)
        if height * width > 5000:
            assert dlpr.inspect(out).mode == "j2k"
            whole = dlpr.encode(np.ascontiguousarray(pixels), source=data, jpeg="given")
            assert len(out) < 2 * len(whole) * height * width / pixels[..., 0].size


def test_coefficients_outside_of_near_reach_nothing() -> None:
    """Every coefficient by itself, against the window's pixels; few that reach nothing are near."""
    for wavelet, span in ((Wavelet.IRREVERSIBLE, 0.75), (Wavelet.REVERSIBLE, 0.75)):
        steps = ((1, 0),) * 10
        component = Component((1, 1), wavelet, ((6, 6),) * 4, steps, 2)
        fields = Fields((3, 5, 4, 75), (0, 4, 9, 40), (component,), False, Colour.NONE, (3, 31, 4, 49))
        loose = total = 0
        for number, band in enumerate(fields.bands):
            for x in range(max(band.shape[1], 0) if all(band.grid) else 0):
                q = [np.zeros([max(n, 0) for n in b.shape], np.int32) for b in fields.bands]
                q[number][0, x] = 3 if wavelet is Wavelet.REVERSIBLE else 1
                passes = [np.full(b.grid, 3 * b.planes - 2, np.uint8) for b in fields.bands]
                whole = J2kImage(
                    replace(fields, window=None), tuple(q), tuple(passes), tuple(np.zeros_like(p) for p in passes)
                )
                reaches = bool(np.any(synthesise(whole)[:, 26:44] != 128))
                near = band.near[0] < band.near[2] and band.near[1] <= x < band.near[3]
                assert near or not reaches, (number, x)
                loose += near and not reaches
                total += near
        assert loose < (1 - span) * total


def test_fields_hold_what_decides_a_chunk() -> None:
    """Of a large image without tiles, the area is cut; of small tiles, the edges are where they were."""
    one = Component((1, 1), Wavelet.IRREVERSIBLE, ((6, 6),) * 6, ((8, 0),) * 16, 2)
    fields = window_fields((100000, 77777, 100256, 78033), None, [one] * 3, True)
    (top, left, bottom, right), kept = fields.area, fields.kept
    assert (fields.height, fields.width) == (256, 256)
    assert fields.tile_rows == fields.tile_columns == 1
    assert (kept[0] - 100000) % 2048 == (kept[1] - 77777) % 2048 == 0
    assert min(kept[0] - top, kept[1] - left, bottom - kept[2], right - kept[3]) > 109
    assert max(bottom - top, right - left) < 256 + 2 * 142 + 128
    assert all(b.near[0] > 0 and b.near[3] < b.shape[1] for b in fields.bands)
    tiled = window_fields((1000, 2000, 1256, 2256), (0, 0, 240, 240), [one] * 3, True)
    edges = {e % 2048 for t in range(tiled.tile_rows * tiled.tile_columns) for e in tiled.tile_edges(t)[1::2]}
    assert {2160 % 2048} <= edges
    with pytest.raises(UnsupportedInputError, match="window"):
        replace(fields, window=(top, left, bottom + 1, right))
    far = replace(fields, area=(top, left, bottom + 1100, right), tiles=(top, left, 4000, 4000), window=None)
    with pytest.raises(UnsupportedInputError, match="window"):
        replace(far, window=kept)
    with pytest.raises(UnsupportedInputError, match="points"):
        replace(fields, window=None, components=(replace(one, points=1),) * 3)


def test_found_coefficients_make_an_image() -> None:
    """Cut planes by block, points in the lowest resolutions; what is not near is ignored."""
    rng = np.random.default_rng(4)
    steps = tuple((9 + n // 3, 100 * n) for n in range(10))
    one = Component((1, 1), Wavelet.IRREVERSIBLE, ((4, 4),) * 4, steps, 2, points=2)
    fields = window_fields((130, 171, 170, 219), (0, 0, 96, 160), [one] * 3, True)
    low = [rng.integers(0, 3, b.grid).astype(np.uint8) for b in fields.bands]
    q = []
    for b, planes in zip(fields.bands, low, strict=True):
        values = np.rint(rng.laplace(0, 30 / (1 + b.resolution), b.shape)).astype(np.int32)
        for at in np.ndindex(*b.grid):
            y0, x0, y1, x1 = b.block_edges(*at)
            part = values[y0:y1, x0:x1]
            part[...] = np.sign(part) * (np.abs(part) >> planes[at] << planes[at])
        q.append(values)
    image = window_image(fields, q, low)
    pixels = synthesise(image)
    assert np.array_equal(pixels, synthesise_reference(image))
    for values, kept, b in zip(q, image.coefficients, fields.bands, strict=True):
        y0, x0, y1, x1 = b.near
        assert np.array_equal(kept[y0:y1, x0:x1], values[y0:y1, x0:x1])
        assert np.count_nonzero(kept) == np.count_nonzero(kept[y0:y1, x0:x1])
    layout, height, width = Layout.of(pixels.shape)
    header = bitstream.Header(bitstream.Mode.STORED, 0, layout, height, width, 0)
    (stream,) = j2k_streams([J2kCandidate(header, to_planes(pixels, layout), image)])
    assert stream is not None
    out = bitstream.pack(stream)
    assert np.array_equal(dlpr.decode(out), pixels)
    assert np.array_equal(reference.decode(out), pixels)
    again = stored_image(bitstream.parse(out))
    assert again.fields == fields
    assert all(np.array_equal(a, b) for a, b in zip(again.coefficients, image.coefficients, strict=True))
    with pytest.raises(UnsupportedInputError, match="planes"):
        window_image(replace(fields, window=fields.area), [np.full_like(v, 1 << 28) for v in q])


def test_thinner_margins_take_fewer_bytes() -> None:
    data, pixels = coded(tissue(420, 400), 0, 44)
    window = window_of(parse(data), 150, 140, 128, 128)
    chunk = np.ascontiguousarray(pixels[150:278, 140:268])
    thin = thinned(window)
    assert np.mean(synthesise(thin) == chunk) > 0.95
    assert int(np.abs(synthesise(thin).astype(int) - chunk).max()) <= 2
    for b, a, c in zip(window.fields.bands, window.coefficients, thin.coefficients, strict=True):
        y0, x0, y1, x1 = b.inner
        assert np.array_equal(a[y0:y1, x0:x1], c[y0:y1, x0:x1])
    sizes = [len(dlpr.encode(chunk, source=image, jpeg="given")) for image in (window, thin)]
    assert sizes[1] < 0.99 * sizes[0]


def test_last_bits_cost_little_where_they_were_in_doubt() -> None:
    """Pixels of a reader that rounds a little differently, against the same number of errors anywhere."""
    data, _ = coded(tissue(256, 256), 0, 42)
    image = parse(data)
    pixels = synthesise(image)
    steps = tuple((e, m + 1 if m < 2047 else m) for e, m in image.fields.components[0].steps)
    other = replace(
        image, fields=replace(image.fields, components=tuple(replace(c, steps=steps) for c in image.fields.components))
    )
    doubtful = synthesise(other)
    wrong = doubtful != pixels
    assert 0.001 < wrong.mean() < 0.1
    rng = np.random.default_rng(1)
    anywhere = pixels.copy()
    anywhere[rng.permutation(wrong.ravel()).reshape(wrong.shape)] ^= 1
    sizes = [len(dlpr.encode(p, source=image, jpeg="given")) for p in (pixels, doubtful, anywhere)]
    assert sizes[1] - sizes[0] < 0.6 * (sizes[2] - sizes[0])


def test_windows_that_cannot_be_cut() -> None:
    data = (STREAMS / "layers-9-7.j2k").read_bytes()
    image = parse(data)
    for place in ((0, 0, 89, 10), (-1, 0, 5, 5), (5, 5, 0, 3)):
        with pytest.raises(UnsupportedInputError, match="window"):
            window_of(image, *place)
    window = window_of(image, 3, 3, 60, 60)
    with pytest.raises(UnsupportedInputError, match="window"):
        window_of(window, 0, 0, 5, 5)
    _, structure = take_apart(SourceJ2k(data).data)
    assert isinstance(structure, Structure)
    with pytest.raises(CorruptError, match="another image"):
        rebuild(window, structure)
