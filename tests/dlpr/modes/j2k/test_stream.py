"""Streams of mode j2k: round trips, the reference decoder, the API's choice, damage."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

import dlpr
from dlpr import bitstream, reference
from dlpr.bitstream import Header, Mode, Stream
from dlpr.config import EncoderOptions
from dlpr.errors import BitstreamError, CorruptError, UnsupportedInputError
from dlpr.layout import Layout, from_planes, to_planes
from dlpr.modes.j2k import reference as j2k_reference
from dlpr.modes.j2k.coefficients import COMPONENT_SLOTS, decode_coefficients, usual_step
from dlpr.modes.j2k.fields import Colour, Component, Fields, Wavelet
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.mode import J2kMode
from dlpr.modes.j2k.parse import parse
from dlpr.modes.j2k.payload import J2kPayload
from dlpr.modes.j2k.stream import J2kCandidate, SourceJ2k, decode_planes, image_of, j2k_streams, stored_image
from dlpr.modes.j2k.synthesis import synthesise, synthesise_reference
from dlpr.modes.j2k.window import window_of
from dlpr.modes.protocol import Chunk

U8 = npt.NDArray[np.uint8]
STREAMS = Path(__file__).parent / "streams"
FILES = {path.stem: path for path in sorted(STREAMS.iterdir())}
TAKEN = [name for name, path in FILES.items() if image_of(path.read_bytes()) is not None]
SLOW = ["causal", "tiles-off-grid"]
"""Kinds that the reference decodes in every run: cut passes, odd origins, several tiles."""


@lru_cache
def source(name: str) -> bytes:
    return FILES[name].read_bytes()


def same(a: J2kImage, b: J2kImage) -> bool:
    groups = zip((a.coefficients, a.passes, a.missing), (b.coefficients, b.passes, b.missing), strict=True)
    return a.fields == b.fields and all(np.array_equal(x, y) for g, h in groups for x, y in zip(g, h, strict=True))


def stream_of(image: J2kImage, pixels: U8, tau: int = 0) -> bytes:
    """A stream of mode j2k, whether or not another mode were smaller."""
    pixels = pixels.reshape(pixels.shape[:2]) if pixels.shape[2:] == (1,) else pixels  # a row of one channel is no CHW
    layout, height, width = Layout.of(pixels.shape)
    candidate = J2kCandidate(Header(Mode.STORED, tau, layout, height, width, 0), to_planes(pixels, layout), image)
    (stream,) = j2k_streams([candidate], most_residual=1.0)
    assert stream is not None
    return bitstream.pack(stream)


def spoilt(rng: np.random.Generator, pixels: U8, share: float) -> U8:
    """Other values at some samples."""
    out = pixels.copy()
    where = rng.random(out.shape) < share
    out[where] = rng.integers(0, 256, int(where.sum()), np.uint8)
    return out


def some_image(rng: np.random.Generator, components: int = 3, side: int = 40) -> J2kImage:
    """An image of random fields and numbers, such as no encoder makes."""
    levels = int(rng.integers(0, 4))
    top, left, height, width = (int(v) for v in (*rng.integers(0, 30, 2), *rng.integers(1, side, 2)))
    tile = tuple(int(v) for v in (rng.integers(0, top + 1), rng.integers(0, left + 1)))
    size = tuple(int(top + left + rng.integers(20, 50)) for _ in range(2))
    wavelet = Wavelet(int(rng.integers(2)))

    def component(k: int) -> Component:
        n = int(levels if rng.random() < 0.7 else rng.integers(0, 4))
        steps = tuple(
            (int(rng.integers(1, 14)), 0 if wavelet is Wavelet.REVERSIBLE else int(rng.integers(2048)))
            for _ in range(3 * n + 1)
        )
        blocks = tuple((int(rng.integers(0, 7)), int(rng.integers(0, 7))) for _ in range(n + 1))
        sampling = (1, 1) if k == 0 or rng.random() < 0.5 else (int(rng.choice([1, 2])), int(rng.choice([1, 2, 4])))
        return Component(sampling, wavelet, blocks, steps, int(rng.integers(1, 4)), bool(rng.random() < 0.3))

    colour = Colour(int(components == 3 and rng.random() < 0.3))
    area = (top, left, top + height, left + width)
    fields = Fields(area, (*tile, *size), tuple(component(k) for k in range(components)), False, colour)
    coefficients, passes, missing = [], [], []
    for b in fields.bands:
        q = np.zeros(tuple(max(n, 0) for n in b.shape), np.int32)
        counts, lost = np.zeros(b.grid, np.uint8), np.zeros(b.grid, np.uint8)
        for row, column in np.ndindex(*b.grid):
            planes = int(min(b.planes, rng.integers(0, 9)))
            if planes < 1:
                continue
            n = int(rng.integers(1, 3 * planes - 1))
            counts[row, column], lost[row, column] = n, b.planes - planes
            window = b.block(row, column)
            shape = q[window].shape
            lowest = planes - 1 - (n - 1) // 3
            m = np.floor(rng.laplace(0, rng.choice([0.3, 2, 40]), shape)).astype(np.int64)
            q[window] = _cut(m, planes, lowest, (n - 1) % 3, fields.components[b.component].causal, rng)
        coefficients.append(q)
        passes.append(counts)
        missing.append(lost)
    image = J2kImage(fields, tuple(coefficients), tuple(passes), tuple(missing))
    return some_window(rng, image) if rng.random() < 0.4 else image


def some_window(rng: np.random.Generator, image: J2kImage) -> J2kImage:
    """A window of an image: other coefficients beside it, some resolutions that hold points, maybe whole numbers."""
    f = image.fields
    height, width = (int(rng.integers(1, n + 1)) for n in (f.height, f.width))
    top, left = int(rng.integers(f.height - height + 1)), int(rng.integers(f.width - width + 1))
    cut = window_of(image, top, left, height, width)
    whole = synthesise(image)[top : top + height, left : left + width]
    assert np.array_equal(synthesise(cut), whole)
    points = int(rng.integers(0, 3))
    rounded = not f.transform and all(c.wavelet is Wavelet.IRREVERSIBLE for c in f.components) and rng.random() < 0.5
    components = tuple(replace(c, points=min(points, c.levels + 1), whole=rounded) for c in cut.fields.components)
    fields = replace(cut.fields, components=components)
    coefficients = []
    for b, q in zip(fields.bands, cut.coefficients, strict=True):
        beside = np.ones(q.shape, np.bool_)
        y0, x0, y1, x1 = (max(edge, 0) for edge in b.inner)
        beside[y0:y1, x0:x1] = False
        coefficients.append(np.where(beside & (rng.random(q.shape) < 0.3), 0, q))
    return J2kImage(fields, tuple(coefficients), cut.passes, cut.missing)


def _cut(
    m: npt.NDArray[np.int64], planes: int, lowest: int, more: int, causal: bool, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Coefficients of a block as its passes leave them."""
    sign, size = np.sign(m), np.minimum(np.abs(m) << lowest, (1 << planes) - 1) >> lowest << lowest
    if more:
        p, known = lowest - 1, size > 0
        found = np.pad(known, 1)
        for y0 in range(0, m.shape[0], 4):  # the order of a pass: stripes of four rows, column by column
            for x in range(m.shape[1]):
                for y in range(y0, min(y0 + 4, m.shape[0])):
                    near = found[y : y + 3, x : x + 3].copy()
                    if causal and y == y0 + 3:
                        near[2] = False
                    if not near[1, 1] and near.any() and rng.random() < 0.4:
                        found[y + 1, x + 1], size[y, x], sign[y, x] = True, 1 << p, rng.choice([-1, 1])
        if more == 2:
            size += known * (rng.integers(0, 2, m.shape) << p)
    return sign * size


def check(image: J2kImage, pixels: U8, tau: int = 0, slow: bool = True) -> bytes:
    """Code, decode natively and by the reference, compare everything."""
    data = stream_of(image, pixels, tau)
    stream = bitstream.parse(data)
    out = dlpr.decode(data)
    assert out.shape == pixels.shape
    assert int(np.abs(out.astype(int) - pixels).max()) <= tau
    assert same(stored_image(stream), image)
    assert np.array_equal(dlpr.decode(data, layer="lossy"), _lossy(image, pixels))
    if slow:
        assert np.array_equal(synthesise_reference(image), synthesise(image))
        assert same(j2k_reference.decode_image(stream), image)
        assert np.array_equal(reference.decode(data), out)
    return data


def _lossy(image: J2kImage, pixels: U8) -> U8:
    return synthesise(image).reshape(pixels.shape)


@pytest.mark.parametrize("name", TAKEN)
def test_every_kind_of_codestream(name: str) -> None:
    image = parse(source(name))
    pixels = synthesise(image)
    data = check(image, pixels if pixels.shape[2] == 3 else pixels[..., 0], slow=name in SLOW)
    assert dlpr.inspect(data).bytes_by_part["residual"] == 0


@pytest.mark.full
@pytest.mark.parametrize("name", TAKEN)
def test_every_kind_by_the_reference(name: str) -> None:
    image = parse(source(name))
    pixels = synthesise(image)
    check(image, pixels if pixels.shape[2] == 3 else pixels[..., 0])


@pytest.mark.parametrize("seed", range(12))
def test_images_that_no_encoder_makes(seed: int) -> None:
    rng = np.random.default_rng([seed, 15])
    image = some_image(rng, components=int(rng.choice([1, 3])))
    pixels = spoilt(rng, synthesise(image), 0.1 * (seed % 3))
    check(image, pixels if pixels.shape[2] == 3 else pixels[..., 0], tau=seed % 4)


def test_smaller_than_its_codestream() -> None:
    data = source("layers-9-7")
    image = parse(data)
    pixels = synthesise(image)
    out = dlpr.encode(pixels, source=data)
    info = dlpr.inspect(out)
    assert (info.mode, info.lossy_layer, info.weights_id) == ("j2k", True, None)
    assert sum(info.bytes_by_part.values()) == info.size == len(out)
    assert set(info.bytes_by_part) == {"header", "coefficients", "residual"}
    assert len(out) < 0.95 * len(data)
    assert np.array_equal(dlpr.decode(out), pixels)
    assert np.array_equal(dlpr.decode(out[: info.lossy_prefix], layer="lossy"), pixels)
    chw = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))[None]
    assert len(dlpr.encode(chw, source=image)) == len(out)
    assert dlpr.encode(pixels, source=SourceJ2k(data)) == out
    assert dlpr.encode_batch([pixels] * 3, sources=[data] * 3, threads=3) == [out] * 3
    assert dlpr.encode_batch([pixels], source_jpegs=[data]) == [out]


def test_sources_in_vain_are_not_read() -> None:
    """Where a simple predictor needs less than the codestream, another mode is smaller; unless the source is kept."""
    imagecodecs = pytest.importorskip("imagecodecs")
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 1, (130, 130, 3))
    quiet = np.rint(238 + sum(noise[y : y + 128, x : x + 128] for y in range(3) for x in range(3)) / 7).astype(np.uint8)
    loud = np.clip(rng.normal(128, 30, (128, 128, 3)), 0, 255).astype(np.uint8)
    for pixels, tau in ((quiet, 0), (loud, 9)):
        data = imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k")
        chunk = Chunk(
            Header(Mode.STORED, tau, *Layout.of(pixels.shape), 0), to_planes(pixels, Layout.of(pixels.shape)[0]), data
        )
        assert J2kMode().encode_batch([chunk], EncoderOptions(), 1) == [None]
        (kept,) = J2kMode().encode_batch([chunk], EncoderOptions(keep_source=True), 1)
        assert kept is not None
        assert len(dlpr.encode(pixels, tau, source=data)) < len(bitstream.pack(kept))
    data = imagecodecs.jpeg2k_encode(loud, level=0, reversible=True, codecformat="j2k")
    chunk = Chunk(Header(Mode.STORED, 0, *Layout.of(loud.shape), 0), to_planes(loud, Layout.of(loud.shape)[0]), data)
    assert J2kMode().encode_batch([chunk], EncoderOptions(), 1) != [None]


def test_sources_that_do_not_fit_change_nothing() -> None:
    data = source("layers-9-7")
    pixels = synthesise(parse(data))
    plain = dlpr.encode(pixels, jpeg="given")
    for other in (b"", data[:200], source("lossless")[:-100], SourceJ2k(b"\xff\x4f"), SourceJ2k(data, Colour.YCBCR)):
        assert dlpr.encode(pixels, source=other, jpeg="given") == plain
    part = np.ascontiguousarray(pixels[:-1])
    assert dlpr.encode(part, source=data, jpeg="given") == dlpr.encode(part, jpeg="given")
    flat = np.full_like(pixels, 7)
    assert dlpr.inspect(dlpr.encode(flat, source=data)).mode == "constant"
    with pytest.raises(UnsupportedInputError, match="SourceJ2k"):
        dlpr.encode(pixels, source=5)  # type: ignore[arg-type]
    with pytest.raises(CorruptError, match="no JPEG 2000 image"):
        decode_planes([bitstream.parse(dlpr.encode(flat))])


def test_pixels_of_another_reader() -> None:
    """What a reader rounds otherwise goes into the residual."""
    data = source("layers-9-7")
    pixels = synthesise(parse(data))
    other = pixels.copy()
    other[::7, ::5] ^= 1
    out = dlpr.encode(other, source=data, jpeg="given")
    assert dlpr.inspect(out).mode == "j2k"
    assert np.array_equal(dlpr.decode(out), other)
    within = dlpr.encode(other, 1, source=data, jpeg="given")
    assert len(within) < len(out)
    assert int(np.abs(dlpr.decode(within).astype(int) - other).max()) <= 1


def test_numbers_that_no_passes_leave() -> None:
    """A bit below what the passes reach, a magnitude above, a coefficient that no pass can have found."""
    plain = Component((1, 1), Wavelet.REVERSIBLE, ((6, 6),), ((8, 0),), 2)
    fields = Fields((0, 0, 8, 8), (0, 0, 8, 8), (plain,), False, Colour.NONE)
    one = np.ones((1, 1), np.uint8)
    for passes, values, good in (
        (4, [12], True),  # planes 3 and 2
        (4, [12, 1], False),
        (4, [14], False),
        (4, [16], False),
        (2, [8, 4], True),  # plane 3, and the significance pass of plane 2
        (2, [8, 0, 0, 4], False),
        (3, [12, 4], True),
        (3, [10], False),
    ):
        q = np.zeros((8, 8), np.int32)
        q[0, : len(values)] = values
        image = J2kImage(fields, (q,), (one * passes,), (one * 5,))
        pixels = synthesise(image)[..., 0]
        layout, height, width = Layout.of(pixels.shape)
        candidate = J2kCandidate(Header(Mode.STORED, 0, layout, height, width, 0), to_planes(pixels, layout), image)
        assert (j2k_streams([candidate])[0] is not None) == good, (passes, values)
        if good:
            check(image, pixels)


SCRIPT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from test_stream import some_image, spoilt, stream_of, synthesise
import dlpr
from dlpr import _native
rng, h = np.random.default_rng(9), hashlib.sha256()
for n in range(12):
    image = some_image(rng)
    pixels = spoilt(rng, synthesise(image), 0.05)
    data = stream_of(image, pixels, n % 3)
    assert int(np.abs(dlpr.decode(data).astype(int) - pixels).max()) <= n % 3
    h.update(data)
print(_native.j2k_simd(), h.hexdigest())
"""


def test_every_instruction_set_writes_the_same_bytes() -> None:
    found = {}
    for name in ("scalar", "avx2"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)],
            env={**os.environ, "DLPR_SIMD": name},
            capture_output=True,
            text=True,
            check=True,
        )
        used, digest = done.stdout.split()
        found[used] = digest
    assert "scalar" in found
    assert len(set(found.values())) == 1


def test_steps_that_are_usual() -> None:
    image = parse(source("layers-9-7"))
    for component in image.fields.components:
        for b, step in enumerate(component.steps):
            orientation, depth = ((b - 1) % 3 + 1, component.levels - (b - 1) // 3) if b else (0, component.levels)
            assert usual_step(component.wavelet, orientation, depth) == step
    assert COMPONENT_SLOTS == 26709


# ---- damage ----


def forged(rng: np.random.Generator, data: bytes) -> bytes:
    """A stream with right checksums of bytes and something else wrong."""
    stream = bitstream.parse(data)
    header, p = stream.header, stream.payload
    assert isinstance(p, J2kPayload)
    fields, lane, residual = p.fields, bytearray(p.lane), bytearray(p.residual_part)
    kind = int(rng.integers(8))
    if kind == 7 or (kind == 0 and fields.window):
        fields = _elsewhere(rng, fields)
        header = replace(header, height=fields.height, width=fields.width)
    elif kind == 0:
        height, width = (int(v) for v in rng.integers(1, 70, 2))
        header = replace(header, height=height, width=width)
        top, left = fields.area[:2]
        if rng.random() < 0.8:
            fields = replace(fields, area=(top, left, top + height, left + width))
    elif kind == 1:
        k = int(rng.integers(len(fields.components)))
        changed = list(fields.components)
        c = changed[k]
        changed[k] = replace(c, guard=int(rng.integers(8)), causal=not c.causal)
        fields = replace(fields, components=tuple(changed))
    elif kind == 2:
        c = fields.components[0]
        levels = int(rng.integers(0, 9))
        c = replace(c, blocks=(c.blocks[0],) * (levels + 1), steps=((0, 0),) * (3 * levels + 1))
        fields = replace(fields, components=(c,) * len(fields.components))
    elif kind == 3:
        lane[int(rng.integers(len(lane)))] ^= 1 << int(rng.integers(8))
    elif kind == 4:
        lane = bytearray(rng.bytes(int(rng.integers(1, 400))))
    elif kind == 5:
        residual = bytearray(rng.bytes(int(rng.integers(1, 200))))
    else:
        del lane[int(rng.integers(1, len(lane) + 1)) :]
    payload = J2kPayload(fields, bytes(lane), bytes(residual))
    return bitstream.pack(Stream(header, payload))


def _elsewhere(rng: np.random.Generator, fields: Fields) -> Fields:
    """Another window, of tiles that may lie elsewhere."""
    (top, left, bottom, right), tiles = fields.area, list(fields.tiles)
    ys, xs = (sorted(int(v) for v in rng.integers(a, b, 2)) for a, b in ((top, bottom), (left, right)))
    at = int(rng.integers(2, 4))
    tiles[at] = max(tiles[at] + int(rng.integers(-9, 10)), 1)
    where = tiles[0], tiles[1], tiles[2], tiles[3]
    return replace(fields, window=(ys[0], xs[0], ys[1] + 1, xs[1] + 1), tiles=where)


def outcome(data: bytes, layer: Literal["full", "lossy"] = "full") -> str | bytes:
    """Reason of the error, or the samples; any other exception fails the test."""
    try:
        return dlpr.decode(data, layer=layer).tobytes()
    except BitstreamError as error:
        return error.reason


def unlike(rng: np.random.Generator, count: int, slow: int) -> None:
    """Forge streams: a typed error or samples, the same from the reference."""
    for n in range(count):
        image = some_image(rng, side=24)
        data = stream_of(image, spoilt(rng, synthesise(image), float(rng.choice([0, 0.1]))), int(rng.integers(3)))
        for _ in range(6):
            try:
                bad = forged(rng, data)
            except UnsupportedInputError:  # not even a writer takes such fields
                continue
            got = outcome(bad)
            outcome(bad, "lossy")
            if n < slow:
                try:
                    planes = bitstream.parse(bad)
                    expected: str | bytes = from_planes(
                        j2k_reference.decode_planes(planes), planes.header.layout
                    ).tobytes()
                except BitstreamError as error:
                    expected = error.reason
                if got == "pixels":
                    assert isinstance(expected, bytes)
                else:
                    assert got == expected


def test_forged_streams_mean_the_same_to_the_reference() -> None:
    unlike(np.random.default_rng(3), 12, 6)


@pytest.mark.full
def test_many_forged_streams() -> None:
    unlike(np.random.default_rng(4), 400, 60)


def test_cut_and_flipped_streams_are_refused() -> None:
    rng = np.random.default_rng(5)
    image = some_image(rng, side=24)
    data = stream_of(image, synthesise(image))
    for end in range(len(data)):
        assert outcome(data[:end]) in ("truncated", "checksum")
        assert not isinstance(outcome(data[:end], "lossy"), bytes) or end == len(data)
    for at in range(0, len(data), 3):
        bad = bytearray(data)
        bad[at] ^= 1 << int(rng.integers(8))
        assert isinstance(outcome(bytes(bad)), str)


def test_claims_of_many_blocks_are_refused() -> None:
    """No stream of a few bytes claims more than it can hold."""
    header = Header(Mode.J2K, 0, Layout.of((4096, 4096))[0], 4096, 4096, 0)
    tiny = Component((1, 1), Wavelet.REVERSIBLE, ((2, 2),), ((0, 0),), 2)
    fields = Fields((0, 0, 4096, 4096), (0, 0, 4096, 4096), (tiny,), False, Colour.NONE)
    data = bitstream.pack(Stream(header, J2kPayload(fields, b"\xff" * 40, b"")))
    assert outcome(data) == "corrupt"
    tiles = replace(fields, tiles=(0, 0, 16, 32))
    assert outcome(bitstream.pack(Stream(header, J2kPayload(tiles, b"\xff" * 40, b"")))) == "corrupt"
    with pytest.raises(CorruptError, match="blocks"):
        decode_coefficients(fields, b"\xff" * 40)
    wide = replace(header, height=4097)
    assert outcome(bitstream.pack(Stream(wide, J2kPayload(fields, b"\xff" * 40, b"")))) == "unsupported"
