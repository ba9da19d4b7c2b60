"""Schemathesis asks every endpoint of the OpenAPI schema for what it does and does not allow, in process.

No answer may be a server error, show a traceback, or hold anything that lies outside the archives.
"""

import asyncio
from urllib.parse import unquote

import hypothesis
import pytest

from dlpr_wsi.viewer.app import Settings, create_app
from dlpr_wsi.viewer.engine import ChunkEngine
from dlpr_wsi.viewer.images import open_images

schemathesis = pytest.importorskip("schemathesis")

IDS = ("slide-tau0-zarr", "slide-tau3-zarr")
SECRET = b"outside the archives"
# Answers that say in their own words what is wrong; 204: no preview is worth it; 501 is IIIF's for what is not offered.
ALLOWED = {200, 204, 206, 303, 304, 400, 404, 405, 412, 416, 422, 501}


@pytest.fixture
def schema(archives):
    engine = ChunkEngine(16 << 20, threads=2)
    images = open_images(path for path, _ in archives.values())
    (archives[0][0].parent / "secret.txt").write_bytes(SECRET)
    app = create_app(images, engine, Settings(timeout=120))
    app.debug = False
    loaded = schemathesis.openapi.from_asgi("/openapi.json", app)

    @loaded.hook
    def map_path_parameters(context, path_parameters):
        """Name real images half of the time: made-up names go no further than 404."""
        for name in ("image", "other"):
            if path_parameters and name in path_parameters and len(str(path_parameters[name])) % 2:
                path_parameters[name] = IDS[len(str(path_parameters)) % 2]
        return path_parameters

    yield loaded
    engine.close()
    images.close()


def look(case):
    response = case.call()
    assert response.status_code in ALLOWED, (response.status_code, response.text)
    assert b"Traceback" not in response.content
    assert SECRET not in response.content
    assert b'File "' not in response.content
    assert "default-src 'none'" in response.headers["content-security-policy"][0]
    if response.status_code == 200 and "image" in response.headers["content-type"][0]:
        assert len(response.content) < 64 << 20


def fuzz(schema, examples, **options):
    """Ask every operation; the plug-in of schemathesis for pytest lags behind pytest."""
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 15
    for operation in operations:
        settings = hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            **options,
        )
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            parameters = operation.path_parameters, operation.query
            if mode is schemathesis.GenerationMode.NEGATIVE and not any(map(list, parameters)):
                continue  # there is nothing to get wrong
            settings(hypothesis.given(case=operation.as_strategy(generation_mode=mode))(look))()


def test_every_endpoint_withstands_anything(schema):
    fuzz(schema, 15, derandomize=True)


@pytest.mark.full
def test_every_endpoint_withstands_anything_for_long(schema):
    fuzz(schema, 400)


WORDS = ("..", "%2e%2e", "....//", "%00", "%0d%0a", "~", "secret.txt", "/etc/passwd", "C:%5C", "%c0%ae", "'", "%3Ca%3E")


def get_raw(app, path):
    """Return (status, body) of a path that no client has tidied up."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"testserver")],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
    }
    sent = []

    async def run():
        done = asyncio.Event()

        async def receive():
            await done.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        await app(scope, receive, send)

    asyncio.run(run())
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("start", ["/static/", "/static/js/", "/deepzoom/", "/iiif/", "/api/images/", "/compare/", "/"])
def test_paths_lead_nowhere_else(schema, start):
    assert get_raw(schema.app, "/static/js/view.js")[0] == 200
    for first in WORDS:
        for second in WORDS:
            for third in ("app.py", "../secret.txt", "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd"):
                status, body = get_raw(schema.app, f"{start}{first}/{second}/{third}")
                assert status in (307, 400, 404, 422), (first, second, third)
                assert SECRET not in body
                assert b"root:" not in body
                assert b"import " not in body
