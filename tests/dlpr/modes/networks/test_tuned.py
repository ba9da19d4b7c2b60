"""Weights tuned to a slide: packed, named by streams, needed by decoders, refused where they are damaged."""

from __future__ import annotations

import base64
import gc
import hashlib
import lzma
import pickle
from pathlib import Path

import numpy as np
import pytest

import dlpr
from dlpr import bitstream, reference
from dlpr.errors import CorruptError, UnsupportedInputError, WeightsError
from dlpr.modes.networks import tuned as tuned_module
from dlpr.modes.networks import weights as store
from dlpr.modes.networks.tuned import Tuned, remember
from dlpr.plugins import CodecOptions

FIXED = (
    "RExQVAEAAADREQT+aMd2ef03elhaAAAA/xLZQQIAIQEQAAAAqHCOhuIC/QB4AAAAcH33ykrtm8751FNfSbJT3qVvvNhxWNgQcut8SOqnGaZDC6M4"
    "r8N9VBqtOEGsq0AWUNI+6F2ZTSVLxc4k8XfghD3/3o7Pencu70qTFJN1AIKQIdBGrROFcmfiMOcvR/mUlGM2IWfnYamU++uoPk9KMF81M56TWtQA"
    "AAGMAf6FCAA5G9neqAAK/AIAAAAAAFla"
)
"""Made by `changed` from the weights of format 3 that were shipped first; what it stands for never changes."""
FIXED_RAW = "c8f76d1fb0b0c3376168b0abec176f9dd2cb20429918ec7d26d4ea6370af88c7"
FIRST = bytes.fromhex("d11104fe68c77679")


def changed(weights_id: bytes) -> dict[str, np.ndarray]:
    """All tensors of some weights, some of RC and SQRC moved by some steps."""
    out = dict(store.find(weights_id).tensors)
    most, rng = 40, np.random.default_rng(18)
    moved = {"rc.hidden.1.weight": 3, "rc.bank_bias": 4, "rc.out.acc_bias": 2, "sqrc.masked.weight": 3}
    for name, count in moved.items():
        array = out[name].copy()
        at = rng.integers(0, array.size, count)
        array.reshape(-1)[at] += rng.integers(-most, most, count).astype(array.dtype)
        out[name] = array
    return out


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process know no tuned weights."""
    monkeypatch.setattr(store, "KNOWN", type(store.KNOWN)())
    monkeypatch.setattr(tuned_module, "_recent", type(tuned_module._recent)())


@pytest.fixture
def tuned(forget: None) -> Tuned:
    base = store.default_id()
    return Tuned.between(store.find(base), changed(base))


def pixels(side: int = 48) -> np.ndarray:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:side, :side]
    wave = np.stack([150 + 40 * np.sin(x / 9 + c) * np.cos(y / 7) for c in range(3)], -1)
    return np.clip(wave + rng.normal(0, 4, wave.shape), 0, 255).astype(np.uint8)


def test_tensors_survive(tuned: Tuned) -> None:
    want, base = changed(tuned.base), store.find(tuned.base)
    found = tuned.weights
    assert (found.id, found.profile) == (tuned.id, base.profile)
    assert found.id == hashlib.sha256(tuned.data).digest()[:8]
    assert set(found.tensors) == set(want)
    for name, array in want.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    again = Tuned.between(base, want)
    assert again.raw == tuned.raw
    assert len(again.data) < 1000


def test_bytes_mean_the_same_for_ever(forget: None) -> None:
    fixed = Tuned(base64.b64decode(FIXED))
    assert (fixed.base, fixed.id.hex(), len(fixed.raw)) == (FIRST, "c74f67cb30c4079b", 131838)
    assert hashlib.sha256(fixed.raw).hexdigest() == FIXED_RAW
    if FIRST.hex() in store.installed():
        for name, array in changed(FIRST).items():
            np.testing.assert_array_equal(fixed.weights[name], array)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "int32"])
def test_any_value_of_a_type_survives(kind: str) -> None:
    limits, rng = np.iinfo(kind), np.random.default_rng(0)
    old, new = (rng.integers(limits.min, limits.max, (7, 5), kind, endpoint=True) for _ in range(2))
    old[0, :2], new[0, :2] = (limits.min, limits.max), (limits.max, limits.min)
    found = tuned_module._unpack(old, tuned_module._pack(old, new))
    assert found.dtype == new.dtype
    np.testing.assert_array_equal(found, new)
    assert not found.flags.writeable


@pytest.mark.parametrize("tau", [0, 2])
def test_streams_name_them_and_every_decoder_needs_them(tuned: Tuned, tau: int) -> None:
    x = pixels()
    plain, data = (dlpr.encode(x, tau, jpeg="never", colour="never", tuned=t) for t in (None, tuned))
    assert plain != data
    assert dlpr.inspect(data).weights_id == tuned.id.hex()
    stream = bitstream.parse(data)
    np.testing.assert_array_equal(dlpr.decode(data), reference.decode(data))
    assert np.abs(dlpr.decode(data).astype(int) - x).max() <= tau
    assert stream.header.tau == tau


def test_forgotten_weights_are_refused_by_name(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuned_module, "KEPT", 0)
    x, packed = pixels(), tuned.data
    data = dlpr.encode(x, jpeg="never", colour="never", tuned=packed)
    held = remember(packed)
    np.testing.assert_array_equal(dlpr.decode(data), x)
    name = held.id
    del held, tuned
    gc.collect()
    with pytest.raises(WeightsError, match=name.hex()) as caught:
        store.find(name)
    assert "tuned" in caught.value.message
    np.testing.assert_array_equal(dlpr.decode(data, tuned=packed), x)


def test_planes_of_mode_colour_use_them(tuned: Tuned) -> None:
    from PIL import Image

    rgb = np.asarray(Image.fromarray(pixels(64), "YCbCr").convert("RGB"))
    data = dlpr.encode(rgb, jpeg="never", tuned=tuned)
    assert (dlpr.inspect(data).mode, dlpr.inspect(data).weights_id) == ("colour", tuned.id.hex())
    np.testing.assert_array_equal(dlpr.decode(data), rgb)


def test_what_is_known_is_not_unpacked_again(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    held = remember(tuned)
    monkeypatch.setattr(tuned_module, "lzma", None)
    assert remember(tuned.data) is remember(bytearray(tuned.data)) is held  # type: ignore[arg-type]
    assert CodecOptions(tuned=base64.b64encode(tuned.data).decode()).known_tuned is held
    assert pickle.loads(pickle.dumps(held)) is held


def test_options_carry_them(tuned: Tuned) -> None:
    config = CodecOptions(tau=1, tuned=tuned).to_config()
    assert config == {"tau": 1, "tuned": base64.b64encode(tuned.data).decode()}
    assert CodecOptions.from_config(config).known_tuned == tuned
    for wrong in ("no base64", 3, base64.b64encode(b"DLPT").decode()):
        with pytest.raises((TypeError, ValueError)):
            CodecOptions.from_config({"tuned": wrong})
    codec = dlpr.DLPR(tuned=tuned)
    x = np.ascontiguousarray(pixels().transpose(2, 0, 1))
    data = codec.encode(x)
    assert dlpr.inspect(data).weights_id in (tuned.id.hex(), None)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(codec)).decode(data), x)
    two = CodecOptions.tuned_to_tiff([tuned, tuned])
    assert CodecOptions.tuned_of_tiff(two) == (tuned, tuned)
    for bad in (two[:-1], two + b"\1", b"\xff\xff\xff\xff"):
        with pytest.raises(CorruptError):
            CodecOptions.tuned_of_tiff(bad)


def test_two_names_for_weights_are_refused(tuned: Tuned) -> None:
    with pytest.raises(UnsupportedInputError, match="weights_id"):
        dlpr.encode(pixels(), tuned=tuned, weights_id=store.default_id())
    with pytest.raises(UnsupportedInputError):
        dlpr.encode(pixels(), tuned=3)
    with pytest.raises(UnsupportedInputError):
        dlpr.decode(dlpr.encode(pixels()), tuned=3)  # type: ignore[arg-type]


def _sealed(raw: bytes, head: bytes) -> bytes:
    return head + lzma.compress(raw, lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=tuned_module._FILTERS)


def test_damaged_ones_are_refused(tuned: Tuned) -> None:
    head, data = tuned.data[:16], tuned.data
    bad = [b"", data[:16], data[:-1], data + b"\0", b"DLPP" + data[4:], head[:4] + b"\2" + data[5:], head[:5] + b"\1"]
    bad += [data[:6] + b"\1" + data[7:], bytes(200 * 1024), _sealed(bytes(5 << 20), head)]  # too large unpacked
    for wrong in bad:
        with pytest.raises(CorruptError, match="tuned weights"):
            Tuned(wrong)
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(data), 200):
        spoilt = bytearray(data)
        spoilt[at] ^= 1 << int(rng.integers(8))
        try:
            found = Tuned(bytes(spoilt))
            assert found.id != tuned.id
            _ = found.weights
        except (CorruptError, WeightsError):
            pass


def test_weights_that_no_decoder_may_use_are_refused(tuned: Tuned) -> None:
    base = store.find(tuned.base)
    raw = np.frombuffer(tuned.raw, np.uint8)
    with pytest.raises(WeightsError, match="bytes of differences"):
        _ = Tuned(_sealed(tuned.raw[:-1], tuned.data[:16])).weights
    with pytest.raises(WeightsError, match="bytes of differences"):
        _ = Tuned(_sealed(tuned.raw + b"\0", tuned.data[:16])).weights
    other = Tuned(_sealed(tuned.raw, tuned.data[:8] + b"nobody's"))
    with pytest.raises(WeightsError, match=b"nobody's".hex()):
        _ = other.weights
    wild = raw.copy()
    wild[:] = 255  # zigzag of the smallest value: shifts and sums out of all bounds
    with pytest.raises(WeightsError):
        _ = Tuned(_sealed(wild.tobytes(), tuned.data[:16])).weights
    lic = dict(base.tensors)
    lic["lic.z_mean"] = lic["lic.z_mean"] + np.int16(1)
    with pytest.raises(WeightsError, match="RC and SQRC"):
        Tuned.between(base, lic)


def test_no_file_is_needed(tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store.SEARCH_PATH, str(tmp_path))
    remember(tuned)
    assert store.find(tuned.id).source == f"tuned weights {tuned.id.hex()}"
    assert tuned.id.hex() not in store.installed()
