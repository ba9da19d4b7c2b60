"""Damage of every kind is found and named, with and without the source."""

import json

import numpy as np
import pytest

import dlpr
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.sources.opening import open_archive


def flip_bit(chunk):
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 4
    chunk.write_bytes(data)


def truncate(chunk):
    chunk.write_bytes(chunk.read_bytes()[:-3])


def empty(chunk):
    chunk.write_bytes(b"")


def remove(chunk):
    chunk.unlink()


def other_shape(chunk):
    chunk.write_bytes(dlpr.encode(np.zeros((3, 32, 32), np.uint8)))


def other_pixels(chunk):
    chunk.write_bytes(dlpr.encode(np.zeros((3, 64, 64), np.uint8)))


@pytest.mark.parametrize(
    ("damage", "reason", "alone"),
    [
        (flip_bit, None, None),
        (truncate, None, None),
        (empty, None, None),
        (remove, "missing", "missing"),
        (other_shape, "shape", "shape"),
        (other_pixels, "error-above-tau", "hash"),
    ],
)
def test_damaged_chunk_files_are_named(loose, plain_slide, damage, reason, alone):
    damage(loose / "0" / "0" / "1" / "2")
    damage(loose / "0" / "0" / "3" / "0")
    for report, expected in ((verify(loose, plain_slide), reason), (verify(loose), alone)):
        assert not report.ok
        assert [(bad.level, bad.row, bad.column) for bad in report.bad] == [(0, 1, 2), (0, 3, 0)]
        assert [(bad.x, bad.y, bad.width, bad.height) for bad in report.bad] == [(128, 64, 64, 64), (0, 192, 64, 8)]
        for bad in report.bad:
            assert bad.reason
            assert bad.reason == (expected or bad.reason)
            assert f"row {bad.row} column {bad.column}" in str(bad)


def shard(archive, row=0, column=0):
    return archive / "0" / "c" / "0" / str(row) / str(column)


def test_a_flipped_bit_in_a_shard_names_its_tile(archive, plain_slide):
    opened = open_archive(archive)
    level = opened.levels[0]
    stream = opened.stream(0, 0, 1)
    data = bytearray(shard(archive).read_bytes())
    at = bytes(data).index(stream) + len(stream) // 2
    data[at] ^= 1
    shard(archive).write_bytes(data)
    for report in (verify(archive), verify(archive, plain_slide)):
        assert [(bad.level, bad.row, bad.column) for bad in report.bad] == [(0, 0, 1)]
    assert (level.shard_rows, level.shard_columns) == (2, 2)


def test_damaged_shards_name_all_their_tiles(archive, plain_slide):
    truncate(shard(archive))
    report = verify(archive, plain_slide)
    assert [(bad.row, bad.column, bad.reason) for bad in report.bad] == [
        (row, column, "shard") for row in (0, 1) for column in (0, 1)
    ]
    remove(shard(archive))
    assert {bad.reason for bad in verify(archive).bad} == {"missing"}
    empty(shard(archive, 1, 1))
    assert len(verify(archive).bad) == 8


def test_swapped_chunks_are_found(loose, plain_slide):
    first, second = loose / "0" / "0" / "0" / "0", loose / "0" / "0" / "1" / "1"
    stored = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(stored)
    report = verify(loose, plain_slide)
    assert [(bad.row, bad.column, bad.reason) for bad in report.bad] == [
        (0, 0, "error-above-tau"),
        (1, 1, "error-above-tau"),
    ]
    assert report.max_error > 1
    assert [bad.reason for bad in verify(loose).bad] == ["hash", "hash"]


def test_error_above_the_recorded_tau_is_found(archive, plain_slide):
    metadata = archive / "0" / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"tau": 1\n', '"tau": 0\n'))
    report = verify(archive, plain_slide)
    assert report.tau == 0
    assert report.max_error == 1
    assert {bad.reason for bad in report.bad} == {"error-above-tau"}


def test_everything_undecodable(loose, plain_slide):
    for chunk in (loose / "0" / "0").rglob("*/*"):
        chunk.write_bytes(b"?")
    report = verify(loose, plain_slide)
    assert report.max_error is None
    assert len(report.bad) == report.tiles == 24


def test_damaged_hashes_are_refused_or_reported(archive):
    hashes = archive / "hashes" / "0" / "c" / "0" / "0" / "0"
    flip_bit(hashes)
    assert [bad.reason for bad in verify(archive).bad] == ["hash"]
    truncate(hashes)
    with pytest.raises(ArchiveError, match="hashes"):
        verify(archive)


def test_slide_of_another_size_is_refused(archive, real_slide):
    with pytest.raises(ArchiveError, match=r"330x200 px.*512x384"):
        verify(archive, real_slide)


def test_folder_without_an_archive_is_refused(tmp_path, plain_slide):
    for path in (tmp_path / "none.zarr", tmp_path):
        with pytest.raises(ArchiveError):
            verify(path, plain_slide)


def test_broken_metadata_is_refused(archive, plain_slide):
    for name in ("zarr.json", "0/zarr.json"):
        good = (archive / name).read_text()
        for text in ("", "{", '{"zarr_format": 3, "node_type": "array"}', "[]", '{"zarr_format": 3}', "null"):
            (archive / name).write_text(text)
            with pytest.raises(ArchiveError):
                verify(archive, plain_slide)
        (archive / name).write_text(good)
    for shape in ([3, 200], [3, -1, 330], [3, "200", 330], [4, 200, 330], None):
        broken = json.loads((archive / "0" / "zarr.json").read_text()) | {"shape": shape}
        (archive / "0" / "zarr.json").write_text(json.dumps(broken))
        with pytest.raises(ArchiveError):
            verify(archive)


def test_array_of_another_kind_is_refused(tmp_path, plain_slide):
    import zarr

    zarr.create_array(tmp_path / "v3", shape=(3, 8, 8), chunks=(3, 8, 8), dtype="u1")
    zarr.create_array(tmp_path / "v2", shape=(3, 8, 8), chunks=(3, 8, 8), dtype="u1", zarr_format=2)
    for name in ("v2", "v3"):
        with pytest.raises(ArchiveError, match="not an archive of this package"):
            verify(tmp_path / name, plain_slide)
