"""Builders of slides in TIFF: OpenSlide takes each for what it is, with the pixels that Pillow makes of its tiles."""

import numpy as np
import pytest
from kit_bif import Area, bif, drawn
from kit_common import page_pixels, tissue, whole_level
from kit_philips import philips
from kit_scn import scn
from kit_svs import svs

openslide = pytest.importorskip("openslide")


def same_where_drawn(found, expected):
    """Compare (h, w, 4) pixels: transparent in the same places, equal elsewhere."""
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found[..., 3], expected[..., 3])
    drawn = expected[..., 3] == 255
    np.testing.assert_array_equal(found[drawn][:, :3], expected[drawn][:, :3])


@pytest.mark.parametrize("subsampling", ["420", "422", "444"])
@pytest.mark.parametrize("kind", ["classic", "big"])
def test_philips(tmp_path, kind, subsampling):
    def empty(level, row, column):
        return level < 2 and (row, column) in ((0, 0), (1, 1))

    levels = philips(tmp_path / "a.tiff", tissue(600, 401), kind=kind, subsampling=subsampling, empty=empty)
    with openslide.OpenSlide(tmp_path / "a.tiff") as slide:
        assert slide.properties["openslide.vendor"] == "philips"
        assert slide.properties["openslide.mpp-x"] == "0.25"
        assert slide.level_dimensions == ((640, 512), (320, 256), (160, 128))
        assert slide.level_downsamples == (1.0, 2.0, 4.0)
        assert set(slide.associated_images) == {"label", "macro"}
        for level, image in enumerate(levels):
            width, height = slide.level_dimensions[level]
            expected = np.full((*image.shape[:2], 4), 255, np.uint8)
            expected[..., :3] = page_pixels(image, (128, 128), subsampling=subsampling)
            for row, column in ((0, 0), (1, 1)):
                if empty(level, row, column):
                    expected[row * 128 : row * 128 + 128, column * 128 : column * 128 + 128] = 0
            same_where_drawn(whole_level(slide, level), expected[:height, :width])


def test_scn(tmp_path):
    places = ((700, 120), (100, 520))
    areas = [(x, y, tissue(*size, x, y)) for (x, y), size in zip(places, ((400, 300), (520, 260)), strict=True)]
    coded = scn(tmp_path / "a.scn", areas)
    with openslide.OpenSlide(tmp_path / "a.scn") as slide:
        assert slide.properties["openslide.vendor"] == "leica"
        assert slide.level_dimensions == ((1536, 1280), (384, 320))
        assert slide.properties["openslide.bounds-x"] == "100"
        assert set(slide.associated_images) == {"macro"}
        for level in range(2):
            width, height = slide.level_dimensions[level]
            expected = np.zeros((height, width, 4), np.uint8)
            for (x, y), images in zip(places, coded, strict=True):
                left, top, image = x >> 2 * level, y >> 2 * level, images[level]
                inside = expected[top : top + image.shape[0], left : left + image.shape[1]]
                inside[..., :3], inside[..., 3] = page_pixels(image, (128, 128), subsampling="422"), 255
            same_where_drawn(whole_level(slide, level), expected)


AREAS = (Area(0, 0, 3, 2, 64, 0), Area(4, 3, 2, 3, 472, 400))


@pytest.mark.parametrize("areas", [AREAS, (Area(0, 0, 4, 3, 0, 0),)])
def test_bif(tmp_path, areas):
    tables = bif(tmp_path / "a.bif", tissue(800, 800), areas)
    with openslide.OpenSlide(tmp_path / "a.bif") as slide:
        assert slide.properties["openslide.vendor"] == "ventana"
        assert slide.properties["openslide.objective-power"] == "20"
        for level, table in enumerate(tables):
            pixels = page_pixels(table, (128, 128), subsampling="422")
            same_where_drawn(whole_level(slide, level), drawn(pixels, areas, level))


def test_bif_between_px(tmp_path):
    """Where the mean overlap is no whole number OpenSlide draws between px: no tile's pixels are as stored."""
    (table, _) = bif(tmp_path / "a.bif", tissue(800, 800), AREAS, uneven=True)
    pixels = page_pixels(table, (128, 128), subsampling="422")
    with openslide.OpenSlide(tmp_path / "a.bif") as slide:
        first = np.asarray(slide.read_region((64, 0), 0, (100, 100)))[..., :3]
        np.testing.assert_array_equal(first, pixels[:100, :100])
        second = np.asarray(slide.read_region((64 + 128, 0), 0, (80, 100)))[..., :3].astype(int)
        assert 0 < np.abs(second - pixels[:100, 128 + 16 : 128 + 96]).mean() < 10


def test_lies(tmp_path):
    def damaged(level, row, column, data):
        return data[: len(data) // 2] if (level, row, column) == (0, 1, 1) else data

    philips(tmp_path / "a.tiff", tissue(400, 300), change=damaged)
    with openslide.OpenSlide(tmp_path / "a.tiff") as slide, pytest.raises(openslide.OpenSlideError):
        slide.read_region((130, 130), 0, (8, 8))
    philips(tmp_path / "b.tiff", tissue(400, 300), tables=False)
    with openslide.OpenSlide(tmp_path / "b.tiff") as slide, pytest.raises(openslide.OpenSlideError):
        slide.read_region((130, 130), 0, (8, 8))


@pytest.mark.parametrize("options", [{"kind": "big"}, {"subsampling": "422"}, {"rgb": True, "shared": False}])
def test_svs(tmp_path, options):
    coded = svs(tmp_path / "a.svs", tissue(404, 300), **options)
    coding = {name: value for name, value in options.items() if name in ("subsampling", "rgb")}
    with openslide.OpenSlide(tmp_path / "a.svs") as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert set(slide.associated_images) == {"label", "macro", "thumbnail"}
        assert slide.level_count == len(coded) == 3
        for level, image in enumerate(coded):
            pixels = page_pixels(image, (128, 128), **coding)
            np.testing.assert_array_equal(whole_level(slide, level)[..., :3], pixels)
