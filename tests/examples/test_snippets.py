"""Every snippet of docs/guide/python.md is a script of examples/, and every one runs."""

import re
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

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
    assert sum(path.is_file() for path in (tmp_path / "sharded.zarr").rglob("*")) == 5  # 4 shards and zarr.json


def test_numcodecs_only(tmp_path):
    lines = run("numcodecs_only.py", cwd=tmp_path).splitlines()
    assert lines[0] == "tau 1: max |error| 1"
    assert lines[-1] == "lossless: True"


def test_dask_arrays(tmp_path):
    pytest.importorskip("dask")
    assert run("dask_arrays.py", cwd=tmp_path).endswith("half (3, 150, 175)\n")
    import zarr

    whole, half = (zarr.open_array(tmp_path / f"{name}.zarr", mode="r") for name in ("dask", "half"))
    y, x = np.mgrid[:300, :350]
    image = np.stack([200 + 40 * np.sin(x / s) * np.cos(y / 30) for s in (20, 23, 26)]).astype(np.uint8)
    np.testing.assert_array_equal(whole[...], image)
    means = image.reshape(3, 150, 2, 175, 2).mean(axis=(2, 4)).round().astype(np.uint8)
    np.testing.assert_array_equal(half[...], means)


def test_channels(tmp_path):
    pytest.importorskip("openslide")
    pytest.importorskip("fastapi")
    lines = run("channels.py", cwd=tmp_path).splitlines()
    assert lines == [
        "['DAPI', 'FITC'] (2, 300, 400) in chunks of (1, 256, 256) equal True",
        "(50, 50, 2) RGBA True",
    ]


def test_xarray_dataset(tmp_path):
    pytest.importorskip("xarray")
    assert run("xarray_dataset.py", cwd=tmp_path) == "region (3, 161, 161) max |error| 1\n"


def test_ome_zarr_reader(tmp_path, archive):
    pytest.importorskip("ome_zarr")
    lines = run("ome_zarr_reader.py", archive, cwd=tmp_path).splitlines()
    assert lines[0] == "axes ['c', 'y', 'x'] levels [(3, 300, 400), (3, 150, 200)]"


def test_tiff_archive(tmp_path, archive):
    pytest.importorskip("tiffslide")
    lines = run("tiff_archive.py", archive, cwd=tmp_path).splitlines()
    assert lines[0].startswith("47 tiles on 2 levels, ")
    assert lines[1:] == ["mpp 0.25 levels ((400, 300), (200, 150))", "equal True"]


class RangeHandler(SimpleHTTPRequestHandler):
    """Serves files, and parts of them as nginx does: ``bytes=a-b``, ``bytes=a-``, ``bytes=-n``."""

    parts: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self):
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            super().do_GET()
            return
        data = path.read_bytes()
        first, last = wanted.groups()
        begin = int(first) if first else max(0, len(data) - int(last))
        end = min(len(data), int(last) + 1) if first and last else len(data)
        self.parts.append((path.name, wanted.group()))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        self.wfile.write(data[begin:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(archive):
    """The archive's folder over HTTP."""
    RangeHandler.parts.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(RangeHandler, directory=archive.parent)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_remote_archive(tmp_path, archive, server):
    pytest.importorskip("aiohttp")
    printed = run("remote_archive.py", f"{server}/slide.zarr", cwd=tmp_path)
    assert printed.startswith("level 0 is (3, 300, 400); its first tile has the mean ")
    assert len(RangeHandler.parts) == 2, "one read of a shard's index, one of the chunk"
    import zarr

    mean = zarr.open_group(archive, mode="r")["0"][:, :64, :64].mean()
    assert printed.endswith(f"{mean:.2f}\n")
