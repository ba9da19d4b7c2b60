"""What `dlpr-wsi convert` writes, in every format, as the viewer and TileReader see it."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image
from starlette.testclient import TestClient

from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.pipeline.plan import SourceTiles
from dlpr_wsi.tile_reader import TileReader
from dlpr_wsi.viewer.app import create_app
from dlpr_wsi.viewer.engine import ChunkEngine
from dlpr_wsi.viewer.images import open_images


@pytest.fixture(scope="module")
def slide(tmp_path_factory, slide_pixels):
    """The pixels in JPEG tiles, which conversion keeps, and how OpenSlide shows them."""
    import openslide

    path = tmp_path_factory.mktemp("slides") / "slide.tif"
    options = {"compression": "jpeg", "compressionargs": {"level": 80}, "photometric": "rgb"}
    tifffile.imwrite(path, slide_pixels[0], tile=(64, 64), resolution=(20_000, 20_000), resolutionunit=3, **options)
    with openslide.OpenSlide(path) as opened:
        return path, np.asarray(opened.read_region((0, 0), 0, opened.dimensions))[..., :3]


@pytest.fixture(scope="module")
def client(slide, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    paths = [folder / "exact.zarr", folder / "exact.tif", folder / "near.zarr"]
    for path in paths[:2]:
        convert(slide[0], path, threads=2)
    # Kept JPEG tiles would be exact whatever tau allows.
    convert(slide[0], paths[2], options=ConvertOptions(tau=2, source_tiles=SourceTiles.NEVER), threads=2)
    engine = ChunkEngine(64 << 20, threads=2)
    images = open_images([*paths, slide[0]])
    with TestClient(create_app(images, engine)) as client:
        client.paths = paths
        yield client
    engine.close()
    images.close()


def test_facts(client):
    facts = {one["name"]: one for one in client.get("/api/images").json()}
    assert list(facts) == ["exact.zarr", "exact.tif", "near.zarr", "slide.tif"]
    assert [one["kind"] for one in facts.values()] == ["archive", "archive", "archive", "slide"]
    assert [one["tau"] for one in facts.values()] == [0, 0, 2, None]
    for one in facts.values():
        assert (one["width"], one["height"], one["source_codec"].split(",")[0]) == (384, 320, "JPEG")
        assert one["mpp_x"] == pytest.approx(0.5)
    assert facts["exact.zarr"]["source_bytes"] == facts["exact.tif"]["source_bytes"] == facts["slide.tif"]["bytes"]


@pytest.mark.parametrize("name", ["exact-zarr", "exact-tif", "slide-tif"])
def test_pixels_equal_the_slide(client, slide, name):
    answer = client.get(f"/iiif/{name}/full/max/0/default.png")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), slide[1])
    mode = client.get(f"/api/images/{name}/chunks/0/1/1").json()["mode"]
    assert mode in ({"slide"} if name == "slide-tif" else {"jpeg", "coded"})


def test_errors_keep_the_bound(client):
    found = client.get("/api/compare/near-zarr/slide-tif?width=384&height=320").json()
    assert 0 < found["max_error"] <= 2
    assert client.get("/api/compare/exact-tif/slide-tif?width=384&height=320").json()["max_error"] == 0


def test_tile_reader(client, slide):
    for path in client.paths[:2]:
        with TileReader(path) as reader:
            region = np.asarray(reader.read_region((33, 44), 0, (200, 150)))
            np.testing.assert_array_equal(region[..., :3], slide[1][44:194, 33:233])
