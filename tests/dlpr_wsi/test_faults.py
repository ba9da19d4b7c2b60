"""Full disks, damaged slides, read-only folders: what is said, and how the command exits."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dlpr_wsi.pipeline.journal import partial_folder

CONVERT = [sys.executable, "-m", "dlpr_wsi.cli", "convert"]


def run(*args, cwd, **options):
    return subprocess.run(
        [*CONVERT, *map(str, args)], capture_output=True, text=True, cwd=cwd, timeout=120, check=False, **options
    )


def limit_files():
    """Stand in for a full disk: writes beyond 40 kB fail."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))


@pytest.fixture
def noise(tmp_path):
    """A slide of a few incompressible tiles."""
    import tifffile

    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "noise.tiff", pixels, photometric="rgb", tile=(256, 256))
    return tmp_path / "noise.tiff"


@pytest.mark.parametrize("workers", [0, 1])
def test_disk_full(tmp_path, noise, workers):
    out = tmp_path / "a.zarr"
    args = [noise, out, "--workers", workers, "--threads", 2]
    done = run(*args, cwd=tmp_path, preexec_fn=limit_files)
    assert done.returncode == 1
    assert "dlpr-wsi: error:" in done.stderr
    assert "too large" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert not out.exists()
    assert not list(partial_folder(out).rglob("*.partial"))
    assert run(*args, cwd=tmp_path).returncode == 0  # room again: it goes on
    assert out.is_dir()


@pytest.mark.full
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_disk_really_full(tmp_path, noise):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", small], check=False).returncode:
        pytest.skip("no mounts here")
    try:
        done = run(noise, small / "a.zarr", cwd=tmp_path)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (small / "a.zarr").exists()
        subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
        assert run(noise, small / "a.zarr", cwd=tmp_path).returncode == 0
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.fixture
def broken_svs(tmp_path, svs):
    """An SVS with garbage in the tile at row 1, column 2 of level 0."""
    import tifffile

    path = tmp_path / "broken.svs"
    path.write_bytes(svs.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        columns = -(-page.imagewidth // page.tilewidth)
        offset, size = page.dataoffsets[columns + 2], page.databytecounts[columns + 2]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * size)
    return path


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_tile_of_the_slide_is_named(tmp_path, broken_svs, svs, workers):
    out = tmp_path / "a.zarr"
    done = run(broken_svs, out, "--workers", workers, cwd=tmp_path)
    assert done.returncode == 1
    assert "1 tile could not be converted" in done.stderr
    assert "level 0 row 1 column 2 (x=256 y=128 128x128 px)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
    assert (partial_folder(out) / "journal.jsonl").read_bytes().count(b"\n") > 1  # the other shards are done


def test_truncated_slide(tmp_path, svs):
    cut = tmp_path / "cut.svs"
    cut.write_bytes(svs.read_bytes()[: svs.stat().st_size // 2])
    done = run(cut, tmp_path / "a.zarr", cwd=tmp_path)
    assert done.returncode == 1
    assert "cut.svs" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path, plain_slide):
    folder = tmp_path / "ro"
    folder.mkdir(mode=0o555)
    done = run(plain_slide, folder / "a.zarr", cwd=tmp_path)
    assert done.returncode == 1
    assert "its folder cannot be written" in done.stderr


def test_worker_killed_in_the_middle(tmp_path, real_slide):
    """The nanny starts another worker, and the conversion ends as if nothing had been."""
    import psutil

    out = tmp_path / "a.zarr"
    args = [str(real_slide), str(out), "--workers", "1", "--threads", "1", "--tile", "64"]
    with subprocess.Popen([*CONVERT, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("convert "):
                break
        workers = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if child.memory_info().rss > 50 << 20
        ]
        assert workers
        workers[0].kill()
        stdout, stderr = process.communicate(timeout=90)
        assert process.returncode == 0, stderr
    assert "max |error|   0" in stdout
    assert out.is_dir()
    assert Path(out / "zarr.json").is_file()
