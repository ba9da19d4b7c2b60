"""NDPI and VMS: JPEGs cut by restart markers, their strips kept in chunks of many."""

import re
from pathlib import Path

import numpy as np
import pytest
from kit_common import tissue
from kit_ndpi import ndpi
from kit_vms import vms

from dlpr.modes.jpeg.parse import parse
from dlpr_wsi.pipeline.convert import convert
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.sources import Selection
from dlpr_wsi.sources.openslide import OpenSlideSource
from dlpr_wsi.stored import PartKind
from dlpr_wsi.stored.scan import JpegScan, ScanHeader, marked
from dlpr_wsi.stored.shrunk import in_file
from dlpr_wsi.tile_reader import TileReader

openslide = pytest.importorskip("openslide")
DAPI = Path(__file__).parents[4] / "shared" / "data" / "slides" / "hamamatsu-test3-DAPI.ndpi"


def equal_to_openslide(archive, slide):
    """Compare every pixel of every level of an archive with OpenSlide's."""
    with openslide.OpenSlide(slide) as shown:
        reader = TileReader(archive)
        for level, size in enumerate(reader.level_dimensions):
            theirs = np.asarray(shown.read_region((0, 0), shown.level_dimensions.index(size), size))[..., :3]
            ours = np.asarray(reader.read_region((0, 0), level, size))[..., :3]
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("strip", [96, 160, 640])
@pytest.mark.parametrize("subsampling", ["444", "422"])
def test_ndpi_is_kept(tmp_path, subsampling, strip):
    slide = tmp_path / "a.ndpi"
    levels = ndpi(slide, tissue(672, 600), subsampling=subsampling, strip=strip, levels=3)
    report = convert(slide, tmp_path / "a.zarr", threads=2)
    assert [(level.width, level.height) for level in report.plan.levels] == [image.shape[1::-1] for image in levels]
    assert set(report.tiles_by_mode) == {"jpeg"}
    assert all(level.follows_source for level in report.plan.levels)
    assert report.archive_bytes <= 0.85 * slide.stat().st_size
    assert 0.7 < report.source_tile_bytes / slide.stat().st_size < 1  # tags and the macro image beside
    equal_to_openslide(tmp_path / "a.zarr", slide)
    checked = verify(tmp_path / "a.zarr", slide, threads=2)
    assert checked.ok
    assert all(level.confirmed == level.chunks for level in checked.readers)


@pytest.mark.parametrize("starts", ["high", "missing", "short"])
def test_places_of_strips(tmp_path, starts):
    slide = tmp_path / "a.ndpi"
    ndpi(slide, tissue(400, 160), starts=starts, strip=128, levels=2, step=2)
    report = convert(slide, tmp_path / "a.zarr", threads=2)
    assert set(report.tiles_by_mode) == {"jpeg"}
    equal_to_openslide(tmp_path / "a.zarr", slide)


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_levels_of_one_jpeg(tmp_path, subsampling):
    slide = tmp_path / "a.ndpi"
    ndpi(slide, tissue(701, 599), subsampling=subsampling, whole=(0, 1, 2), step=1)
    report = convert(slide, tmp_path / "a.zarr", threads=2)
    assert set(report.tiles_by_mode) == {"jpeg"}
    assert report.archive_bytes <= 0.85 * slide.stat().st_size
    equal_to_openslide(tmp_path / "a.zarr", slide)


def test_offsets_and_sizes_beyond_their_fields(tmp_path):
    slide = tmp_path / "a.ndpi"
    ndpi(slide, tissue(256, 160), hole=(1 << 32) + 12345, levels=2)
    report = convert(slide, tmp_path / "a.zarr", threads=2)
    assert set(report.tiles_by_mode) == {"jpeg"}
    equal_to_openslide(tmp_path / "a.zarr", slide)
    slide.unlink()
    wide = tmp_path / "b.ndpi"
    ndpi(wide, np.tile(tissue(4096, 16), (1, 17, 1)), levels=1, strip=4096)
    source = OpenSlideSource(wide)
    grid = source.tile_grid(0)
    assert (grid.width, grid.height, grid.rows, grid.columns) == (1024, 16, 1, 68)
    tile = source.source_tile(0, 0, 66)
    assert tile.offset == (0, 2048)
    assert parse(tile.data).width == 4096
    source.close()


def test_focal_planes_are_named(tmp_path):
    slide = tmp_path / "a.ndpi"
    ndpi(slide, tissue(256, 160), planes=(-1500, 0, 1500), levels=2, step=2)
    source = OpenSlideSource(slide, Selection(plane=1))
    assert "3 focal planes, of which the one at offset 0 was chosen" in source.facts.notes
    assert set(source.store.levels) == {0, 1}
    source.close()


def intervals(source):
    """Give every part of every level with its bytes."""
    for level, stored in source.store.levels.items():
        for part in stored.parts():
            data = b""
            for where in part.ranges:
                content = source.store.files[where.file].read_bytes()
                data += content[where.offset : where.offset + where.size]
            yield level, part, data


def test_parts_are_the_strips(tmp_path):
    slide = tmp_path / "a.ndpi"
    coded = {}

    def seen(level, row, column, data):
        coded[level, row, column] = data
        return data

    ndpi(slide, tissue(400, 160), strip=128, subsampling="422", levels=2, step=2, change=seen)
    source = OpenSlideSource(slide)
    found = {}
    for level, part, data in intervals(source):
        assert part.kind is PartKind.INTERVAL
        assert part.shared.endswith(b"\x00\x3f\x00")
        found[level, part.y // part.height, part.x // part.width] = data
    assert found == coded
    source.close()


@pytest.mark.parametrize("subsampling", ["444", "422"])
def test_vms_is_kept(tmp_path, subsampling):
    slide = tmp_path / "a.vms"
    picture, small = vms(slide, tissue(1100, 700), subsampling=subsampling, jpegs=(2, 2))
    report = convert(slide, tmp_path / "a.zarr", threads=2)
    sizes = [(level.width, level.height) for level in report.plan.levels]
    assert sizes == [picture.shape[1::-1], small.shape[1::-1]]
    assert set(report.tiles_by_mode) == {"jpeg"}
    assert report.archive_bytes <= 0.85 * report.source.file_bytes
    equal_to_openslide(tmp_path / "a.zarr", slide)
    source = OpenSlideSource(slide)
    assert len(source.store.files) == 6
    areas = [part.width * part.height for _, part, _ in intervals(source)]
    assert sum(areas) == sum(w * h for w, h in sizes)
    source.close()


def test_vms_that_names_other_folders(tmp_path):
    slide = tmp_path / "a.vms"
    vms(slide, tissue(600, 300), jpegs=(2, 1))
    text = slide.read_text()
    (tmp_path / "b").mkdir()
    name = re.search(r"ImageFile\(1,0\)=(.*)", text)[1]
    (tmp_path / name).rename(tmp_path / "b" / "x.jpg")
    slide.write_text(text.replace(name, "b/x.jpg"))
    source = OpenSlideSource(slide)
    assert not source.store.levels
    assert source.facts.levels
    source.close()


@pytest.mark.parametrize(
    "head", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc0\x00\x05\x08\x00\x00", b"\xff\xd8\x00\x00\x00\x00"]
)
def test_headers_that_are_none(head):
    with pytest.raises(ValueError, match="JPEG"):
        ScanHeader.parse(head)


def test_damaged_scans_raise_what_a_chunk_can_do_without(tmp_path):
    slide = tmp_path / "a.ndpi"
    ndpi(slide, tissue(256, 96), strip=128, levels=1, starts="missing")
    source = OpenSlideSource(slide)
    part = next(source.store.levels[0].parts()).ranges[0]
    source.close()
    content = slide.read_bytes()
    offset = content.rindex(b"\xff\xd8\xff\xe0", 0, part.offset)
    with slide.open("rb") as file:
        scan = JpegScan(file, 0, offset, len(content) - offset)
        scan.cut(1000)
        with pytest.raises(ValueError, match="fewer restart markers"):
            scan.intervals(0, 1)
        scan.cut(24)
        right = scan.starts
        scan.cut(24, right - 3)
        with pytest.raises(ValueError, match="restart"):
            scan.intervals(3, 2)
        scan.cut(24, right[::-1])  # in no order: searched for again
        np.testing.assert_array_equal(scan.starts, right)
        assert len(marked(scan.header.sized(16, 16), [b"ab", b"c"])) == len(scan.header.data) + 7
    with pytest.raises(ValueError, match="file ends"), slide.open("rb") as file:
        JpegScan(file, 0, len(content) - 10, 100)


def test_shrunk_levels_fill_long_steps_only():
    sizes = [(1 << n, 1 << n) for n in range(16, 4, -1)]
    assert in_file(sizes, frozenset(range(12))) == tuple(range(12))
    assert in_file(sizes, frozenset({0, 2, 4, 6})) == (0, 2, 4, 6)
    assert in_file(sizes, frozenset({0, 6})) == (0, 3, 6)
    assert in_file(sizes, frozenset({0, 1})) == (0, 1, 4, 7)
    assert in_file(sizes, frozenset({0})) == (0,)
    assert in_file(sizes, frozenset()) == tuple(range(12))


@pytest.mark.full
@pytest.mark.skipif(not DAPI.is_file(), reason="a public slide that is not in the repository")
def test_nearly_black_fluorescence(tmp_path):
    report = convert(DAPI, tmp_path / "a.zarr", threads=2)
    assert report.tiles_by_mode["jpeg"] >= 0.95 * report.plan.tiles
    assert report.archive_bytes <= 0.6 * DAPI.stat().st_size
    assert len(report.plan.levels) == 4
    equal_to_openslide(tmp_path / "a.zarr", DAPI)
