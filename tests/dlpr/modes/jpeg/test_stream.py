"""Streams of mode jpeg: round trips, the reference decoder, the API's choice, damage."""

from __future__ import annotations

import io
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import dlpr
from dlpr import _native, bitstream, reference
from dlpr.bitstream import Header, Mode, Stream
from dlpr.errors import BitstreamError, CorruptError, UnsupportedError, UnsupportedInputError
from dlpr.layout import Layout, from_planes, to_planes
from dlpr.modes.jpeg import reference as jpeg_reference
from dlpr.modes.jpeg.image import ColourTransform, JpegImage, Upsampling
from dlpr.modes.jpeg.parse import SourceJpeg, parse
from dlpr.modes.jpeg.payload import JpegPayload
from dlpr.modes.jpeg.prior import remember
from dlpr.modes.jpeg.stream import JpegCandidate, decode_planes, jpeg_streams
from dlpr.modes.jpeg.synthesis import synthesise
from dlpr.modes.jpeg.tables import ZIGZAG, standard_table
from dlpr.modes.mixed.arithmetic import learn_table, odds, squash_table
from dlpr.modes.networks import weights as weights_store

YCC, NONE = ColourTransform.YCBCR, ColourTransform.NONE
FORMS = [(YCC, (1, 1)), (YCC, (1, 2)), (YCC, (2, 1)), (YCC, (2, 2)), (NONE, (1, 1)), (None, (1, 1))]


def some_image(
    rng: np.random.Generator, form: tuple[ColourTransform | None, tuple[int, int]], size: int = 40, scale: float = 4
) -> JpegImage:
    """Coefficients that fall off with frequency, alike in all components; any phase and tables. None: grey."""
    transform, (v, h) = form
    n = 1 if transform is None else 3
    phase = int(rng.integers(8 * v)), int(rng.integers(8 * h))
    height, width = (int(s) for s in rng.integers(1, size, 2))
    rows, columns = -(-(phase[0] + height) // (8 * v)), -(-(phase[1] + width) // (8 * h))
    fall = scale / (1 + np.add.outer(np.arange(8), np.arange(8)))
    common = rng.laplace(0, 1, (rows * v, columns * h, 8, 8))
    blocks = []
    for c in range(n):
        own = common if c == 0 else common[::v, ::h]
        q = np.rint(
            (0.7 * own + 0.5 * rng.laplace(0, 1, own.shape)) * fall * rng.choice([0.3, 1], (*own.shape[:2], 1, 1))
        )
        blocks.append(np.clip(q, -2047, 2047).astype(np.int16))
    own_table = np.clip(standard_table(60) + rng.integers(-3, 4, (8, 8)), 1, 255).astype(np.uint16)
    choices = [standard_table(int(rng.integers(1, 201))), own_table, np.full((8, 8), 255, np.uint16)]
    tables = tuple(choices[int(rng.integers(3))] if c != 2 or rng.random() < 0.3 else choices[0] for c in range(n))
    up = Upsampling(int(rng.integers(2)))
    return JpegImage(height, width, phase, transform or NONE, (v, h), up, bool(rng.integers(2)), tables, tuple(blocks))


def spoilt(rng: np.random.Generator, pixels: np.ndarray, share: float = 0.03) -> np.ndarray:
    """Pixels with some that differ."""
    change = rng.integers(-9, 10, pixels.shape) * (rng.random(pixels.shape) < share)
    return np.clip(pixels.astype(int) + change, 0, 255).astype(np.uint8)


def stream_of(image: JpegImage, pixels: np.ndarray, tau: int, prior: dlpr.Prior | None = None) -> bytes:
    pixels = pixels if image.components == 3 else pixels.reshape(image.height, image.width)
    layout, height, width = Layout.of(pixels.shape)
    header = Header(Mode.CODED, tau, layout, height, width, 0)
    (made,) = jpeg_streams([JpegCandidate(header, to_planes(pixels, layout), image)], prior=prior)
    assert made is not None
    return bitstream.pack(made)


# ---- the coder ----


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tau", [0, 1, 7])
def test_round_trip_and_reference(form: tuple[ColourTransform | None, tuple[int, int]], tau: int) -> None:
    rng = np.random.default_rng([FORMS.index(form), tau])
    for size, scale in ((20, 3), (14, 12), (9, 2000)):
        image = some_image(rng, form, size, scale)
        jpeg = synthesise(image)
        for pixels in (jpeg, spoilt(rng, jpeg)):
            data = stream_of(image, pixels, tau)
            out = dlpr.decode(data)
            assert int(np.abs(out.astype(int) - pixels.reshape(out.shape)).max()) <= tau
            assert np.array_equal(reference.decode(data), out)
            prefix = data[: dlpr.inspect(data).lossy_prefix]
            stream = bitstream.parse(data)
            back = jpeg_reference.decode_image(stream)
            lossy = jpeg if tau == 0 else synthesise(back)
            assert np.array_equal(dlpr.decode(prefix, layer="lossy"), lossy.reshape(out.shape))
            if tau:
                continue  # the encoder may have taken other coefficients: test_spend.py
            assert all(np.array_equal(a, b) for a, b in zip(back.tables, image.tables, strict=True))
            rest = slice(None) if image.sampling == (1, 1) else slice(1, None)  # unseen blocks of luma are not coded
            for a, b in list(zip(back.coefficients, image.coefficients, strict=True))[rest]:
                assert np.array_equal(a, b)
            if pixels is jpeg:
                assert dlpr.inspect(data).bytes_by_part["residual"] == 0


def test_every_decoder_on_batches_of_any_modes() -> None:
    torch = pytest.importorskip("torch")
    torch_decoder = pytest.importorskip("dlpr.modes.networks.exact.torch_decoder")
    threads = torch.get_num_threads()
    rng = np.random.default_rng(4)
    images = [some_image(rng, form) for form in FORMS]
    pixels = [spoilt(rng, synthesise(image)) for image in images]
    streams = [stream_of(image, x, i % 3) for i, (image, x) in enumerate(zip(images, pixels, strict=True))]
    streams.insert(2, dlpr.encode(rng.integers(90, 110, (12, 12, 3), np.uint8)))
    streams.append(dlpr.encode(np.full((4, 4), 3, np.uint8)))
    out = dlpr.decode_batch(streams, threads=1)
    for a, b in zip(out, dlpr.decode_batch(streams, threads=3), strict=True):
        assert np.array_equal(a, b)
    parsed = [bitstream.parse(data) for data in streams]
    weights = weights_store.find(weights_store.default_id())
    torch.set_num_threads(1)
    try:
        (planes,) = torch_decoder.decode_batch([parsed[2]], weights)
        with pytest.raises(UnsupportedError, match="mode jpeg has no coded payload"):
            torch_decoder.decode_batch(parsed[:3], weights)
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(from_planes(planes, parsed[2].header.layout), out[2])
    for data, expected in zip(streams, out, strict=True):
        assert np.array_equal(reference.decode(data), expected)


def test_bytes_do_not_depend_on_threads() -> None:
    rng = np.random.default_rng(5)
    images = [some_image(rng, form) for form in FORMS * 2]
    pixels = [synthesise(image) for image in images]
    one = dlpr.encode_batch(pixels, source_jpegs=images, threads=1)
    assert dlpr.encode_batch(pixels, source_jpegs=images, threads=3) == one


def test_rounded_tables_are_far_from_ties() -> None:
    """Any exponential with nine right digits gives the integers of section 17."""
    nearest = Decimal(1)
    with localcontext() as context:
        context.prec = 40
        for x, value in zip(range(-2047, 2048), squash_table(), strict=True):
            exact = 65536 / (1 + Decimal(2) ** (Decimal(-x) / 128))
            if 32 <= exact <= 65504:
                assert abs(exact - value) < Decimal("0.5")
                nearest = min(nearest, Decimal("0.5") - abs(exact - value)) if x else nearest
    assert nearest > Decimal("1e-6")
    assert math.isclose(sum(squash_table()), 65536 * 4095 / 2)


def test_odds_are_near_the_logarithm() -> None:
    values = [odds(p) for p in range(65536)]
    assert values == [-v for v in reversed(values)]
    assert all(a <= b for a, b in itertools.pairwise(values))
    for p in range(0, 65536, 97):
        assert abs(values[p] - 256 * math.log2((2 * p + 1) / (131071 - 2 * p))) < 24
    assert learn_table()[0] == 132
    assert learn_table()[-1] == 4


def test_zigzag_and_standard_tables() -> None:
    pillow = pytest.importorskip("PIL.Image")
    assert sorted(ZIGZAG) == list(range(64))
    assert ZIGZAG[:10] == [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]
    assert ZIGZAG[-4:] == [47, 55, 62, 63]
    for quality in (1, 10, 49, 50, 51, 75, 99, 100):
        file = io.BytesIO()
        pillow.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "JPEG", quality=quality)
        tables = parse(file.getvalue()).tables
        assert np.array_equal(tables[0], standard_table(quality))
        assert np.array_equal(tables[1], standard_table(100 + quality))


def test_sizes_of_tables() -> None:
    rng = np.random.default_rng(6)
    image = some_image(rng, (NONE, (1, 1)))
    sizes = {}
    for name, table in (("standard", standard_table(35)), ("own", standard_table(35) + np.uint16(1))):
        changed = replace(image, tables=(table, table, table))
        sizes[name] = len(stream_of(changed, synthesise(changed), 0))
    assert sizes["standard"] < sizes["own"] < sizes["standard"] + 64


# ---- the API ----


def slide_tile(index: int) -> SourceJpeg:
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile("examples/CMU-1-Small-Region.svs") as slide:
        page = slide.pages[0]
        slide.filehandle.seek(page.dataoffsets[index])
        return SourceJpeg(slide.filehandle.read(page.databytecounts[index]), page.jpegtables, NONE)


def test_slide_tile_is_smaller_than_its_jpeg() -> None:
    source = slide_tile(63)
    pixels = synthesise(parse(source.data, source.tables, source.transform))
    data = dlpr.encode(pixels, source_jpeg=source)
    info = dlpr.inspect(data)
    assert (info.mode, info.shape, info.lossy_layer, info.weights_id) == ("jpeg", (240, 240, 3), True, None)
    assert sum(info.bytes_by_part.values()) == info.size == len(data)
    assert set(info.bytes_by_part) == {"header", "coefficients", "residual"}
    assert np.array_equal(dlpr.decode(data), pixels)
    assert len(data) < 0.7 * len(source.data)
    part = dlpr.encode(pixels[40:200, 30:222], source_jpeg=replace(source, offset=(40, 30)))
    assert dlpr.inspect(part).mode == "jpeg"
    chw = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))[None]
    again = dlpr.encode(chw, source_jpeg=source)
    assert np.array_equal(dlpr.decode(again), chw)
    assert len(again) == len(data)


def test_smallest_mode_wins() -> None:
    source = slide_tile(63)
    pixels = synthesise(parse(source.data, source.tables, source.transform))[:64, :64]
    usual = {tau: dlpr.encode(pixels, tau, jpeg="never") for tau in (0, 3, 40)}
    for tau, without in usual.items():
        chosen = dlpr.encode(pixels, tau, source_jpeg=source)
        assert len(chosen) <= len(without)
        assert int(np.abs(dlpr.decode(chosen).astype(int) - pixels).max()) <= tau
        assert dlpr.encode(pixels, tau, source_jpeg=source, jpeg="never") == without
    assert dlpr.inspect(dlpr.encode(pixels, 0, source_jpeg=source)).mode == "jpeg"
    for other in (b"", b"\xff\xd8", slide_tile(5).data, replace(source, offset=(200, 200)), None):
        assert dlpr.encode(pixels, 0, source_jpeg=other, jpeg="given") == usual[0]
        assert dlpr.encode(pixels, 0, source_jpeg=other) == dlpr.encode(pixels)
    unrelated = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    assert dlpr.encode(unrelated, source_jpeg=source) == dlpr.encode(unrelated)
    grey = pixels[..., 0]
    assert dlpr.encode(grey, source_jpeg=source) == dlpr.encode(grey)
    flat = np.full((64, 64, 3), 9, np.uint8)
    assert dlpr.inspect(dlpr.encode(flat, source_jpeg=source)).mode == "constant"
    mixed = dlpr.encode_batch([pixels, flat, pixels], source_jpegs=[source, source, None], jpeg="given")
    assert mixed == [dlpr.encode(pixels, source_jpeg=source), dlpr.encode(flat), usual[0]]


def test_plugins_decode_mode_jpeg(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    source = slide_tile(63)
    pixels = synthesise(parse(source.data, source.tables, source.transform))
    data = dlpr.encode(pixels, source_jpeg=source)
    assert np.array_equal(dlpr.DLPR().decode(data), pixels)
    if int(zarr.__version__.split(".", maxsplit=1)[0]) < 3:
        pytest.skip("zarr 3 for the rest")
    from dlpr.plugins.zarr import DLPRArrayBytesCodec

    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=pixels.shape,
        chunks=pixels.shape,
        dtype="uint8",
        serializer=DLPRArrayBytesCodec(),
        compressors=None,
    )
    array[:] = pixels ^ 1
    (chunk,) = (path for path in (tmp_path / "a.zarr" / "c").rglob("*") if path.is_file())
    chunk.write_bytes(data)
    assert np.array_equal(zarr.open_array(tmp_path / "a.zarr", mode="r")[:], pixels)


def test_wrong_arguments() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8) + np.arange(8, dtype=np.uint8)[:, None, None]
    with pytest.raises(UnsupportedInputError, match="2 sources for 1 images"):
        dlpr.encode_batch([pixels], source_jpegs=[None, None])
    with pytest.raises(UnsupportedInputError, match="SourceJpeg"):
        dlpr.encode(pixels, source_jpeg=5)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedInputError, match="jpeg must be"):
        dlpr.EncoderOptions(jpeg="always")
    with pytest.raises(CorruptError, match="mode constant has no JPEG"):
        decode_planes([bitstream.parse(dlpr.encode(np.full((4, 4, 3), 1, np.uint8)))])
    with pytest.raises(ValueError, match="JPEG"):
        _native.jpeg_decode_batch([((8, 8, 9, 0, 0, 1, 1, 0, 0, 3), 0, b"\1\1\1\0", b"", None)], 1)


# ---- damage ----


def renamed(data: bytes, name: bytes) -> bytes:
    """The stream with another prior's name, or none."""
    stream = bitstream.parse(data)
    assert isinstance(stream.payload, JpegPayload)
    return bitstream.pack(replace(stream, payload=replace(stream.payload, prior=name)))


def forged(rng: np.random.Generator, data: bytes, priors: Sequence[bytes] = ()) -> bytes:
    """A stream with right checksums of bytes and something else wrong; ``priors``: names to put in."""
    stream = bitstream.parse(data)
    header, p = stream.header, stream.payload
    assert isinstance(p, JpegPayload)
    lossy, residual, n = bytearray(p.lossy_part), bytearray(p.residual_part), header.layout.channels
    kind = int(rng.integers(8 if priors else 7))
    if kind == 0:
        header = replace(header, height=int(rng.integers(1, 70)), width=int(rng.integers(1, 70)))
    elif kind == 1:
        p = replace(p, phase=(int(rng.integers(8)), int(rng.integers(8))))
    elif kind == 2:
        lossy[int(rng.integers(n))] = int(rng.integers(1, 202))
    elif kind == 3:
        lossy[int(rng.integers(n, len(lossy)))] ^= 1 << int(rng.integers(8))
    elif kind == 4:
        lossy[n:] = rng.bytes(int(rng.integers(1, 400)))
    elif kind == 5:
        residual = bytearray(rng.bytes(int(rng.integers(1, 200))))
    elif kind == 6:
        del lossy[int(rng.integers(n + 1, len(lossy) + 1)) :]
    else:
        p = replace(p, prior=[b"", rng.bytes(8), *priors][int(rng.integers(2 + len(priors)))])
    return bitstream.pack(Stream(header, replace(p, lossy_part=bytes(lossy), residual_part=bytes(residual))))


def outcome(data: bytes, layer: Literal["full", "lossy"] = "full") -> str | bytes:
    """Reason of the error, or the samples; any other exception fails the test."""
    try:
        return dlpr.decode(data, layer=layer).tobytes()
    except BitstreamError as error:
        return error.reason


@pytest.fixture(scope="module")
def priors() -> dict[int, dlpr.Prior]:
    """One for each number of components, known to this process."""
    rng, made = np.random.default_rng(12), {}
    for n, form in ((1, FORMS[5]), (3, FORMS[0])):
        prior = dlpr.Prior.learn([some_image(rng, form, 60) for _ in range(6)])
        assert prior is not None
        made[n] = remember(prior)
    return made


def streams(seed: int, count: int, priors: dict[int, dlpr.Prior] | None = None) -> list[bytes]:
    """Of every form; with priors, every other two name theirs."""
    rng = np.random.default_rng(seed)
    images = [some_image(rng, FORMS[i % 6], 28) for i in range(count)]
    named = [priors[im.components] if priors and i % 4 < 2 else None for i, im in enumerate(images)]
    return [
        stream_of(im, spoilt(rng, synthesise(im), 0.01 * (i % 2)), i % 3, prior)
        for i, (im, prior) in enumerate(zip(images, named, strict=True))
    ]


def check_forged(priors: dict[int, dlpr.Prior], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [prior.id for prior in priors.values()]
    good = streams(seed + 1, 24, priors)
    assert {data[24] >> 5 for data in good} == {0, 1}
    expected = [dlpr.decode(data).tobytes() for data in good]
    seen: Counter[str] = Counter()
    for i in range(count):
        data = forged(rng, good[i % 24], names)
        found = outcome(data)
        assert found in {"corrupt", "pixels", "prior", expected[i % 24]}, i
        seen[found if isinstance(found, str) else "decoded"] += 1
        assert outcome(data, "lossy") not in {"pixels", "checksum"}
    assert seen.total() - seen["decoded"] > 2 * count // 3
    assert min(seen[reason] for reason in ("corrupt", "pixels", "prior")) > count // 100, seen


def test_forged_streams_raise_or_give_the_pixels(priors: dict[int, dlpr.Prior]) -> None:
    check_forged(priors, 1500, 8)


@pytest.mark.full
def test_many_forged_streams_raise_or_give_the_pixels(priors: dict[int, dlpr.Prior]) -> None:
    check_forged(priors, 10_000, 13)


@pytest.mark.full
def test_many_damaged_streams_are_refused(priors: dict[int, dlpr.Prior]) -> None:
    """Flips, cuts and other bytes under the checksums that were right before."""
    rng = np.random.default_rng(14)
    good = streams(15, 24, priors)
    for i in range(10_000):
        data = bytearray(good[i % 24])
        at = int(rng.integers(16, len(data)))
        kind = int(rng.integers(3))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[at:]
        else:
            data[at : at + 9] = rng.bytes(9)
        assert outcome(bytes(data)) in {"checksum", "truncated"}, i


def test_forgeries_mean_the_same_to_the_reference(
    monkeypatch: pytest.MonkeyPatch, priors: dict[int, dlpr.Prior]
) -> None:
    monkeypatch.setattr(bitstream, "check_pixels", lambda *_: None)
    rng = np.random.default_rng(10)
    names = [prior.id for prior in priors.values()]
    small = [data for data in streams(11, 40, priors) if len(data) < 500][:8]
    assert {data[24] >> 5 for data in small} == {0, 1}
    outcomes = set()
    for i in range(60):
        data = forged(rng, small[i % len(small)], names)
        found = outcome(data)
        try:
            expected: str | bytes = reference.decode(data).tobytes()
        except BitstreamError as error:
            expected = error.reason
        assert found == expected, i
        outcomes.add(type(found))
    assert outcomes == {bytes, str}


def test_a_flat_thin_chunk_is_not_taken_for_a_short_lane() -> None:
    """Lanes as short as they can be: 4:2:0, one row, luma's second row of blocks not coded."""
    width = 1 << 22
    rows = [np.zeros((n, n * width // 16, 8, 8), np.int16) for n in (2, 1, 1)]
    tables = (standard_table(50), standard_table(150), standard_table(150))
    image = JpegImage(1, width, (0, 0), YCC, (2, 2), Upsampling.FANCY, True, tables, tuple(rows))
    pixels = synthesise(image)
    data = stream_of(image, pixels, 0)
    assert len(bitstream.parse(data).payload.lossy_part) < 6 * width // 16 // 4096  # type: ignore[attr-defined]
    assert np.array_equal(dlpr.decode(data), pixels)


def test_a_short_lane_cannot_claim_a_large_chunk() -> None:
    header = Header(Mode.JPEG, 0, Layout.of((8192, 8192, 3))[0], 8192, 8192, 0)
    payload = JpegPayload(NONE, (1, 1), Upsampling.FANCY, False, (0, 0), b"\x1e\0\0" + bytes(2000), b"")
    with pytest.raises(CorruptError):
        dlpr.decode(bitstream.pack(Stream(header, payload)))
