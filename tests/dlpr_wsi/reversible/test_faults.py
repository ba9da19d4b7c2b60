"""Damage, kills, and lists of bytes that nobody wrote: nothing wrong ever gets a file's name."""

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.reversible import layout
from dlpr_wsi.reversible.originals import Originals
from dlpr_wsi.reversible.restore import check, restore


@pytest.fixture
def copy(tmp_path, rev_svs):
    out = tmp_path / "copy.zarr"
    shutil.copytree(rev_svs[1], out)
    return out


def map_of(archive):
    with Originals(archive) as originals:
        return originals.map, originals.map_bytes


def flip(file, at, bit=0):
    content = bytearray(file.read_bytes())
    content[at] ^= 1 << bit
    file.write_bytes(content)


def nothing_appears(archive, folder, match):
    folder.mkdir(exist_ok=True)
    with pytest.raises(ArchiveError, match=match) as failed:
        restore(archive, folder, threads=2)
    assert list(folder.iterdir()) == []
    with pytest.raises(ArchiveError, match=match):
        check(archive, threads=2)
    found = verify(archive, threads=2)
    assert not found.ok
    assert found.files == 1
    return str(failed.value), found


def test_a_flipped_bit_in_a_chunk(tmp_path, copy):
    with Originals(copy) as originals:
        stream = originals.archive.stream(0, 0, 1)
    shard = next(file for file in (copy / "0").rglob("*") if file.is_file() and stream in file.read_bytes())
    flip(shard, shard.read_bytes().index(stream) + len(stream) // 2, 3)
    message, found = nothing_appears(copy, tmp_path / "out", "level 0 row 0 column 1")
    assert "bytes " in message
    assert [(bad.level, bad.row, bad.column) for bad in found.bad] == [(0, 0, 1)]
    assert len(found.bad_files) == 1


def test_a_missing_shard(tmp_path, copy):
    shard = next(file for file in sorted((copy / "0" / "c").rglob("*")) if file.is_file())
    shard.unlink()
    nothing_appears(copy, tmp_path / "out", "level 0 row 0 column 0.*missing")


def test_a_flipped_bit_anywhere_in_the_map(tmp_path, copy):
    file = copy / "source" / "c" / "0"
    found, size = map_of(copy)
    kept = int(found.kept.stored.sum())
    folder = tmp_path / "out"
    folder.mkdir()
    rng = random.Random(0)
    places = {
        0: "first bytes",
        8: "kept block 0",
        8 + kept - 1: "kept block",
        size - 1: "trailer",
        size - 30: "trailer",
    }
    places |= {8 + kept + rng.randrange(size - kept - 8 - layout.TRAILER): "" for _ in range(40)}
    for at, reason in places.items():
        flip(file, at)
        with pytest.raises(ArchiveError, match=reason or "list of the slide's bytes"):
            restore(copy, folder, threads=2)
        assert list(folder.iterdir()) == []
        flip(file, at)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ArchiveError, match="trailer"):
        restore(copy, folder)


def test_verify_tells_of_a_lost_map(copy):
    assert verify(copy, threads=2).ok
    shutil.rmtree(copy / "source")
    found = verify(copy, threads=2)
    assert not found.ok
    assert "not in it" in found.bad_files[0]


def test_a_right_checksum_of_wrong_bytes(tmp_path, copy):
    """A map whose parts are made as listed, but whose file is not the slide's: the SHA-256 tells."""
    file = copy / "source" / "c" / "0"
    found, _ = map_of(copy)
    content = file.read_bytes()
    entry = found.files[0]
    wrong = layout.FileEntry(entry.name, entry.size, bytes(32))
    index, raw, crc = layout.pack_index(
        layout.SourceMap((wrong,), found.templates, found.parts, found.segments, found.kept)
    )
    offset = 8 + int(found.kept.stored.sum())
    file.write_bytes(content[:offset] + index + layout.pack_trailer(layout.Trailer(offset, len(index), raw, crc)))
    nothing_appears(copy, tmp_path / "out", "SHA-256 differs")


def changed(found, **fields):
    parts = {"files": found.files, "templates": found.templates, "parts": found.parts, "segments": found.segments}
    return layout.SourceMap(**{**parts, "kept": found.kept, **fields})


@pytest.mark.parametrize(
    "name", ["../up", "/root", "a//b", "a/../b", ".", "", "a\0b", "back\\slash", "x" * 300, "a/./b", "dir/"]
)
def test_names_that_would_leave_the_folder(tmp_path, copy, name):
    file = copy / "source" / "c" / "0"
    found, _ = map_of(copy)
    entry = found.files[0]
    index, raw, crc = layout.pack_index(changed(found, files=(layout.FileEntry(name, entry.size, entry.sha256),)))
    offset = 8 + int(found.kept.stored.sum())
    file.write_bytes(
        file.read_bytes()[:offset] + index + layout.pack_trailer(layout.Trailer(offset, len(index), raw, crc))
    )
    with pytest.raises(ArchiveError, match="name"):
        restore(copy, tmp_path)


def test_later_versions_are_refused_by_name(copy):
    found, _ = map_of(copy)
    stored, size, _ = layout.pack_index(found)
    from numcodecs.zstd import compress, decompress

    raw = bytearray(decompress(stored))
    struct.pack_into("<I", raw, 0, 2)
    trailer = layout.Trailer(0, 0, size, zlib.crc32(raw))
    with pytest.raises(ArchiveError, match=r"version 2.*update"):
        layout.parse_index(compress(bytes(raw)), trailer, int(found.kept.stored.sum()), "x")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_index_parses_or_is_refused(rev_svs, data):
    """Bytes changed before compression, checksum set right: a list that a liar wrote."""
    found, _ = map_of(rev_svs[1])
    from numcodecs.zstd import compress, decompress

    raw = bytearray(decompress(layout.pack_index(found)[0]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(len(raw) // 2, len(raw)))] if data.draw(st.booleans()) else raw
    trailer = layout.Trailer(0, 0, len(raw), zlib.crc32(raw))
    blocks = int(found.kept.stored.sum())
    try:
        parsed = layout.parse_index(compress(bytes(raw)), trailer, blocks, "x")
    except ArchiveError:
        return
    assert sum(parsed.segments.size.tolist()) == sum(file.size for file in parsed.files)


def test_numbers_survive_a_round_trip():
    from dlpr_wsi.reversible.columns import ColumnReader, pack_column, pack_signed

    rng = np.random.default_rng(0)
    for most in (0, 255, 256, 65535, 65536, 1 << 31, 1 << 60):
        values = rng.integers(0, most, 50, endpoint=True)
        assert ColumnReader(pack_column(values), "x").column(50, most).tolist() == values.tolist()
        signed = rng.integers(-most, most, 50, endpoint=True)
        assert ColumnReader(pack_signed(signed), "x").signed(50, most).tolist() == signed.tolist()
    assert ColumnReader(pack_column(np.array([], np.int64)), "x").column(0, 5).tolist() == []
    with pytest.raises(ArchiveError, match="above"):
        ColumnReader(pack_column(np.array([7])), "x").column(1, 6)


def test_a_slide_that_changes_meanwhile_is_refused(tmp_path, svs, monkeypatch):
    from dlpr_wsi.errors import SourceError
    from dlpr_wsi.reversible import build

    slide = tmp_path / "changing.svs"
    shutil.copy(svs, slide)
    genuine = build._Writer.write

    def meanwhile(writer):
        with slide.open("ab") as file:
            file.write(b"more")
        return genuine(writer)

    monkeypatch.setattr(build._Writer, "write", meanwhile)
    with pytest.raises(SourceError, match="became longer"):
        convert(slide, tmp_path / "a.zarr", options=ConvertOptions(reversible=True), threads=2)
    assert not (tmp_path / "a.zarr").exists()


def test_a_maker_that_lies_costs_bytes_only(tmp_path, svs, monkeypatch):
    from dlpr_wsi.reversible.makers import MAKERS, JpegImages

    class Liar(JpegImages):
        def make(self, template, hint, place, chunks):
            made = super().make(template, hint, place, chunks)
            return made if place.x else made[:-1] + b"!"

    monkeypatch.setitem(MAKERS, 1, Liar())
    report = convert(svs, tmp_path / "a.zarr", options=ConvertOptions(reversible=True), threads=2)
    monkeypatch.undo()
    restore(tmp_path / "a.zarr", tmp_path / "back.svs")
    assert (tmp_path / "back.svs").read_bytes() == svs.read_bytes()
    assert report.reversible["made_bytes"] > 0


def kill_at_random(command, rng, kills, whole):
    """Run a command again and again, and kill it at some moment until that has happened ``kills`` times.

    ``whole`` is called after each run: it compares what is there, and removes it. The span follows how long the
    command takes on this machine now, so that kills come all over its run.
    """
    span = 1.0
    for _ in range(6 * kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert process.wait(rng.uniform(0.5, 1.0) * span) == 0
            span *= 0.9
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            span *= 1.1
            kills -= 1
        whole()
        if not kills:
            return
    raise AssertionError(f"{kills} kills came too late")


def bytes_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.full)])
def test_killed_at_random(tmp_path, rev_svs, kills):
    """kill -9 of convert and of restore: the same bytes in the end, and never a part of a file under its name."""
    slide, whole, _ = rev_svs
    rng = random.Random(kills)
    tool = [sys.executable, "-m", "dlpr_wsi.cli"]
    out, back = tmp_path / "a.zarr", tmp_path / "back.svs"
    command = [*tool, "convert", str(slide), str(out), "--reversible", "--threads", "2"]

    def archive_is_whole():
        if out.exists():
            assert bytes_of(out) == bytes_of(whole)
            shutil.rmtree(out)

    def slide_is_whole():
        if back.exists():
            assert back.read_bytes() == slide.read_bytes()
            back.unlink()

    kill_at_random(command, rng, kills, archive_is_whole)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert bytes_of(out) == bytes_of(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    command = [*tool, "restore", str(out), str(back)]
    kill_at_random(command, rng, kills, slide_is_whole)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert back.read_bytes() == slide.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "back.svs"]


def test_two_restores_at_once(tmp_path, rev_svs):
    from dlpr_wsi.reversible.restore import _partial

    with _partial(tmp_path / "back.svs") as file:
        with pytest.raises(ArchiveError, match="another process"):
            restore(rev_svs[1], tmp_path / "back.svs")
        file.write(b"done")
    assert (tmp_path / "back.svs").read_bytes() == b"done"
