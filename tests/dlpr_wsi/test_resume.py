"""Conversions that are killed, and go on."""

import json
import os
import random
import subprocess
import sys
import time

import pytest

from dlpr_wsi.errors import ArchiveError, UsageError
from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.pipeline.execute import LocalExecutor
from dlpr_wsi.pipeline.journal import Journal, fingerprint, partial_folder
from dlpr_wsi.pipeline.plan import SourceTiles
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.sinks.omezarr import OmeVersion

OPTIONS = ["--source-tiles", "never", "--tile", "64", "--workers", "0", "--threads", "1"]


def files(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def finished(out):
    """Return (inode, time of change) of every file of a finished task."""
    folder = partial_folder(out) / "data"
    shards = (p for p in folder.rglob("*") if p.is_file() and p.suffix != ".partial")
    return {str(p.relative_to(folder)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in shards}


def command(slide, out, *more):
    return [sys.executable, "-m", "dlpr_wsi.cli", "convert", str(slide), str(out), *OPTIONS, *more]


def wait_for_task(out, process, count=1, limit=60):
    """Wait until the journal has a number of tasks."""
    journal = partial_folder(out) / "journal.jsonl"
    end = time.monotonic() + limit
    while time.monotonic() < end and process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") > count:
            return
        time.sleep(0.02)


@pytest.mark.parametrize("more", [(), ("--ome-zarr", "0.4")])
def test_killed_and_resumed_is_byte_identical(tmp_path, real_slide, more):
    whole = tmp_path / "whole.zarr"
    version = OmeVersion.V04 if more else OmeVersion.V05
    options = ConvertOptions(tile=64, source_tiles=SourceTiles.NEVER, version=version)
    convert(real_slide, whole, options=options)
    out = tmp_path / "a.zarr"
    with subprocess.Popen(
        command(real_slide, out, *more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
    ) as process:
        wait_for_task(out, process)
        process.kill()
    assert not out.exists()
    before = finished(out)
    assert before
    done = subprocess.run(
        command(real_slide, out, *more), capture_output=True, text=True, cwd=tmp_path, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "shards were finished by an earlier run" in done.stdout
    after = {str(p.relative_to(out)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in out.rglob("*") if p.is_file()}
    assert {name: after[name] for name in before} == before
    assert files(out) == files(whole)
    assert not partial_folder(out).exists()


@pytest.mark.full
def test_twenty_kills_at_random_moments(tmp_path, real_slide):
    def start(out):
        return subprocess.Popen(
            command(real_slide, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
        )

    whole = tmp_path / "whole.zarr"
    begin = time.monotonic()
    assert start(whole).wait(120) == 0
    seconds = time.monotonic() - begin  # with the start of Python, which a run that goes on needs too
    expected = files(whole)
    chance = random.Random(4)
    kills = conversions = 0
    while kills < 20:
        out = tmp_path / f"{conversions}.zarr"
        conversions += 1
        before = {}
        while not out.exists():
            process = start(out)
            try:
                assert process.wait(chance.uniform(0, 1.1 * seconds)) == 0
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)
                kills += 1
            if not out.exists():
                now = finished(out)
                assert {name: now[name] for name in before} == before  # no finished file was made again
                before = {name: stamp for name, stamp in now.items() if "/c/" in name}
        left = {str(p.relative_to(out)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in out.rglob("*") if p.is_file()}
        assert {name: left[name] for name in before} == before
        assert files(out) == expected
    assert conversions < 20


def test_sigterm_keeps_what_is_done(tmp_path, real_slide):
    out = tmp_path / "a.zarr"
    with subprocess.Popen(command(real_slide, out), stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        wait_for_task(out, process)
        process.terminate()
        stderr = process.stderr.read()
        assert process.wait(60) == 143
    assert "run the same command again to go on" in stderr
    assert "Traceback" not in stderr
    assert not out.exists()
    assert finished(out)


@pytest.fixture
def half_done(tmp_path, plain_slide):
    """A conversion that stopped after some tasks."""

    class StoppedError(Exception):
        pass

    class Stopping(LocalExecutor):
        def run(self, function, job, tasks):
            for number, result in enumerate(super().run(function, job, tasks)):
                if number == 2:
                    raise StoppedError
                yield result

    out = tmp_path / "a.zarr"
    with pytest.raises(StoppedError):
        convert(plain_slide, out, options=ConvertOptions(tau=1, tile=64), executor=Stopping(1))
    return out


def test_other_options_are_refused(half_done, plain_slide, real_slide):
    with pytest.raises(UsageError, match=r"another options.*--restart"):
        convert(plain_slide, half_done, options=ConvertOptions(tau=2, tile=64))
    with pytest.raises(UsageError, match="another source"):
        convert(real_slide, half_done, options=ConvertOptions(tau=1, tile=64))
    report = convert(plain_slide, half_done, options=ConvertOptions(tau=2, tile=64), restart=True)
    assert report.resumed == 0
    assert verify(half_done, plain_slide).tau == 2


def test_source_that_changed_is_refused(half_done, tmp_path, plain_slide, real_slide):
    copy = tmp_path / "copy.tiff"
    copy.write_bytes(plain_slide.read_bytes())
    with pytest.raises(UsageError, match="another source"):  # its time of change differs
        convert(copy, half_done, options=ConvertOptions(tau=1, tile=64))


def test_a_line_cut_short_by_a_kill_is_dropped(half_done, plain_slide):
    journal = partial_folder(half_done) / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:20])
    report = convert(plain_slide, half_done, options=ConvertOptions(tau=1, tile=64))
    assert report.resumed == 1
    assert verify(half_done, plain_slide).ok


def test_a_finished_file_that_is_not_in_the_journal_is_checked_and_kept(half_done, plain_slide):
    journal = partial_folder(half_done) / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    before = finished(half_done)
    assert len(before) >= 2
    convert(plain_slide, half_done, options=ConvertOptions(tau=1, tile=64))
    after = {n: ((half_done / n).stat().st_ino, (half_done / n).stat().st_mtime_ns) for n in before}
    assert after == before


def test_a_damaged_file_that_is_not_in_the_journal_is_made_again(half_done, plain_slide):
    journal = partial_folder(half_done) / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    name = next(iter(finished(half_done)))
    (partial_folder(half_done) / "data" / name).write_bytes(b"?")
    convert(plain_slide, half_done, options=ConvertOptions(tau=1, tile=64))
    assert verify(half_done, plain_slide).ok


def test_left_over_parts_of_files_do_not_stay(half_done, plain_slide):
    data = partial_folder(half_done) / "data"
    (data / "0" / "c" / "0" / "0" / "9.partial").write_bytes(b"half")
    convert(plain_slide, half_done, options=ConvertOptions(tau=1, tile=64))
    assert not [p for p in half_done.rglob("*") if p.suffix == ".partial"]


def test_a_lost_file_of_a_finished_task_is_made_again(half_done, plain_slide):
    for name in finished(half_done):
        (partial_folder(half_done) / "data" / name).unlink()
    convert(plain_slide, half_done, options=ConvertOptions(tau=1, tile=64))
    assert verify(half_done, plain_slide).ok


def test_two_at_once_are_refused(tmp_path, plain_slide):
    header = {"source": fingerprint(plain_slide)}
    first = Journal(tmp_path / "a.zarr", header)
    with pytest.raises(ArchiveError, match="another process"):
        Journal(tmp_path / "a.zarr", header)
    first.close()
    Journal(tmp_path / "a.zarr", header).close()


def test_nothing_in_an_archive_depends_on_time_or_place(tmp_path, plain_slide):
    copy = tmp_path / "elsewhere" / "other.tiff"
    copy.parent.mkdir()
    copy.write_bytes(plain_slide.read_bytes())
    os.utime(copy, (1, 1))
    convert(plain_slide, tmp_path / "a.zarr", tile=64)
    convert(copy, tmp_path / "b.zarr", tile=64, threads=1)
    assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr")
    assert json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())["attributes"]["dlpr_wsi"]["job"]
