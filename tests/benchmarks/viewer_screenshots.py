"""Pictures of the viewer for the guide.

    python tests/benchmarks/viewer_screenshots.py NEAR LOSSLESS SLIDE [--out docs/guide/images]

NEAR is an archive with tau > 0, LOSSLESS one of the same slide with tau = 0, SLIDE the slide. Needs Playwright and
Chromium. The pictures are reduced to 200 colours.
"""

from __future__ import annotations

import argparse
import base64
import io
import shutil
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

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


def main() -> None:
    """Serve, look, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs=3, metavar="IMAGE")
    parser.add_argument("--out", type=Path, default=Path("docs/guide/images"))
    options = parser.parse_args()
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
