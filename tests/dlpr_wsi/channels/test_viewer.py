"""Channels in the viewer and in TileReader: composited in their colours; the sums are computed here in floats."""

import io
import shutil

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from openslide.deepzoom import DeepZoomGenerator
from PIL import Image
from starlette.testclient import TestClient

from dlpr_wsi.errors import UsageError
from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.sinks.omezarr import OmeVersion
from dlpr_wsi.tile_reader import TileReader
from dlpr_wsi.viewer.app import create_app
from dlpr_wsi.viewer.engine import ChunkEngine, ChunkError
from dlpr_wsi.viewer.images import open_images

NAMES = ["DAPI", "FITC <&>", "Cy5 ü", "mCherry"]
COLOURS = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 128, 0)]


@pytest.fixture(scope="module")
def levels(paint):
    image = paint(4, 100, 165)
    image[40:60, 60:90] = 255  # every channel at its brightest: the sum has to stop at 255
    return [image, np.ascontiguousarray(image[::4, ::4])]


@pytest.fixture(scope="module")
def paths(tmp_path_factory, fluorescence, levels):
    """An archive of files for each chunk, the slide it was made from, and one within 3."""
    folder = tmp_path_factory.mktemp("viewer")
    slide = fluorescence(folder / "cells.fake", *levels)
    convert(slide, folder / "a.zarr", options=ConvertOptions(tile=32, version=OmeVersion.V04), threads=2)
    convert(slide, folder / "near.tif", options=ConvertOptions(tau=3, tile=32), threads=2)
    return folder / "a.zarr", slide, folder / "near.tif"


def serving(paths):
    engine = ChunkEngine(64 << 20, threads=2)
    images = open_images(paths)
    return TestClient(create_app(images, engine)), engine, images


@pytest.fixture(scope="module")
def client(paths):
    client, engine, images = serving(paths)
    with client:
        yield client
    engine.close()
    images.close()


@pytest.fixture(scope="module")
def engine():
    engine = ChunkEngine(64 << 20, threads=2)
    yield engine
    engine.close()


def composite(pixels, shown=range(4)):
    """Add up channels in their colours."""
    total = np.zeros((*pixels.shape[:2], 3))
    for channel in shown:
        total += np.floor(pixels[..., channel, None] * np.array(COLOURS[channel]) / 255 + 0.5)
    return np.minimum(total, 255).astype(np.uint8)


def pixels_of(response):
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)))


def test_reader_gives_samples_and_pictures(paths, levels, engine):
    for path in paths[:2]:
        with TileReader(path, engine=engine) as reader:
            assert [channel.name for channel in reader.channels] == NAMES
            raw = reader.read(-4, 70, 60, 60)
            assert raw.shape == (60, 60, 4)
            np.testing.assert_array_equal(raw[:30, 4:], levels[0][70:, :56])
            assert not raw[30:].any()
            assert not raw[:, :4].any()
            np.testing.assert_array_equal(reader.level_arrays[1][3:20, ::2, 1:3], levels[1][3:20, ::2, 1:3])
            assert reader.level_arrays[0].chunks[2] == 4
            rgba = np.asarray(reader.read_region((30, 20), 0, (150, 90)))
            np.testing.assert_array_equal(rgba[:80, :135, :3], composite(levels[0][20:, 30:]))
            assert rgba[:80, :135, 3].min() == 255
            assert not rgba[80:].any()
            some = np.asarray(reader.read_region((0, 0), 0, (165, 100), channels=[2, 0]))
            np.testing.assert_array_equal(some[..., :3], composite(levels[0], (0, 2)))
            none = np.asarray(reader.read_region((0, 0), 0, (165, 100), channels=[]))
            assert not none[..., :3].any()
            thumbnail = np.asarray(reader.get_thumbnail((165, 100)))
            np.testing.assert_array_equal(thumbnail, composite(levels[0]))
            assert reader.properties["openslide.background-color"] == "000000"
            with pytest.raises(UsageError, match=r"channels 0\.\.3, not 4"):
                reader.read_region((0, 0), 0, (1, 1), channels=[4])


def test_deepzoom_generator_takes_a_reader_of_channels(paths, levels, engine):
    with TileReader(paths[0], engine=engine) as reader:
        tile = np.asarray(DeepZoomGenerator(reader, 32, overlap=0).get_tile(8, (1, 1)))
    np.testing.assert_array_equal(tile, composite(levels[0][32:64, 32:64]))


@pytest.mark.parametrize("image", ["a-zarr", "cells-fake"])
def test_tiles_are_composited(client, levels, image):
    facts = client.get(f"/api/images/{image}").json()
    assert [channel["name"] for channel in facts["channels"]] == NAMES
    assert facts["channels"][3]["colour"] == "#FF8000"
    assert facts["raw_bytes"] == 4 * (100 * 165 + 25 * 42)
    side, top = facts["deepzoom_tile"], facts["deepzoom_levels"] - 1
    for query, shown in (("", range(4)), ("?channels=0,2", (0, 2)), ("?channels=3", (3,)), ("?channels=", ())):
        expected = composite(levels[0], shown)
        for row in range(-(-100 // side)):
            for column in range(-(-165 // side)):
                tile = pixels_of(client.get(f"/deepzoom/{image}_files/{top}/{column}_{row}.png{query}"))
                part = expected[row * side : row * side + side, column * side : column * side + side]
                np.testing.assert_array_equal(tile, part)
        region = pixels_of(client.get(f"/iiif/{image}/10,20,100,50/max/0/default.png{query}"))
        np.testing.assert_array_equal(region, expected[20:70, 10:110])


def test_choices_do_not_share_a_response(client):
    url = "/deepzoom/a-zarr_files/8/0_0.png"
    tags = {
        query: client.get(url + query).headers["etag"] for query in ("", "?channels=0", "?channels=1", "?channels=")
    }
    assert len(set(tags.values())) == 4
    assert client.get(f"{url}?channels=3,1,0,2,0").headers["etag"] == tags[""]  # the same choice in other words
    assert client.get(f"{url}?channels=1", headers={"If-None-Match": tags["?channels=1"]}).status_code == 304
    assert client.get(f"{url}?channels=0", headers={"If-None-Match": tags["?channels=1"]}).status_code == 200


@pytest.mark.parametrize("text", ["4", "-1", "0,", "a", "0;1", "1e3", "٣", "9" * 30, "0," * 3000 + "0"])
def test_impossible_channels_are_refused(client, text):
    for url in ("/deepzoom/a-zarr_files/8/0_0.png", "/iiif/a-zarr/full/max/0/default.png"):
        response = client.get(url, params={"channels": text})
        assert response.status_code == 422
        assert "channels" in response.text


def test_head_is_get_without_a_body(client):
    for url in (
        "/deepzoom/a-zarr_files/8/0_0.png",
        "/deepzoom/a-zarr.dzi",
        "/iiif/a-zarr/full/max/0/default.jpg",
        "/iiif/a-zarr/info.json",
        "/api/images",
        "/view",
        "/static/style.css",
    ):
        head, get = client.head(url), client.get(url)
        assert (head.status_code, head.content) == (200, b""), url
        for name in ("content-length", "content-type", "etag"):
            assert head.headers.get(name) == get.headers.get(name), (url, name)
    assert client.head("/deepzoom/none.dzi").status_code == 404


def test_facts_of_a_chunk_name_its_channel(client, paths):
    facts = client.get("/api/images/a-zarr/chunks/0/1/2", params={"channel": 2}).json()
    assert facts["bytes"] == (paths[0] / "0/2/1/2").stat().st_size
    assert (facts["channel"], facts["samples"]) == ("Cy5 ü", 1)
    assert client.get("/api/images/a-zarr/chunks/0/1/2", params={"channel": 4}).status_code == 404
    slide = client.get("/api/images/cells-fake/chunks/0/0/0", params={"channel": 2}).json()
    assert (slide["mode"], slide["channel"], slide["samples"]) == ("slide", None, 4)


def test_compared_in_every_channel(client, paths, levels, engine):
    with TileReader(paths[2], engine=engine) as reader:
        error = np.abs(reader.read(0, 0, 165, 100).astype(int) - levels[0])
    assert 0 < error.max() <= 3
    found = client.get("/api/compare/a-zarr/near-tif?width=165&height=100").json()
    assert found["samples"] == 4 * 165 * 100
    assert found["histogram"] == np.bincount(error.reshape(-1)).tolist()
    heat = pixels_of(client.get("/compare/near-tif/cells-fake_files/8/1_1.png?peak=3"))
    np.testing.assert_array_equal(heat[..., 3] > 0, error[32:64, 32:64].max(axis=2) > 0)


def test_rgb_and_channels_are_not_compared(paths, pixels, tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "rgb.tiff", pixels[:100, :165], photometric="rgb", tile=(64, 64))
    client, engine, images = serving([paths[0], tmp_path / "rgb.tiff"])
    with client:
        response = client.get("/api/compare/a-zarr/rgb-tiff?width=10&height=10")
        assert response.status_code == 422
        assert "4 channels" in response.json()["detail"]
        assert client.get("/compare/a-zarr/rgb-tiff_files/8/0_0.png").status_code == 422
        assert client.get("/deepzoom/rgb-tiff_files/8/0_0.png?channels=0").status_code == 422
        assert client.get("/api/images/rgb-tiff").json()["channels"] is None
    engine.close()
    images.close()


def test_a_damaged_channel_is_marked_and_the_others_are_shown(paths, levels, tmp_path):
    shutil.copytree(paths[0], tmp_path / "bad.zarr")
    (tmp_path / "bad.zarr/0/1/0/0").write_bytes(b"nothing")
    client, engine, images = serving([tmp_path / "bad.zarr"])
    url = "/deepzoom/bad-zarr_files/8/0_0.png"
    with client:
        response = client.get(url)
        assert response.headers["x-dlpr-damaged"] == "1"
        colours = {tuple(px) for px in pixels_of(response).reshape(-1, 3).tolist()}
        assert colours == {(255, 214, 10), (40, 40, 44)}
        good = pixels_of(client.get(f"{url}?channels=0,2,3"))
        np.testing.assert_array_equal(good, composite(levels[0][:32, :32], (0, 2, 3)))
    with TileReader(tmp_path / "bad.zarr", engine=engine) as reader:
        with pytest.raises(ChunkError, match="row 0 column 0 channel 1"):
            reader.read(0, 0, 32, 32)
        reader.read_region((0, 0), 0, (32, 32), channels=[0])
    engine.close()
    images.close()
