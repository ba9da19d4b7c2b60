"""``device=`` in Zarr: a choice of the process, not of the array."""

import json
import pickle

import numpy as np
import pytest

pytest.importorskip("torch")
zarr = pytest.importorskip("zarr", minversion="3")

import dlpr  # noqa: E402
from dlpr.errors import UnsupportedInputError  # noqa: E402
from dlpr.plugins import use_device  # noqa: E402

PIXELS = np.random.default_rng(0).integers(90, 120, (3, 16, 32)).astype(np.uint8)


@pytest.fixture(autouse=True)
def _no_default():
    yield
    use_device(None)


@pytest.mark.parametrize("version", [2, 3])
def test_not_stored_and_the_same_bytes(tmp_path, version):
    where = {"compressor": dlpr.DLPR(device="cpu")} if version == 2 else {"serializer": dlpr.DLPR(device="cpu")}
    plain = {"compressor": dlpr.DLPR()} if version == 2 else {"serializer": dlpr.DLPR()}
    if version == 3:
        where["compressors"] = plain["compressors"] = None
    for name, options in (("device", where), ("plain", plain)):
        array = zarr.create_array(
            tmp_path / name, shape=PIXELS.shape, chunks=(3, 16, 16), dtype="u1", zarr_format=version, **_named(options)
        )
        array[:] = PIXELS
    stored = [
        {str(p.relative_to(tmp_path / n)): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()}
        for n in ("device", "plain")
    ]
    assert stored[0] == stored[1]
    meta = (tmp_path / "device" / (".zarray" if version == 2 else "zarr.json")).read_text()
    assert "device" not in json.loads(meta)
    assert "cpu" not in meta
    device = dlpr.Device("cpu")
    use_device(device)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "plain", mode="r")[:], PIXELS)
    assert device.done["decoded"] == 2


def _named(options):
    """zarr 3 names the codec of format 2 in the plural."""
    return {"compressors": options["compressor"]} if "compressor" in options else options


def test_an_object_with_a_device():
    codec = dlpr.DLPR(1, device="cpu")
    assert codec.device.name == "cpu"
    assert repr(codec) == "DLPR(tau=1, device='cpu')"
    assert codec == dlpr.DLPR(1)
    assert pickle.loads(pickle.dumps(codec)).device.name == "cpu"
    with pytest.raises(UnsupportedInputError):
        dlpr.DLPR(device="gpu")
    with pytest.raises(UnsupportedInputError):
        use_device("gpu")
