"""The builder of NDPI: what OpenSlide opens is one, with the pixels of its strips decoded one by one by Pillow."""

import numpy as np
import pytest
from kit_common import decoded, jpeg, tissue
from kit_ndpi import ndpi

openslide = pytest.importorskip("openslide")


def whole(slide, level):
    return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))


def by_strips(image, width, height, subsampling, quality=80):
    """Decode each strip by itself: chroma is not smoothed across the edges."""
    out = np.empty_like(image)
    for top in range(0, image.shape[0], height):
        for left in range(0, image.shape[1], width):
            part = image[top : top + height, left : left + width]
            out[top : top + height, left : left + width] = decoded(jpeg(part, quality, subsampling))
    return out


@pytest.mark.parametrize("starts", ["low", "high", "missing", "short"])
@pytest.mark.parametrize("subsampling", ["444", "422"])
def test_pixels_are_those_of_the_strips(tmp_path, subsampling, starts):
    levels = ndpi(tmp_path / "a.ndpi", tissue(600, 203), subsampling=subsampling, strip=150, starts=starts)
    assert [level.shape[:2] for level in levels] == [(200, 576), (96, 288), (48, 144)] or subsampling == "444"
    with openslide.OpenSlide(tmp_path / "a.ndpi") as slide:
        assert slide.properties["openslide.vendor"] == "hamamatsu"
        assert slide.properties["openslide.objective-power"] == "20"
        assert set(slide.associated_images) == {"macro"}
        for image in levels:
            level = slide.level_dimensions.index(image.shape[1::-1])
            tile = [int(slide.properties[f"openslide.level[{level}].tile-{side}"]) for side in ("width", "height")]
            assert tile[1] == 8
            pixels = whole(slide, level)
            assert pixels[..., 3].min() == 255
            np.testing.assert_array_equal(pixels[..., :3], by_strips(image, *tile, subsampling))


def test_levels_that_are_one_jpeg(tmp_path):
    levels = ndpi(tmp_path / "a.ndpi", tissue(512, 203), subsampling="420", whole=(0, 1, 2))
    with openslide.OpenSlide(tmp_path / "a.ndpi") as slide:
        for image in levels:
            level = slide.level_dimensions.index(image.shape[1::-1])
            np.testing.assert_array_equal(whole(slide, level)[..., :3], decoded(jpeg(image, 80, "420")))


def test_strips_at_420_are_beyond_openslide(tmp_path):
    ndpi(tmp_path / "a.ndpi", tissue(512, 208), subsampling="420")
    with (
        openslide.OpenSlide(tmp_path / "a.ndpi") as slide,
        pytest.raises(openslide.OpenSlideError, match="found marker 0xd9 instead of RST0"),
    ):
        slide.read_region((0, 0), 0, (16, 16))


def test_offsets_beyond_four_gigabytes(tmp_path):
    levels = ndpi(tmp_path / "a.ndpi", tissue(256, 160), hole=(1 << 32) + 12345)
    with openslide.OpenSlide(tmp_path / "a.ndpi") as slide:
        for image in levels:
            level = slide.level_dimensions.index(image.shape[1::-1])
            width = int(slide.properties[f"openslide.level[{level}].tile-width"])
            np.testing.assert_array_equal(whole(slide, level)[..., :3], by_strips(image, width, 8, "422"))


def test_focal_planes_beside_the_first(tmp_path):
    levels = ndpi(tmp_path / "a.ndpi", tissue(256, 160), planes=(-1500, 0, 1500))
    with openslide.OpenSlide(tmp_path / "a.ndpi") as slide:
        assert slide.level_dimensions[0] == levels[0].shape[1::-1]
        np.testing.assert_array_equal(whole(slide, 0)[..., :3], by_strips(levels[0], 256, 8, "422"))


def test_wider_than_jpeg_can_say(tmp_path):
    """Levels beyond 65,500 px say 0 in their JPEG's header."""
    strip = tissue(4096, 16)
    (image,) = ndpi(tmp_path / "a.ndpi", np.tile(strip, (1, 17, 1)), levels=1, strip=4096)
    assert image.shape[1] > 65535
    with openslide.OpenSlide(tmp_path / "a.ndpi") as slide:
        assert slide.level_dimensions[0] == image.shape[1::-1]
        part = np.asarray(slide.read_region((66000, 0), 0, (600, 16)))[..., :3]
        np.testing.assert_array_equal(part, by_strips(image, 4096, 8, "422")[:, 66000:66600])


def test_lies(tmp_path):
    def damaged(level, row, column, data):
        return data[: len(data) // 2] if (level, row, column) == (0, 2, 1) else data

    ndpi(tmp_path / "a.ndpi", tissue(512, 160), change=damaged)
    with openslide.OpenSlide(tmp_path / "a.ndpi") as slide, pytest.raises(openslide.OpenSlideError):
        slide.read_region((256, 16), 0, (8, 8))
    ndpi(tmp_path / "b.ndpi", tissue(512, 160), tables=False)
    with pytest.raises(openslide.OpenSlideError, match="table"):
        openslide.OpenSlide(tmp_path / "b.ndpi")
    ndpi(tmp_path / "c.ndpi", tissue(512, 160), starts="nonsense")
    with openslide.OpenSlide(tmp_path / "c.ndpi") as slide, pytest.raises(openslide.OpenSlideError, match="Restart"):
        slide.read_region((256, 16), 0, (8, 8))
