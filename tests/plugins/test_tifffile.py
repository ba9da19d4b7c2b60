"""DLPR in TIFF files through tifffile: registration, decoding, and what happens where tifffile is another."""

import io
import subprocess
import sys

import numpy as np
import pytest

import dlpr
from dlpr.errors import BitstreamError, CorruptError, PluginError

tifffile = pytest.importorskip("tifffile")
plugin = pytest.importorskip("dlpr.plugins.tifffile")

RNG = np.random.default_rng(5)
IMAGE = np.clip(200 + RNG.normal(0, 9, (64, 128, 3)), 0, 255).astype(np.uint8)


def tiff(tiles, shape=(64, 128, 3), tile=(64, 64), photometric="rgb"):
    """Return a TIFF file whose tiles hold these streams."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(
            iter(tiles), shape=shape, dtype="uint8", tile=tile, photometric=photometric, compression=8, metadata=None
        )
    file.seek(0)
    with tifffile.TiffFile(file, mode="r+") as written:
        written.pages[0].tags[259].overwrite(plugin.COMPRESSION)
    return io.BytesIO(file.getvalue())


def halves(layout):
    return [layout(IMAGE[:, :64]), layout(IMAGE[:, 64:])]


@pytest.mark.parametrize(
    "layout",
    [lambda x: x, lambda x: x.transpose(2, 0, 1), lambda x: x.transpose(2, 0, 1)[None, None], lambda x: x[None]],
    ids=["hwc", "chw", "leading chw", "leading hwc"],
)
@pytest.mark.parametrize("tau", [0, 2])
def test_every_layout_reads_as_rows_of_pixels(layout, tau):
    read = tifffile.imread(tiff([dlpr.encode(half, tau) for half in halves(layout)]))
    assert np.abs(read.astype(int) - IMAGE).max() <= tau


def test_one_channel():
    grey = [dlpr.encode(IMAGE[:, :64, 0]), dlpr.encode(IMAGE[:, 64:, 0])]
    read = tifffile.imread(tiff(grey, shape=(64, 128), photometric="minisblack"))
    np.testing.assert_array_equal(read, IMAGE[..., 0])


def test_a_damaged_tile_raises():
    streams = [bytearray(dlpr.encode(half)) for half in halves(lambda x: x)]
    streams[1][-7] ^= 4
    with pytest.raises(BitstreamError):
        tifffile.imread(tiff([bytes(stream) for stream in streams]))


def test_a_tile_of_another_size_raises_though_it_has_as_many_samples():
    streams = [dlpr.encode(np.ascontiguousarray(half).reshape(32, 128, 3)) for half in halves(lambda x: x)]
    with pytest.raises(CorruptError, match="holds 128 x 32 px"):
        tifffile.imread(tiff(streams))


def test_registering_twice_changes_nothing():
    plugin.register()
    assert tifffile.TIFF.DECOMPRESSORS[plugin.COMPRESSION] is plugin.decode_tile
    assert plugin.COMPRESSION in tifffile.TIFF.IMAGE_COMPRESSIONS
    assert plugin.COMPRESSION not in {int(code) for code in tifffile.COMPRESSION}


class Table(dict):
    """A mapping without `_codecs`, as a later tifffile may have."""


class Elsewhere:
    """A mapping that looks in another place than `_codecs`."""

    def __init__(self):
        self._codecs = {}

    def __getitem__(self, key):
        raise KeyError(key)


@pytest.mark.parametrize("table", [Table(), Elsewhere(), None], ids=["no _codecs", "other lookup", "no table"])
def test_another_tifffile_is_refused_by_version(monkeypatch, table):
    internals = type("TIFF", (), {"DECOMPRESSORS": table, "IMAGE_COMPRESSIONS": set()})
    monkeypatch.setattr(tifffile, "TIFF", internals)
    with pytest.raises(PluginError, match=f"tifffile {tifffile.__version__}"):
        plugin.register()


def test_another_claim_on_the_code_is_not_overridden(monkeypatch):
    monkeypatch.setitem(tifffile.TIFF.DECOMPRESSORS._codecs, plugin.COMPRESSION, print)
    with pytest.raises(PluginError, match="already taken"):
        plugin.register()
    assert tifffile.TIFF.DECOMPRESSORS[plugin.COMPRESSION] is print


def run(script, *args):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "imports",
    [
        "import dlpr_wsi, tifffile",
        "import tifffile, dlpr_wsi",
        "import dlpr.plugins.tifffile, tifffile",
        "import dlpr_wsi; from tifffile.tifffile import imread; import tifffile",
        "import importlib, dlpr_wsi; importlib.reload(dlpr_wsi); import tifffile",
    ],
)
def test_imports_in_any_order(tmp_path, imports):
    (tmp_path / "a.tiff").write_bytes(tiff([dlpr.encode(half) for half in halves(lambda x: x)]).getvalue())
    np.save(tmp_path / "a.npy", IMAGE)
    script = f"{imports}; import numpy, sys; assert (tifffile.imread(sys.argv[1]) == numpy.load(sys.argv[2])).all()"
    done = run(script, tmp_path / "a.tiff", tmp_path / "a.npy")
    assert done.returncode == 0, done.stderr


def test_without_the_plug_in_tifffile_says_so(tmp_path):
    (tmp_path / "a.tiff").write_bytes(tiff([dlpr.encode(half) for half in halves(lambda x: x)]).getvalue())
    done = run("import tifffile, sys; tifffile.imread(sys.argv[1])", tmp_path / "a.tiff")
    assert done.returncode == 1
    assert "ValueError: 65471" in done.stderr


def test_importing_dlpr_wsi_is_cheap():
    script = """
import sys
before = set(sys.modules)
import dlpr_wsi
heavy = {name.split(".")[0] for name in set(sys.modules) - before} & {
    "numpy", "tifffile", "zarr", "torch", "dlpr", "openslide", "PIL", "imagecodecs", "dask", "numcodecs"}
assert not heavy, heavy
"""
    done = run(script)
    assert done.returncode == 0, done.stderr


def test_the_hook_leaves_no_trace_and_breaks_nothing():
    script = """
import sys, dlpr_wsi, importlib.util, inspect
finders = len(sys.meta_path)
import tifffile
assert len(sys.meta_path) == finders - 1
assert type(tifffile.__loader__).__module__.startswith(("importlib", "_frozen_importlib")), tifffile.__loader__
assert tifffile.__spec__.loader is tifffile.__loader__
assert inspect.getsource(tifffile.TiffFile)
"""
    done = run(script)
    assert done.returncode == 0, done.stderr


def test_without_tifffile_its_import_fails_as_usual():
    script = """
import sys, dlpr_wsi
sys.path[:] = [p for p in sys.path if "site-packages" not in p]
try:
    import tifffile
except ModuleNotFoundError as error:
    assert error.name == "tifffile"
else:
    raise SystemExit("found")
"""
    done = run(script)
    assert done.returncode == 0, done.stderr


def test_a_tifffile_that_is_too_new_still_imports(tmp_path):
    (tmp_path / "tifffile.py").write_text("__version__ = '2030.1.1'\nclass TIFF: pass\n")
    script = """
import sys, warnings, dlpr_wsi
sys.path.insert(0, sys.argv[1])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import tifffile
assert tifffile.__version__ == "2030.1.1"
(warning,) = caught
assert "tifffile 2030.1.1" in str(warning.message), warning
"""
    done = run(script, tmp_path)
    assert done.returncode == 0, done.stderr
