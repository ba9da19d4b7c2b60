"""The slides' own files over HTTP: whole, by ranges, headers alone; and readers that read them from afar."""

import base64
import email
import hashlib
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx2")

from starlette.testclient import TestClient

from dlpr_wsi.reversible.catalogue import Catalogue, reversible_among
from dlpr_wsi.reversible.originals import MakingCache, Originals
from dlpr_wsi.viewer.app import Settings, create_app
from dlpr_wsi.viewer.engine import ChunkEngine
from dlpr_wsi.viewer.files import parse_range
from dlpr_wsi.viewer.images import open_images


@contextmanager
def client_of(*paths, settings=None):
    engine, images = ChunkEngine(16 << 20, threads=2), open_images(paths)
    originals = Catalogue(reversible_among(paths), MakingCache(1 << 20), 2, strict=False)
    try:
        with TestClient(create_app(images, engine, settings, originals)) as client:
            yield client
    finally:
        originals.close()
        engine.close()
        images.close()


@pytest.fixture(scope="module")
def client(rev_svs):
    with client_of(rev_svs[1]) as client:
        yield client


@pytest.fixture(scope="module")
def data(rev_svs):
    return rev_svs[0].read_bytes()


@pytest.fixture(scope="module")
def url(rev_svs):
    return f"/files/{rev_svs[0].name}"


def test_whole(client, data, url):
    listed = client.get("/files").json()
    digest = hashlib.sha256(data)
    assert listed == [{"name": url[7:], "bytes": len(data), "sha256": digest.hexdigest(), "url": url}]
    answer = client.get(url)
    assert answer.status_code == 200
    assert answer.content == data
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(len(data))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert client.get(url, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert client.get(url, headers={"If-Match": '"other"'}).status_code == 412
    assert client.get("/files/nothing").status_code == 404
    assert client.get("/files/../zarr.json").status_code == 404


@pytest.mark.parametrize("asked", ["0-0", "100-4999", "20000-", "-1", "-70", "5-99999999"])
def test_ranges(client, data, url, asked):
    first, _, last = asked.partition("-")
    start = int(first) if first else len(data) - int(last)
    end = len(data) if not first or not last else min(int(last) + 1, len(data))
    answer = client.get(url, headers={"Range": f"bytes={asked}"})
    assert answer.status_code == 206
    assert answer.content == data[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(data)}"
    assert answer.headers["content-length"] == str(end - start)


def test_ranges_that_are_not_there_or_malformed(client, data, url):
    for asked in (f"bytes={len(data)}-", "bytes=-0", "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 200, 2))):
        answer = client.get(url, headers={"Range": asked})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{len(data)}"
    for asked in ("lines=1-2", "bytes=5-2", "bytes=a-b", "bytes=-", "0-5"):
        assert client.get(url, headers={"Range": asked}).content == data
    assert parse_range("bytes=" + "9" * 30 + "-", 10) is None


def test_several_ranges(client, data, url):
    answer = client.get(url, headers={"Range": "bytes=0-99, 300-399,-50"})
    assert answer.status_code == 206
    assert int(answer.headers["content-length"]) == len(answer.content)
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode("latin-1")
    parts = email.message_from_bytes(head + answer.content).get_payload()
    assert [part.get_content_type() for part in parts] == ["application/octet-stream"] * 3
    for part, (start, end) in zip(parts, [(0, 100), (300, 400), (len(data) - 50, len(data))], strict=True):
        assert part["Content-Range"] == f"bytes {start}-{end - 1}/{len(data)}"
        assert data[start:end] in answer.content


def test_if_range(client, data, url):
    tag = f'"{hashlib.sha256(data).hexdigest()}"'
    for given, status in ((tag, 206), (f"W/{tag}", 200), ('"other"', 200), ("Fri, 27 Nov 2026 07:00:00 GMT", 200)):
        answer = client.get(url, headers={"Range": "bytes=3-9", "If-Range": given})
        assert (answer.status_code, answer.content) == (status, data[3:10] if status == 206 else data)


def test_head_everywhere(client, data, url):
    image = client.get("/api/images").json()[0]["id"]
    routes = ["/", "/view", "/health", "/metrics", "/api/images", f"/api/images/{image}", f"/deepzoom/{image}.dzi"]
    routes += [f"/deepzoom/{image}_files/9/0_0.png", f"/iiif/{image}/info.json", "/files", url, "/static/style.css"]
    for route in routes:
        head, full = client.head(route), client.get(route)
        assert (head.status_code, head.content) == (full.status_code, b"") == (200, b""), route
        if route != "/metrics":
            assert head.headers["content-length"] == str(len(full.content)), route
    part = client.head(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.headers["content-length"], part.content) == (206, "10", b"")


def test_head_makes_nothing(rev_svs, url, monkeypatch):
    with client_of(rev_svs[1]) as client:
        monkeypatch.setattr(Originals, "read", lambda *_: pytest.fail("HEAD made bytes"))
        assert client.head(url).status_code == 200


def test_other_sites(rev_svs, url):
    with client_of(rev_svs[1], settings=Settings(origins=("https://viewer.example",))) as client:
        origin = {"Origin": "https://viewer.example"}
        asked = client.options(url, headers={**origin, "Access-Control-Request-Method": "GET"})
        assert asked.status_code == 204
        assert "Range" in asked.headers["access-control-allow-headers"]
        answer = client.get(url, headers={**origin, "Range": "bytes=0-9"})
        assert answer.headers["access-control-allow-origin"] == origin["Origin"]
        assert "Content-Range" in answer.headers["access-control-expose-headers"]
        other = client.options(url, headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"})
        assert "access-control-allow-origin" not in other.headers


def test_damage(tmp_path, rev_svs, url):
    broken = tmp_path / "broken.zarr"
    shutil.copytree(rev_svs[1], broken)
    file = broken / "source" / "c" / "0"
    content = bytearray(file.read_bytes())
    content[20] ^= 1
    file.write_bytes(content)
    with client_of(broken) as client:
        answer = client.get(url, headers={"Range": "bytes=0-9"})
        assert answer.status_code == 500
        assert "damaged" in answer.json()["detail"]
        assert str(tmp_path) not in answer.text
    with Originals(broken) as originals:
        segments = originals.map.segments
        part = int(np.flatnonzero(segments.part >= 0)[0])
        start = int(segments.start[part])
    with client_of(broken) as client:
        assert client.get(url, headers={"Range": f"bytes={start}-{start + 9}"}).status_code == 206


def test_remote_readers(tmp_path, rev_svs):
    """The real server: curl -C, fsspec, tifffile over HTTP."""
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    import tifffile

    slide, archive, _ = rev_svs
    command = [sys.executable, "-m", "dlpr_wsi.cli", "serve", str(archive), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        lines = []
        while not (lines and lines[-1].startswith("serving")):
            lines.append(process.stdout.readline())
            assert lines[-1]
        url = next(match[0] for line in lines if (match := re.search(r"http://\S+/files/\S+", line)))
        with fsspec.open(url, block_size=4096) as file, tifffile.TiffFile(file) as remote:
            assert np.array_equal(remote.pages[0].asarray(), tifffile.imread(slide, key=0))
        if shutil.which("curl"):
            part = tmp_path / "part.svs"
            part.write_bytes(slide.read_bytes()[:1000])
            subprocess.run(["curl", "-sS", "--noproxy", "*", "-C", "-", "-o", str(part), url], check=True)
            assert part.read_bytes() == slide.read_bytes()
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()
