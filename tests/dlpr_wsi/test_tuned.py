"""Weights tuned to a slide on their way: learnt by convert --adapt, carried by the metadata, found by every reader."""

import gc
import hashlib
import json
import os
import pickle
import subprocess
import sys
from base64 import b64encode

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tifffile")

import tifffile

from dlpr.modes.networks import tuned as tuned_module
from dlpr.modes.networks import weights as store
from dlpr.training import adapt
from dlpr_wsi.errors import ArchiveError, MissingDependencyError
from dlpr_wsi.export import export
from dlpr_wsi.info import archive_info
from dlpr_wsi.pipeline import convert as convert_module
from dlpr_wsi.pipeline import tuned as tuning
from dlpr_wsi.pipeline.convert import ConvertOptions, convert, preview
from dlpr_wsi.pipeline.plan import Pyramid
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.sinks.omezarr import OmeVersion
from dlpr_wsi.sources.opening import open_archive

ADAPT = ConvertOptions(adapt=True, tile=64, pyramid=Pyramid.ALWAYS)


@pytest.fixture(scope="module")
def image():
    """Return a weave of two colours and noise: no JPEG, no planes, nothing that weights were trained on."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:256, :384]
    weave = np.where((x // 3 + y // 5) % 2, 180, 120) + 20 * np.sin(x / 11)
    rgb = np.stack([weave, 250 - weave, 0.5 * weave + 60], -1) + rng.normal(0, 5, (256, 384, 3))
    return np.clip(rgb, 0, 255).astype(np.uint8)


@pytest.fixture
def slide(tmp_path, image):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, image, photometric="rgb")
    return path


@pytest.fixture
def quick(monkeypatch):
    """Let a few steps be enough, and small levels worth it."""
    real = adapt.tune
    few = adapt.AdaptConfig(steps=12, batch=2, cells=128)
    monkeypatch.setattr(adapt, "tune", lambda parts, _cfg: real(parts, few))
    monkeypatch.setattr(tuning, "_WORTH", 0)
    monkeypatch.setattr(tuning, "_MARGIN", 1e-6)
    monkeypatch.setattr(tuning, "_FEWEST", 4)


@pytest.fixture
def forget(monkeypatch):
    """Let this process know no tuned weights."""

    def nothing():
        monkeypatch.setattr(store, "KNOWN", type(store.KNOWN)())
        monkeypatch.setattr(tuned_module, "_recent", type(tuned_module._recent)())

    return nothing


def fresh(script, *args):
    """Run a script in a process that knows no weights but those installed."""
    done = subprocess.run([sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


ZARR = "import sys, zarr, hashlib\na = zarr.open_group(sys.argv[1], mode='r')['0'][...]\n"
ZARR += "print(hashlib.sha256(a.transpose(1, 2, 0).tobytes()).hexdigest())"
TIFF = "import sys, tifffile, hashlib, dlpr.plugins.tifffile\n"
TIFF += "print(hashlib.sha256(tifffile.imread(sys.argv[1]).tobytes()).hexdigest())"
OURS = "import sys, hashlib, pathlib\nfrom dlpr_wsi.sources.opening import open_archive\n"
OURS += "a = open_archive(pathlib.Path(sys.argv[1]))\nl = a.levels[0]\n"
OURS += "print(hashlib.sha256(a.read(0, 0, l.width, l.height, 0).tobytes()).hexdigest())"
VIEWER = "import sys, numpy as np, hashlib\nfrom dlpr_wsi.tile_reader import TileReader\n"
VIEWER += "r = TileReader(sys.argv[1])\nw, h = r.level_dimensions[0]\n"
VIEWER += "print(hashlib.sha256(np.ascontiguousarray(np.asarray(r.read_region((0, 0), 0, (w, h)))[..., :3])"
VIEWER += ".tobytes()).hexdigest())"


@pytest.mark.parametrize("version", list(OmeVersion))
def test_every_route_finds_them(tmp_path, slide, image, quick, forget, version):
    out, want = tmp_path / "a.zarr", digest(image)
    options = ConvertOptions(adapt=True, tile=64, pyramid=Pyramid.ALWAYS, version=version)
    report = convert(slide, out, options=options)
    plain = convert(slide, tmp_path / "plain.zarr", options=ConvertOptions(tile=64, pyramid=Pyramid.ALWAYS))
    assert sum(report.bytes_by_mode.values()) < sum(plain.bytes_by_mode.values())
    assert plain.tuned_bytes == 0 < report.tuned_bytes
    archive = open_archive(out)
    assert [level.tau for level in archive.levels][:2] == [0, 4]
    first, second = (archive.levels[index].tuned[0] for index in (0, 1))
    assert first != second  # of levels that were read, and of those that are made
    assert report.tuned_bytes == len(first.data) + len(second.data) == archive_info(out).tuned
    assert set(archive_info(out).weights) >= {first.id.hex(), second.id.hex()}
    forget()
    assert verify(out, slide).ok
    for script in (ZARR, OURS, VIEWER)[: 1 if version is OmeVersion.V04 else 3]:
        assert fresh(script, out) == want
    if version is OmeVersion.V04:
        return
    forget()
    export(out, tmp_path / "std.zarr", zarr=True)
    forget()
    convert(slide, tmp_path / "a.tif", options=ADAPT)
    assert verify(tmp_path / "a.tif", slide).ok
    for script in (TIFF, OURS, VIEWER):
        assert fresh(script, tmp_path / "a.tif") == want
    tiff = open_archive(tmp_path / "a.tif")
    assert all(set(level.tuned) == {first, second} for level in tiff.levels)
    assert archive_info(tmp_path / "a.tif").tuned == report.tuned_bytes
    forget()
    level = pickle.loads(pickle.dumps(archive.levels[1]))
    assert level.tuned[0].id in store.KNOWN


def test_a_conversion_goes_on_with_the_weights_that_it_began_with(tmp_path, slide, quick, monkeypatch):
    out, calls = tmp_path / "a.zarr", []
    real, task = tuning.slide_weights, convert_module.convert_task

    def once(*args, **options):
        calls.append(1)
        return real(*args, **options)

    def dies(job, which):
        if which.level == 1:
            raise KeyboardInterrupt
        return task(job, which)

    monkeypatch.setattr(convert_module, "slide_weights", once)
    monkeypatch.setattr(convert_module, "convert_task", dies)
    with pytest.raises(KeyboardInterrupt):
        convert(slide, out, options=ADAPT, threads=1)
    monkeypatch.setattr(convert_module, "convert_task", task)
    kept = tmp_path / ".a.zarr.partial" / "tuned.json"
    want = kept.read_text()
    kept.write_text("{")
    with pytest.raises(ArchiveError, match="--restart"):
        convert(slide, out, options=ADAPT)
    kept.write_text(want)
    report = convert(slide, out, options=ADAPT)
    assert (report.resumed > 0, len(calls)) == (True, 1)
    assert open_archive(out).levels[0].tuned[0].id.hex() in json.loads(want)["levels"]
    assert verify(out, slide).ok


def test_damaged_weights_are_refused_by_name(tmp_path, slide, quick):
    for name, file in (("a.zarr", "0/zarr.json"), ("a.tif", None)):
        out = tmp_path / name
        convert(slide, out, options=ADAPT)
        data = open_archive(out).levels[0].tuned[0].data
        path, packed = (out / file, b64encode(data)) if file else (out, data)
        whole = path.read_bytes()
        assert whole.count(packed) == 1
        at = whole.index(packed)
        path.write_bytes(whole[:at] + packed[:1].swapcase() + whole[at + 1 :])
        with pytest.raises(ArchiveError, match="tuned"):
            open_archive(out)


def test_other_weights_than_those_that_streams_name_are_found_out(tmp_path, slide, quick, forget):
    out = tmp_path / "a.zarr"
    convert(slide, out, options=ADAPT)
    file = out / "0" / "zarr.json"
    ours, others = (open_archive(out).levels[index].tuned[0].data for index in (0, 1))
    file.write_text(file.read_text().replace(b64encode(ours).decode(), b64encode(others).decode()))
    forget()
    gc.collect()
    found = verify(out)
    assert not found.ok
    assert any("weights" in problem for problem in map(str, found.bad))


def test_where_they_do_not_pay_there_are_none(tmp_path, slide, quick, monkeypatch):
    monkeypatch.setattr(tuning, "_MARGIN", 100)
    report = convert(slide, tmp_path / "a.zarr", options=ADAPT)
    assert report.tuned_bytes == 0
    assert "tuned" not in (tmp_path / "a.zarr" / "0" / "zarr.json").read_text()


def test_small_slides_are_not_even_tried(slide, monkeypatch):
    monkeypatch.setattr(adapt, "tune", None)
    monkeypatch.setattr(tuning, "_WORTH", 1_000_000)
    assert preview(slide, ADAPT).estimate.archive_bytes > 0


def test_the_preview_knows_them(slide, quick):
    with_, without = (preview(slide, ConvertOptions(adapt=adapt_, tile=64)).estimate for adapt_ in (True, False))
    levels = [sum(level.bytes for level in one.levels) for one in (with_, without)]
    assert levels[0] < levels[1]


def test_torch_is_named_where_it_is_missing(tmp_path, slide, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "dlpr.training.adapt", raising=False)
    import dlpr.training

    monkeypatch.delattr(dlpr.training, "adapt", raising=False)
    with pytest.raises(MissingDependencyError, match="train"):
        convert(slide, tmp_path / "a.zarr", options=ADAPT)
    assert not os.path.exists(tmp_path / "a.zarr")
