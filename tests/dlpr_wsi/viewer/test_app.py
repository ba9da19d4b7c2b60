"""The web application, in process: what its responses hold, their headers, and what it refuses."""

import io
import logging
import shutil
from xml.etree import ElementTree

import numpy as np
import openslide
import pytest
import tifffile
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image, ImageCms
from starlette.testclient import TestClient

from dlpr_wsi.viewer.app import Settings, create_app
from dlpr_wsi.viewer.engine import ChunkEngine, ChunkKey
from dlpr_wsi.viewer.images import ImageSet, open_images
from dlpr_wsi.viewer.stores import open_store

LOSSLESS, NEAR = "slide-tau0-zarr", "slide-tau3-zarr"


def client_of(paths, settings=None, **options):
    engine = ChunkEngine(64 << 20, threads=2)
    images = open_images(paths)
    return TestClient(create_app(images, engine, settings), **options), engine, images


@pytest.fixture(scope="module")
def client(archives):
    client, engine, images = client_of([archives[0][0], archives[3][0]])
    with client:
        yield client
    engine.close()
    images.close()


def pixels_of(response):
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)))


def test_the_list_says_what_the_images_are(client, archives):
    first, second = client.get("/api/images").json()
    assert (first["id"], second["id"]) == (LOSSLESS, NEAR)
    assert (first["name"], first["tau"], second["tau"]) == ("slide tau0.zarr", 0, 3)
    assert (first["width"], first["height"], first["mpp_x"]) == (384, 320, 0.5)
    assert [level["width"] for level in first["levels"]] == [384, 96]
    assert first["raw_bytes"] == 3 * (384 * 320 + 96 * 80)
    assert first["bytes"] == sum(file.stat().st_size for file in archives[0][0].rglob("*") if file.is_file())
    assert first["ratio"] == pytest.approx(first["raw_bytes"] / first["bytes"])
    assert first["source_bytes"] == 100_000
    assert client.get(f"/api/images/{LOSSLESS}").json() == first


def test_png_tiles_of_stored_levels_are_the_decoded_pixels(client, archives):
    for name, tau in ((LOSSLESS, 0), (NEAR, 3)):
        facts = client.get(f"/api/images/{name}").json()
        top = facts["deepzoom_levels"] - 1
        for zoom, level in ((top, 0), (top - 2, 1)):
            expected = archives[tau][1][level]
            for row in range(-(-expected.shape[0] // 64)):
                for column in range(-(-expected.shape[1] // 64)):
                    tile = pixels_of(client.get(f"/deepzoom/{name}_files/{zoom}/{column}_{row}.png"))
                    part = expected[row * 64 : row * 64 + 64, column * 64 : column * 64 + 64]
                    np.testing.assert_array_equal(tile, part)


def twin(path, levels, tile):
    """Write the levels of an archive as an uncompressed pyramidal TIFF that OpenSlide opens."""
    with tifffile.TiffWriter(path) as writer:
        for number, image in enumerate(levels):
            writer.write(image, tile=(tile, tile), photometric="rgb", metadata=None, subfiletype=int(number > 0))
    return openslide.OpenSlide(path)


def compare_with_generator(client, name, slide, tile, tolerance):
    """Compare every tile of every level; return how many there were and how many differed."""
    generator = DeepZoomGenerator(slide, tile, overlap=0)
    facts = client.get(f"/api/images/{name}").json()
    assert facts["deepzoom_levels"] == generator.level_count
    count = different = 0
    for level, (columns, rows) in enumerate(generator.level_tiles):
        for row in range(rows):
            for column in range(columns):
                ours = pixels_of(client.get(f"/deepzoom/{name}_files/{level}/{column}_{row}.png"))
                theirs = np.asarray(generator.get_tile(level, (column, row)))
                assert ours.shape == theirs.shape
                worst = np.abs(ours.astype(int) - theirs).max()
                assert worst <= tolerance, (level, column, row)
                count += 1
                different += worst > 0
    return count, different


def test_deepzoom_equals_openslide(client, archives, slide_pixels, tmp_path):
    with twin(tmp_path / "twin.tif", slide_pixels, 64) as slide:
        assert slide.level_count == 2
        count, different = compare_with_generator(client, LOSSLESS, slide, 64, tolerance=0)
    assert count > 40
    assert different == 0


def test_deepzoom_of_a_single_level_equals_openslide(slide_pixels, make_archive, tmp_path):
    make_archive(tmp_path / "one.zarr", slide_pixels[:1], tile=64)
    client, engine, _ = client_of([tmp_path / "one.zarr"])
    with client, twin(tmp_path / "twin.tif", slide_pixels[:1], 64) as slide:
        assert compare_with_generator(client, "one-zarr", slide, 64, tolerance=0)[1] == 0
    engine.close()


def test_deepzoom_between_pixels_is_within_one_of_openslide(slide_pixels, make_archive, tmp_path):
    """Sizes that are no multiples: OpenSlide reads at fractions of a pixel and interpolates, rounding its own way."""
    levels = [slide_pixels[0][:317, :379], slide_pixels[1][:79, :94]]
    make_archive(tmp_path / "odd.zarr", levels, tile=64)
    client, engine, _ = client_of([tmp_path / "odd.zarr"])
    with client, twin(tmp_path / "twin.tif", levels, 64) as slide:
        assert slide.level_downsamples[1] % 1 > 0
        count, different = compare_with_generator(client, "odd-zarr", slide, 64, tolerance=4)
    assert different < count / 2
    engine.close()


def test_dzi_describes_the_tiles(client):
    response = client.get(f"/deepzoom/{LOSSLESS}.dzi?format=png")
    assert response.headers["content-type"].startswith("application/xml")
    root = ElementTree.fromstring(response.text)
    assert (root.get("TileSize"), root.get("Overlap"), root.get("Format")) == ("64", "0", "png")
    assert dict(root[0].items()) == {"Width": "384", "Height": "320"}


def test_fast_formats_look_the_same(client, archives):
    top = client.get(f"/api/images/{LOSSLESS}").json()["deepzoom_levels"] - 1
    expected = archives[0][1][0][64:128, 192:256].astype(int)
    for form, kind in (("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP")):
        response = client.get(f"/deepzoom/{LOSSLESS}_files/{top}/3_1.{form}")
        assert Image.open(io.BytesIO(response.content)).format == kind
        assert np.abs(pixels_of(response) - expected).mean() < 10  # WebP halves the chroma


def test_etag_and_not_modified(client):
    url = f"/deepzoom/{LOSSLESS}_files/6/0_0.png"
    first = client.get(url)
    tag = first.headers["etag"]
    assert "max-age" in first.headers["cache-control"]
    for given in (tag, f'"other", W/{tag}', "*"):
        again = client.get(url, headers={"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200
    others = [f"/deepzoom/{NEAR}_files/6/0_0.png", f"/deepzoom/{LOSSLESS}_files/6/0_0.jpg", url + "?icc=1"]
    assert len({tag, *(client.get(other).headers["etag"] for other in others)}) == 4


def test_security_headers_on_every_kind_of_answer(client):
    for url in ("/", "/view", "/static/js/view.js", "/api/images", "/health", "/nothing", f"/deepzoom/{LOSSLESS}.dzi"):
        headers = client.get(url).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_pages_ask_nobody_else_and_hold_no_inline_script(client):
    for url in ("/", "/view"):
        text = client.get(url).text
        assert "http" not in text
        assert " style=" not in text
        assert "<script>" not in text
        assert "onclick" not in text


def test_health_and_metrics(client):
    assert client.get("/health").json() == {"status": "ok", "images": 2}
    client.get(f"/deepzoom/{LOSSLESS}_files/8/0_0.png")
    text = client.get("/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["dlpr_decode_chunks"]) > 0
    assert 0 < float(values["dlpr_chunk_cache_bytes"]) <= float(values["dlpr_chunk_cache_limit_bytes"])
    route = "/deepzoom/{image}_files/{level}/{column}_{row}.{format}"
    assert float(values[f'dlpr_http_requests_total{{route="{route}",status="200"}}']) > 0
    assert "slide" not in text.replace(route, "")  # no names of what was looked at


def test_facts_of_a_chunk(client, archives):
    import dlpr

    client.get(f"/deepzoom/{NEAR}_files/9/5_4.png")
    found = client.get(f"/api/images/{NEAR}/chunks/0/4/5").json()
    stream = (archives[3][0] / "0" / "c" / "0" / "4" / "5").read_bytes()
    info = dlpr.inspect(stream)
    assert (found["mode"], found["bytes"], found["tau"]) == (info.mode, len(stream), 3)
    assert (found["x"], found["y"], found["width"], found["height"]) == (320, 256, 64, 64)
    assert found["bits_per_pixel"] == pytest.approx(8 * len(stream) / 64**2)
    assert found["milliseconds"] > 0
    assert sum(found["parts"].values()) == len(stream)
    for place in ("2/0/0", "0/5/0", "0/0/6"):
        assert client.get(f"/api/images/{NEAR}/chunks/{place}").status_code == 404


def test_difference_is_counted(client, archives):
    a, b = archives[0][1][0].astype(int), archives[3][1][0].astype(int)
    found = client.get(f"/api/compare/{LOSSLESS}/{NEAR}?x=10&y=20&width=200&height=100").json()
    error = np.abs(a - b)[20:120, 10:210]
    assert found["max_error"] == error.max() <= 3
    assert found["samples"] == error.size
    assert found["mean_error"] == pytest.approx(error.mean())
    assert found["different"] == pytest.approx((error > 0).mean())
    assert found["histogram"] == np.bincount(error.reshape(-1)).tolist()
    assert client.get(f"/api/compare/{LOSSLESS}/{NEAR}?x=384").status_code == 422


def test_the_heat_map_loses_no_error(client, archives):
    error = np.abs(archives[0][1][0].astype(int) - archives[3][1][0]).max(axis=2)
    url = f"/compare/{LOSSLESS}/{NEAR}_files"
    tile = pixels_of(client.get(f"{url}/9/3_2.png?peak=3"))
    assert tile.shape == (64, 64, 4)
    np.testing.assert_array_equal(tile[..., 3] > 0, error[128:192, 192:256] > 0)
    half = pixels_of(client.get(f"{url}/8/0_0.png?peak=3"))
    pooled = error[:128, :128].reshape(64, 2, 64, 2).max(axis=(1, 3))
    np.testing.assert_array_equal(half[..., 3] > 0, pooled > 0)
    brightest = pixels_of(client.get(f"{url}/9/3_2.png?peak=3"))[error[128:192, 192:256] == 3]
    assert len({tuple(colour) for colour in brightest}) == 1
    equal = pixels_of(client.get(f"/compare/{NEAR}/{NEAR}_files/9/0_0.png"))
    assert not equal.any()


def test_images_of_other_sizes_are_not_compared(archives, make_archive, slide_pixels, tmp_path):
    make_archive(tmp_path / "small.zarr", slide_pixels[1:])
    client, engine, _ = client_of([archives[0][0], tmp_path / "small.zarr"])
    with client:
        for url in (f"/api/compare/{LOSSLESS}/small-zarr", f"/compare/{LOSSLESS}/small-zarr_files/9/0_0.png"):
            response = client.get(url)
            assert response.status_code == 422
            assert "384 x 320" in response.json()["detail"]
    engine.close()


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("full/max/0/default", lambda a: a),
        ("full/384,/0/color", lambda a: a),
        ("square/max/0/default", lambda a: a[:, 32:352]),
        ("10,20,50,40/max/0/default", lambda a: a[20:60, 10:60]),
        ("350,300,100,100/max/0/default", lambda a: a[300:, 350:]),
        ("pct:25,50,25,25/max/0/default", lambda a: a[160:240, 96:192]),
        ("10,20,50,40/max/90/default", lambda a: np.rot90(a[20:60, 10:60], -1)),
        ("10,20,50,40/max/180/default", lambda a: np.rot90(a[20:60, 10:60], 2)),
        ("10,20,50,40/max/270/default", lambda a: np.rot90(a[20:60, 10:60])),
        ("10,20,50,40/max/!0/default", lambda a: a[20:60, 10:60][:, ::-1]),
        ("10,20,50,40/max/!90/default", lambda a: np.rot90(a[20:60, 10:60][:, ::-1], -1)),
    ],
)
def test_iiif_regions_and_rotations_are_exact(client, archives, part, expected):
    picture = pixels_of(client.get(f"/iiif/{LOSSLESS}/{part}.png"))
    np.testing.assert_array_equal(picture, expected(archives[0][1][0]))


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ("max", (320, 384)),
        ("192,", (160, 192)),
        (",80", (80, 96)),
        ("pct:50", (160, 192)),
        ("100,100", (100, 100)),
        ("!100,100", (83, 100)),
        ("!1000,160", (160, 192)),
        ("^768,", (640, 768)),
        ("^!800,800", (667, 800)),
        ("^pct:150", (480, 576)),
        ("^max", (3413, 4096)),
    ],
)
def test_iiif_sizes(client, size, shape):
    assert pixels_of(client.get(f"/iiif/{NEAR}/full/{size}/0/default.jpg")).shape[:2] == shape


def test_iiif_small_sizes_come_from_small_levels(client, archives):
    picture = pixels_of(client.get(f"/iiif/{LOSSLESS}/full/96,/0/default.png"))
    np.testing.assert_array_equal(picture, archives[0][1][1])


def test_iiif_qualities(client, archives):
    gray = pixels_of(client.get(f"/iiif/{LOSSLESS}/full/max/0/gray.png"))
    np.testing.assert_array_equal(gray, np.asarray(Image.fromarray(archives[0][1][0]).convert("L")))
    assert set(np.unique(pixels_of(client.get(f"/iiif/{LOSSLESS}/full/max/0/bitonal.png")))) <= {0, 255}


def test_iiif_info(client):
    response = client.get(f"/iiif/{LOSSLESS}", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (303, f"/iiif/{LOSSLESS}/info.json")
    info = client.get(f"/iiif/{LOSSLESS}/info.json").json()
    assert (info["type"], info["profile"], info["protocol"]) == ("ImageService3", "level2", "http://iiif.io/api/image")
    assert info["id"] == f"http://testserver/iiif/{LOSSLESS}"
    assert (info["width"], info["height"]) == (384, 320)
    assert info["tiles"] == [{"width": 64, "height": 64, "scaleFactors": [1, 2, 4, 8]}]
    for size in info["sizes"]:
        url = f"/iiif/{LOSSLESS}/full/{size['width']},{size['height']}/0/default.jpg"
        assert pixels_of(client.get(url)).shape[:2] == (size["height"], size["width"])


@pytest.mark.parametrize(
    ("part", "status"),
    [
        ("everything/max/0/default.png", 400),
        ("0,0,0,10/max/0/default.png", 400),
        ("384,0,10,10/max/0/default.png", 400),
        ("-1,0,10,10/max/0/default.png", 400),
        ("pct:0,0,nan,5/max/0/default.png", 400),
        ("full/0,/0/default.png", 400),
        ("full/,/0/default.png", 400),
        ("full/768,/0/default.png", 400),  # needs ^
        ("full/^5000,5000/0/default.png", 400),
        ("full/^999999999,/0/default.png", 400),
        ("full/pct:0/0/default.png", 400),
        ("full/!100,/0/default.png", 400),
        ("full/max/-90/default.png", 400),
        ("full/max/361/default.png", 400),
        ("full/max/45/default.png", 501),
        ("full/max/0/best.png", 400),
        ("full/max/0/default.tiff", 422),
        ("full/max/0/default", 404),
    ],
)
def test_iiif_refuses_what_is_malformed(client, part, status):
    response = client.get(f"/iiif/{LOSSLESS}/{part}")
    assert response.status_code == status
    assert response.json()["detail"]


@pytest.mark.parametrize(
    "url",
    [
        "/deepzoom/other_files/0/0_0.png",
        "/deepzoom/other.dzi",
        "/iiif/other/info.json",
        "/api/images/other",
        f"/compare/{LOSSLESS}/other_files/0/0_0.png",
        f"/deepzoom/{LOSSLESS}_files/10/0_0.png",
        f"/deepzoom/{LOSSLESS}_files/9/6_0.png",
        f"/deepzoom/{LOSSLESS}_files/9/0_2147483648.png",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fapp.py",
        "/static//etc/passwd",
        "/deepzoom/..%2f..%2fetc%2fpasswd.dzi",
        "/static/js/",
    ],
)
def test_nothing_else_is_there(client, url):
    response = client.get(url)
    assert response.status_code in (404, 422)
    assert b"root:" not in response.content


@pytest.mark.parametrize(
    "url",
    [
        f"/deepzoom/{LOSSLESS}_files/x/0_0.png",
        f"/deepzoom/{LOSSLESS}_files/-1/0_0.png",
        f"/deepzoom/{LOSSLESS}_files/9/0_99999999999999999999.png",
        f"/deepzoom/{LOSSLESS}_files/9/0_0.bmp",
        f"/deepzoom/{LOSSLESS}_files/9/0_0.png?icc=maybe",
        f"/api/compare/{LOSSLESS}/{NEAR}?width=100000",
        f"/compare/{LOSSLESS}/{NEAR}_files/9/0_0.png?peak=0",
    ],
)
def test_malformed_parameters_are_refused(client, url):
    response = client.get(url)
    assert response.status_code == 422
    assert "Traceback" not in response.text


def test_only_reading_is_possible(client):
    for method in ("post", "put", "delete", "patch"):
        response = getattr(client, method)(f"/deepzoom/{LOSSLESS}_files/9/0_0.png")
        assert response.status_code == 405


def test_giant_regions_are_refused_before_anything_is_decoded(make_archive, slide_pixels, tmp_path):
    """An archive that says it has 100,000 x 100,000 px, and no small levels."""
    import json

    path = tmp_path / "giant.zarr"
    make_archive(path, slide_pixels[:1])
    meta = json.loads((path / "0" / "zarr.json").read_text())
    meta["shape"] = [3, 100_000, 100_000]
    (path / "0" / "zarr.json").write_text(json.dumps(meta))
    client, engine, _ = client_of([path])
    with client:
        facts = client.get("/api/images/giant-zarr").json()
        assert 0 < facts["deepzoom_min_level"] < facts["deepzoom_levels"]
        for url in ("/deepzoom/giant-zarr_files/0/0_0.png", "/iiif/giant-zarr/full/max/0/default.jpg"):
            response = client.get(url)
            assert response.status_code == 422
            assert "px" in response.json()["detail"]
        assert engine.decoding.chunks == 0
        assert pixels_of(client.get("/iiif/giant-zarr/0,0,64,64/max/0/default.png")).shape == (64, 64, 3)
    engine.close()


def test_a_damaged_chunk_is_marked_and_the_rest_works(archives, tmp_path, caplog):
    path = shutil.copytree(archives[0][0], tmp_path / "bad.zarr")
    file = path / "0" / "c" / "0" / "1" / "2"
    stream = bytearray(file.read_bytes())
    stream[len(stream) // 2] ^= 64
    file.write_bytes(stream)
    (path / "0" / "c" / "0" / "0" / "0").unlink()
    client, engine, _ = client_of([path])
    with client, caplog.at_level(logging.WARNING, "dlpr_wsi.viewer"):
        for url in ("/deepzoom/bad-zarr_files/9/2_1.png", "/deepzoom/bad-zarr_files/9/0_0.png"):
            for _ in range(2):
                response = client.get(url)
                tile = pixels_of(response)
                assert {(255, 214, 10), (40, 40, 44)} <= {tuple(colour) for colour in tile.reshape(-1, 3)}
                assert response.headers["x-dlpr-damaged"] == "1"
                assert response.headers["cache-control"] == "no-store"
                assert "etag" not in response.headers
        good = pixels_of(client.get("/deepzoom/bad-zarr_files/9/3_1.png"))
        np.testing.assert_array_equal(good, archives[0][1][0][64:128, 192:256])
        whole = client.get("/iiif/bad-zarr/full/max/0/default.png")
        assert whole.headers["x-dlpr-damaged"] == "2"
        assert client.get("/api/images/bad-zarr/chunks/0/1/2").json()["mode"] == "damaged"
        assert "no chunk" in client.get("/api/images/bad-zarr/chunks/0/0/0").json()["message"]
        assert client.get("/api/compare/bad-zarr/bad-zarr").status_code == 422
    assert [record.message.split(":")[1].strip() for record in caplog.records] == ["bad.zarr", "bad.zarr"]
    assert "level 0 row 1 column 2" in caplog.text
    engine.close()


def swapped_profile():
    """An sRGB profile whose red and blue primaries are exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {}
    for i in range(int.from_bytes(data[128:132], "big")):
        entry = 132 + 12 * i
        tags[bytes(data[entry : entry + 4])] = entry
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    data[red + 4 : red + 12], data[blue + 4 : blue + 12] = data[blue + 4 : blue + 12], data[red + 4 : red + 12]
    data[84:100] = bytes(16)  # the profile's own checksum: zero means none
    return bytes(data)


def test_the_icc_profile_is_applied_on_request_only(make_archive, slide_pixels, tmp_path):
    make_archive(tmp_path / "icc.zarr", slide_pixels[:1], icc=swapped_profile())
    client, engine, _ = client_of([tmp_path / "icc.zarr"])
    with client:
        assert client.get("/api/images/icc-zarr").json()["icc"] is True
        plain = pixels_of(client.get("/deepzoom/icc-zarr_files/9/4_4.png"))
        turned = pixels_of(client.get("/deepzoom/icc-zarr_files/9/4_4.png?icc=1")).astype(int)
    np.testing.assert_array_equal(plain, slide_pixels[0][256:320, 256:320])
    assert np.abs(turned - plain[..., ::-1]).max() <= 3
    assert np.abs(turned - plain).max() > 30
    engine.close()


def test_a_useless_profile_is_said_and_ignored(make_archive, slide_pixels, tmp_path, caplog):
    make_archive(tmp_path / "icc.zarr", slide_pixels[1:], icc=b"no profile")
    client, engine, _ = client_of([tmp_path / "icc.zarr"])
    with client:
        assert client.get("/api/images/icc-zarr").json()["icc"] is False
        assert client.get("/deepzoom/icc-zarr_files/7/0_0.png?icc=1").status_code == 200
    assert "profile cannot be used" in caplog.text
    engine.close()


def test_names_of_hosts_and_origins(archives):
    settings = Settings(hosts=("127.0.0.1",))
    client, engine, images = client_of([archives[0][0]], settings)
    with client:
        for host, status in (("127.0.0.1:8000", 200), ("localhost", 200), ("[::1]:8000", 200), ("evil.example", 400)):
            assert client.get("/health", headers={"Host": host}).status_code == status
    open_to_one = TestClient(create_app(images, engine, Settings(origins=("https://viewer.example",))))
    given = open_to_one.get("/health", headers={"Origin": "https://viewer.example"}).headers
    assert given["access-control-allow-origin"] == "https://viewer.example"
    other = open_to_one.get("/health", headers={"Origin": "https://evil.example"}).headers
    assert "access-control-allow-origin" not in other
    engine.close()


def test_ids_are_unique_and_safe(archives, tmp_path):
    odd = shutil.copytree(archives[0][0], tmp_path / "slide tau0.zarr")
    strange = shutil.copytree(archives[0][0], tmp_path / "..%2f <b>Ärchiv.zarr")
    stores = [open_store(path) for path in (archives[0][0], odd, strange)]
    images = ImageSet(stores)
    assert list(images.images) == [LOSSLESS, f"{LOSSLESS}-2", "2f-b-rchiv-zarr"]


def test_neighbours_are_prefetched(archives):
    client, engine, images = client_of([archives[0][0]])
    with client:
        client.get(f"/deepzoom/{LOSSLESS}_files/9/2_2.png")
        store = images.images[LOSSLESS].store
        ring = [ChunkKey(store, 0, row, column) for row in (1, 2, 3) for column in (1, 2, 3)]
        for key in ring:
            engine.request(key).result(20)
        engine.close()
    assert engine.decoding.chunks == 9
