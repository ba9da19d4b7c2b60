"""The public API: round trips, the bound tau, independence of threads, batches and SIMD, parts, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import dlpr
from dlpr import _native
from dlpr.bitstream import HEADER_SIZE
from dlpr.errors import ChecksumError, DlprError, TruncatedError, UnsupportedError, UnsupportedInputError, WeightsError
from dlpr.modes.networks import mode as networks_mode
from dlpr.modes.networks import weights as weights_store

KINDS = ("noise", "smooth", "blocks", "odd pixel", "two values")


def picture(kind: str, height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """An image [H, W, channels] of some kind; the same one for the same arguments."""
    rng = np.random.default_rng([seed, height, width, channels, KINDS.index(kind)])
    shape = (height, width, channels)
    if kind == "noise":
        return rng.integers(0, 256, shape, np.uint8)
    if kind == "smooth":
        y, x = np.mgrid[:height, :width]
        wave = 128 + 90 * np.sin(y / rng.uniform(3, 30) + x / rng.uniform(3, 30))
        return np.clip(wave[..., None] + rng.normal(0, 4, shape) - 9 * np.arange(channels), 0, 255).astype(np.uint8)
    if kind == "blocks":
        small = rng.integers(0, 256, (-(-height // 8), -(-width // 8), channels), np.uint8)
        return np.ascontiguousarray(small.repeat(8, 0).repeat(8, 1)[:height, :width])
    if kind == "odd pixel":
        image = np.full(shape, rng.integers(0, 256), np.uint8)
        image[rng.integers(height), rng.integers(width), rng.integers(channels)] ^= 255
        return image
    return rng.choice(np.array([3, 250], np.uint8), shape)


def as_layout(image: np.ndarray, layout: str, leading: int) -> np.ndarray:
    """[H, W, channels] in another layout."""
    core = {"HWC": image, "CHW": np.moveaxis(image, -1, 0), "HW": image[..., 0]}[layout]
    return core.reshape((1,) * leading + core.shape)


def largest_error(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(np.int16) - b.astype(np.int16)).max())


def mixed_batch(count: int) -> list[np.ndarray]:
    """Images of mixed kinds, sizes and layouts; some become constant, some stored streams."""
    rng = np.random.default_rng(11)
    out = []
    for i in range(count):
        height, width = (int(v) for v in rng.integers(1, 44, 2))
        channels = (3, 3, 3, 1)[i % 4]
        image = picture(KINDS[i % len(KINDS)], height, width, channels, i)
        if i % 9 == 0:
            image = np.full_like(image, i)
        out.append(as_layout(image, ("HWC", "CHW")[i // 4 % 2] if channels == 3 else "HW", i % 3))
    return out


# ---- round trips ----------------------------------------------------------------------------------------

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "lossy_layer": st.booleans(),
        "min_lossy_side": st.sampled_from([1, 8, 32]),
        "anchor": st.sampled_from(["base", "lossy"]),
        "patch": st.sampled_from([None, 32, 64, 128, 256]),
        "lanes": st.sampled_from([1, 2, 4, 8, 16, 32]),
        "linear_stage": st.booleans(),
        "coefficient_bits": st.integers(4, 12),
        "coefficient_price": st.sampled_from([0.0, 0.01, 6.0, 1000.0, 1e6]),
        "search": st.booleans(),
        "bank_entry": st.none() | st.integers(0, 3),
    },
)
LAYOUTS = st.sampled_from([("HWC", 3), ("CHW", 3), ("HWC", 1), ("CHW", 1), ("HW", 1)])
TAUS = st.sampled_from([0, 0, 1, 2, 3, 4, 5, 6, 9, 15, 60, 127, 254, 255])


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    layout=LAYOUTS,
    leading=st.integers(0, 3),
    tau=TAUS,
    options=OPTIONS,
    seed=st.integers(0, 99),
)
@example("smooth", 70, 70, ("CHW", 3), 1, 2, {"anchor": "lossy", "patch": 32, "lanes": 32}, 1)
@example("noise", 1, 70, ("HW", 1), 7, 0, {"min_lossy_side": 1}, 1)
@example("noise", 3, 3, ("HWC", 3), 0, 0, {}, 1)
def test_round_trip(
    kind: str,
    height: int,
    width: int,
    layout: tuple[str, int],
    leading: int,
    tau: int,
    options: dict[str, Any],
    seed: int,
) -> None:
    image = as_layout(picture(kind, height, width, layout[1], seed), layout[0], leading)
    data = dlpr.encode(image, tau, threads=1, **options)
    back = dlpr.decode(data, threads=1)
    assert (back.shape, back.dtype) == (image.shape, np.uint8)
    assert largest_error(back, image) <= tau
    assert back.flags.c_contiguous
    assert back.flags.writeable
    info = dlpr.inspect(data)
    assert (info.shape, info.tau, info.size) == (image.shape, tau, len(data))
    assert sum(info.bytes_by_part.values()) == info.size <= HEADER_SIZE + image.size


@pytest.mark.parametrize("tau", range(256))
def test_every_tau(tau: int) -> None:
    image = picture("smooth", 9, 11, 3, tau)
    assert largest_error(dlpr.decode(dlpr.encode(image, tau, threads=1)), image) <= tau


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 1), (1, 300), (300, 1), (33, 257), (257, 33)])
def test_thin_and_odd_images(height: int, width: int, channels: int) -> None:
    image = picture("smooth", height, width, channels)
    for options in ({}, {"min_lossy_side": 1, "patch": 32, "lanes": 4}):
        for tau in (0, 2):
            assert largest_error(dlpr.decode(dlpr.encode(image, tau, threads=1, **options)), image) <= tau


def test_memory_order_does_not_matter() -> None:
    image = picture("smooth", 40, 36, 3)
    expected = dlpr.encode(image)
    wide = np.zeros((80, 108, 3), np.uint8)
    wide[::2, ::3] = image
    read_only = image.copy()
    read_only.setflags(write=False)
    same = [
        np.asfortranarray(image),
        image[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
        wide[::2, ::3],
        np.ascontiguousarray(image.transpose(1, 0, 2)).transpose(1, 0, 2),
        read_only,
        np.pad(image, 1)[1:-1, 1:-1, 1:-1],
    ]
    assert [dlpr.encode(a) == expected for a in same] == [True] * len(same)
    assert dlpr.encode(memoryview(image)) == expected


def test_buffers_of_every_kind_decode() -> None:
    image = picture("smooth", 20, 20, 3)
    data = dlpr.encode(image)
    for buffer in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8), memoryview(b"x" + data)[1:]):
        assert (dlpr.decode(buffer) == image).all()
        assert dlpr.inspect(buffer) == dlpr.inspect(data)


def test_results_do_not_share_memory_with_the_stream() -> None:
    image = picture("noise", 8, 8, 3)
    data = bytearray(dlpr.encode(image))
    assert dlpr.inspect(data).mode == "stored"
    back = dlpr.decode(data)
    data[:] = bytes(len(data))
    assert (back == image).all()


# ---- sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0, 1, 5, 255])
def test_constant_tiles_are_tiny(tau: int) -> None:
    rng = np.random.default_rng(tau)
    flat = np.full((256, 256, 3), (200, 130, 180), np.uint8)
    spread = np.clip(flat + rng.integers(-tau, tau + 1, flat.shape), 0, 255).astype(np.uint8)
    for image in (flat, spread):
        data = dlpr.encode(image, tau)
        assert len(data) <= 40
        assert dlpr.inspect(data).mode == "constant"
        assert largest_error(dlpr.decode(data), image) <= tau


def test_almost_constant_is_not_taken_for_constant() -> None:
    image = np.full((64, 64, 3), 255, np.uint8)
    image[63, 63, 2] = 252
    assert dlpr.inspect(dlpr.encode(image, 1)).mode != "constant"
    assert dlpr.inspect(dlpr.encode(image, 2)).mode == "constant"


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1), (5, 7, 3), (64, 64), (256, 256, 3)])
def test_noise_never_grows_by_more_than_the_header(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
    for tau in (0, 1):
        data = dlpr.encode(image, tau)
        assert len(data) <= image.size + HEADER_SIZE
        assert largest_error(dlpr.decode(data), image) <= tau


# ---- independence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0, 2])
def test_threads_do_not_matter(tau: int) -> None:
    images = [*mixed_batch(10), picture("smooth", 100, 90, 3)]
    options = {"patch": 32, "lanes": 2}
    expected = dlpr.encode_batch(images, tau, threads=1, **options)
    pixels = dlpr.decode_batch(expected, threads=1)
    for threads in range(2, 9):
        assert dlpr.encode_batch(images, tau, threads=threads, **options) == expected
        assert all(map(np.array_equal, dlpr.decode_batch(expected, threads=threads), pixels))
    for threads in range(1, 9):  # alone, all threads work inside one chunk
        assert dlpr.encode(images[-1], tau, threads=threads, **options) == expected[-1]
        assert np.array_equal(dlpr.decode(expected[-1], threads=threads), pixels[-1])


def test_batches_do_not_matter() -> None:
    images = mixed_batch(64)
    alone = [dlpr.encode(image, 1, threads=1) for image in images]
    pixels = [dlpr.decode(data, threads=1) for data in alone]
    assert {dlpr.inspect(data).mode for data in alone} == {"coded", "constant", "stored"}
    for size in (1, 2, 5, 17, 63, 64):
        for at in range(0, 64, size) if size > 2 else (0, 30):
            part = slice(at, at + size)
            assert dlpr.encode_batch(images[part], 1, threads=2) == alone[part]
            assert all(map(np.array_equal, dlpr.decode_batch(alone[part], threads=2), pixels[part]))
    order = np.random.default_rng(0).permutation(64)
    assert dlpr.encode_batch([images[i] for i in order], 1) == [alone[i] for i in order]


def test_a_batch_mixes_tau_options_and_modes() -> None:
    image = picture("smooth", 50, 40, 3)
    streams = [dlpr.encode(image, tau, patch=p, lossy_layer=p > 32) for tau in (0, 1, 8, 255) for p in (32, 64)]
    for data, back in zip(streams, dlpr.decode_batch(streams), strict=True):
        assert np.array_equal(back, dlpr.decode(data))


def test_empty_batches() -> None:
    assert dlpr.encode_batch([]) == []
    assert dlpr.decode_batch([]) == []


def test_the_encoder_is_deterministic() -> None:
    images = mixed_batch(12)
    assert dlpr.encode_batch(images, 3) == dlpr.encode_batch([image.copy() for image in images], 3)


@pytest.mark.parametrize("simd", _native.simd_available())
def test_simd_does_not_matter(simd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [*mixed_batch(16), picture("smooth", 70, 130, 3)]
    runs: list[tuple[int, dict[str, Any]]] = [(0, {}), (1, {"anchor": "lossy"}), (15, {"patch": 32, "lanes": 8})]
    expected = [dlpr.encode_batch(images, tau, **options) for tau, options in runs]
    pixels = [dlpr.decode_batch(streams) for streams in expected]
    lossy = dlpr.decode(expected[0][-1], layer="lossy")

    usual = networks_mode.native_model
    monkeypatch.setattr(networks_mode, "native_model", lambda weights_id: usual(weights_id, simd))
    assert networks_mode.native_model(weights_store.default_id()).simd == simd
    for (tau, options), streams, arrays in zip(runs, expected, pixels, strict=True):
        assert dlpr.encode_batch(images, tau, **options) == streams
        assert all(map(np.array_equal, dlpr.decode_batch(streams), arrays))
    assert np.array_equal(dlpr.decode(expected[0][-1], layer="lossy"), lossy)


def test_the_scalar_twin_is_always_there() -> None:
    assert _native.simd_available()[0] == "scalar"


# ---- parts of a stream ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["HWC", "CHW", "HW"])
@pytest.mark.parametrize("tau", [0, 3])
def test_the_lossy_layer_needs_its_prefix_and_no_more(layout: str, tau: int) -> None:
    image = as_layout(picture("smooth", 70, 130, 1 if layout == "HW" else 3), layout, 1)
    data = dlpr.encode(image, tau)
    info = dlpr.inspect(data)
    assert info.lossy_layer
    assert info.lossy_prefix == info.bytes_by_part["header"] + info.bytes_by_part["lossy"] < len(data)
    preview = dlpr.decode(data[: info.lossy_prefix], layer="lossy")
    assert (preview.shape, preview.dtype) == (image.shape, np.uint8)
    assert np.array_equal(preview, dlpr.decode(data, layer="lossy"))
    assert largest_error(preview, image) < 128
    assert np.array_equal(preview, dlpr.decode(data[: info.lossy_prefix] + b"anything", layer="lossy"))
    for cut in (0, 23, 24, 51, 52, info.lossy_prefix - 1):
        with pytest.raises(TruncatedError):
            dlpr.decode(data[:cut], layer="lossy")
    for at in range(40, info.lossy_prefix, 7):
        damaged = bytearray(data)
        damaged[at] ^= 4
        with pytest.raises(DlprError):
            dlpr.decode(damaged, layer="lossy")


def test_constant_and_stored_streams_are_their_own_preview() -> None:
    for image in (np.full((40, 40, 3), 9, np.uint8), picture("noise", 40, 40, 3)):
        data = dlpr.encode(image)
        assert dlpr.inspect(data).lossy_prefix == len(data)
        assert np.array_equal(dlpr.decode(data, layer="lossy"), image)


def test_without_a_lossy_layer_there_is_no_preview() -> None:
    data = dlpr.encode(picture("smooth", 40, 40, 3), lossy_layer=False)
    assert not dlpr.inspect(data).lossy_layer
    with pytest.raises(UnsupportedError, match="no lossy layer"):
        dlpr.decode(data, layer="lossy")
    with pytest.raises(UnsupportedInputError, match="layer"):
        dlpr.decode(data, layer="residual")  # type: ignore[arg-type]


def test_inspect() -> None:
    image = picture("smooth", 70, 130, 3)
    info = dlpr.inspect(dlpr.encode(image, 2, patch=64, lanes=4))
    assert (info.mode, info.tau, info.shape, info.layout) == ("coded", 2, (70, 130, 3), "HWC")
    assert (info.patch, info.lanes, info.lossy_layer) == (64, 4, True)
    assert info.weights_id == weights_store.default_id().hex()
    assert set(info.bytes_by_part) == {"header", "lossy", "linear", "lanes"}
    assert sum(info.bytes_by_part.values()) == info.size
    assert info.bits_per_pixel == 8 * info.size / (70 * 130)
    stored = dlpr.inspect(dlpr.encode(picture("noise", 9, 9, 3)))
    assert (stored.mode, stored.weights_id, stored.patch) == ("stored", None, None)
    assert stored.bytes_by_part == {"header": 24, "payload": 243}


def test_errors_name_the_stream_of_the_batch() -> None:
    good = dlpr.encode(picture("smooth", 9, 9, 3))
    with pytest.raises(ChecksumError) as caught:
        dlpr.decode_batch([good, good[:-1]])
    assert any("stream 1" in note for note in caught.value.__notes__)


# ---- refusals -------------------------------------------------------------------------------------------

GOOD = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (GOOD.astype(np.float32), "float32"),
        (GOOD.astype(np.uint16), "uint16"),
        (GOOD.astype(np.int8), "int8"),
        (GOOD.astype(bool), "bool"),
        (np.zeros((8, 8, 2), np.uint8), r"\(8, 8, 2\)"),
        (np.zeros((8, 8, 4), np.uint8), r"\(8, 8, 4\)"),
        (np.zeros((2, 8, 8), np.uint8), r"\(2, 8, 8\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"\(2, 8, 8, 3\)"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"\(2, 3, 8, 8\)"),
        (np.zeros((1,) * 8 + (8, 8, 3), np.uint8), "leading axes"),
        (np.zeros(8, np.uint8), r"\(8,\)"),
        (np.zeros((), np.uint8), r"\(\)"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        (np.zeros((8, 0), np.uint8), "no pixels"),
        (np.broadcast_to(np.uint8(0), (8193, 8193)), "67108864|8193"),
    ],
)
def test_refused_images(image: np.ndarray, word: str) -> None:
    with pytest.raises(UnsupportedInputError, match=word) as caught:
        dlpr.encode(image)
    assert caught.value.reason == "input"
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("tau", [-1, 256, 1.5, 1.0, True, None, "1", np.float64(2)])
def test_refused_tau(tau: Any) -> None:
    with pytest.raises(UnsupportedInputError, match="tau must be an integer in 0"):
        dlpr.encode(GOOD, tau)


def test_tau_may_be_a_numpy_integer() -> None:
    image = picture("smooth", 9, 9, 3)
    assert dlpr.encode(image, np.uint8(255)) == dlpr.encode(image, 255)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"quality": 90}, "quality"),
        ({"patch": 48}, "patch"),
        ({"patch": 16}, "patch"),
        ({"patch": 512}, "patch"),
        ({"lanes": 0}, "lanes"),
        ({"lanes": 3}, "lanes"),
        ({"lanes": 64}, "lanes"),
        ({"anchor": "x_tilde"}, "anchor"),
        ({"coefficient_bits": 3}, "coefficient_bits"),
        ({"coefficient_bits": 13}, "coefficient_bits"),
        ({"coefficient_price": -1.0}, "coefficient_price"),
        ({"coefficient_price": float("nan")}, "coefficient_price"),
        ({"bank_entry": 999}, "bank_entry"),
        ({"bank_entry": -2}, "bank_entry"),
        ({"threads": 0}, "threads"),
        ({"threads": -3}, "threads"),
    ],
)
def test_refused_options(options: dict[str, Any], word: str) -> None:
    with pytest.raises(UnsupportedInputError, match=word):
        dlpr.encode(picture("smooth", 40, 40, 3), **options)


def test_unknown_weights() -> None:
    with pytest.raises(WeightsError, match="0102030405060708") as caught:
        dlpr.encode(picture("smooth", 8, 8, 3), weights_id=bytes(range(1, 9)))
    assert caught.value.reason == "weights"


def test_a_chunk_with_too_many_blocks_gets_no_lossy_layer() -> None:
    """A thin chunk may have more 64-pixel blocks than the format allows a lossy layer (docs/format section 3)."""
    image = np.zeros((1, 64 * ((1 << 14) + 1)), np.uint8)
    image[0, ::4097] = 200
    data = dlpr.encode(image, min_lossy_side=1, search=False, bank_entry=0, patch=256)
    assert not dlpr.inspect(data).lossy_layer
    assert np.array_equal(dlpr.decode(data), image)


# ---- a fresh process ------------------------------------------------------------------------------------

FRESH = """
import json, sys, time
start = time.perf_counter()
import dlpr
with open(sys.argv[1], "rb") as file:
    image = dlpr.decode(file.read())
heavy = {"torch", "compressai", "zarr", "numcodecs", "openslide", "PIL"} & set(sys.modules)
print(json.dumps({"heavy": sorted(heavy), "shape": image.shape, "seconds": time.perf_counter() - start}))
"""


def fresh_process(data: bytes, path: Any) -> dict[str, Any]:
    path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_decoding_imports_nothing_heavy(tmp_path: Any) -> None:
    found = fresh_process(dlpr.encode(picture("smooth", 64, 64, 3)), tmp_path / "tile.dlpr")
    assert found["heavy"] == []
    assert found["shape"] == [64, 64, 3]


@pytest.mark.full
def test_cold_start(tmp_path: Any) -> None:
    data = dlpr.encode(picture("smooth", 256, 256, 3))
    assert min(fresh_process(data, tmp_path / "tile.dlpr")["seconds"] for _ in range(3)) <= 1.0


# ---- memory ---------------------------------------------------------------------------------------------

PEAK = """
import resource, sys
import numpy as np, dlpr
y, x = np.mgrid[:4096, :4096].astype(np.int32)
image = ((x * 3 + y * 5 + (x * y >> 7)) & 255).astype(np.uint8)
image = np.stack([image, image >> 1, np.random.default_rng(0).integers(0, 32, image.shape, np.uint8) + image // 2], -1)
del y, x
tiles = [image[i : i + 256, j : j + 256] for i in range(0, 4096, 256) for j in range(0, 4096, 256)]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def now():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
before = now()
streams = dlpr.encode_batch(tiles, int(sys.argv[1]), threads=2)
after_encode = peak()
tiles = image = None
start = now()
back = dlpr.decode_batch(streams, threads=2)
print(before, after_encode, start, peak(), sum(b.size for b in back))
"""


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("tau", [0, 3])
def test_memory_of_a_large_image(tau: int) -> None:
    """Peak of encoding or decoding 4096 x 4096 px as 256 tiles: at most 1 GiB above the pixels."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tau)], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    before, after_encode, start, after_decode, pixels = map(int, done.stdout.split())
    assert pixels == 3 << 24
    assert after_encode - before <= 1 << 30
    assert after_decode - start - pixels <= 1 << 30
