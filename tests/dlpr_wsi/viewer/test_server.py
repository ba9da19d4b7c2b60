"""The server on real sockets: slow clients, floods, clients that leave; and the command."""

import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dlpr_wsi.sources import Selection
from dlpr_wsi.tile_reader import TileReader
from dlpr_wsi.viewer.app import Settings
from dlpr_wsi.viewer.images import ImageSet
from dlpr_wsi.viewer.server import is_loopback
from dlpr_wsi.viewer.stores import Grid, StoreFacts, open_store

COMMAND = Path(sys.executable).with_name("dlpr-wsi")


class SlowStore:
    """A slide whose chunks come when the gate is opened."""

    name, background, icc_profile, coded, fingerprint = "slow", (255, 255, 255), None, False, "slow"
    levels = (Grid(2048, 256, 256, 256, 1.0),)
    facts = StoreFacts("slide", 1, 1, None, None, None, None, None, None)

    def __init__(self):
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.read = []

    def fetch(self, level, row, column, channel=0):
        self.begun.set()
        assert self.gate.wait(20)
        self.read.append(column)
        return np.full((256, 256, 3), column, np.uint8)

    def close(self):
        pass


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def ask(connection, path, method="GET", extra=""):
    connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{extra}\r\n".encode())


def answer(connection):
    """Return the status and the body of a response; (0, b"") if the connection was closed instead."""
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            part = b""
        if not part:
            return 0, b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields.get(b"content-length", 0)):
        body += connection.recv(65536)
    return int(head.split()[1]), body


@pytest.fixture
def images(archives):
    return ImageSet([open_store(archives[0][0])])


def wait_until_closed(connection):
    """Wait until the server closes a connection; the socket's own timeout ends a test that fails."""
    with suppress(ConnectionResetError):
        while connection.recv(65536):
            pass


def test_one_connection_serves_many_requests(run_server, images):
    server = run_server(images)
    with connect(server) as connection:
        for _ in range(5):
            ask(connection, "/health")
            assert answer(connection)[0] == 200
        connection.sendall(2 * b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")  # pipelined
        received = b""
        while received.count(b'"status":"ok"') < 2:
            received += connection.recv(65536)


def test_head_sends_no_body_and_keeps_the_connection(run_server, images):
    server = run_server(images)
    tile = "/deepzoom/slide-tau0-zarr_files/9/1_1.png"
    for path in (tile, "/static/style.css", "/nothing"):
        with connect(server) as connection:
            ask(connection, path, "HEAD", "Connection: close\r\n")
            received = b""
            while part := connection.recv(65536):
                received += part
        head, _, body = received.partition(b"\r\n\r\n")
        assert (head.split()[1], body) == (b"404" if path == "/nothing" else b"200", b"")
        assert b"content-length: 0" not in head.lower()
    with connect(server) as connection:
        ask(connection, tile, "HEAD")
        ask(connection, "/health")  # what comes after the head is the next response
        received = b""
        while b'"status":"ok"' not in received:
            received += connection.recv(65536)
        assert received.count(b"HTTP/1.1 200") == 2
    metrics = urllib.request.urlopen(f"{server.url}/metrics").read().decode()
    assert 'route="/deepzoom/{image}_files/{level}/{column}_{row}.{format}",status="200"} 2.0' in metrics


@pytest.mark.parametrize("sent", [b"", b"GET /hea", b"GET /health HTTP/1.1\r\nX: y\r\n"])
def test_a_client_that_sends_no_request_is_cut_off(run_server, images, sent):
    server = run_server(images, header_seconds=0.3)
    with connect(server) as connection:
        connection.sendall(sent)
        wait_until_closed(connection)
    with connect(server) as connection:  # and so is one that stops in its second request
        ask(connection, "/health")
        assert answer(connection)[0] == 200
        connection.sendall(b"GET /hea")
        wait_until_closed(connection)


def test_a_client_that_does_not_read_is_cut_off(run_server, images):
    server = run_server(images, write_seconds=0.3)
    with connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ask(connection, "/iiif/slide-tau0-zarr/full/^max/0/default.png")  # some 30 MB
        deadline = time.monotonic() + 20
        while not server.server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        while server.server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not server.server.server_state.connections
        assert time.monotonic() < deadline


def test_too_many_connections_are_closed_at_once(run_server, images):
    server = run_server(images, max_connections=3)
    kept = [connect(server) for _ in range(3)]
    for connection in kept:
        ask(connection, "/health")
        assert answer(connection)[0] == 200
    with connect(server) as fourth:
        wait_until_closed(fourth)
    ask(kept[0], "/health")
    assert answer(kept[0])[0] == 200
    for connection in kept:
        connection.close()


def test_too_many_requests_get_503(run_server):
    store = SlowStore()
    server = run_server(ImageSet([store]), Settings(concurrency=2))
    waiting = [connect(server) for _ in range(2)]
    for column, connection in enumerate(waiting):
        ask(connection, f"/deepzoom/slow_files/11/{column}_0.png")
    assert store.begun.wait(20)
    deadline, status = time.monotonic() + 20, 200
    while status == 200 and time.monotonic() < deadline:  # until both have arrived
        with connect(server) as late:
            ask(late, "/health")
            status, body = answer(late)
    assert (status, b"too many" in body) == (503, True)
    store.gate.set()
    assert [answer(connection)[0] for connection in waiting] == [200, 200]
    for connection in waiting:
        connection.close()


def test_what_takes_too_long_is_given_up(run_server):
    store = SlowStore()
    server = run_server(ImageSet([store]), Settings(timeout=0.3))
    with connect(server) as connection:
        ask(connection, "/deepzoom/slow_files/11/0_0.png")
        status, body = answer(connection)
        assert (status, b"too long" in body) == (503, True)
    store.gate.set()


def test_work_of_a_client_that_left_is_not_done(run_server, engine):
    store = SlowStore()
    server = run_server(ImageSet([store]))
    stays, leaves = connect(server), [connect(server) for _ in range(3)]
    ask(stays, "/deepzoom/slow_files/11/0_0.png")
    assert store.begun.wait(20)
    for column, connection in enumerate(leaves, 3):
        ask(connection, f"/deepzoom/slow_files/11/{column}_0.png")
    deadline = time.monotonic() + 20
    while engine.reading.waiting < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    for connection in leaves:
        connection.close()
    while "dlpr_http_cancelled_total 3.0" not in server.app.state.metrics.text().decode():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    store.gate.set()
    assert answer(stays)[0] == 200
    stays.close()
    while engine.reading.dropped < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not {3, 4, 5} & set(store.read)


def test_malformed_http_is_refused(run_server, images):
    server = run_server(images)
    for sent in (b"\x00\xff\x00\xff\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + bytes([65]) * 100_000):
        with connect(server) as connection:
            connection.sendall(sent)
            assert answer(connection)[0] in (0, 400)
    with connect(server) as connection:  # an upload is not waited for
        ask(connection, "/health", "POST", "Content-Length: 1000000000\r\n")
        assert answer(connection)[0] == 405
        wait_until_closed(connection)


def test_only_loopback_is_local():
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.5", "example.org")] == [False] * 4


def start(*arguments, env=None):
    # A shell's background jobs ignore SIGINT, and what they start inherits that.
    interruptible = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [COMMAND, "serve", *map(str, arguments)],
        stdout=-1,
        stderr=-1,
        text=True,
        env=env,
        preexec_fn=interruptible,  # noqa: PLW1509
    )


def url_of(process):
    for line in process.stdout:
        if line.startswith("serving "):
            return line.split()[1]
    raise AssertionError(process.stderr.read())


def test_a_picture_of_several_can_be_chosen(tmp_path):
    with tifffile.TiffWriter(tmp_path / "pages.tif") as writer:
        for side in (96, 128):
            writer.write(np.full((side, 200, 3), side, np.uint8), photometric="rgb", tile=(64, 64), metadata=None)
    for page, side in ((0, 96), (1, 128)):
        store = open_store(tmp_path / "pages.tif", Selection(page=page))
        assert (store.levels[0].height, store.fetch(0, 0, 0).max()) == (side, side)
        store.close()
        with TileReader(tmp_path / "pages.tif", selection=Selection(page=page)) as reader:
            assert reader.dimensions == (200, side)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_serves_until_it_is_interrupted(archives, number, status):
    process = start(archives[0][0], archives[3][0], "--port", "0")
    url = url_of(process)
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(f"{url}deepzoom/slide-tau3-zarr_files/9/0_0.png", timeout=20) as response:
        assert response.status == 200
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == status
    assert "Traceback" not in errors
    assert "warning" not in errors


def test_another_host_is_warned_about(archives):
    process = start(archives[0][0], "--port", "0", "--host", "0.0.0.0")
    url = url_of(process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert url.startswith("http://0.0.0.0:")
    assert "0.0.0.0 is not a loopback address" in errors


def test_mistakes_on_the_command_line(archives, tmp_path):
    def run(*arguments):
        return subprocess.run(
            [COMMAND, "serve", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
        )

    missing = run(tmp_path / "none.svs")
    assert (missing.returncode, "none.svs" in missing.stderr) == (1, True)
    text = tmp_path / "text.svs"
    text.write_text("no slide")
    wrong = run(archives[0][0], text)
    assert (wrong.returncode, "text.svs" in wrong.stderr) == (1, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = run(archives[0][0], "--port", taken.getsockname()[1])
    assert (busy.returncode, "cannot listen" in busy.stderr) == (2, True)
    assert run(archives[0][0], "--port", "70000").returncode == 2
    pages = tmp_path / "pages.tif"
    with tifffile.TiffWriter(pages) as writer:
        for side in (96, 128):
            writer.write(np.zeros((side, 200, 3), np.uint8), photometric="rgb", tile=(64, 64), metadata=None)
    several = run(pages)
    assert (several.returncode, "--page N" in several.stderr) == (1, True)
    beyond = run(pages, "--page", "2")
    assert (beyond.returncode, "--page 2" in beyond.stderr) == (1, True)
    assert run().returncode == 2
    for result in (missing, wrong, busy):
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client"])
def test_a_missing_package_is_named(archives, package):
    code = f"import sys; sys.modules[{package!r}] = None; from dlpr_wsi.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "serve", str(archives[0][0])]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, "Traceback" in result.stderr) == (1, False)
    assert f"{package} is not installed; it comes with: pip install 'dlpr-wsi[viewer]'" in result.stderr


def test_open_opens_the_page(archives, tmp_path):
    """``--open`` calls the browser that the environment names."""
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > "{tmp_path}/opened"\n')
    script.chmod(0o755)
    environment = {**os.environ, "BROWSER": str(script)}
    process = subprocess.Popen(
        [COMMAND, "serve", str(archives[0][0]), "--port", "0", "--open"],
        stdout=-1,
        stderr=-1,
        text=True,
        env=environment,
    )
    url = url_of(process)
    deadline = time.monotonic() + 20
    while not (tmp_path / "opened").exists() or not (tmp_path / "opened").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert (tmp_path / "opened").read_text().strip() == url
