"""The slide's prior on its way: learnt by convert, carried by the metadata, found by every reader."""

import gc
import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dlpr
from dlpr.errors import PriorError
from dlpr.modes.jpeg import prior as known
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.export import export
from dlpr_wsi.pipeline import convert as convert_module
from dlpr_wsi.pipeline import prior as prior_module
from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.pipeline.plan import SourceTiles, make_plan
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.sinks.omezarr import OmeVersion
from dlpr_wsi.sources.opening import open_archive, open_source

EXAMPLE = Path(__file__).parents[2] / "examples" / "CMU-1-Small-Region.svs"


def always(source, plan, _source_tiles):
    """Learn from all tiles of level 0, whether it pays or not."""
    level = plan.levels[0]
    places = [(row, column) for row in range(level.rows) for column in range(level.columns)]
    tiles = [prior_module._tile(source, level, row, column) for row, column in places]
    return dlpr.Prior.learn([tile for tile in tiles if tile is not None])


@pytest.fixture
def forget(monkeypatch):
    """Let this process know no prior."""

    def nothing():
        for name in ("_known", "_recent"):
            monkeypatch.setattr(known, name, type(getattr(known, name))())

    return nothing


def fresh(script, *args):
    """Run a script in a process that knows no prior."""
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


@pytest.mark.parametrize("version", list(OmeVersion))
def test_every_route_finds_the_prior(tmp_path, svs, monkeypatch, forget, version):
    monkeypatch.setattr(convert_module, "slide_prior", always)
    source = open_source(svs)
    level = source.facts.levels[0]
    want = digest(source.read(0, 0, level.width, level.height, 0))
    source.close()
    out = tmp_path / "a.zarr"
    report = convert(svs, out, options=ConvertOptions(version=version))
    assert report.tiles_by_mode["jpeg"] > 0
    assert verify(out, svs).ok
    archive = open_archive(out)
    assert archive.levels[0].prior is not None
    assert fresh(ZARR, out) == want
    assert fresh(OURS, out) == want
    export(out, tmp_path / "plain.zarr", zarr=True)
    forget()
    convert(svs, tmp_path / "a.tif", options=ConvertOptions())
    assert fresh(TIFF, tmp_path / "a.tif") == want
    assert fresh(OURS, tmp_path / "a.tif") == want
    assert open_archive(tmp_path / "a.tif").levels[0].prior == archive.levels[0].prior
    forget()
    dlpr.decode(pickle.loads(pickle.dumps(archive.levels[0])) and archive.stream(0, 0, 0))
    forget()
    assert digest(open_archive(out).read(0, 0, level.width, level.height, 0)) == want


def test_an_open_archive_keeps_its_prior(tmp_path, svs, monkeypatch):
    """However many other slides this process has opened since."""
    monkeypatch.setattr(convert_module, "slide_prior", always)
    convert(svs, tmp_path / "a.zarr", options=ConvertOptions())
    convert(svs, tmp_path / "a.tif", options=ConvertOptions())
    opened = [open_archive(tmp_path / name) for name in ("a.zarr", "a.tif")]
    wanted = [archive.read(0, 0, 200, 100, 0) for archive in opened]
    stream = opened[0].stream(0, 0, 0)
    monkeypatch.setattr(known, "KEPT", 0)
    known.remember(opened[0].levels[0].prior)
    assert not known._recent
    for archive, want in zip(opened, wanted, strict=True):
        np.testing.assert_array_equal(archive.read(0, 0, 200, 100, 0), want)
    del archive, opened
    gc.collect()
    with pytest.raises(PriorError):
        dlpr.decode(stream)


def test_a_damaged_prior_is_refused_by_name(tmp_path, svs, monkeypatch):
    monkeypatch.setattr(convert_module, "slide_prior", always)
    out = tmp_path / "a.zarr"
    convert(svs, out, options=ConvertOptions())
    file = out / "0" / "zarr.json"
    text = file.read_text()
    at = text.index('"prior"') + 40
    file.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    with pytest.raises(ArchiveError, match="prior"):
        open_archive(out)


def test_small_slides_get_none(monkeypatch):
    source = open_source(EXAMPLE)
    plan = make_plan(source.facts, [source.tile_grid(i) for i in range(len(source.facts.levels))])
    assert prior_module.slide_prior(source, plan, SourceTiles.AUTO) is None
    monkeypatch.setattr(prior_module, "_FEWEST", 64)
    assert prior_module.slide_prior(source, plan, SourceTiles.NEVER) is None
    assert prior_module.slide_prior(source, plan, SourceTiles.AUTO) is None  # takes more than it saves
    source.close()


def test_the_choice_is_deterministic_and_pays(monkeypatch):
    monkeypatch.setattr(prior_module, "_FEWEST", 64)
    monkeypatch.setattr(prior_module, "_SHARE", 10)
    source = open_source(EXAMPLE)
    plan = make_plan(source.facts, [source.tile_grid(i) for i in range(len(source.facts.levels))])
    first = prior_module.slide_prior(source, plan, SourceTiles.AUTO)
    assert first == prior_module.slide_prior(source, plan, SourceTiles.AUTO)
    source.close()
