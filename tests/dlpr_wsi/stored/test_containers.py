"""Slides of every container, as `tests/dlpr_wsi/kit` builds them: converted with OpenSlide's pixels, most kept."""

import numpy as np
import pytest
import zarr
from kit_bif import Area, bif
from kit_common import tissue
from kit_mirax import mirax
from kit_philips import philips
from kit_scn import scn
from kit_tiff import ome, qptiff
from PIL import Image

import dlpr
from dlpr_wsi.errors import ConversionError
from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.pipeline.execute import LocalExecutor
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.sources import SourceTile
from dlpr_wsi.sources.opening import open_archive, open_source
from dlpr_wsi.stored.placed import PlacedLevel

openslide = pytest.importorskip("openslide")
PATIENT = (b"Jane", b"Doe", b"S12-3456", b"UzEyLTM0NTY=")
AREAS = (Area(0, 0, 3, 2, 64, 0), Area(4, 3, 2, 3, 472, 400))


def shown(path):
    """Return what OpenSlide gives of each level, on white; of TIFFs that it does not read whole what tifffile gives."""
    if openslide.OpenSlide.detect_format(path) in (None, "generic-tiff"):
        tifffile = pytest.importorskip("tifffile")
        with tifffile.TiffFile(path) as tiff:
            return [level.asarray() for level in tiff.series[0].levels]
    levels = []
    with openslide.OpenSlide(path) as slide:
        for level, size in enumerate(slide.level_dimensions):
            region = slide.read_region((0, 0), level, size)
            levels.append(np.asarray(Image.alpha_composite(Image.new("RGBA", size, "white"), region))[..., :3])
    return levels


def modes(path, level, pixels):
    """Return the modes of a level's chunks that are not of one colour."""
    archive = open_archive(path)
    plan = archive.levels[level]
    found = []
    for row in range(-(-plan.height // plan.tile_height)):
        for column in range(-(-plan.width // plan.tile_width)):
            y, x = row * plan.tile_height, column * plan.tile_width
            part = pixels[y : y + plan.tile_height, x : x + plan.tile_width]
            if (part != part[0, 0]).any():
                found.append(str(dlpr.inspect(archive.stream(level, row, column)).mode))
    return found


def kept(slide, out):
    """Compare every level with its reader's pixels, and return the share of kept chunks by level."""
    shares = []
    for level, pixels in enumerate(shown(slide)):
        found = zarr.open_group(out, mode="r")[str(level)][...].transpose(1, 2, 0)
        np.testing.assert_array_equal(found, pixels)
        those = modes(out, level, pixels)
        shares.append(those.count("jpeg") / max(1, len(those)))
    return shares


def converted(slide, out):
    """Convert, compare every level with its reader's pixels, and return the share of kept chunks by level."""
    report = convert(slide, out, threads=2)
    assert report.max_error == 0
    shares = kept(slide, out)
    assert verify(out, slide).ok
    for file in out.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert not any(word in data for word in PATIENT), file
    return report, shares


def sparse(level, row, column):
    return level < 2 and (row, column) in ((0, 0), (1, 1))


CASES = {
    "philips.tiff": (lambda p: philips(p, tissue(600, 401), empty=sparse), (1, 1, 1)),
    "philips-big.tiff": (lambda p: philips(p, tissue(500, 390), kind="big", subsampling="444"), (1, 1, 1)),
    "one.scn": (lambda p: scn(p, [(256, 128, tissue(600, 500))], size=(1024, 768)), (1, 1)),
    "anywhere.scn": (lambda p: scn(p, [(301, 123, tissue(700, 600))], subsampling="420"), (1, 1)),
    "two.scn": (
        lambda p: scn(p, [(701, 123, tissue(400, 300)), (100, 520, tissue(520, 260, 100, 520))], subsampling="444"),
        (1, 1),
    ),
    "aligned.bif": (lambda p: bif(p, tissue(800, 800), (Area(0, 0, 6, 6, 0, 0),)), (1, 1)),
    "edge-to-edge.bif": (lambda p: bif(p, tissue(800, 800), (Area(0, 0, 6, 6, 0, 0),), overlap=(0, 0)), (1, 1)),
    "whole-blocks.bif": (lambda p: bif(p, tissue(800, 800), (Area(0, 0, 6, 6, 36, 0),), overlap=(16, 16)), (1, 0.8)),
    "areas.bif": (lambda p: bif(p, tissue(800, 800), AREAS), (1, 0.55)),
    "plain.mrxs": (lambda p: mirax(p, tissue(500, 400, 900, 900)), (1, 1)),
    "divided.mrxs": (lambda p: mirax(p, tissue(600, 500, 900, 900), divisions=2, photos=(2, 2)), (1, 1)),
    "overlaps.mrxs": (
        lambda p: mirax(p, tissue(600, 500, 900, 900), divisions=2, photos=(2, 2), overlap=(16, 8)),
        (1, 0.65),
    ),
    "places.mrxs": (
        lambda p: mirax(p, tissue(900, 700, 900, 900), photos=(4, 3), places=lambda c, r: (c * 113 + r, r * 81 + c)),
        (0.4, 0.2),
    ),
    "sub.ome.tiff": (lambda p: ome(p, tissue(500, 390)), (1, 1, 1)),
    "bright.qptiff": (lambda p: qptiff(p, tissue(500, 390)), (1, 1, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_kept_with_the_readers_pixels(tmp_path, name):
    write, least = CASES[name]
    write(tmp_path / name)
    report, _ = converted(tmp_path / name, tmp_path / "a.zarr")
    assert report.source_tile_bytes > 0
    # A reversible archive keeps what the file holds, even where something else would be smaller.
    convert(tmp_path / name, tmp_path / "b.zarr", threads=2, options=ConvertOptions(reversible=True))
    shares = kept(tmp_path / name, tmp_path / "b.zarr")
    assert len(shares) == len(least)
    assert all(share >= bar for share, bar in zip(shares, least, strict=True)), shares


def test_bif_between_px_says_so(tmp_path):
    bif(tmp_path / "a.bif", tissue(800, 800), AREAS, uneven=True)
    source = open_source(tmp_path / "a.bif")
    assert [source.tile_grid(level) for level in (0, 1)] == [None, None]
    assert len([note for note in source.facts.notes if "between its px" in note]) == 2
    source.close()


def test_parts_are_the_files_bytes(tmp_path):
    """Every tile is named once, where it lies in the file."""
    scn(tmp_path / "a.scn", [(301, 123, tissue(300, 200)), (900, 640, tissue(200, 150))])
    source = open_source(tmp_path / "a.scn")
    content = (tmp_path / "a.scn").read_bytes()
    for level, tiles in ((0, 6 + 4), (1, 2)):
        parts = list(source.store.levels[level].parts())
        assert len(parts) == tiles
        assert len({part.ranges for part in parts}) == tiles
        for part in parts:
            (where,) = part.ranges
            data = content[where.offset : where.offset + where.size]
            assert (data[:2], data[-2:], where.file) == (b"\xff\xd8", b"\xff\xd9", 0)
    source.close()


class Lies:
    """What a store may say that is not so."""

    @staticmethod
    def other(genuine, level, row, column):
        return genuine(level, (row + 1) % 3, (column + 2) % 3)

    @staticmethod
    def damaged(genuine, level, row, column):
        tile = genuine(level, row, column)
        if tile is None or tile.pieces:
            return None
        return SourceTile(tile.data[: len(tile.data) // 2], tile.tables, tile.ycbcr, offset=tile.offset)

    @staticmethod
    def without_tables(genuine, level, row, column):
        tile = genuine(level, row, column)
        return None if tile is None else SourceTile(tile.data, b"", not tile.ycbcr, offset=tile.offset, extended=True)


@pytest.mark.parametrize("lie", [Lies.other, Lies.damaged, Lies.without_tables])
def test_a_store_that_lies_costs_no_pixel(tmp_path, monkeypatch, lie):
    scn(tmp_path / "a.scn", [(128, 128, tissue(220, 140))], size=(384, 384), levels=1)
    genuine = PlacedLevel.tile
    monkeypatch.setattr(PlacedLevel, "tile", lambda level, row, column: lie(genuine, level, row, column))
    _, shares = converted(tmp_path / "a.scn", tmp_path / "a.zarr")
    assert shares[0] < 1


def test_killed_and_resumed(tmp_path):
    """What an earlier run has finished is kept, and the archive is the same as one made at once."""
    slide, out = tmp_path / "a.scn", tmp_path / "a.zarr"
    scn(slide, [(301, 123, tissue(700, 600))])
    convert(slide, tmp_path / "whole.zarr", threads=1)

    class Killed(LocalExecutor):
        def run(self, *args, **options):
            for number, outcome in enumerate(super().run(*args, **options)):
                if number == 3:
                    raise KeyboardInterrupt
                yield outcome

    with pytest.raises(KeyboardInterrupt):
        convert(slide, out, executor=Killed(1))
    assert convert(slide, out, threads=1).resumed >= 3
    for file in (tmp_path / "whole.zarr").rglob("*"):
        if file.is_file():
            assert (out / file.relative_to(tmp_path / "whole.zarr")).read_bytes() == file.read_bytes()


def test_a_container_of_another_layout_says_so(tmp_path):
    """OpenSlide reads a MIRAX slide whose data files this package refuses to follow; its pixels are kept."""
    mirax(tmp_path / "a.mrxs", tissue(500, 400))
    ini = tmp_path / "a" / "Slidedat.ini"
    ini.write_text(ini.read_text("utf-8-sig").replace("Data0000.dat", "../a/Data0000.dat"), "utf-8-sig")
    source = open_source(tmp_path / "a.mrxs")
    assert "its own image data is not kept: its container is not laid out as expected" in source.facts.notes
    assert source.tile_grid(0) is None
    source.close()


@pytest.mark.parametrize("harm", ["cut", "no tables"])
def test_a_tile_that_openslide_cannot_read_is_named(tmp_path, harm):
    def cut(level, row, column, data):
        return data[: len(data) // 2] if (level, row, column) == (0, 1, 1) and harm == "cut" else data

    scn(tmp_path / "a.scn", [(128, 128, tissue(300, 280))], size=(512, 512), change=cut, tables=harm == "cut")
    with pytest.raises(ConversionError, match="level 0 row 2 column 2"):
        convert(tmp_path / "a.scn", tmp_path / "a.zarr", threads=2)
    assert not (tmp_path / "a.zarr").exists()
