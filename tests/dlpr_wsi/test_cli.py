"""The command: what it prints and how it exits."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dlpr_wsi.cli import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "CMU-1-Small-Region.svs"


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
    status, stdout, stderr = run("convert", svs, out, "--tau", 1, "--tile", 128, "--threads", 2)
    assert status == 0
    assert "400 x 300 px in 12 tiles of 128 px" in stdout
    assert f"source file   {svs.stat().st_size:,} bytes (JPEG, quality 70)" in stdout
    assert "raw pixels    360,000 bytes" in stdout
    assert "bits/px" in stdout
    assert "MP/s" in stdout
    assert "dropped       associated images, not in the archive: label, macro, thumbnail" in stdout
    assert "convert 12/12 tiles" in stderr

    status, stdout, _ = run("verify", out, "--source", svs)
    assert status == 0
    assert "ok: max |error| 1, tau 1, 12 tiles" in stdout

    status, stdout, _ = run("info", out)
    assert status == 0
    assert "(3, 300, 400)" in stdout
    assert "source_codec: JPEG" in stdout

    status, stdout, _ = run("info", out, "--json")
    facts = json.loads(stdout)
    assert (facts["kind"], facts["tau"], facts["tiles"]) == ("archive", 1, 12)
    assert sum(facts["tiles_by_mode"].values()) == 12
    assert facts["bytes"] == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert facts["bits_per_pixel"] == pytest.approx(8 * facts["bytes"] / 120_000)
    assert facts["raw_share"] == pytest.approx(facts["bytes"] / 360_000)
    assert facts["source"]["mpp_x"] == 0.2525


def test_info_of_a_slide(run, svs):
    status, stdout, _ = run("info", svs)
    assert status == 0
    assert "aperio" in stdout
    assert "Jane" not in stdout
    status, stdout, _ = run("info", svs, "--json")
    facts = json.loads(stdout)
    assert facts["kind"] == "slide"
    assert facts["codec"] == {"name": "JPEG", "lossy": True, "quality": 70}
    assert "Jane" not in stdout


def test_info_counts_damage(run, archive):
    (archive / "c" / "0" / "0" / "0").unlink()
    (archive / "c" / "0" / "0" / "1").write_bytes(b"?")
    status, stdout, _ = run("info", archive, "--json")
    assert status == 0
    modes = json.loads(stdout)["tiles_by_mode"]
    assert (modes["missing"], modes["damaged"]) == (1, 1)


def test_flipped_bit_is_named(run, archive, plain_slide):
    chunk = archive / "c" / "0" / "2" / "1"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    status, stdout, stderr = run("verify", archive, "--source", plain_slide)
    assert status == 1
    assert "c/0/2/1 (row 2, column 1; x=64 y=128 64x64 px)" in stdout
    assert "FAILED, 1 of 24 chunks are bad" in stdout
    assert "Traceback" not in stdout + stderr


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["convert", "a.svs", "b.zarr", "--tau", "256"], "--tau"),
        (["convert", "a.svs", "b.zarr", "--tau", "1.5"], "--tau"),
        (["convert", "a.svs", "b.zarr", "--tile", "0"], "--tile"),
        (["convert", "a.svs", "b.zarr", "--threads", "0"], "--threads"),
        (["convert", "a.svs"], "OUT.zarr"),
        (["convert", "a.svs", "no/such/folder/b.zarr"], "OUT.zarr"),
        (["verify", "b.zarr"], "--source"),
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


def command(*args):
    return [sys.executable, "-m", "dlpr_wsi.cli", *map(str, args)]


@pytest.mark.parametrize(("module", "package"), [("openslide", "openslide-python"), ("zarr", "zarr 3")])
def test_missing_dependency_names_the_extra(tmp_path, plain_slide, module, package):
    script = f"import sys; sys.modules[{module!r}] = None; from dlpr_wsi.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "convert", str(plain_slide), str(tmp_path / "a.zarr")],
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


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_killed_in_the_middle_leaves_no_archive(tmp_path, number, status):
    out = tmp_path / "a.zarr"
    with subprocess.Popen(
        command("convert", EXAMPLE, out, "--threads", 1), stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert any("tiles" in line for line in process.stderr)  # stops at the first: a tenth is done
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == status
    assert not out.exists()
    assert "Traceback" not in rest
    left = [path.name for path in tmp_path.iterdir()]
    if number == signal.SIGKILL:
        assert len(left) == 1
        assert left[0].startswith(".a.zarr.")
        assert left[0].endswith(".partial")
    else:
        assert left == []
