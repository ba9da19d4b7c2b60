"""The command: what it prints and how it exits."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from dlpr_wsi.cli import main


@pytest.fixture
def run(capsys):
    """Run the command in this process; return exit status, stdout and stderr."""

    def run(*args):
        try:
            status = main([str(arg) for arg in args])
        except SystemExit as leave:
            status = leave.code
        return status, *capsys.readouterr()

    return run


def test_convert_verify_info(run, tmp_path, svs):
    out = tmp_path / "a.zarr"
    status, stdout, stderr = run("convert", svs, out, "--tau", 1, "--threads", 2)
    assert status == 0
    assert "level 0       404 x 300 px in 12 tiles of 128 px, the slide's own JPEG tiles" in stdout
    assert "level 2       58 x 43 px in 1 tiles" in stdout
    assert f"source file   {svs.stat().st_size:,} bytes (JPEG, quality 70)" in stdout
    assert "source tiles" in stdout
    assert "max |error|   " in stdout
    assert "bits/px" in stdout
    assert "MP/s" in stdout
    assert "dropped       associated images, not in the archive: label, macro, thumbnail" in stdout
    assert "estimate" in stderr
    assert "convert 17/17 tiles" in stderr

    status, stdout, _ = run("verify", out, "--source", svs)
    assert status == 0
    assert "against       recorded hashes, the source" in stdout
    assert "verify        ok: max |error| " in stdout
    status, stdout, _ = run("verify", out)
    assert status == 0
    assert "against       recorded hashes\n" in stdout

    status, stdout, _ = run("info", out)
    assert status == 0
    assert "level 0       (3, 300, 404) in chunks of (3, 128, 128)" in stdout
    assert "source_codec: JPEG" in stdout

    status, stdout, _ = run("info", out, "--json")
    facts = json.loads(stdout)
    assert (facts["kind"], facts["tau"], facts["tiles"]) == ("archive", 1, 17)
    assert sum(facts["tiles_by_mode"].values()) == 17
    assert facts["bytes"] == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert facts["raw_share"] == pytest.approx(facts["bytes"] / facts["raw_bytes"])
    assert facts["source"]["mpp_x"] == 0.2525

    status, stdout, _ = run("convert", svs, out, "--tau", 1)
    assert status == 0
    assert "there already" in stdout


def test_json_reports(run, tmp_path, svs):
    status, stdout, _ = run("convert", svs, tmp_path / "a.zarr", "--json", "--keep-label")
    assert status == 0
    report = json.loads(stdout)
    assert (report["max_error"], report["tau"], report["kept"]) == (0, 0, ["label"])
    assert report["source_codec"] == "JPEG, quality 70"
    assert report["ratio_to_source"] == pytest.approx(report["archive_bytes"] / report["source_bytes"])
    assert sum(report["tiles_by_mode"].values()) == report["tiles"] == 17
    status, stdout, _ = run("verify", tmp_path / "a.zarr", "--json")
    assert json.loads(stdout)["ok"] is True


def test_dry_run_writes_nothing(run, tmp_path, svs):
    for args in ((svs, tmp_path / "a.zarr"), (svs,)):
        status, stdout, _ = run("convert", *args, "--dry-run")
        assert status == 0
        assert "estimate" in stdout
        assert "level 2" in stdout
    status, stdout, _ = run("convert", svs, "--dry-run", "--json")
    assert json.loads(stdout)["estimate"]["archive_bytes"] > 0
    assert list(tmp_path.iterdir()) == []


def test_batch_goes_on_past_failures(run, tmp_path, svs, plain_slide):
    from PIL import Image

    folder = tmp_path / "slides"
    folder.mkdir()
    for slide in (svs, plain_slide):
        (folder / slide.name).write_bytes(slide.read_bytes())
    Image.new("RGB", (100, 80), (250, 240, 250)).save(folder / "image.png")
    (folder / "broken.svs").write_bytes(b"no slide")
    (folder / "notes.txt").write_text("not a slide")
    status, stdout, stderr = run("convert", folder, "--out", tmp_path / "out")
    assert status == 1
    assert "broken.svs: OpenSlide cannot open" in stderr
    lines = stdout.splitlines()
    assert lines[0] == "warning: 1 of 4 archives are larger than their slides, marked below"
    lines = lines[1:]
    assert [line.split()[0] for line in lines[1:-1]] == ["broken.svs", "image.png", "plain.tiff", "synthetic.svs"]
    assert "FAILED" in lines[1]
    assert lines[2].endswith("LARGER THAN THE SLIDE")  # an image of one colour: the metadata alone are larger
    assert all(line.endswith("ok") for line in lines[3:-1])
    assert lines[-1].startswith("3 of 4 slides")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["image.zarr", "plain.zarr", "synthetic.zarr"]
    (folder / "broken.svs").unlink()
    status, stdout, _ = run("convert", folder, "--out", tmp_path / "out", "--json")
    assert status == 0
    assert all(row["already"] for row in json.loads(stdout))


def test_info_of_a_slide(run, svs):
    status, stdout, _ = run("info", svs)
    assert status == 0
    assert "aperio" in stdout
    assert "Jane" not in stdout
    status, stdout, _ = run("info", svs, "--json")
    facts = json.loads(stdout)
    assert facts["kind"] == "slide"
    assert facts["codec"] == {"name": "JPEG", "lossy": True, "quality": 70}
    assert [level["codec"]["name"] for level in facts["levels"]] == ["JPEG"] * 3
    assert facts["icc_profile"] > 100
    assert "Jane" not in stdout


def test_info_counts_damage(run, loose):
    (loose / "0" / "0" / "0" / "0").unlink()
    (loose / "0" / "0" / "0" / "1").write_bytes(b"?")
    status, stdout, _ = run("info", loose, "--json")
    assert status == 0
    modes = json.loads(stdout)["tiles_by_mode"]
    assert (modes["missing"], modes["damaged"]) == (1, 1)


def test_flipped_bit_is_named(run, loose, plain_slide):
    chunk = loose / "0" / "0" / "2" / "1"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    for args in ((), ("--source", plain_slide)):
        status, stdout, stderr = run("verify", loose, *args)
        assert status == 1
        assert "level 0 row 2 column 1 (x=64 y=128 64x64 px)" in stdout
        assert "FAILED, 1 of 24 chunks are bad" in stdout
        assert "Traceback" not in stdout + stderr


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["convert", "a.svs", "b.zarr", "--tau", "256"], "--tau"),
        (["convert", "a.svs", "b.zarr", "--tau", "1.5"], "--tau"),
        (["convert", "a.svs", "b.zarr", "--tile", "0"], "--tile"),
        (["convert", "a.svs", "b.zarr", "--threads", "0"], "--threads"),
        (["convert", "a.svs"], "OUT"),
        (["convert", "a.svs", "b.svs", "c.zarr"], "OUT"),
        (["convert", "a.svs", "no/such/folder/b.zarr"], "OUT"),
        (["convert", "a.svs", "b.zarr", "--source-tiles", "some"], "--source-tiles"),
        (["convert", "a.svs", "b.zarr", "--ome-zarr", "0.3"], "--ome-zarr"),
        (["convert", ".", "--out", "b"], "SLIDE"),
        (["verify"], "ARCHIVE"),
        (["info"], "PATH"),
        (["convert", "a.svs", "b.zarr", "--fast"], "--fast"),
        ([], "COMMAND"),
    ],
)
def test_usage_errors(run, args, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, stdout, stderr = run(*args)
    assert status == 2
    assert named in stderr.splitlines()[-1]
    assert not stdout


def test_existing_output_is_a_usage_error(run, archive, plain_slide):
    status, _, stderr = run("convert", plain_slide, archive)
    assert status == 2
    assert "--overwrite" in stderr.splitlines()[-1]
    assert run("convert", plain_slide, archive, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    "args",
    [
        ["convert", "missing.svs", "b.zarr"],
        ["convert", "text.svs", "b.zarr"],
        ["verify", "missing.zarr", "--source", "text.svs"],
        ["info", "missing.svs"],
        ["info", "text.svs"],
        ["info", "missing.zarr"],
        ["info", "."],
    ],
)
def test_data_errors(run, args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.svs").write_text("no slide")
    status, stdout, stderr = run(*args)
    assert status == 1
    assert stderr.startswith("dlpr-wsi: error: ")
    assert len(stderr.splitlines()) == 1
    assert not stdout
    assert not (tmp_path / "b.zarr").exists()


def test_version(run):
    status, stdout, _ = run("--version")
    assert status == 0
    assert all(name in stdout for name in ("dlpr-wsi", "zarr", "openslide-python", "numcodecs"))


@pytest.mark.parametrize(("module", "package"), [("openslide", "openslide-python"), ("distributed", "dask")])
def test_missing_dependency_names_the_extra(tmp_path, plain_slide, module, package):
    script = f"import sys; sys.modules[{module!r}] = None; from dlpr_wsi.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "convert", str(plain_slide), str(tmp_path / "a.zarr"), "--workers", "1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert package in done.stderr
    assert "pip install 'dlpr-wsi[wsi]'" in done.stderr
    assert "Traceback" not in done.stderr


_ASCII, _LATIN = {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}
_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ("info", _ASCII),
        ("info", _LATIN),
        ("info", _C),
        ("dry-run", _ASCII),
        ("convert", _ASCII),
        ("convert", _LATIN),
        ("missing", _ASCII),
    ],
)
def test_stdout_that_is_not_utf8(tmp_path, plain_slide, command, environment):
    slide = tmp_path / "Pr\u00e4parat \u5b57 \u00b5.tiff"
    slide.write_bytes(plain_slide.read_bytes())
    args = {
        "info": ["info", slide],
        "dry-run": ["convert", slide, "--dry-run"],
        "convert": ["convert", slide, "--out", tmp_path / "\u51fa", "--workers", "0"],
        "missing": ["info", tmp_path / "\u5b57.svs"],
    }[command]
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from dlpr_wsi.cli import main; sys.exit(main())", *map(os.fsencode, args)],
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == (command == "missing")
    assert b"Traceback" not in done.stderr
    shown = done.stderr if command == "missing" else done.stdout
    assert shown
    if "ascii" in environment.get("PYTHONIOENCODING", "") and command in ("info", "missing"):
        assert b"\\u5b57" in shown


def test_info_of_one_picture_of_several(run, tmp_path):
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as writer:
        for shade in (10, 20, 30):
            writer.write(np.full((40, 50, 3), shade, np.uint8), photometric="rgb", metadata=None)
    status, _, stderr = run("info", path)
    assert status == 1
    assert "--page N takes one (0..2)" in stderr
    status, stdout, _ = run("info", path, "--page", 2)
    assert status == 0
    assert "level 0       50 x 40 px" in stdout
    assert "note          left out: 2 other pages of the file" in stdout
    assert run("info", path, "--page", 3)[0] == 1
