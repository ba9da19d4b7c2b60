"""Previews: what they show, that they say what they are, and how little is read for them."""

import io

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import dlpr
from dlpr_wsi.viewer import preview, render
from dlpr_wsi.viewer.app import create_app
from dlpr_wsi.viewer.engine import ChunkEngine, ChunkKey
from dlpr_wsi.viewer.images import ImageSet, open_images
from dlpr_wsi.viewer.stores import open_store

TOP = 9  # DeepZoom level of 384 x 320 px
STRIPES = render._STRIPES


@pytest.fixture
def client(engine, coded_archive):
    images = open_images([coded_archive[0]])
    with TestClient(create_app(images, engine)) as client:
        yield client
    images.close()


def stream_of(path, level, row, column):
    return path / str(level) / "c" / "0" / str(row) / str(column)


def lossy(path, level, row, column):
    """Decode the lossy layer from exactly its bytes."""
    stream = stream_of(path, level, row, column).read_bytes()
    info = dlpr.inspect(stream)
    assert (info.mode, info.lossy_layer) == ("coded", True)
    return dlpr.decode(stream[: info.lossy_prefix], layer="lossy").transpose(1, 2, 0)


def unmarked(side):
    """Where the mark of a tile leaves pixels alone."""
    y, x = np.mgrid[:side, :side]
    return (x + y) % STRIPES >= 2


def get(client, place, name="coded-zarr", form="png", query=""):
    return client.get(f"/preview/{name}_files/{TOP}/{place}.{form}{query}")


def test_a_preview_is_the_lossy_layer_and_the_mark(client, coded_archive):
    path, levels = coded_archive
    response = get(client, "1_2_3_3")
    assert response.status_code == 200
    picture = np.asarray(Image.open(io.BytesIO(response.content)))
    assert picture.shape == (128, 192, 3)
    assert response.headers["x-dlpr-tiles"] == "111111"
    for row in (0, 1):
        for column in (0, 1, 2):
            tile = picture[64 * row : 64 * row + 64, 64 * column : 64 * column + 64].astype(int)
            expected = lossy(path, 0, 2 + row, 1 + column)
            keep = unmarked(64)
            np.testing.assert_array_equal(tile[keep], expected[keep])
            y, x = np.nonzero(~keep)
            changed = np.abs(tile[y, x] - expected[y, x].astype(int)).max(axis=1) > 60
            assert changed.mean() > 0.45  # of the two lines one shows on white, one on black
    exact = levels[0][128:256, 64:256].astype(int)
    assert np.abs(picture - exact).mean() < 25  # it shows the same place


@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_a_preview_says_what_it_is(client, form):
    response = get(client, "0_0_2_2", form=form)
    assert response.headers["x-dlpr-layer"] == "lossy"
    assert response.headers["cache-control"] == "no-store"
    assert "etag" not in response.headers
    image = Image.open(io.BytesIO(response.content))
    told = image.info.get("comment") or image.info.get("Comment") or image.info.get("xmp")
    assert "no" in render.PREVIEW_COMMENT
    assert (told.decode() if isinstance(told, bytes) else told) == render.PREVIEW_COMMENT


def test_a_preview_never_takes_the_place_of_exact_pixels(client, coded_archive):
    get(client, "0_0_5_4")
    for place in ("1_2", "5_4"):
        column, row = map(int, place.split("_"))
        response = client.get(f"/deepzoom/coded-zarr_files/{TOP}/{place}.png")
        assert "x-dlpr-layer" not in response.headers
        tile = np.asarray(Image.open(io.BytesIO(response.content)))
        expected = coded_archive[1][0][64 * row : 64 * row + 64, 64 * column : 64 * column + 64]
        np.testing.assert_array_equal(tile, expected)


def test_tiles_whose_exact_pixels_are_as_quick_have_none(client, engine):
    client.get(f"/deepzoom/coded-zarr_files/{TOP}/1_1.png")
    assert get(client, "1_1_2_1").headers["x-dlpr-tiles"] == "01"  # the first is kept
    for column in (1, 2):
        client.get(f"/deepzoom/coded-zarr_files/{TOP}/{column}_1.png")
    response = get(client, "1_1_2_1")
    assert (response.status_code, response.content) == (204, b"")


def test_only_chunks_of_the_networks_have_previews(engine, archives):
    """An archive of JPEG chunks, some coded ones and constant ones."""
    path = archives[3][0]
    images = open_images([path])
    with TestClient(create_app(images, engine)) as client:
        flags = get(client, "0_0_5_4", "slide-tau3-zarr").headers["x-dlpr-tiles"]
        facts = client.get("/api/images/slide-tau3-zarr").json()
    modes = [dlpr.inspect(stream_of(path, 0, row, column).read_bytes()).mode for row in range(5) for column in range(6)]
    assert {"coded", "jpeg"} < set(modes)
    assert flags == "".join("01"[mode == "coded"] for mode in modes)
    assert facts["previews"] is True
    images.close()


def test_slides_have_none(engine, slide_pixels, tmp_path):
    Image.fromarray(slide_pixels[0]).save(tmp_path / "a.png")
    images = open_images([tmp_path / "a.png"])
    with TestClient(create_app(images, engine)) as client:
        assert client.get("/api/images/a-png").json()["previews"] is False
        assert get(client, "0_0_1_0", "a-png").status_code == 204
    images.close()


def test_streams_without_lossy_layer_and_damaged_ones_have_none(engine, make_archive, slide_pixels, tmp_path):
    path = tmp_path / "plain.zarr"
    make_archive(path, slide_pixels[:1], encoding={"jpeg": "never", "colour": "never", "lossy_layer": False})
    images = open_images([path])
    with TestClient(create_app(images, engine)) as client:
        assert get(client, "0_0_1_1", "plain-zarr").status_code == 204
    images.close()
    path = tmp_path / "bad.zarr"
    make_archive(path, slide_pixels[:1], encoding={"jpeg": "never", "colour": "never"})
    for column, change in enumerate(("flip", "cut", "empty", "gone")):
        file = stream_of(path, 0, 0, column)
        stream = bytearray(file.read_bytes())
        if change == "flip":
            stream[60] ^= 1
        file.write_bytes({"flip": stream, "cut": stream[:70], "empty": b"", "gone": b""}[change])
        if change == "gone":
            file.unlink()
    images = open_images([path])
    with TestClient(create_app(images, engine)) as client:
        assert get(client, "0_0_5_0", "bad-zarr").headers["x-dlpr-tiles"] == "000011"
    images.close()


def test_lower_levels_and_odd_edges(client, coded_archive):
    """Level 8 is made from level 0: four chunks a tile; its last tiles are narrower."""
    response = client.get(f"/preview/coded-zarr_files/{TOP - 1}/0_0_2_2.png")
    picture = np.asarray(Image.open(io.BytesIO(response.content))).astype(int)
    assert (picture.shape, response.headers["x-dlpr-tiles"]) == ((160, 192, 3), "111111111")
    exact = client.get(f"/deepzoom/coded-zarr_files/{TOP - 1}/2_2.png")
    tile = np.asarray(Image.open(io.BytesIO(exact.content))).astype(int)
    assert tile.shape == (32, 64, 3)
    assert np.abs(picture[128:, 128:] - tile).mean() < 30


@pytest.mark.parametrize(
    ("place", "status"),
    [("0_0_6_4", 404), ("0_0_5_5", 404), ("3_0_2_0", 404), ("0_0_400_400", 422), ("0_0_-1_0", 422)],
)
def test_ranges_that_cannot_be(client, place, status):
    assert get(client, place).status_code == status


def test_previews_too_large_are_refused_before_any_work(client, monkeypatch):
    monkeypatch.setattr(preview, "MAX_SOURCE_PIXELS", 64 * 64 * 3)
    response = get(client, "0_0_1_1")
    assert response.status_code == 422
    assert "at most" in response.json()["detail"]


def test_icc_and_unknown_channels(client):
    assert get(client, "0_0_2_2", query="?icc=1").status_code == 200
    assert get(client, "0_0_2_2", query="?channels=1").status_code == 422


def test_images_of_channels(engine, tmp_path):
    """Two channels, a chunk each, as their colours added up."""
    pytest.importorskip("zarr")
    from dlpr_wsi.pipeline.convert import ConvertOptions, convert

    rng = np.random.default_rng(3)
    noise = Image.fromarray(rng.integers(0, 255, (2, 24, 24), dtype=np.uint8).reshape(48, 24))
    planes = np.asarray(noise.resize((192, 384), Image.Resampling.BICUBIC)).reshape(2, 192, 192)
    import tifffile

    tifffile.imwrite(
        tmp_path / "two.ome.tif", planes, photometric="minisblack", metadata={"axes": "CYX"}, tile=(64, 64)
    )
    convert(tmp_path / "two.ome.tif", tmp_path / "two.zarr", options=ConvertOptions(tile=64), threads=1)
    store = open_store(tmp_path / "two.zarr")
    images = ImageSet([store])
    with TestClient(create_app(images, engine)) as client:
        level = client.get("/api/images/two-zarr").json()["deepzoom_levels"] - 1
        response = client.get(f"/preview/two-zarr_files/{level}/0_0_2_2.png?channels=1")
    assert response.headers["x-dlpr-tiles"] == "1" * 9
    picture = np.asarray(Image.open(io.BytesIO(response.content)))
    stream = store.fetch(0, 1, 2, 1)
    x_tilde = dlpr.decode(stream[: dlpr.inspect(stream).lossy_prefix], layer="lossy").reshape(64, 64)
    red, green, blue = store.facts.channels[1].colour
    keep = unmarked(64)
    for sample, share in enumerate((red, green, blue)):
        tile = picture[64:128, 128:192, sample][keep].astype(int)
        assert np.abs(tile - x_tilde[keep] * (share / 255)).max() <= 1
    images.close()


class Counting(io.FileIO):
    read_bytes = 0

    def read(self, size=-1):
        found = super().read(size)
        Counting.read_bytes += len(found)
        return found

    def readall(self):
        found = super().readall()
        Counting.read_bytes += len(found)
        return found


@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_only_the_beginning_of_a_stream_is_read(tmp_path, slide_pixels, suffix, monkeypatch):
    """In a shard and in a TIFF file; no buffer reads on."""
    from pathlib import Path

    from dlpr_wsi.pipeline.convert import ConvertOptions, convert

    image = Image.fromarray(slide_pixels[0]).resize((345, 290), Image.Resampling.LANCZOS)  # no JPEG is found in it
    image.save(tmp_path / "a.png")
    convert(tmp_path / "a.png", tmp_path / f"a{suffix}", options=ConvertOptions(tile=256), threads=1)
    store = open_store(tmp_path / f"a{suffix}")
    key = ChunkKey(store, 0, 0, 0)
    stream = store.fetch(0, 0, 0)  # the index of the shard is kept from now on
    info = dlpr.inspect(stream)
    assert info.mode == "coded"
    assert info.lossy_prefix < preview._FIRST < info.size

    def opened(path, mode="r", buffering=-1):
        assert (mode, buffering) == ("rb", 0)
        return Counting(path)

    monkeypatch.setattr(Path, "open", opened)
    Counting.read_bytes = 0
    pixels = preview.lossy_pixels(key)
    assert Counting.read_bytes == preview._FIRST
    expected = dlpr.decode(stream[: info.lossy_prefix], layer="lossy")
    np.testing.assert_array_equal(pixels, expected.transpose(1, 2, 0) if expected.shape[0] == 3 else expected)

    monkeypatch.setattr(preview, "_FIRST", 64)  # shorter than the lossy layer: it reads on, but not all
    Counting.read_bytes = 0
    np.testing.assert_array_equal(preview.lossy_pixels(key), pixels)
    assert 64 < Counting.read_bytes < info.size


def test_previews_come_before_chunks_that_wait(coded_archive, monkeypatch):
    """The preview of a view is there though all of its chunks were asked for before it."""
    order = []
    decode = dlpr.decode

    def noted(stream, **options):
        order.append(options.get("layer", "full"))
        return decode(stream, **options)

    monkeypatch.setattr(dlpr, "decode", noted)
    engine = ChunkEngine(64 << 20, threads=1)
    images = open_images([coded_archive[0]])
    store = images.images["coded-zarr"].store
    with TestClient(create_app(images, engine)) as client:
        futures = [engine.request(ChunkKey(store, 0, row, column)) for row in range(5) for column in range(6)]
        assert get(client, "3_2_5_4").status_code == 200
        for future in futures:
            future.result(20)
        assert client.app.state.service.previews > 0
        assert "dlpr_previews" in client.get("/metrics").text
    last = max(i for i, layer in enumerate(order) if layer == "lossy")
    assert "full" in order[last:]
    engine.close()
    images.close()
