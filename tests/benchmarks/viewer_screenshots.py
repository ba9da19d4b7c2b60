"""Pictures of the viewer for the guide.

    python tests/benchmarks/viewer_screenshots.py NEAR LOSSLESS SLIDE [--out docs/guide/images]
    python tests/benchmarks/viewer_screenshots.py --coded [ARCHIVE] [--out docs/guide/images]

NEAR is an archive with tau > 0, LOSSLESS one of the same slide with tau = 0, SLIDE the slide. ``--coded`` shows a cold
view of an archive that the networks coded (by default the one that viewer_cold.py makes) at two moments: all but the
first few exact tiles are held up, and then they are there. Needs Playwright and Chromium. The pictures are reduced to
200 colours.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, Playwright, Route, sync_playwright
from viewer_cold import coded_archive, view_of
from viewer_latency import Client, server

READY = """() => {
  const v = window.dlprViewer;
  return Boolean(v) && v.world.getItemCount() > 0 && !v.isAnimating()
    && document.getElementById('loading').textContent === ''
    && [...Array(v.world.getItemCount()).keys()].every((i) => v.world.getItemAt(i).getFullyLoaded());
}"""


def settle(page: Page) -> None:
    """Wait until all tiles are there."""
    time.sleep(1)
    deadline = time.monotonic() + 120
    while not page.evaluate(READY) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)


def shoot(page: Page, path: Path) -> None:
    """Write a picture; Playwright's own way adds a style sheet, which the page's policy refuses."""
    session = page.context.new_cdp_session(page)
    data = base64.b64decode(session.send("Page.captureScreenshot", {"format": "png"})["data"])
    image = Image.open(io.BytesIO(data)).convert("RGB").quantize(200, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    print(path, path.stat().st_size)


def first_paint(archive: Path, out: Path, playwright: Playwright) -> None:
    """Write the two moments of a cold view."""
    with server(archive) as (port, _):
        client = Client(port)
        facts = json.loads(client.get("/api/images")[1])[0]
        x, y = (facts["deepzoom_tile"] * (place + 0.5) for place in view_of(client, facts)[0])
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 700})
        passed = 0

        def hold(route: Route) -> None:
            nonlocal passed
            if passed < 3:
                passed += 1
                route.continue_()
            # Playwright goes on with all others when the route is taken away

        page.route("**/deepzoom/**", hold)
        page.goto(f"http://127.0.0.1:{port}/view?image={facts['id']}#x={x}&y={y}&scale=1")
        page.locator(".preview-tile").first.wait_for(state="attached")
        page.wait_for_timeout(1500)  # routes are called meanwhile
        shoot(page, out / "viewer-preview.png")
        page.unroute("**/deepzoom/**")
        page.locator(".preview-tile").first.wait_for(state="detached")
        page.wait_for_timeout(500)
        settle(page)
        shoot(page, out / "viewer-exact.png")
        browser.close()


def main() -> None:
    """Serve, look, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="*", metavar="IMAGE")
    parser.add_argument("--coded", type=Path, nargs="?", const=Path())
    parser.add_argument("--out", type=Path, default=Path("docs/guide/images"))
    options = parser.parse_args()
    if options.coded is not None:
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
            archive = coded_archive(Path(folder)) if options.coded == Path() else options.coded
            first_paint(archive, options.out, playwright)
        return
    if len(options.images) != 3:
        parser.error("NEAR, LOSSLESS and SLIDE are needed, or --coded")
    command = [Path(sys.executable).with_name("dlpr-wsi"), "serve", *options.images, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, sync_playwright() as playwright:
        assert process.stdout is not None
        pages = []
        for line in process.stdout:
            if line.startswith("serving "):
                url = line.split()[1]
                break
            pages.append(line.split("image=")[1].strip())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 700})
        page.goto(url)
        page.locator(".card img").nth(2).wait_for()
        page.wait_for_load_state("networkidle", timeout=120_000)
        shoot(page, options.out / "viewer-list.png")
        page.goto(f"{url}view?image={pages[0]}#x=1120&y=1560&scale=1")
        settle(page)
        page.mouse.move(380, 330)
        page.mouse.move(385, 335)
        time.sleep(1)
        shoot(page, options.out / "viewer-tile.png")
        page.select_option("#other", pages[2])
        settle(page)
        shoot(page, options.out / "viewer-slider.png")
        page.select_option("#mode", "error")
        settle(page)
        shoot(page, options.out / "viewer-error.png")
        browser.close()
        process.terminate()


if __name__ == "__main__":
    main()
