"""A cold view of 25 tiles that the networks coded: when its first paint is there, when its exact pixels.

    python tests/benchmarks/viewer_cold.py [ARCHIVE] [--rounds 3] [--no-browser]

ARCHIVE has tiles of 256 px; without one the slide in examples/ is resampled (no JPEG is found in it then) and
converted. Every round starts ``dlpr-wsi serve`` anew, decodes one tile of background (weights are read once a process)
and looks at the 5 x 5 tiles that cost most bytes.

loopback: asks as the page does, for the preview at first, then tiles from the centre outwards, six requests at a time.
browser:  opens the page in Chromium at a link to that place, in a window that shows part of all 25 tiles. Times begin
          with the page's first request for a tile or preview; "painted" and "exact" end with the frame that shows it.
          Chromium draws without a GPU and shares the machine's cores with the server.
quality:  PSNR of what can be painted at first against the exact pixels, over all tiles of the view: the lossy layer,
          and overviews 2 .. 16 times smaller, scaled up as a browser does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from viewer_latency import Client, cpu_ms, server, tissue

import dlpr
from dlpr_wsi.viewer.engine import ChunkKey
from dlpr_wsi.viewer.preview import lossy_pixels
from dlpr_wsi.viewer.stores import open_store

SIDE = 5
EXAMPLE = Path(__file__).parents[2] / "examples" / "CMU-1-Small-Region.svs"
WATCH = """
const times = window.coldView = { tiles: new Set() };
const look = () => {
  const now = performance.now();
  const viewer = window.dlprViewer;
  const shown = document.querySelectorAll(".preview-tile").length;
  if (shown && times.painted === undefined) { times.painted = now; times.previews = shown; }
  const item = viewer && viewer.world.getItemAt(0);
  if (item && times.exact === undefined && item.getFullyLoaded() && !shown && !viewer.isAnimating()) times.exact = now;
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


def coded_archive(folder: Path) -> Path:
    """Make an archive in which the networks code every tile."""
    slide = Image.fromarray(tifffile.imread(EXAMPLE))
    smaller = slide.resize((int(slide.width * 0.9), int(slide.height * 0.9)), Image.Resampling.LANCZOS)
    tifffile.imwrite(folder / "coded.tif", np.asarray(smaller), tile=(256, 256), photometric="rgb")
    command = [Path(sys.executable).with_name("dlpr-wsi"), "convert", folder / "coded.tif", folder / "coded.zarr"]
    subprocess.run([*command, "--tile", "256", "--pyramid", "always"], check=True, stdout=subprocess.DEVNULL)
    return folder / "coded.zarr"


def view_of(client: Client, facts: dict[str, Any]) -> list[tuple[int, int]]:
    """Return (column, row) of the costliest window's tiles, from the centre outwards."""
    column, row = tissue(client, facts, SIDE)[0]
    middle = (column + SIDE // 2, row + SIDE // 2)
    places = [(column + i, row + j) for j in range(SIDE) for i in range(SIDE)]
    return sorted(places, key=lambda place: (place[0] - middle[0]) ** 2 + (place[1] - middle[1]) ** 2)


def decode_background(client: Client, facts: dict[str, Any]) -> None:
    """Have the weights read."""
    column, row = tissue(client, facts, 1)[-1]
    client.get(f"/deepzoom/{facts['id']}_files/{facts['deepzoom_levels'] - 1}/{column}_{row}.jpg")
    time.sleep(0.7)  # what is decoded ahead has ended


def loopback(port: int, process: int, previews: bool) -> dict[str, float]:
    """Ask as the page does; return times in ms."""
    client = Client(port)
    facts = json.loads(client.get("/api/images")[1])[0]
    decode_background(client, facts)
    view, top = view_of(client, facts), facts["deepzoom_levels"] - 1
    columns, rows = [c for c, _ in view], [r for _, r in view]
    corners = f"{min(columns)}_{min(rows)}_{max(columns)}_{max(rows)}"
    found: dict[str, float] = {}
    spent, start = cpu_ms(process), time.perf_counter()

    def first_paint() -> None:
        body = client.get(f"/preview/{facts['id']}_files/{top}/{corners}.jpg")[1]
        found["painted"] = 1e3 * (time.perf_counter() - start)
        found["preview kB"] = len(body) / 1e3

    with ThreadPoolExecutor(6) as pool:
        paint = pool.submit(first_paint) if previews else None
        urls = [f"/deepzoom/{facts['id']}_files/{top}/{c}_{r}.jpg" for c, r in view]
        list(pool.map(client.get, urls))
        found["exact"] = 1e3 * (time.perf_counter() - start)
        if paint is not None:
            paint.result()
    found["CPU of the server"] = cpu_ms(process) - spent
    return found


def browser(port: int, process: int, playwright: Any) -> dict[str, float]:
    """Open the page; return times in ms."""
    client = Client(port)
    facts = json.loads(client.get("/api/images")[1])[0]
    decode_background(client, facts)
    view = view_of(client, facts)
    side = facts["deepzoom_tile"]
    x, y = (side * (place + 0.5) for place in view[0])
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    chromium = playwright.chromium.launch(
        executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"), args=arguments
    )
    try:
        page = chromium.new_page(viewport={"width": SIDE * side - 64, "height": SIDE * side - 64})
        page.add_init_script(WATCH)
        spent = cpu_ms(process)
        page.goto(f"http://127.0.0.1:{port}/view?image={facts['id']}#x={x}&y={y}&scale=1")
        deadline = time.monotonic() + 60
        while page.evaluate("() => window.coldView.exact === undefined"):
            if time.monotonic() > deadline:
                raise RuntimeError("the page does not load")
            time.sleep(0.1)
        times = page.evaluate("() => ({ ...window.coldView, tiles: 0 })")
        begin = page.evaluate(
            "() => Math.min(...performance.getEntriesByType('resource')"
            ".filter((e) => /[/](preview|deepzoom)[/]/.test(e.name)).map((e) => e.startTime))"
        )
    finally:
        chromium.close()
    return {
        "painted": times.get("painted", float("nan")) - begin,
        "exact": times["exact"] - begin,
        "tiles of the preview": times.get("previews", 0),
        "page to exact": times["exact"],
        "CPU of the server": cpu_ms(process) - spent,
    }


def quality(archive: Path, view: list[tuple[int, int]]) -> None:
    """Print what a first paint is worth."""
    store = open_store(archive)
    exact, lossy, sizes, prefixes = [], [], 0, 0
    for column, row in sorted(view, key=lambda place: place[::-1]):
        stream = store.fetch(0, row, column)
        assert isinstance(stream, bytes)
        info = dlpr.inspect(stream)
        sizes, prefixes = sizes + info.size, prefixes + info.lossy_prefix
        exact.append(dlpr.decode(stream).transpose(1, 2, 0) if info.layout == "CHW" else dlpr.decode(stream))
        painted = lossy_pixels(ChunkKey(store, 0, row, column))
        assert painted is not None
        lossy.append(painted)

    def joined(tiles: list[Any]) -> Image.Image:
        return Image.fromarray(np.vstack([np.hstack(tiles[i : i + SIDE]) for i in range(0, len(tiles), SIDE)]))

    whole = joined([np.ascontiguousarray(tile) for tile in exact])

    def psnr(image: Image.Image) -> float:
        error = np.square(np.asarray(image, float) - np.asarray(whole, float)).mean()
        return float(10 * np.log10(255**2 / error))

    print(f"quality: lossy layer {psnr(joined(lossy)):.1f} dB, {100 * prefixes / sizes:.2f} % of the bytes")
    for factor in (2, 4, 8, 16):
        small = whole.resize((whole.width // factor, whole.height // factor), Image.Resampling.BOX)
        print(f"         overview 1/{factor} {psnr(small.resize(whole.size, Image.Resampling.BILINEAR)):.1f} dB")


def repeat(name: str, archive: Path, rounds: int, once: Callable[[int, int], dict[str, float]]) -> None:
    """Measure a few times with new servers; print medians."""
    found = []
    for _ in range(rounds):
        with server(archive) as (port, process):
            found.append(once(port, process))
    line = ", ".join(f"{key} {statistics.median(one[key] for one in found):.0f}" for key in found[0])
    worst = max(one["exact"] for one in found)
    print(f"{name}: {line} (medians of {rounds}; ms where no unit is given; slowest exact view {worst:.0f})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-browser", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = options.archive or coded_archive(Path(folder))
        print(f"{archive.name}, {len(os.sched_getaffinity(0))} CPUs, load {os.getloadavg()[0]:.1f}")
        repeat("loopback", archive, options.rounds, lambda port, process: loopback(port, process, True))
        repeat("  without preview", archive, options.rounds, lambda port, process: loopback(port, process, False))
        if not options.no_browser:
            from playwright.sync_api import sync_playwright

            with sync_playwright() as playwright:
                repeat("browser", archive, options.rounds, lambda port, process: browser(port, process, playwright))
        with server(archive) as (port, _):
            client = Client(port)
            view = view_of(client, json.loads(client.get("/api/images")[1])[0])
        quality(archive, view)


if __name__ == "__main__":
    main()
