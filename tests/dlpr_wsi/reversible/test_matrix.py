"""Slides of TIFF containers and MIRAX with mixed options: the same bytes back, and plain JPEG tiles made, not kept."""

import hashlib

import openslide
import pytest
from kit_bif import Area, bif
from kit_common import tissue
from kit_mirax import mirax
from kit_svs import svs
from kit_tiff import ome, qptiff

from dlpr_wsi.reversible.attach import slide_file_names
from dlpr_wsi.reversible.originals import Originals
from dlpr_wsi.reversible.restore import restore

SVS = {
    "420-Q30": {"quality": 30},
    "420-Q80-BigTIFF": {"kind": "big"},
    "422-Q60-BigTIFF": {"quality": 60, "subsampling": "422", "kind": "big", "shared": False},
    "444-Q95": {"quality": 95, "subsampling": "444"},
    "RGB-Q80": {"rgb": True},
    "RGB-Q95-BigTIFF": {"quality": 95, "rgb": True, "kind": "big", "shared": False},
}


class Counted:
    """A builder's ``change`` that adds up the bytes of the levels' tiles, all or one level's."""

    def __init__(self, level=None, drop=()):
        self.bytes, self._level, self._drop = 0, level, drop

    def __call__(self, level, row, column, data):
        if (row, column) in self._drop:
            return b""
        if self._level in (None, level):
            self.bytes += len(data)
        return data


def comes_back(slide, folder, convert_reversible):
    """Convert and restore; compare by names and SHA-256, and return how many bytes were made."""
    report = convert_reversible(slide, folder / "a.zarr")
    (folder / "back").mkdir()
    restore(folder / "a.zarr", folder / "back", threads=2)
    for name, path in slide_file_names(slide).items():
        one, two = (hashlib.sha256(file.read_bytes()).hexdigest() for file in (path, folder / "back" / name))
        assert one == two, name
    return report.reversible["made_bytes"]


@pytest.mark.parametrize("options", SVS.values(), ids=SVS)
def test_svs(tmp_path, options, convert_reversible):
    tiles = Counted()
    svs(tmp_path / "a.svs", tissue(404, 300), change=tiles, **options)
    with openslide.OpenSlide(tmp_path / "a.svs") as slide:  # what was built is what it should be
        assert slide.properties["openslide.vendor"] == "aperio"
        assert slide.level_count == 3
        assert {"label", "macro", "thumbnail"} <= set(slide.associated_images)
        assert slide.color_profile is not None
    assert comes_back(tmp_path / "a.svs", tmp_path, convert_reversible) == tiles.bytes


@pytest.mark.parametrize("shared", [True, False])
def test_bif(tmp_path, shared, convert_reversible):
    tiles = Counted()
    bif(tmp_path / "a.bif", tissue(480, 360), [Area(0, 0, 3, 2, 0, 0)], shared=shared, change=tiles)
    assert comes_back(tmp_path / "a.bif", tmp_path, convert_reversible) > 0.5 * tiles.bytes


def test_qptiff(tmp_path, convert_reversible):
    tiles = Counted()
    qptiff(tmp_path / "a.qptiff", tissue(404, 300), levels=2, change=tiles)
    assert comes_back(tmp_path / "a.qptiff", tmp_path, convert_reversible) == tiles.bytes


@pytest.mark.parametrize(("subsampling", "rgb"), [("420", False), ("422", False), ("444", True)])
def test_ome_with_sub_directories(tmp_path, subsampling, rgb, convert_reversible):
    tiles = Counted()
    ome(tmp_path / "a.ome.tif", tissue(404, 300), subsampling=subsampling, rgb=rgb, change=tiles)
    assert comes_back(tmp_path / "a.ome.tif", tmp_path, convert_reversible) == tiles.bytes


@pytest.mark.parametrize("divisions", [1, 2])
def test_mirax(tmp_path, divisions, convert_reversible):
    tiles = Counted(0)
    mirax(tmp_path / "a.mrxs", tissue(800, 500), divisions=divisions, change=tiles)
    made = comes_back(tmp_path / "a.mrxs", tmp_path, convert_reversible)
    assert made >= tiles.bytes > 0


def test_tiles_of_no_length(tmp_path, convert_reversible):
    tiles = Counted(drop={(0, 1), (1, 1)})
    svs(tmp_path / "a.svs", tissue(404, 300), kind="big", change=tiles)
    assert comes_back(tmp_path / "a.svs", tmp_path, convert_reversible) == tiles.bytes


def test_gaps_and_holes(tmp_path, convert_reversible):
    """Bytes that nothing names: before the tiles, between directories, at the end, and a hole of 3 MiB."""
    tiles = Counted()
    svs(tmp_path / "a.svs", tissue(404, 300), kind="big", change=tiles)
    with (tmp_path / "a.svs").open("ab") as file:
        file.write(b"nothing names this")
        file.truncate(file.tell() + (3 << 20))
    assert comes_back(tmp_path / "a.svs", tmp_path, convert_reversible) == tiles.bytes
    with Originals(tmp_path / "a.zarr") as originals:
        assert int(originals.map.kept.stored.sum()) < 32 << 10


def test_a_tile_that_cannot_be_decoded_is_refused(tmp_path, capsys):
    """The archive's pixels could not be the slide's, so there is none: the tile is named, and nothing is left."""
    from dlpr_wsi.cli import main

    def cut(level, row, column, data):
        return data[: len(data) // 2] if (level, row, column) == (0, 1, 1) else data

    slide = tmp_path / "a.svs"
    svs(slide, tissue(404, 300), change=cut)
    assert main(["convert", str(slide), str(tmp_path / "a.zarr"), "--reversible", "--threads", "2"]) == 1
    said = capsys.readouterr().err
    assert "level 0 row 1 column 1 (x=128 y=128 128x128 px)" in said
    assert "Premature end of JPEG" in said
    assert "no archive was made" in said
    assert not (tmp_path / "a.zarr").exists()
