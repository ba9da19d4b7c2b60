"""Levels at downsamples that are no whole numbers: OpenSlide's own pixels."""

import numpy as np
import openslide
import pytest

from dlpr_wsi.sources.fractional import BLOCK, anchors, blocks
from dlpr_wsi.sources.opening import open_source
from dlpr_wsi.sources.openslide import OpenSlideSource
from dlpr_wsi.stored.pages import SlidePages
from dlpr_wsi.stored.tiff import StoredTiles


@pytest.mark.parametrize("kind", ["jpeg", "33003", "33005", "deflate"])
@pytest.mark.parametrize("missing", [None, (1, 0), (0, 3)])
def test_small_level(tmp_path, kit, kind, missing):
    """Regions at any position are those of the level that OpenSlide gives as a whole."""
    path = kit.write_slide(tmp_path / "a.svs", [kit.picture(300, 404), kit.picture(127, 171, 1)], kind, 64)
    if missing:
        kit.drop_tiles(path, missing[0], missing[1])
    wanted = kit.by_openslide(path)
    source = open_source(path)
    assert source.facts.reader.startswith("OpenSlide")
    for level, image in enumerate(wanted):
        np.testing.assert_array_equal(kit.whole(source, level), image)
        for x, y in ((0, 0), (33, 17), (90, 101)):
            np.testing.assert_array_equal(source.read(x, y, 31, 20, level), image[y : y + 20, x : x + 31])
    assert bool([note for note in source.facts.notes if "draws" in note]) == bool(missing)
    source.close()


@pytest.mark.parametrize(
    ("kind", "width"), [("jpeg", 4649), ("jpeg", 6200), ("33003", 4649), ("33005", 4649), ("deflate", 6200)]
)
def test_large_level(tmp_path, kit, kind, width):
    """A level of more than a block, compared with a file of its own, where its downsample is 1."""
    levels = [kit.picture(150, 9300), kit.picture(75 if width == 4649 else 100, width, 1)]
    path = kit.write_slide(tmp_path / "a.svs", levels, kind, 256)
    (wanted,) = kit.by_openslide(kit.write_slide(tmp_path / "b.svs", levels[1:], kind, 256))
    source = OpenSlideSource(path)
    assert any("stored tiles through tifffile" in note for note in source.facts.notes)
    np.testing.assert_array_equal(source.read(0, 0, width, wanted.shape[0], 1), wanted)
    np.testing.assert_array_equal(source.read(4000, 3, 333, 60, 1), wanted[3:63, 4000:4333])
    source.close()


@pytest.mark.parametrize("hole", [(1, 3), (0, 5)])
def test_missing_tile_of_a_large_level_is_openslides(tmp_path, kit, hole):
    path = kit.write_slide(tmp_path / "a.svs", [kit.picture(150, 9300), kit.picture(75, 4651, 1)], "jpeg", 256)
    kit.drop_tiles(path, *hole)
    column = hole[1] if hole[0] else hole[1] // 2
    with openslide.OpenSlide(path) as slide:
        wanted = kit.on_white(slide.read_region((0, 0), 1, (4000, 75)))
    source = OpenSlideSource(path)
    got = source.read(0, 0, 4000, 75, 1)
    source.close()
    np.testing.assert_array_equal(got, wanted)
    assert not (got[:, 256 * column : 256 * (column + 1)] == 255).all()


def test_missing_tile_where_openslide_cannot_be_asked_exactly(tmp_path, kit):
    """Between 4096 and the next anchor: as OpenSlide shows it when asked for the whole level."""
    path = kit.write_slide(tmp_path / "a.svs", [kit.picture(150, 9300), kit.picture(75, 4649, 1)], "jpeg", 256)
    kit.drop_tiles(path, 1, 16)
    with openslide.OpenSlide(path) as slide:
        wanted = kit.on_white(slide.read_region((0, 0), 1, (4649, 75)))
    source = OpenSlideSource(path)
    np.testing.assert_array_equal(source.read(4096, 0, 256, 75, 1), wanted[:, 4096:4352])
    source.close()


def test_tiles_of_a_generic_pyramid_that_are_missing_are_background(tmp_path, kit):
    levels = [kit.picture(150, 9300), kit.picture(75, 4649, 1)]
    path = kit.drop_tiles(kit.write_slide(tmp_path / "a.tif", levels, "jpeg", 256, vendor=None), 1, 16)
    source = open_source(path)
    assert (source.read(4096, 0, 256, 75, 1) == 255).all()
    assert "tiles that the file lacks are background" in source.facts.notes
    source.close()


def test_tiles_that_disagree_are_not_taken(tmp_path, kit, monkeypatch):
    """One sample off by one in the decoder: no proof. Anchors close enough: OpenSlide reads; else it draws."""
    honest = StoredTiles._decode_jpeg

    def wrong(self, data):
        tile = honest(self, data).copy()
        tile[5, 7] ^= 1
        return tile

    monkeypatch.setattr(StoredTiles, "_decode_jpeg", wrong)
    levels = [kit.picture(150, 9300), kit.picture(100, 6200, 1)]
    path = kit.write_slide(tmp_path / "a.svs", levels, "jpeg", 256)
    (wanted,) = kit.by_openslide(kit.write_slide(tmp_path / "b.svs", levels[1:], "jpeg", 256))
    source = OpenSlideSource(path)
    assert source.facts.notes == ()
    np.testing.assert_array_equal(source.read(3000, 10, 3200, 90, 1), wanted[10:, 3000:])
    source.close()
    path = kit.write_slide(tmp_path / "c.svs", [levels[0], kit.picture(75, 4649)], "jpeg", 256)
    with openslide.OpenSlide(path) as slide:
        wanted = kit.on_white(slide.read_region((0, 0), 1, (4649, 75)))
    source = OpenSlideSource(path)
    assert [level.interpolated for level in source.facts.levels] == [False, True]
    assert "drawn between its pixels" in source.facts.notes[-1]
    np.testing.assert_array_equal(source.read(0, 0, 4649, 75, 1), wanted)
    np.testing.assert_array_equal(source.read(4000, 5, 600, 70, 1), wanted[5:, 4000:4600])
    source.close()


def test_anchors_and_blocks():
    at, location = anchors(4.0001, 30000)
    assert at[0] == 0
    assert location[0] == 0
    assert (np.abs(location / 4.0001 - at) < 1 / 128).all()
    assert blocks(2.5, 10000) == [(0, BLOCK, 0), (BLOCK, BLOCK, 10240), (2 * BLOCK, 10000 - 2 * BLOCK, 20480)]
    begin, size, _ = blocks(4.0001, 30000)[0]
    assert (begin, size) == (0, BLOCK)


def test_verify_says_which_level_has_one_reader(tmp_path, kit, monkeypatch):
    from dlpr_wsi.pipeline.convert import convert
    from dlpr_wsi.pipeline.verify import verify

    monkeypatch.setattr(SlidePages, "standing_in", lambda *_: None)
    path = kit.write_slide(tmp_path / "a.svs", [kit.picture(64, 9300), kit.picture(32, 4649)], "jpeg", 256)
    convert(path, tmp_path / "a.zarr", threads=2)
    report = verify(tmp_path / "a.zarr", path, threads=2)
    assert report.ok
    assert [(level.chunks, level.confirmed) for level in report.readers] == [(37, 37), (19, 0)]
    assert "between stored pixels" in next(iter(report.readers[1].alone))
