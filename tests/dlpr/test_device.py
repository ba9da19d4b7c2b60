"""``device=``: the same streams and pixels as without, errors by name, memory that is predicted and may run out."""

from __future__ import annotations

import subprocess
import sys
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest

import dlpr
from dlpr.errors import BitstreamError, DeviceError, DeviceWarning, UnsupportedInputError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "v3"


def image(side: int, seed: int = 0, noise: float = 4) -> np.ndarray:
    """Smooth pixels with noise, which no other mode codes smaller than the networks."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side][..., None]
    a = 90 + 30 * np.sin(x / 5 + seed) + y * np.array([0.5, 0.2, 0.4]) + rng.normal(0, noise, (side, side, 3))
    return np.clip(a, 0, 255).astype(np.uint8)


@pytest.fixture
def torch():
    found = pytest.importorskip("torch")
    before = found.get_num_threads()
    found.set_num_threads(1)
    yield found
    found.set_num_threads(before)


# ---- what it gives ----


@pytest.mark.parametrize("tau", [0, 3])
def test_the_same_streams_and_pixels(torch, tau):
    images = [image(18), image(18, 1)[..., 0], np.full((16, 16, 3), 9, np.uint8), image(33, 2).transpose(2, 0, 1)]
    device = dlpr.Device("cpu")
    streams = dlpr.encode_batch(images, tau, device=device)
    assert streams == dlpr.encode_batch(images, tau)
    assert device.done["encoded"] >= 3
    pixels = dlpr.decode_batch(streams)
    for some, expected in ((4, images), (2, None)):  # without hopes pixel after pixel: the small ones
        got = dlpr.decode_batch(streams[:some], device=device, expected=expected)
        for a, want in zip(got, pixels, strict=False):
            np.testing.assert_array_equal(a, want)
    assert device.done["proven"] == device.done["encoded"]
    assert device.done["decoded"] == 2
    assert not device.done["decoded on the CPU"]
    assert dlpr.encode(images[0], tau, device="cpu") == streams[0]
    np.testing.assert_array_equal(dlpr.decode(streams[0], device="cpu"), pixels[0])


def test_planes_of_mode_colour(torch):
    name = "colour-420"
    source = np.load(GOLDEN / name / "input.npy")
    for tau in (0, 1):
        device = dlpr.Device("cpu")
        data = dlpr.encode(source, tau, device=device, jpeg="never")
        assert data == dlpr.encode(source, tau, jpeg="never")
        assert device.done["encoded"] > 1
        want = dlpr.decode(data)
        for expected in ([source], [np.zeros_like(source)]):
            np.testing.assert_array_equal(dlpr.decode_batch([data], device=device, expected=expected)[0], want)
        assert device.done["proven"]
    part = source[:16, :16]
    data = dlpr.encode(part, jpeg="never")
    np.testing.assert_array_equal(dlpr.decode(data, device="cpu"), part)


@pytest.mark.parametrize("name", ["constant", "stored", "jpeg-420", "j2k-53", "tiny"])
def test_streams_of_any_mode(torch, name):
    data = (GOLDEN / name / "stream.dlpr").read_bytes()
    np.testing.assert_array_equal(dlpr.decode(data, device="cpu"), dlpr.decode(data))


def test_wrong_hopes_and_damage(torch):
    images = [image(14, seed) for seed in range(3)]
    streams = dlpr.encode_batch(images)
    device = dlpr.Device("cpu")
    hopes = [images[1], None, images[2][:8]]  # another image, none, one of another size
    for got, want in zip(dlpr.decode_batch(streams, device=device, expected=hopes), images, strict=True):
        np.testing.assert_array_equal(got, want)
    assert device.done == {"decoded": 2, "decoded on the CPU": 1}
    broken = bytearray(streams[1])
    broken[-9] ^= 1
    with pytest.raises(BitstreamError):
        dlpr.decode_batch([streams[0], bytes(broken)], device=device, expected=images[:2])
    with pytest.raises(UnsupportedInputError, match="2 expected images for 3 streams"):
        dlpr.decode_batch(streams, device=device, expected=images[:2])


# ---- what cannot be ----


def test_a_device_that_nobody_knows(torch):
    for name in ("gpu", "", "cuda:x", 7):
        with pytest.raises(UnsupportedInputError, match="device"):
            dlpr.encode_batch([image(8)], device=name)
    with pytest.raises(UnsupportedInputError, match="number of bytes"):
        dlpr.Device("cpu", memory=0)


@pytest.mark.parametrize("name", ["cuda", "mps", "meta"])
def test_a_device_that_is_not_there(torch, name):
    if name != "meta" and getattr(torch, {"cuda": "cuda", "mps": "mps"}[name]).is_available():
        pytest.skip("it is")
    with pytest.raises(DeviceError, match=f"cannot use the device '{name}'") as caught:
        dlpr.decode_batch([], device=name)
    assert caught.value.reason == "device"


def test_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DeviceError, match=r"pip install 'dlpr-wsi\[gpu\]'") as caught:
        dlpr.encode_batch([image(8)], device="cuda")
    assert caught.value.reason == "torch"


def test_torch_is_not_loaded_unless_a_device_is_named():
    code = "import sys, numpy, dlpr; dlpr.decode(dlpr.encode(numpy.arange(768, dtype='u1').reshape(16, 16, 3)));"
    command = [sys.executable, "-c", f"{code} print('torch' in sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


# ---- memory ----


def test_too_little_memory_means_the_cpu(torch):
    images, small = [image(40, seed) for seed in range(3)], dlpr.Device("cpu", memory=1)
    with pytest.warns(DeviceWarning, match="3 chunks were done on the CPU"):
        streams = dlpr.encode_batch(images, device=small)
    assert streams == dlpr.encode_batch(images)
    with pytest.warns(DeviceWarning):
        got = dlpr.decode_batch(streams, device=small)
    np.testing.assert_array_equal(got, images)
    assert small.done == {"encoded on the CPU": 3, "decoded on the CPU": 3}


@pytest.mark.parametrize("error", ["OutOfMemoryError", "RuntimeError"])
def test_batches_are_halved_where_memory_runs_out(torch, monkeypatch, error):
    from dlpr.modes.networks import on_device

    plain, sizes = on_device.encode_chunks, []

    def scarce(planes, *rest):
        sizes.append(len(planes))
        if len(planes) > room:
            kind = torch.OutOfMemoryError if error == "OutOfMemoryError" else RuntimeError
            raise kind("CUDA out of memory. Tried to allocate 20.00 GiB")
        return plain(planes, *rest)

    monkeypatch.setattr(on_device, "encode_chunks", scarce)
    images, room = [image(20, seed) for seed in range(5)], 1
    want, device = dlpr.encode_batch(images), dlpr.Device("cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dlpr.encode_batch(images, device=device) == want
    assert sizes == [5, 2, 1, 1, 1, 1, 1]
    assert device.done == {"encoded": 5}
    room = 0
    with pytest.warns(DeviceWarning, match="5 chunks"):
        assert dlpr.encode_batch(images, device=device) == want
    assert device.done == {"encoded": 5, "encoded on the CPU": 5}


def test_other_failures_have_a_name(torch, monkeypatch):
    from dlpr.modes.networks import on_device

    def fails(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    monkeypatch.setattr(on_device, "encode_chunks", fails)
    with pytest.raises(DeviceError, match="cpu failed: CUDA error: an illegal memory access was encountered"):
        dlpr.encode_batch([image(20)], device="cpu")


def peak_bytes(torch, work) -> int:
    """Run, and return the largest sum of bytes of tensors that were alive at a time."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        live, peak, seen = 0, 0, set()

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else (out,):
                if not isinstance(tensor, torch.Tensor):
                    continue
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key in self.seen:
                    continue
                self.seen.add(key)
                size = storage.nbytes()
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self.gone, key, size)
            return out

        def gone(self, key, size):
            self.seen.discard(key)
            self.live -= size

    with Watch() as watch:
        work()
    return watch.peak


@pytest.mark.parametrize(("side", "count"), [(40, 2), (64, 3)])
def test_memory_is_predicted(torch, side, count):
    from dlpr.modes.networks import on_device

    images = [image(side, seed) for seed in range(count)]
    streams = dlpr.encode_batch(images)
    dlpr.encode_batch(images, device="cpu")  # weights are there from now on
    size = (count, side, side, min(on_device.CPU_SLAB, count * side * side))
    for work, predicted in (
        (lambda: dlpr.encode_batch(images, device="cpu"), on_device.encode_bytes(*size)),
        (lambda: dlpr.decode_batch(streams, device="cpu", expected=images), on_device.prove_bytes(*size)),
    ):
        peak = peak_bytes(torch, work)
        assert peak < predicted < 4 * peak + on_device.FIXED_BYTES


@pytest.mark.full
def test_memory_of_decoding_is_predicted(torch):
    from dlpr.modes.networks import on_device

    streams = dlpr.encode_batch([image(64, seed) for seed in range(4)], patch=64, lanes=8)
    dlpr.decode(streams[0], device="cpu")
    peak = peak_bytes(torch, lambda: dlpr.decode_batch(streams, device="cpu"))
    predicted = on_device.decode_bytes(4, 64, 64, 64)
    assert peak < predicted < 4 * peak + on_device.FIXED_BYTES
