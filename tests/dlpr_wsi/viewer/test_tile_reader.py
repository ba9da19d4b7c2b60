"""TileReader beside OpenSlide on an uncompressed twin, from many threads, and as napari's layers."""

import random
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

import dlpr_wsi
from dlpr_wsi.errors import ArchiveError, SourceError, UsageError
from dlpr_wsi.tile_reader import TileReader
from dlpr_wsi.viewer.engine import ChunkError, shared_engine

GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "viewing.md"


@pytest.fixture(scope="module")
def twin(tmp_path_factory, slide_pixels):
    path = tmp_path_factory.mktemp("twin") / "twin.tif"
    with tifffile.TiffWriter(path) as writer:
        for number, image in enumerate(slide_pixels):
            writer.write(image, tile=(64, 64), photometric="rgb", metadata=None, subfiletype=int(number > 0))
    with openslide.OpenSlide(path) as slide:
        yield slide


@pytest.fixture
def reader(archives, engine):
    with TileReader(archives[0][0], engine=engine) as reader:
        yield reader


def test_it_describes_itself_as_openslide_does(reader, twin):
    assert reader.dimensions == twin.dimensions
    assert reader.level_count == twin.level_count
    assert reader.level_dimensions == twin.level_dimensions
    assert reader.level_downsamples == twin.level_downsamples
    for downsample in (0.5, 1, 3.99, 4, 5, 100):
        assert reader.get_best_level_for_downsample(downsample) == twin.get_best_level_for_downsample(downsample)
    assert reader.properties["openslide.mpp-x"] == "0.5"
    assert reader.properties["openslide.level[1].downsample"] == "4.0"
    assert reader.properties["dlpr.tau"] == "0"
    assert (reader.tau, reader.level_tiles) == (0, ((64, 64), (64, 64)))
    assert dict(reader.associated_images) == {}
    assert reader.color_profile is None
    assert repr(reader) == "TileReader('slide tau0.zarr')"


@pytest.mark.parametrize("seed", range(30))
def test_regions_equal_openslide(reader, twin, seed):
    """At whole pixels, all over the image and beyond its edges."""
    chosen = random.Random(seed)
    level = chosen.randrange(2)
    location = tuple(4 * chosen.randrange(-20, 110) for _ in range(2))
    size = chosen.randrange(1, 200), chosen.randrange(1, 200)
    ours, theirs = (np.asarray(slide.read_region(location, level, size)) for slide in (reader, twin))
    assert ours.shape == theirs.shape == (size[1], size[0], 4)
    np.testing.assert_array_equal(ours, theirs)


def test_regions_between_pixels_are_close_to_openslide(reader, twin):
    for location in ((1, 0), (0, 2), (13, 27), (2, 2), (130, 121)):
        ours, theirs = (np.asarray(slide.read_region(location, 1, (50, 40))).astype(int) for slide in (reader, twin))
        assert np.abs(ours - theirs).max() <= 2  # it rounds its own way, and once more at edges of stored tiles
    beyond = np.asarray(reader.read_region((-2, 0), 1, (3, 3)))
    assert beyond[0, :, 3].tolist() == [128, 255, 255]  # half of the first pixel lies outside


def test_thumbnail_equals_openslide(reader, twin):
    for size in ((200, 200), (90, 90), (40, 13), (1000, 1000)):
        np.testing.assert_array_equal(np.asarray(reader.get_thumbnail(size)), np.asarray(twin.get_thumbnail(size)))


def test_numpy_regions(reader, slide_pixels):
    np.testing.assert_array_equal(reader.read(10, 20, 100, 50), slide_pixels[0][20:70, 10:110])
    np.testing.assert_array_equal(reader.read(0, 0, 96, 80, level=1), slide_pixels[1])
    beyond = reader.read(-10, -10, 20, 20)
    np.testing.assert_array_equal(beyond[10:, 10:], slide_pixels[0][:10, :10])
    assert (beyond[:10] == 255).all()
    assert reader.read(1000, 1000, 5, 5).min() == 255


def test_levels_are_arrays(reader, slide_pixels):
    for array, pixels in zip(reader.level_arrays, slide_pixels, strict=True):
        assert (array.shape, array.ndim, array.dtype, array.chunks) == (pixels.shape, 3, np.uint8, (64, 64, 3))
        np.testing.assert_array_equal(np.asarray(array), pixels)
        for index in (
            np.s_[5], np.s_[-1], np.s_[3:40, 7:9], np.s_[..., 1], np.s_[10:2:-3, ::5], np.s_[:, 4, 2], np.s_[7:7],
        ):  # fmt: skip
            np.testing.assert_array_equal(array[index], pixels[index])
    with pytest.raises(IndexError):
        reader.level_arrays[0][320]


def test_many_threads_read_the_same_pixels(archives):
    """All on the engine that readers share."""
    with TileReader(archives[3][0]) as reader:
        expected = archives[3][1][0]

        def read(seed):
            chosen = random.Random(seed)
            x, y = chosen.randrange(0, 300), chosen.randrange(0, 250)
            width, height = chosen.randrange(1, 84), chosen.randrange(1, 70)
            pixels = np.asarray(reader.read_region((x, y), 0, (width, height)))
            np.testing.assert_array_equal(pixels[..., :3], expected[y : y + height, x : x + width])

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(read, range(300)))
        assert any(key.store.name == "slide tau3.zarr" for key in shared_engine().cache._items)
    assert not any(key.store.name == "slide tau3.zarr" for key in shared_engine().cache._items)


def test_impossible_requests(reader):
    for level in (-1, 2):
        with pytest.raises(UsageError, match=r"must be 0\.\.1"):
            reader.read_region((0, 0), level, (1, 1))
    for size in ((-1, 5), (100_000, 100_000)):
        with pytest.raises(UsageError, match="size"):
            reader.read(0, 0, *size)
    assert reader.read_region((0, 0), 0, (0, 0)).size == (0, 0)


def test_damage_raises_and_names_the_chunk(make_archive, slide_pixels, tmp_path, engine):
    path = tmp_path / "bad.zarr"
    make_archive(path, slide_pixels[1:])
    (path / "0" / "c" / "0" / "1" / "0").write_bytes(b"DLPR")
    with TileReader(path, engine=engine) as reader:
        with pytest.raises(ChunkError, match=r"bad\.zarr: level 0 row 1 column 0"):
            reader.read(0, 0, 96, 80)
        np.testing.assert_array_equal(reader.read(0, 0, 96, 64), slide_pixels[1][:64])


def test_what_is_no_image_is_refused(tmp_path):
    for path, error in ((tmp_path / "none.zarr", (ArchiveError, SourceError)), (tmp_path, SourceError)):
        with pytest.raises(error):
            TileReader(path)


def test_a_slide_reads_like_an_archive(twin, tmp_path, slide_pixels, engine):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, slide_pixels[0], tile=(64, 64), photometric="rgb")
    with TileReader(path, engine=engine) as reader:
        assert reader.tau is None
        np.testing.assert_array_equal(reader.read(30, 40, 300, 200), slide_pixels[0][40:240, 30:330])


def test_the_napari_snippet(archives, monkeypatch):
    """The guide's snippet, with a napari that only looks at what it is given."""
    pytest.importorskip("dask.array")
    import sys
    from types import SimpleNamespace

    (snippet,) = re.findall(r"```python\n(import dask.*?)```", GUIDE.read_text(), re.DOTALL)
    given = {}

    def view_image(data, **options):
        given.update(data=data, **options)

    monkeypatch.setitem(sys.modules, "napari", SimpleNamespace(view_image=view_image, run=lambda: None))
    exec(snippet.replace("slide.zarr", str(archives[0][0])), {})
    assert given["multiscale"] is True
    assert given["rgb"] is True
    assert given["scale"] == (0.5, 0.5)
    assert [level.shape for level in given["data"]] == [(320, 384, 3), (80, 96, 3)]
    assert given["data"][0].chunks[0][0] == 64
    for level, pixels in zip(given["data"], archives[0][1], strict=True):
        np.testing.assert_array_equal(level[33:70, 5:91].compute(), pixels[33:70, 5:91])


def test_it_is_in_the_package():
    assert dlpr_wsi.TileReader is TileReader
