"""What others make of our OME-Zarr."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import zarr

from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.sinks.omezarr import OmeVersion
from dlpr_wsi.sources.opening import open_archive


@pytest.fixture(params=list(OmeVersion))
def versioned(request, tmp_path, svs):
    options = ConvertOptions(tau=0, version=request.param, keep=("label",))
    convert(svs, tmp_path / "a.zarr", options=options)
    return tmp_path / "a.zarr", request.param


def test_ome_zarr_models_accept_it(versioned):
    pytest.importorskip("ome_zarr_models")
    from ome_zarr_models import open_ome_zarr

    path, version = versioned
    for inner in ("", "associated/label"):
        group = open_ome_zarr(zarr.open_group(path / inner, mode="r"))
        assert type(group).__name__ == "Image"
        assert f".v{version.replace('.', '')}." in type(group).__module__


def test_ome_zarr_py_opens_it(versioned):
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    path, _ = versioned
    node = next(iter(Reader(parse_url(str(path), mode="r"))()))
    archive = open_archive(path)
    assert [level.shape for level in node.data] == [(3, lv.height, lv.width) for lv in archive.levels]
    assert [axis["name"] for axis in node.metadata["axes"]] == ["c", "y", "x"]
    pixels = np.asarray(node.data[1].compute()).transpose(1, 2, 0)
    level = archive.levels[1]
    np.testing.assert_array_equal(pixels, archive.read(0, 0, level.width, level.height, 1))


def test_metadata_are_what_ome_zarr_py_writes(versioned, tmp_path):
    pytest.importorskip("ome_zarr")
    from ome_zarr.format import FormatV04, FormatV05

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it deprecates a class of its own at import
        from ome_zarr.writer import write_multiscales_metadata

    path, version = versioned
    form = FormatV05() if version is OmeVersion.V05 else FormatV04()
    group = zarr.open_group(tmp_path / "theirs", mode="w", zarr_format=form.zarr_format)
    mine = dict(zarr.open_group(path, mode="r").attrs)
    mine = mine.get("ome", mine)
    (image,) = mine["multiscales"]
    write_multiscales_metadata(group, image["datasets"], fmt=form, axes=image["axes"], name=image["name"])
    theirs = dict(group.attrs)
    theirs = theirs.get("ome", theirs)
    (written,) = theirs["multiscales"]
    assert {key: written[key] for key in image} == image
    scale = image["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [1.0, 0.2525, 0.2525]
    assert {axis["unit"] for axis in image["axes"][1:]} == {"micrometer"}


def test_zarr_python_would_write_the_same_array_metadata(versioned, tmp_path):
    from dlpr import DLPR

    path, version = versioned
    archive = open_archive(path)
    level = archive.levels[0]
    common = {"shape": (3, level.height, level.width), "chunks": (3, 128, 128), "dtype": "uint8", "fill_value": 255}
    if version is OmeVersion.V05:
        zarr.create_array(
            tmp_path / "t.zarr",
            serializer=DLPR(),
            compressors=None,
            shards=(3, 128 * level.shard_rows, 128 * level.shard_columns),
            dimension_names=("c", "y", "x"),
            **common,
        )
        name = "zarr.json"
    else:
        zarr.create_array(
            tmp_path / "t.zarr",
            zarr_format=2,
            compressors=DLPR(),
            chunk_key_encoding={"name": "v2", "separator": "/"},
            **common,
        )
        name = ".zarray"
    mine = json.loads((path / "0" / name).read_text())
    theirs = json.loads((tmp_path / "t.zarr" / name).read_text())
    mine.pop("attributes", None)
    theirs.pop("attributes", None)
    theirs.pop("storage_transformers", None)
    if version is OmeVersion.V05:  # "bytes" needs no byte order for uint8
        assert theirs["codecs"][0]["configuration"]["codecs"][0]["name"] == "dlpr"
    assert mine == theirs


def test_reopened_in_a_fresh_process(versioned):
    path, _ = versioned
    script = (
        "import sys, zarr; g = zarr.open_group(sys.argv[1], mode='r'); "
        "print([a.shape for _, a in sorted(g.arrays())], int(g['0'][:, :40, :40].sum()))"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True, timeout=60)
    pixels = open_archive(path).read(0, 0, 40, 40)
    assert done.stdout.strip() == f"[(3, 300, 404), (3, 150, 202), (3, 43, 58)] {int(pixels.sum(dtype=np.int64))}"
