"""The mount, for real, where this machine has FUSE."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from dlpr_wsi.reversible.catalogue import Catalogue
from dlpr_wsi.reversible.originals import MakingCache, Originals


def _why_not():
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be used here"
    if shutil.which("fusermount3") is None and shutil.which("fusermount") is None:
        return "fuse3 is not installed"
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError) as error:
        return f"mfusepy: {error}"
    return ""


needs_fuse = pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "FUSE is here")


@contextmanager
def mounted(folder, *archives):
    """Run ``dlpr-wsi mount`` until the block ends; yields the process."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "dlpr_wsi.cli", "mount", *map(str, archives), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert "mounted at" in line, process.stderr.read()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        if process.poll() is None:
            process.kill()
            subprocess.run(["umount", "-l", str(folder)], check=False)
        process.stdout.close()
        process.stderr.close()


def until(check, seconds=15):
    """Wait for something that happens soon."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.1)


@needs_fuse
def test_the_slide_is_there(tmp_path, rev_svs):
    import openslide
    import tifffile

    slide, archive, _ = rev_svs
    data = slide.read_bytes()
    folder = tmp_path / "mnt"
    with mounted(folder, archive) as process:
        file = folder / slide.name
        assert [entry.name for entry in folder.iterdir()] == [slide.name]
        assert file.stat().st_size == len(data)
        assert file.read_bytes() == data
        assert subprocess.run(["cmp", str(file), str(slide)], check=False).returncode == 0
        with openslide.OpenSlide(file) as mine, openslide.OpenSlide(slide) as theirs:
            assert mine.level_dimensions == theirs.level_dimensions
            assert (
                mine.read_region((0, 0), 0, (300, 200)).tobytes() == theirs.read_region((0, 0), 0, (300, 200)).tobytes()
            )
        assert np.array_equal(tifffile.imread(file), tifffile.imread(slide))
        places = np.random.default_rng(0).integers(0, len(data), 64).tolist()

        def read(at):
            with file.open("rb", buffering=0) as handle:
                handle.seek(at)
                return handle.read(3000) == data[at : at + 3000]

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, places))
        for denied in (lambda: file.write_bytes(b"x"), (folder / "new").touch, file.unlink):
            with pytest.raises(OSError, match="Read-only") as refused:
                denied()
            assert refused.value.errno == errno.EROFS
        with pytest.raises(FileNotFoundError):
            (folder / "nothing").open("rb")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        said = process.stderr.read().splitlines()
        assert [line for line in said if "max threads" not in line] == []  # libfuse 3.14 says that of itself
    assert not os.path.ismount(folder)
    assert list(folder.iterdir()) == []


def _ndpi(folder):
    from kit_common import tissue
    from kit_ndpi import ndpi

    ndpi(folder / "a.ndpi", tissue(1024, 512), levels=2)
    return folder / "a.ndpi"


def _dicom(folder):
    from kit_common import halved, tissue
    from kit_dicom import write_dicom

    return write_dicom(folder / "series", [tissue(400, 300), halved(tissue(400, 300), 1)])


def _mirax(folder):
    from kit_common import tissue
    from kit_mirax import mirax

    mirax(folder / "a.mrxs", tissue(384, 192))
    return folder / "a.mrxs"


@needs_fuse
@pytest.mark.parametrize("make", [_ndpi, _dicom, _mirax])
def test_openslide_reads_other_slides(tmp_path, make, convert_reversible):
    """All pixels of all levels, and `cmp` of all files."""
    import openslide

    from dlpr_wsi.reversible.attach import slide_file_names

    (tmp_path / "in").mkdir()
    slide = make(tmp_path / "in")
    convert_reversible(slide, tmp_path / "a.zarr")
    folder = tmp_path / "mnt"
    with mounted(folder, tmp_path / "a.zarr"):
        names = slide_file_names(slide)
        for name, path in names.items():
            assert subprocess.run(["cmp", str(folder / name), str(path)], check=False).returncode == 0
        name = next(name for name, path in names.items() if path == slide.absolute())
        with openslide.OpenSlide(folder / name) as mine, openslide.OpenSlide(slide) as theirs:
            assert mine.level_dimensions == theirs.level_dimensions
            for level, size in enumerate(theirs.level_dimensions):
                assert (
                    mine.read_region((0, 0), level, size).tobytes() == theirs.read_region((0, 0), level, size).tobytes()
                )


@needs_fuse
def test_damage_is_an_error_of_its_range_only(tmp_path, rev_svs):
    slide, archive, _ = rev_svs
    broken = tmp_path / "broken.zarr"
    shutil.copytree(archive, broken)
    with Originals(archive) as originals:
        parts, segments = originals.map.parts, originals.map.segments
        part = int(np.flatnonzero((parts.level == 0) & (parts.x == 128) & (parts.y == 128))[0])
        segment = int(np.flatnonzero(segments.part == part)[0])
        start, size = int(segments.start[segment]), int(segments.size[segment])
        stream = originals.archive.stream(0, 1, 1)
    shard = next(file for file in (broken / "0").rglob("*") if file.is_file() and stream in file.read_bytes())
    content = bytearray(shard.read_bytes())
    content[content.index(stream) + len(stream) // 2] ^= 1
    shard.write_bytes(content)
    data = slide.read_bytes()
    with mounted(tmp_path / "mnt", broken) as process:
        virtual = tmp_path / "mnt" / slide.name
        with virtual.open("rb", buffering=0) as file:
            assert file.read(start // 2) == data[: start // 2]
            descriptor = file.fileno()
            if hasattr(os, "posix_fadvise"):  # the kernel reads ahead, and may tell an error of what nobody asked for
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
            with pytest.raises(OSError, match="error") as failed:
                os.pread(descriptor, size, start)
            assert failed.value.errno == errno.EIO
            after = start + size + 8192
            assert os.pread(descriptor, 4096, after) == data[after : after + 4096]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        log = process.stderr.read()
    assert f"bytes {start} to {start + size - 1} of {slide.name}: level 0 row 1 column 1" in log
    assert log.count("level 0 row 1 column 1") == 1


@needs_fuse
def test_a_folder_of_archives(tmp_path, rev_svs, rev_tiff, archive):
    slide, first, _ = rev_svs
    many = tmp_path / "archives"
    many.mkdir()
    shutil.copytree(archive, many / "plain.zarr")  # not reversible: not shown
    with mounted(tmp_path / "mnt", many):
        folder = tmp_path / "mnt"
        assert list(folder.iterdir()) == []
        shutil.copytree(first, tmp_path / "new.zarr")
        (tmp_path / "new.zarr").rename(many / "b.zarr")
        until(lambda: [p.name for p in folder.iterdir()] == [slide.name])
        shutil.copy(rev_tiff[1], tmp_path / "a.tif.new")
        (tmp_path / "a.tif.new").rename(many / "a.tif")
        until(lambda: sorted(p.name for p in folder.iterdir()) == sorted(["a", slide.name]))
        assert (folder / "a" / slide.name).read_bytes() == (folder / slide.name).read_bytes() == slide.read_bytes()
        shutil.rmtree(many / "b.zarr")
        until(lambda: [p.name for p in folder.iterdir()] == ["a"])


@needs_fuse
def test_umount_ends_it(tmp_path, rev_svs):
    with mounted(tmp_path / "mnt", rev_svs[1]) as process:
        subprocess.run(["umount", str(tmp_path / "mnt")], check=True)
        assert process.wait(20) == 0


def test_refusals(tmp_path, rev_svs, archive, capsys):
    from dlpr_wsi.cli import main

    if _why_not().startswith("mfusepy"):
        pytest.skip(_why_not())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(["mount", str(rev_svs[1]), str(tmp_path / "full")]) == 2
    assert "must be an empty folder" in capsys.readouterr().err
    (tmp_path / "mnt").mkdir()
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        assert main(["mount", str(archive), str(tmp_path / "mnt")]) == 1
        assert "made without --reversible" in capsys.readouterr().err


def test_names_that_are_taken(tmp_path, rev_svs, rev_tiff):
    slide, first, _ = rev_svs
    catalogue = Catalogue([first, rev_tiff[1], Path(first)], MakingCache(1 << 20))
    try:
        assert catalogue.names("") == sorted([slide.name, "svs"])
        assert catalogue.names("svs") == [slide.name]
        assert catalogue.names("nothing") is None
        for path in (slide.name, f"svs/{slide.name}"):
            found = catalogue.file(path)
            assert catalogue.read(found, 100, 50) == slide.read_bytes()[100:150]
    finally:
        catalogue.close()
