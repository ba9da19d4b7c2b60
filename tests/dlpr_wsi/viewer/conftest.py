"""Archives to look at: written here byte by byte, so that these tests need nothing that converts."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("openslide")

EXAMPLE = Path(__file__).parents[3] / "examples" / "CMU-1-Small-Region.svs"


def write_archive(path, levels, tau=0, tile=64, mpp=0.5, icc=None, encoding=None, **facts):
    """Write an OME-Zarr 0.5 archive of levels (H, W, 3) without shards; return the pixels it decodes to."""
    import base64

    import dlpr

    path.mkdir()
    known = {"background": "FFFFFF", "mpp_x": mpp, "mpp_y": mpp, **facts}
    if icc is not None:
        known["icc_profile"] = base64.b64encode(icc).decode()
    multiscales = [{"axes": [], "datasets": [{"path": str(i)} for i in range(len(levels))]}]
    attributes = {"ome": {"version": "0.5", "multiscales": multiscales}, "dlpr_wsi": known}
    (path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}))
    decoded = []
    for number, image in enumerate(levels):
        height, width = image.shape[:2]
        rows, columns = -(-height // tile), -(-width // tile)
        padded = np.full((rows * tile, columns * tile, 3), 255, np.uint8)
        padded[:height, :width] = image
        meta = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [3, height, width],
            "data_type": "uint8",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3, tile, tile]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 255,
            "codecs": [{"name": "dlpr", "configuration": {"tau": tau}}],
        }
        folder = path / str(number)
        folder.mkdir()
        (folder / "zarr.json").write_text(json.dumps(meta))
        places = [(row, column) for row in range(rows) for column in range(columns)]
        chunks = [
            padded[r * tile : (r + 1) * tile, c * tile : (c + 1) * tile].transpose(2, 0, 1).copy() for r, c in places
        ]
        streams = dlpr.encode_batch(chunks, tau=tau, search=False, **(encoding or {}))
        out = np.empty_like(padded)
        for (row, column), stream, pixels in zip(places, streams, dlpr.decode_batch(streams), strict=True):
            file = folder / "c" / "0" / str(row) / str(column)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(stream)
            out[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile] = pixels.transpose(1, 2, 0)
        decoded.append(out[:height, :width])
    return decoded


def halve(image):
    """Return the mean of 2 x 2 px; an odd last row or column is dropped."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    blocks = image[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).astype(np.uint16)
    return ((blocks.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)


@pytest.fixture(scope="session")
def make_archive():
    return write_archive


@pytest.fixture(scope="session")
def slide_pixels():
    """384 x 320 px of the example slide, and the same a quarter as large."""
    import openslide

    with openslide.OpenSlide(EXAMPLE) as slide:
        image = np.asarray(slide.read_region((700, 1500), 0, (384, 320)))[..., :3].copy()
    return [image, halve(halve(image))]


@pytest.fixture(scope="session")
def archives(tmp_path_factory, slide_pixels):
    """The same slide at tau 0 and 3: (path, pixels of each level)."""
    folder = tmp_path_factory.mktemp("archives")
    found = {}
    for tau in (0, 3):
        path = folder / f"slide tau{tau}.zarr"
        found[tau] = path, write_archive(path, slide_pixels, tau=tau, source_bytes=100_000)
    return found


@pytest.fixture(scope="session")
def coded_archive(tmp_path_factory, slide_pixels):
    """The same slide, every chunk coded by the networks: (path, pixels of each level)."""
    path = tmp_path_factory.mktemp("coded") / "coded.zarr"
    return path, write_archive(path, slide_pixels, encoding={"jpeg": "never", "colour": "never"})


@pytest.fixture
def engine():
    from dlpr_wsi.viewer.engine import ChunkEngine

    engine = ChunkEngine(64 << 20, threads=2)
    yield engine
    engine.close()


class Running:
    """A server in a thread, as `dlpr_wsi.viewer.server.serve` sets it up, with limits that a test can wait for."""

    def __init__(self, images, engine, protocol, settings):
        import threading
        import time

        import uvicorn

        from dlpr_wsi.viewer.app import create_app

        self.app = create_app(images, engine, settings)
        config = uvicorn.Config(
            self.app,
            port=0,
            http=protocol,
            ws="none",
            log_config=None,
            access_log=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=2,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        deadline = time.monotonic() + 20
        while not self.server.started:
            assert self.thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def close(self):
        self.server.should_exit = True
        self.thread.join(20)


@pytest.fixture
def run_server(engine):
    """Start servers; they end with the test."""
    from dlpr_wsi.viewer.guard import GuardedProtocol

    started = []

    def run(images, settings=None, **limits):
        protocol = type("Limited", (GuardedProtocol,), limits)
        started.append(Running(images, engine, protocol, settings))
        return started[-1]

    yield run
    for server in started:
        server.close()
