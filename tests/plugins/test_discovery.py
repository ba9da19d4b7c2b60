"""Both entry points, found by processes that import neither dlpr nor dlpr_wsi."""

import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

from dlpr import DLPR

zarr = pytest.importorskip("zarr", minversion="3.0")

READER = """
import sys, numpy, zarr
assert not any(name.split(".")[0] == "dlpr" for name in sys.modules), "zarr imported dlpr by itself"
expected = numpy.load(sys.argv[1])
for path in sys.argv[2:]:
    assert (zarr.open(path, mode="r")[...] == expected).all(), path
assert "torch" not in sys.modules
print("read", len(sys.argv) - 2)
"""


def run(script, *args, cwd):
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("group", "attribute"), [("numcodecs.codecs", "DLPR"), ("zarr.codecs", "DLPRArrayBytesCodec")])
def test_entry_point(group, attribute):
    (entry,) = (point for point in metadata.entry_points(group=group) if point.name == "dlpr")
    assert entry.load().__name__ == attribute


def test_numcodecs_finds_the_codec_in_a_fresh_process(tmp_path):
    done = run("import numcodecs; print(numcodecs.get_codec({'id': 'dlpr', 'tau': 4}))", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("DLPR(tau=4)\n", 0), done.stderr


def test_arrays_reopen_in_a_fresh_process(tmp_path):
    image = np.random.default_rng(3).integers(180, 250, (3, 100, 90), dtype=np.uint8)
    common = {"shape": image.shape, "chunks": (3, 64, 64), "dtype": "uint8", "fill_value": 255}
    arrays = [
        zarr.open(str(tmp_path / "v2"), mode="w", zarr_format=2, compressor=DLPR(), **common),
        zarr.open(str(tmp_path / "v3"), mode="w", zarr_format=3, codecs=[DLPR()], **common),
        zarr.create_array(tmp_path / "shards", serializer=DLPR(), compressors=None, shards=(3, 128, 128), **common),
    ]
    for array in arrays:
        array[...] = image
    np.save(tmp_path / "image.npy", image)
    done = run(READER, tmp_path / "image.npy", tmp_path / "v2", tmp_path / "v3", tmp_path / "shards", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("read 3\n", 0), done.stderr
