"""Every snippet of docs/guide/python.md is a script of examples/, and every one runs."""

import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

pytest.importorskip("zarr", minversion="3.0")
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
GUIDE = ROOT / "docs" / "guide" / "python.md"
OTHERS = {"demo.py"}  # programs, not snippets


def run(script, *args, cwd):
    """Run an example as a user would; warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / script, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A small slide, converted: two levels, tau 1."""
    pytest.importorskip("openslide")
    tifffile = pytest.importorskip("tifffile")
    from dlpr_wsi.pipeline.convert import ConvertOptions, convert

    folder = tmp_path_factory.mktemp("archive")
    y, x = np.mgrid[:300, :400]
    image = np.stack([200 + 40 * np.sin(x / s) * np.cos(y / 30) for s in (20, 23, 26)], axis=-1).astype(np.uint8)
    with tifffile.TiffWriter(folder / "slide.tiff") as writer:
        options = {"tile": (64, 64), "photometric": "rgb", "resolutionunit": "CENTIMETER"}
        writer.write(image, resolution=(40000, 40000), **options)
        writer.write(image[::2, ::2], resolution=(20000, 20000), subfiletype=1, **options)
    convert(folder / "slide.tiff", folder / "slide.zarr", options=ConvertOptions(tau=1, tile=64))
    return folder / "slide.zarr"


def test_the_guide_holds_the_scripts_word_for_word():
    """A block after ``<!-- examples/NAME.py -->`` is that script without its docstring."""
    blocks = re.findall(r"<!-- examples/(\w+\.py) -->\n```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert sorted(name for name, _ in blocks) == sorted(
        path.name for path in EXAMPLES.glob("*.py") if path.name not in OTHERS
    )
    for name, block in blocks:
        code = re.sub(r'\A""".*?"""\n\n', "", (EXAMPLES / name).read_text(), count=1, flags=re.DOTALL)
        assert block == code, f"docs/guide/python.md and examples/{name} differ"


def test_zarr_format2(tmp_path):
    assert run("zarr_format2.py", cwd=tmp_path) == "format 2: max |error| 1\n"
    assert '"id": "dlpr"' in (tmp_path / "format2.zarr" / ".zarray").read_text()


def test_zarr_format3(tmp_path):
    assert run("zarr_format3.py", cwd=tmp_path) == "format3.zarr: max |error| 1\nsharded.zarr: max |error| 0\n"
    assert sum(path.is_file() for path in (tmp_path / "sharded.zarr").rglob("*")) == 3  # 2 shards and zarr.json


def test_numcodecs_only(tmp_path):
    lines = run("numcodecs_only.py", cwd=tmp_path).splitlines()
    assert lines[0] == "tau 1: max |error| 1"
    assert lines[-1] == "lossless: True"


def test_dask_arrays(tmp_path):
    pytest.importorskip("dask")
    assert run("dask_arrays.py", cwd=tmp_path).endswith("half (3, 300, 350)\n")
    import zarr

    whole, half = (zarr.open_array(tmp_path / f"{name}.zarr", mode="r") for name in ("dask", "half"))
    y, x = np.mgrid[:600, :700]
    image = np.stack([200 + 40 * np.sin(x / s) * np.cos(y / 30) for s in (20, 23, 26)]).astype(np.uint8)
    np.testing.assert_array_equal(whole[...], image)
    means = image.reshape(3, 300, 2, 350, 2).mean(axis=(2, 4)).round().astype(np.uint8)
    np.testing.assert_array_equal(half[...], means)


def test_xarray_dataset(tmp_path):
    pytest.importorskip("xarray")
    assert run("xarray_dataset.py", cwd=tmp_path) == "region (3, 161, 201) max |error| 1\n"


def test_ome_zarr_reader(tmp_path, archive):
    pytest.importorskip("ome_zarr")
    lines = run("ome_zarr_reader.py", archive, cwd=tmp_path).splitlines()
    assert lines[0] == "axes ['c', 'y', 'x'] levels [(3, 300, 400), (3, 150, 200)]"


def test_tiff_archive(tmp_path, archive):
    pytest.importorskip("tiffslide")
    lines = run("tiff_archive.py", archive, cwd=tmp_path).splitlines()
    assert lines[0].startswith("47 tiles on 2 levels, ")
    assert lines[1:] == ["mpp 0.25 levels ((400, 300), (200, 150))", "equal True"]


def test_remote_archive(tmp_path, archive):
    pytest.importorskip("aiohttp")
    pytest.importorskip("RangeHTTPServer")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "RangeHTTPServer", str(port), "--bind", "127.0.0.1"],
        cwd=archive.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(100):
            try:
                urlopen(f"http://127.0.0.1:{port}/slide.zarr/zarr.json").close()
                break
            except OSError:
                time.sleep(0.1)
        printed = run("remote_archive.py", f"http://127.0.0.1:{port}/slide.zarr", cwd=tmp_path)
    finally:
        server.terminate()
        _, log = server.communicate(timeout=30)
    assert printed.startswith("level 0 is (3, 300, 400); its first tile has the mean ")
    assert " 206 " in log, "no part of a shard was asked for"
    import zarr

    mean = zarr.open_group(archive, mode="r")["0"][:, :64, :64].mean()
    assert printed.endswith(f"{mean:.2f}\n")
