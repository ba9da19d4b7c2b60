"""The slide's prior: learnt, packed, named by streams, needed by decoders; the coder on every instruction set."""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
import os
import pickle
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import dlpr
from dlpr import _native, bitstream, reference
from dlpr.errors import CorruptError, PriorError, UnsupportedInputError
from dlpr.layout import CODING_ORDER, Layout
from dlpr.modes.jpeg import prior as prior_module
from dlpr.modes.jpeg.extract import stored_jpeg
from dlpr.modes.jpeg.image import ColourTransform, JpegImage, Upsampling
from dlpr.modes.jpeg.prior import remember
from dlpr.modes.jpeg.stream import JpegCandidate, jpeg_streams
from dlpr.modes.jpeg.synthesis import synthesise
from dlpr.modes.jpeg.tables import standard_table
from dlpr.plugins import CodecOptions


def image(seed: int, side: int = 40, sampling: tuple[int, int] = (1, 1), components: int = 3) -> JpegImage:
    """Coefficients alike in all components, falling with frequency."""
    rng = np.random.default_rng(seed)
    v, h = sampling
    rows, columns = -(-side // (8 * v)), -(-side // (8 * h))
    fall = 6 / (1 + np.add.outer(np.arange(8), np.arange(8)))
    common = rng.laplace(0, 1, (rows * v, columns * h, 8, 8)) * fall
    own = [common, common[::v, ::h] * 0.6, common[::v, ::h] * -0.4][:components]
    transform = ColourTransform.YCBCR if components == 3 else ColourTransform.NONE
    return JpegImage(
        side,
        side,
        (0, 0),
        transform,
        sampling,
        Upsampling.FANCY,
        True,
        (standard_table(60),) * components,
        tuple(np.rint(q).astype(np.int16) for q in own),
    )


def coded(source: JpegImage, prior: dlpr.Prior | bytes | None) -> tuple[np.ndarray, bytes]:
    pixels = synthesise(source)
    pixels = pixels[..., 0] if source.components == 1 else pixels
    return pixels, dlpr.encode(pixels, source_jpeg=source, jpeg="given", prior=prior)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process know no prior."""
    for name in ("_known", "_recent"):
        monkeypatch.setattr(prior_module, name, type(getattr(prior_module, name))())


@pytest.fixture(scope="module")
def learnt() -> dlpr.Prior:
    found = dlpr.Prior.learn([image(seed, 96) for seed in range(12)])
    assert found is not None
    return found


@pytest.mark.parametrize("sampling", [(1, 1), (2, 2)])
def test_streams_with_a_prior_are_smaller_and_exact(learnt: dlpr.Prior, sampling: tuple[int, int]) -> None:
    source = image(77, 48, sampling)
    pixels, plain = coded(source, None)
    _, data = coded(source, learnt)
    if sampling == (1, 1):  # what was learnt
        assert len(data) < len(plain)
    assert data[24] == plain[24] | 32
    assert data[34:42] == learnt.id == hashlib.sha256(learnt.data).digest()[:8]
    assert np.array_equal(dlpr.decode(data), pixels)
    assert np.array_equal(reference.decode(data), pixels)
    assert np.array_equal(dlpr.decode(data[: dlpr.inspect(data).lossy_prefix], layer="lossy"), pixels)
    back = stored_jpeg(data)
    assert back is not None
    for a, b in zip(back.coefficients, source.coefficients, strict=True):
        assert np.array_equal(a, b)


def test_a_prior_of_another_number_of_components_is_not_used(learnt: dlpr.Prior) -> None:
    source = image(3, components=1)
    assert coded(source, learnt)[1] == coded(source, None)[1]


def test_a_stream_that_names_another_kind_of_prior_is_refused(learnt: dlpr.Prior) -> None:
    _, data = coded(image(5), learnt)
    grey = dlpr.Prior.learn([image(seed, 96, components=1) for seed in range(3)])
    assert grey is not None
    stream = dlpr.bitstream.parse(data)
    forged = dlpr.bitstream.pack(replace(stream, payload=replace(stream.payload, prior=grey.id)))
    for decode in (dlpr.decode, reference.decode):
        with pytest.raises(PriorError, match=grey.id.hex()):
            decode(forged)
    prior_module.remember(grey)
    for decode in (dlpr.decode, reference.decode):
        with pytest.raises(CorruptError, match="1 components"):
            decode(forged)


def test_a_known_prior_is_not_unpacked_again(learnt: dlpr.Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)
    pixels, data = coded(image(7), learnt)
    held = remember(learnt.data)
    monkeypatch.setattr(prior_module, "lzma", None)
    assert remember(learnt.data) is remember(dlpr.DLPR(prior=learnt.data)._options.prior) is held
    assert np.array_equal(dlpr.DLPR(prior=learnt.data).decode(data), pixels)


def test_a_missing_prior_is_refused_by_name(learnt: dlpr.Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, data = coded(image(5), learnt)
    forget(monkeypatch)
    with pytest.raises(PriorError, match=f"{learnt.id.hex()}.*metadata") as caught:
        dlpr.decode(data)
    assert (caught.value.reason, caught.value.offset) == ("prior", 34)
    assert dlpr.inspect(data).mode == "jpeg"
    assert np.array_equal(dlpr.decode(data, prior=learnt.data), pixels)


def test_priors_are_checked(learnt: dlpr.Prior) -> None:
    rng = np.random.default_rng(0)
    assert len(learnt.data) < prior_module.MAX_BYTES
    assert dlpr.Prior(learnt.data) == learnt
    data = learnt.data
    bad = [b"", data[:-1], data + b"\0", b"X" + data[1:], data[:5] + b"\1" + data[6:], data[:6] + b"\1" + data[7:]]
    for _ in range(100):
        at = int(rng.integers(len(data)))
        changed = data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :]
        bad.append(changed[: int(rng.integers(8, len(data)))])
    for wrong in bad:
        with pytest.raises(CorruptError):
            dlpr.Prior(wrong)
    with pytest.raises(UnsupportedInputError):
        dlpr.encode(np.zeros((8, 8, 3), np.uint8), prior=3)
    assert dlpr.Prior.learn([]) is None
    assert dlpr.Prior.learn([image(0, 96)], max_bytes=20) is None


def check_damaged(learnt: dlpr.Prior, count: int) -> None:
    """A damaged prior is refused, or is another one: no stream names it."""
    rng = np.random.default_rng(1)
    head = len(learnt.data) // 50
    refused = 0
    for i in range(count):
        data = bytearray(learnt.data)
        kind, at = i % 4, int(rng.integers(head if i % 3 else len(data)))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[int(rng.integers(len(data))) :]
        elif kind == 2:
            data[at : at + 5] = rng.bytes(5)
        else:
            data[at:at] = rng.bytes(int(rng.integers(1, 5)))
        if bytes(data) == learnt.data:
            continue
        try:
            assert dlpr.Prior(bytes(data)).id != learnt.id
        except CorruptError:
            refused += 1
    assert refused > count // 2


def test_damaged_priors(learnt: dlpr.Prior) -> None:
    check_damaged(learnt, 400)


@pytest.mark.full
def test_many_damaged_priors(learnt: dlpr.Prior) -> None:
    check_damaged(learnt, 10_000)


@pytest.mark.parametrize("components", [1, 3])
def test_any_legal_prior_means_the_same_to_every_decoder(components: int) -> None:
    """Slots and weights of all values, none of them learnt."""
    rng = np.random.default_rng(components)
    slots = components * prior_module.COMPONENT_SLOTS
    weights = components * (prior_module.FIRST_SETS + prior_module.SECOND_SETS) * 8
    for top in (8, 64, 128):
        codes = rng.integers(0, 97, slots, np.uint8) * (rng.random(slots) < 0.15)  # more would not fit
        raw = codes.tobytes() + rng.integers(-top, top, weights, np.int8).tobytes()
        head = struct.pack("<4sBBH", b"DLPP", 1, components, 0)
        prior = remember(head + lzma.compress(raw, lzma.FORMAT_XZ, filters=prior_module._FILTERS))
        source = image(top, 20, components=components)
        pixels = synthesise(source)
        layout, height, width = Layout.of(pixels.shape)
        header = bitstream.Header(bitstream.Mode.JPEG, 0, layout, height, width, 0)
        planes = pixels[..., list(CODING_ORDER)] if components == 3 else pixels
        (stream,) = jpeg_streams([JpegCandidate(header, planes, source)], prior=prior)
        assert stream is not None
        data = bitstream.pack(stream)
        assert data[34:42] == prior.id
        assert np.array_equal(dlpr.decode(data), pixels)
        assert np.array_equal(reference.decode(data), pixels)


def test_what_is_kept_fits(learnt: dlpr.Prior) -> None:
    small = dlpr.Prior.learn([image(seed, 96) for seed in range(12)], max_bytes=len(learnt.data) - 500)
    assert small is not None
    assert len(small.data) <= len(learnt.data) - 500
    slots, weights = learnt.native(3)
    pairs, sets = learnt.expanded(3)
    assert [(int(s) & 0xFFFF, int(s) >> 16) for s in slots] == pairs
    assert weights.tolist() == sets


def test_codec_configuration_carries_it(learnt: dlpr.Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, data = coded(image(9), learnt)
    options = CodecOptions(prior=learnt)
    stored = json.loads(json.dumps(options.to_config()))
    assert stored == {"tau": 0, "prior": base64.b64encode(learnt.data).decode()}
    forget(monkeypatch)
    assert CodecOptions.from_config(stored) == options
    assert np.array_equal(dlpr.decode(data), pixels)
    for wrong in ("?", 4, "AAAA"):
        with pytest.raises((TypeError, ValueError)):
            CodecOptions.from_config({"prior": wrong})
    numcodecs_codec = dlpr.DLPR(prior=learnt)
    again = pickle.loads(pickle.dumps(numcodecs_codec))
    assert again == numcodecs_codec
    forget(monkeypatch)
    assert np.array_equal(again.decode(data), pixels)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_arrays_carry_it(learnt: dlpr.Prior, version: int, tmp_path: object) -> None:
    zarr = pytest.importorskip("zarr", minversion="3")
    pixels, data = coded(image(9, 32), learnt)
    codec = dlpr.DLPR(prior=learnt)
    where = f"{tmp_path}/a.zarr"
    how = {"compressors": codec} if version == 2 else {"serializer": codec, "compressors": None}
    made = zarr.create_array(where, shape=(32, 32, 3), chunks=(32, 32, 3), dtype="u1", zarr_format=version, **how)
    made[:] = 0
    chunk = f"{where}/0.0.0" if version == 2 else f"{where}/c/0/0/0"
    made[:] = 1
    with open(chunk, "wb") as file:
        file.write(data)
    script = "import sys, zarr, hashlib; print(hashlib.sha256(zarr.open_array(sys.argv[1])[:].tobytes()).hexdigest())"
    done = subprocess.run([sys.executable, "-c", script, where], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(pixels.tobytes()).hexdigest()


SCRIPT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import numpy as np, test_prior, dlpr
from dlpr import _native
h = hashlib.sha256(_native.jpeg_simd().encode() and b"")
prior = dlpr.Prior.learn([test_prior.image(s, 96) for s in range(4)])
h.update(prior.data)
for seed, sampling in enumerate([(1, 1), (2, 1), (1, 2), (2, 2)]):
    source = test_prior.image(seed, 56, sampling)
    pixels = test_prior.synthesise(source).copy()
    for spoil in (False, True):
        if spoil:
            pixels[3:9, 5:20] ^= 3
        for given in (None, prior):
            data = dlpr.encode(pixels, source_jpeg=source, jpeg="given", prior=given)
            assert np.array_equal(dlpr.decode(data), pixels)
            h.update(data)
print(_native.jpeg_simd(), h.hexdigest())
"""


def test_every_instruction_set_writes_the_same_bytes() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    found = {}
    for level in ("scalar", "avx2"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, here],
            env={**os.environ, "DLPR_SIMD": level},
            capture_output=True,
            text=True,
            check=True,
        )
        name, digest = done.stdout.split()
        found[name] = digest
    assert "scalar" in found
    assert len(set(found.values())) == 1
    assert _native.jpeg_simd() in ("scalar", "avx2")
