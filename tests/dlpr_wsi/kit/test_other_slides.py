"""Builders of slides in several files (VMS, DICOM, MIRAX), and of TIFFs that tifffile reads."""

import numpy as np
import pytest
from kit_common import decoded, halved, jpeg, page_pixels, tissue, whole_level
from kit_dicom import write_dicom
from kit_mirax import drawn, mirax
from kit_tiff import ome, qptiff
from kit_vms import vms

openslide = pytest.importorskip("openslide")
tifffile = pytest.importorskip("tifffile")


@pytest.mark.parametrize("places", [True, False])
@pytest.mark.parametrize(("jpegs", "subsampling"), [((2, 2), "422"), ((1, 3), "444")])
def test_vms(tmp_path, jpegs, subsampling, places):
    picture, small = vms(tmp_path / "a.vms", tissue(530, 400), jpegs=jpegs, subsampling=subsampling, places=places)
    with openslide.OpenSlide(tmp_path / "a.vms") as slide:
        assert slide.properties["openslide.vendor"] == "hamamatsu"
        assert slide.properties["openslide.mpp-x"] == "0.5"
        for image in (picture, small):
            level = slide.level_dimensions.index(image.shape[1::-1])
            tile = [int(slide.properties[f"openslide.level[{level}].tile-{side}"]) for side in ("width", "height")]
            assert tile[1] == 8
            pixels = whole_level(slide, level)
            assert pixels[..., 3].min() == 255
            np.testing.assert_array_equal(pixels[..., :3], page_pixels(image, tuple(tile), subsampling=subsampling))


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"photometric": "RGB"},
        {"fragments": 3},
        {"table": "extended"},
        {"table": "none"},
        {"sparse": True, "missing": frozenset({(0, 1)})},
        {"sparse": True, "table": "extended"},
        {"subsampling": "420"},
        {"tile": 64, "subsampling": "444"},
    ],
)
def test_dicom(tmp_path, kind):
    levels = [halved(tissue(512, 512), times) for times in range(3)]
    tile, missing = kind.get("tile", 128), kind.get("missing", ())
    with openslide.OpenSlide(write_dicom(tmp_path / "a", levels, **kind)) as slide:
        assert slide.properties["openslide.vendor"] == "dicom"
        assert slide.level_dimensions == ((512, 512), (256, 256), (128, 128))
        for level, image in enumerate(levels):
            pixels = whole_level(slide, level)
            rgb = kind.get("photometric") == "RGB"
            subsampling = "444" if rgb else kind.get("subsampling", "422")
            expected = page_pixels(image, (tile, tile), subsampling=subsampling, rgb=rgb)
            alpha = np.full(expected.shape[:2], 255)
            for row, column in missing:
                alpha[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile] = 0
            np.testing.assert_array_equal(pixels[..., 3], alpha)
            np.testing.assert_array_equal(pixels[alpha == 255][:, :3], expected[alpha == 255])


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"divisions": 2, "photos": (2, 2)},
        {"overlap": (16, 8)},
        {"divisions": 2, "photos": (2, 2), "overlap": (16, 8), "levels": 3},
        {"places": lambda c, r: (c * 112 + 4 * r + 8, r * 80 + 4 * c), "levels": 3},
        {"places": lambda c, r: (c * 112 + 4 * r, r * 80 + 4 * c), "missing": ((1, 0),)},
    ],
)
def test_mirax(tmp_path, kind):
    written = mirax(tmp_path / "a.mrxs", tissue(700, 500), **kind)
    with openslide.OpenSlide(tmp_path / "a.mrxs") as slide:
        assert slide.properties["openslide.vendor"] == "mirax"
        assert set(slide.associated_images) == {"macro", "label"}
        assert slide.level_count == kind.get("levels", 2)
        for level, images in enumerate(written.images):
            there = {place: decoded(jpeg(image)) for place, image in images.items()}
            expected = drawn(written, level, there, "overlap" in kind or "places" in kind)
            pixels = whole_level(slide, level)
            height, width = np.minimum(expected.shape, pixels.shape)[:2]
            expected, pixels = expected[:height, :width], pixels[:height, :width]
            np.testing.assert_array_equal(pixels[..., 3], expected[..., 3])
            inside = expected[..., 3] == 255
            np.testing.assert_array_equal(pixels[inside][:, :3], expected[inside][:, :3])


@pytest.mark.parametrize(("write", "sampling"), [(ome, "420"), (qptiff, "422")])
def test_tiff(tmp_path, write, sampling):
    levels = write(tmp_path / "a.tiff", tissue(500, 390))
    with tifffile.TiffFile(tmp_path / "a.tiff") as tiff:
        series = tiff.series[0]
        assert series.kind in ("ome", "qpi")
        assert [level.shape for level in series.levels] == [level.shape for level in levels]
        for found, image in zip(series.levels, levels, strict=True):
            np.testing.assert_array_equal(found.asarray(), page_pixels(image, (128, 128), subsampling=sampling))
