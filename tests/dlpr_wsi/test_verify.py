"""Damage of every kind is found and named."""

import numpy as np
import pytest

import dlpr
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.pipeline.verify import verify


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
    ("damage", "reason"),
    [
        (flip_bit, None),
        (truncate, None),
        (empty, None),
        (remove, "missing"),
        (other_shape, "shape"),
        (other_pixels, "error-above-tau"),
    ],
)
def test_damage_is_named(archive, plain_slide, damage, reason):
    damage(archive / "c" / "0" / "1" / "2")
    damage(archive / "c" / "0" / "3" / "0")
    report = verify(archive, plain_slide)
    assert not report.ok
    assert [(bad.row, bad.column) for bad in report.bad] == [(1, 2), (3, 0)]
    assert [(bad.x, bad.y, bad.width, bad.height) for bad in report.bad] == [
        (128, 64, 64, 64),
        (0, 192, 64, 8),
    ]
    for bad in report.bad:
        assert bad.reason
        assert bad.reason == (reason or bad.reason)
        assert f"c/0/{bad.row}/{bad.column}" in str(bad)


def test_swapped_chunks_are_found(archive, plain_slide):
    first, second = archive / "c" / "0" / "0" / "0", archive / "c" / "0" / "1" / "1"
    stored = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(stored)
    report = verify(archive, plain_slide)
    assert [(bad.row, bad.column, bad.reason) for bad in report.bad] == [
        (0, 0, "error-above-tau"),
        (1, 1, "error-above-tau"),
    ]
    assert report.max_error > 1


def test_error_above_the_recorded_tau_is_found(archive, plain_slide):
    metadata = archive / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"tau": 1\n', '"tau": 0\n'))
    report = verify(archive, plain_slide)
    assert report.tau == 0
    assert report.max_error == 1
    assert {bad.reason for bad in report.bad} == {"error-above-tau"}


def test_everything_undecodable(archive, plain_slide):
    for chunk in (archive / "c").rglob("*/*/*"):
        chunk.write_bytes(b"?")
    report = verify(archive, plain_slide)
    assert report.max_error is None
    assert len(report.bad) == report.tiles == 24


def test_slide_of_another_size_is_refused(archive, real_slide):
    with pytest.raises(ArchiveError, match=r"330x200 px.*512x384"):
        verify(archive, real_slide)


def test_folder_without_an_archive_is_refused(tmp_path, plain_slide):
    for path in (tmp_path / "none.zarr", tmp_path):
        with pytest.raises(ArchiveError):
            verify(path, plain_slide)


def test_broken_metadata_is_refused(archive, plain_slide):
    for text in ("", "{", '{"zarr_format": 3, "node_type": "array"}', "[]"):
        (archive / "zarr.json").write_text(text)
        with pytest.raises(ArchiveError, match="metadata"):
            verify(archive, plain_slide)


def test_array_of_another_kind_is_refused(tmp_path, plain_slide):
    import zarr

    zarr.create_array(tmp_path / "v3", shape=(3, 8, 8), chunks=(3, 8, 8), dtype="u1")
    zarr.create_array(tmp_path / "v2", shape=(3, 8, 8), chunks=(3, 8, 8), dtype="u1", zarr_format=2)
    for name in ("v2", "v3"):
        with pytest.raises(ArchiveError, match="not an archive of this package"):
            verify(tmp_path / name, plain_slide)
