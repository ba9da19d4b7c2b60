"""Stores that are wrong: exact pixels all the same, and a reason in the report. What OpenSlide cannot read is named."""

from dataclasses import replace

import pytest
from kit_common import tissue
from kit_ndpi import ndpi

from dlpr_wsi.cli import main
from dlpr_wsi.pipeline.convert import convert
from dlpr_wsi.pipeline.unkept import Unkept
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.report import convert_lines
from dlpr_wsi.stored.strips import StripLevel

pytest.importorskip("openslide")


@pytest.fixture
def slide(tmp_path):
    ndpi(tmp_path / "a.ndpi", tissue(1024, 400), strip=512, levels=1, subsampling="444")
    return tmp_path / "a.ndpi"


def other(tile):
    """Give another tile of the level."""
    return lambda level, row, column: tile(level, row, 1 - column)


def cut(tile):
    """Give half of the bytes."""

    def lying(level, row, column):
        found = tile(level, row, column)
        return replace(found, data=found.data[: len(found.data) // 2])

    return lying


def without_tables(tile):
    def lying(level, row, column):
        found = tile(level, row, column)
        at = found.data.index(b"\xff\xc4")
        size = int.from_bytes(found.data[at + 2 : at + 4], "big")
        return replace(found, data=found.data[:at] + found.data[at + 2 + size :])

    return lying


def unreadable(_tile):
    def lying(*_):
        raise ValueError("the file ends inside its JPEG data")

    return lying


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (other, Unkept.DIFFERENT),
        (cut, Unkept.UNREADABLE),
        (without_tables, Unkept.UNREADABLE),
        (unreadable, Unkept.UNREADABLE),
    ],
)
def test_a_store_that_lies(tmp_path, slide, monkeypatch, lie, reason):
    monkeypatch.setattr("dlpr.modes.jpeg.mode.recover_batch", lambda images, *_: [None] * len(images))
    monkeypatch.setattr(StripLevel, "tile", lie(StripLevel.tile))
    report = convert(slide, tmp_path / "a.zarr", threads=2)
    assert report.unkept == {str(reason): report.plan.levels[0].tiles}
    assert f"not kept      2 tiles by their pixels: {reason}" in convert_lines(report)
    assert report.to_json()["unkept"] == report.unkept
    monkeypatch.undo()
    again = convert(slide, tmp_path / "a.zarr", threads=2)
    assert again.already
    assert again.unkept == report.unkept
    assert verify(tmp_path / "a.zarr", slide, threads=2).ok


def test_what_is_kept_has_no_reason(tmp_path, slide):
    report = convert(slide, tmp_path / "a.zarr", threads=2)
    assert report.unkept == {}
    assert "not kept" not in "\n".join(convert_lines(report))


def test_a_strip_that_openslide_cannot_read(tmp_path, capsys):
    def damaged(_level, row, column, data):
        return data[: len(data) // 2] if (row, column) == (60, 1) else data

    ndpi(tmp_path / "a.ndpi", tissue(1024, 1100), strip=512, levels=1, change=damaged)
    assert main(["convert", str(tmp_path / "a.ndpi"), str(tmp_path / "a.zarr")]) == 1
    said = capsys.readouterr().err
    assert "level 0 row 0 column 1" in said
    assert "row 1" not in said
    assert not (tmp_path / "a.zarr").exists()
