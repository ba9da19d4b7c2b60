"""The pages in a real browser: Debian's Chromium, headless, without a network.

Skipped only where no Chromium is found; with CI=true that is a failure. CHROMIUM in the environment names another one.
"""

import base64
import os
import shutil
import threading
import time
from urllib.parse import parse_qs, urlparse

import pytest
import tifffile

import dlpr
from dlpr_wsi.viewer.images import ImageSet
from dlpr_wsi.viewer.stores import open_store

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
REQUIRED = os.environ.get("CI", "").lower() in ("1", "true")
LOADED = """() => {
  const viewer = window.dlprViewer;
  if (!viewer || !viewer.world.getItemCount()) return false;
  const items = [...Array(viewer.world.getItemCount()).keys()].map((i) => viewer.world.getItemAt(i));
  return items.every((item) => item.getFullyLoaded()) && !viewer.isAnimating();
}"""
ZOOM = "() => dlprViewer.viewport.getZoom(true)"
NEAR = "slide-tau3-zarr"


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        message = (
            "no Chromium found (Debian: apt-get install chromium): the viewer's pages were not tested in a browser"
        )
        if REQUIRED:
            pytest.fail(message + "; CI=true requires it")
        pytest.skip(message)
    if not REQUIRED:
        pytest.importorskip("playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's sandbox does not work for root; the pages are our own.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Page:
    """A page, and everything that must not happen on it."""

    def __init__(self, browser, server):
        self.page = browser.new_page(viewport={"width": 1280, "height": 800})
        self.server = server
        self.problems = []
        self.requests = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("response", self._response)

    def _console(self, message):
        # OpenSeadragon warns of tiles that arrive after another image was opened, Chromium of pixel() below.
        expected = "loaded before reset" in message.text or "willReadFrequently" in message.text
        if message.type in ("error", "warning") and not expected:
            self.problems.append(f"{message.type}: {message.text}")

    def _response(self, response):
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")

    def open(self, path):
        self.page.goto(self.server.url + path)

    def js(self, script):
        """Evaluate through the protocol: the page's own policy forbids eval."""
        return self.page.evaluate(script)

    def wait(self, script, what):
        deadline = time.monotonic() + 30
        while not self.js(script):
            assert time.monotonic() < deadline, f"{what}; problems: {self.problems}"
            time.sleep(0.05)

    def loaded(self):
        self.wait(LOADED, "the image did not load")

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def fact(self, section, term):
        """Return a value of a list of facts, or None."""
        terms = self.page.locator(f"{section} dt").all_inner_texts()
        values = self.page.locator(f"{section} dd").all_inner_texts()
        return dict(zip(terms, values, strict=True)).get(term)

    def screenshot(self):
        """Return a PNG; Playwright's own way adds a style sheet, which the page's policy refuses."""
        session = self.page.context.new_cdp_session(self.page)
        return base64.b64decode(session.send("Page.captureScreenshot", {"format": "png"})["data"])

    def pixel(self, x, y):
        """Return the colour that is drawn at a place of the first viewer, in px of the screen."""
        script = f"""() => {{
          const canvas = document.querySelector('#left .openseadragon-canvas canvas');
          const ratio = canvas.width / canvas.clientWidth;
          return [...canvas.getContext('2d').getImageData({x} * ratio, {y} * ratio, 1, 1).data].slice(0, 3);
        }}"""
        return self.js(script)

    def state(self):
        return {key: value[0] for key, value in parse_qs(urlparse(self.page.url).fragment).items()}

    def done(self):
        assert self.problems == []
        outside = [url for url in self.requests if not url.startswith((self.server.url, "data:", "blob:"))]
        assert outside == []
        self.page.close()


@pytest.fixture
def served(run_server, archives, slide_pixels, tmp_path):
    """Both archives and the slide that they were made from."""
    tifffile.imwrite(tmp_path / "slide.tif", slide_pixels[0], tile=(64, 64), photometric="rgb")
    paths = [archives[0][0], archives[3][0], tmp_path / "slide.tif"]
    images = ImageSet([open_store(path) for path in paths])
    yield run_server(images)
    images.close()


@pytest.fixture
def page(browser, served):
    return Page(browser, served)


def test_the_list_shows_every_image_and_leads_to_it(page):
    page.open("/")
    page.wait("() => document.querySelectorAll('.card').length === 3", "three cards")
    complete = "() => [...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    page.wait(complete, "thumbnails")
    assert page.text("#summary") == "3 images"
    card = page.page.locator(".card").nth(1)
    assert card.locator("h2").inner_text() == "slide tau3.zarr"
    assert card.locator(".badge").all_inner_texts() == ["DLPR", "|error| ≤ 3"]
    assert "384 \N{MULTIPLICATION SIGN} 320 px" in card.inner_text()
    assert "0.5 µm/px" in card.inner_text()
    assert page.page.locator(".card").nth(2).locator(".badge").all_inner_texts() == ["slide"]
    card.locator("h2 a").click()
    page.loaded()
    assert page.text("#name") == "slide tau3.zarr"
    page.done()


def test_zoom_pan_rotate_and_link(page, archives):
    page.open(f"/view?image={NEAR}")
    page.loaded()
    page.js("() => { dlprViewer.viewport.goHome(true); }")
    page.page.keyboard.press("1")
    page.wait("() => document.getElementById('zoom').textContent.startsWith('1 : 1')", "1:1")
    page.page.keyboard.press("p")  # exact pixels
    page.wait("() => document.getElementById('format').value === 'png'", "PNG")
    page.loaded()
    # Put whole pixels of the image on whole ones of the screen: what is drawn is what was decoded.
    x0, y0 = page.js(
        """() => {
          const { viewport, world } = dlprViewer;
          const item = world.getItemAt(0);
          const size = viewport.getContainerSize();
          const at = [Math.round(192 - size.x / 2), Math.round(160 - size.y / 2)];
          viewport.zoomTo(item.imageToViewportZoom(1), null, true);
          viewport.panTo(item.imageToViewportCoordinates(at[0] + size.x / 2, at[1] + size.y / 2), true);
          return at;
        }"""
    )
    page.loaded()
    time.sleep(0.3)
    expected = archives[3][1][0]
    for x, y in ((40, 50), (63, 64), (200, 171), (383, 319), (0, 0)):
        assert page.pixel(x - x0, y - y0) == expected[y, x].tolist()
    before = page.js("() => dlprViewer.viewport.getCenter().x")
    page.page.keyboard.press("ArrowRight")
    page.wait(f"() => dlprViewer.viewport.getCenter().x > {before} + 0.01", "panned")
    page.page.mouse.move(600, 400)
    page.page.mouse.wheel(0, -300)
    page.wait(
        "() => dlprViewer.world.getItemAt(0).viewportToImageZoom(dlprViewer.viewport.getZoom(true)) > 1.2", "zoom"
    )
    page.page.locator("#rotate").click()
    page.wait("() => dlprViewer.viewport.getRotation(true) === 90", "rotated")
    page.page.keyboard.press("f")
    page.wait("() => dlprViewer.viewport.getFlip()", "mirrored")
    page.page.keyboard.press("b")
    page.wait("() => location.hash.includes('rotation=90') && location.hash.includes('flip=1')", "address")
    page.loaded()
    time.sleep(0.6)
    state, url = page.state(), page.page.url
    assert (state["format"], state["dark"]) == ("png", "1")
    page.page.goto("about:blank")
    page.page.goto(url)
    page.loaded()
    rotation, flip, zoom = page.js(
        "() => { const v = dlprViewer.viewport; return [v.getRotation(true), v.getFlip(), v.getZoom(true)]; }"
    )
    scale = page.js(f"() => dlprViewer.world.getItemAt(0).viewportToImageZoom({zoom})")
    assert (rotation, flip) == (90, True)
    assert scale == pytest.approx(float(state["scale"]), rel=1e-3)
    centre = page.js(
        "() => { const v = dlprViewer; const item = v.world.getItemAt(0);"
        " const p = item.viewportToImageCoordinates(v.viewport.getCenter(true)); return [p.x, p.y]; }"
    )
    assert centre == pytest.approx([float(state["x"]), float(state["y"])], abs=0.5)
    page.done()


def test_scale_bar_is_true(page):
    page.open(f"/view?image={NEAR}#x=192&y=160&scale=2")
    page.loaded()
    width = page.js("() => parseFloat(document.querySelector('#scale .rule').style.width)")
    number, unit = page.text("#scale .text").split()
    assert unit == "µm"
    assert float(number) == pytest.approx(width * 0.5 / 2, rel=1e-3)  # 0.5 µm a px, two px of the screen a px
    assert 40 < width <= 140
    page.done()


def test_the_panel_shows_the_chunk_under_the_pointer(page, archives):
    page.open(f"/view?image={NEAR}#x=192&y=160&scale=2")
    page.loaded()
    screen = page.js(
        """() => {
          const item = dlprViewer.world.getItemAt(0);
          const at = dlprViewer.viewport.pixelFromPoint(item.imageToViewportCoordinates(200.5, 140.5));
          const box = dlprViewer.element.getBoundingClientRect();
          return [box.left + at.x, box.top + at.y];
        }"""
    )
    page.page.mouse.move(screen[0] - 5, screen[1])
    page.page.mouse.move(*screen)
    page.wait("() => document.querySelectorAll('#tile dt').length > 4", "facts")
    stream = (archives[3][0] / "0" / "c" / "0" / "2" / "3").read_bytes()
    size = len(stream)
    assert page.fact("#tile", "Row, column") == "2, 3"
    assert page.fact("#tile", "Mode") == dlpr.inspect(stream).mode
    assert page.fact("#tile", "Stored") == f"{size:,} bytes"
    assert page.fact("#tile", "Bits per pixel") == f"{8 * size / 64**2:.3f}"
    assert page.fact("#tile", "Bound") == "|error| ≤ 3"
    assert page.fact("#tile", "Decoded in").split()[1].startswith("ms")
    assert page.text("#position").startswith("x 200, y 140")
    assert page.js("() => document.querySelectorAll('.chunk-outline').length") == 1
    page.page.keyboard.press("i")
    assert not page.page.locator("#panel").is_visible()
    page.done()


def test_compare_under_a_slider_side_by_side_and_as_a_map(page, archives):
    page.open(f"/view?image={NEAR}#x=192&y=160&scale=2")
    page.loaded()
    names = page.page.locator("#other option").all_inner_texts()
    assert names == ["with…", "slide tau0.zarr (lossless)", "slide.tif (slide)"]
    page.page.select_option("#other", "slide-tif")
    page.wait("() => document.querySelectorAll('#right canvas').length > 0", "the second viewer")
    assert page.page.locator("#handle").is_visible()
    box = page.page.locator("#handle").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.page.mouse.move(*middle)
    page.page.mouse.down()
    page.page.mouse.move(middle[0] - 200, middle[1], steps=4)
    page.page.mouse.up()
    assert "inset(0px 0px 0px 3" in page.js("() => document.getElementById('right').style.clipPath")
    page.page.select_option("#mode", "side")
    page.wait("() => document.getElementById('stage').classList.contains('side')", "side by side")
    page.wait("() => document.querySelectorAll('#right canvas').length > 0", "the second viewer")
    page.page.mouse.move(300, 400)
    page.page.mouse.wheel(0, -200)
    page.loaded()
    assert not page.page.locator("#handle").is_visible()
    page.page.select_option("#mode", "error")
    page.wait("() => dlprViewer.world.getItemCount() === 2", "the map")
    page.loaded()
    page.wait("() => document.querySelectorAll('#error dt').length === 4", "the count")
    assert page.fact("#error", "Largest") == "3"
    assert page.page.locator("#error dd.bad").count() == 0
    assert page.state()["mode"] == "error"
    page.page.keyboard.press("c")  # after the last way: none
    page.wait("() => dlprViewer.world.getItemCount() === 1 && document.getElementById('other').value === ''", "alone")
    assert any(f"/compare/{NEAR}/slide-tif_files/" in url for url in page.requests)
    page.done()


def test_an_unknown_image_is_said(page):
    page.open("/view?image=none")
    page.wait("() => !document.getElementById('problem').hidden", "a message")
    assert "no such image" in page.text("#problem")
    page.done()


def test_a_damaged_chunk_is_marked_on_the_page(browser, run_server, archives, tmp_path):
    path = shutil.copytree(archives[0][0], tmp_path / "bad.zarr")
    (path / "0" / "c" / "0" / "2" / "3").write_bytes(b"nothing")
    page = Page(browser, run_server(ImageSet([open_store(path)])))
    page.open("/view?image=bad-zarr#x=224&y=160&scale=2&format=png")
    page.loaded()
    middle = page.js("() => [dlprViewer.element.clientWidth / 2, dlprViewer.element.clientHeight / 2]")
    colours = {
        tuple(page.pixel(middle[0] + dx, middle[1] - 40 + dy)) for dx in range(-40, 40, 4) for dy in range(0, 9, 4)
    }
    assert (255, 214, 10) in colours
    page.page.mouse.move(640, 420)
    page.page.mouse.move(641, 421)
    page.wait("() => document.querySelector('#tile dd.bad') !== null", "the panel says so")
    page.done()


class Gate:
    """Holds up the engine's decoding until it is opened; previews pass."""

    def __init__(self, engine, monkeypatch):
        self.opened = threading.Event()
        work = engine.decoding._work
        monkeypatch.setattr(engine.decoding, "_work", lambda *given: self.opened.wait(30) and work(*given))


@pytest.fixture
def slow(engine, monkeypatch):
    gate = Gate(engine, monkeypatch)
    yield gate
    gate.opened.set()


# What is drawn in the middle of a tile at the moment when its preview is taken away.
WATCH = """() => {
  window.uncovered = [];
  const middle = (key) => {
    const [level, x, y] = key.split(/[/_]/).map(Number);
    const item = dlprViewer.world.getItemAt(0);
    const at = dlprViewer.viewport.pixelFromPoint(item.source.getTileBounds(level, x, y).getCenter(), true);
    const canvas = document.querySelector('#left .openseadragon-canvas canvas');
    const ratio = canvas.width / canvas.clientWidth;
    const data = canvas.getContext('2d').getImageData(Math.floor(at.x * ratio), Math.floor(at.y * ratio), 1, 1).data;
    return [x, y, ...data];
  };
  new MutationObserver((records) => {
    for (const record of records) for (const node of record.removedNodes) {
      const tile = node.matches?.('.preview-tile') ? node : node.querySelector?.('.preview-tile');
      if (tile) window.uncovered.push(middle(tile.dataset.tile));
    }
  }).observe(document.querySelector('#left'), { childList: true, subtree: true });
}"""
PREVIEWS = "document.querySelectorAll('#left .preview-tile')"


def test_a_slow_view_is_marked_until_its_exact_pixels_are_drawn(browser, run_server, slow, coded_archive):
    path, levels = coded_archive
    images = ImageSet([open_store(path)])
    page = Page(browser, run_server(images))
    page.open("/view?image=coded-zarr#x=192&y=160&scale=2&format=png")
    page.wait(f"() => {PREVIEWS}.length === 30", "previews of all tiles")
    assert page.js(f"() => [...{PREVIEWS}].every((tile) => tile.dataset.layer === 'lossy')")
    assert page.js("() => document.getElementById('stage').dataset.previews") == "30"
    assert page.page.locator("#preview").is_visible()
    assert "not exact" in page.text("#preview")
    # The mark: one line of 32 is dark in tissue and background alike, the next one light.
    dark, light, between = page.js(
        f"""() => {{
          const sums = [0, 0, 0];
          for (const tile of {PREVIEWS}) {{
            const {{ data }} = tile.getContext('2d').getImageData(0, 0, 64, 64);
            for (let y = 0; y < 64; y += 1) for (let x = 0; x < 64; x += 1) {{
              const line = [0, 1, 17].indexOf((x + y) % 32);
              if (line >= 0) sums[line] += data[4 * (64 * y + x) + 1];
            }}
          }}
          return sums;
        }}"""
    )
    assert dark < 0.85 * between < 0.95 * light
    asked = [url.split("_files/")[1] for url in page.requests if "_files/" in url]
    assert asked[0].startswith("9/0_0_5_4.jpg")
    assert {place.split(".")[0] for place in asked[1:3]} <= {"9/2_2", "9/3_2"}  # the centre comes first
    page.js(WATCH)
    slow.opened.set()
    page.wait(f"() => {PREVIEWS}.length === 0", "the exact pixels")
    page.loaded()
    uncovered = page.js("() => window.uncovered")
    assert len(uncovered) == 30
    for x, y, *colour in uncovered:
        around = levels[0][64 * y + 31 : 64 * y + 34, 64 * x + 31 : 64 * x + 34].reshape(-1, 3).tolist()
        assert colour[:3] in around, (x, y)
    assert not page.page.locator("#preview").is_visible()
    assert page.js("() => document.getElementById('stage').dataset.previews") == "0"
    page.done()
    images.close()


def test_tiles_that_left_the_view_are_given_up_and_come_when_it_is_back(
    browser, run_server, engine, slow, coded_archive
):
    images = ImageSet([open_store(coded_archive[0])])
    page = Page(browser, run_server(images))
    page.open("/view?image=coded-zarr#x=80&y=60&scale=8&format=png")
    page.wait(f"() => {PREVIEWS}.length > 4", "previews")
    deadline = time.monotonic() + 20
    while engine.decoding.waiting < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    move = "() => dlprViewer.viewport.panTo(dlprViewer.world.getItemAt(0).imageToViewportCoordinates({}, {}), true)"
    page.js(move.format(300, 260))
    page.wait(
        f"() => {PREVIEWS}.length > 4 && [...{PREVIEWS}].every((tile) => tile.dataset.tile >= '9/2')", "other previews"
    )
    slow.opened.set()
    page.loaded()
    assert engine.decoding.dropped >= 2
    assert not any("9/0_0.png" in url for url in page.requests[-8:])
    page.js(move.format(80, 60))
    page.wait(f"() => {PREVIEWS}.length === 0", "the first place")
    page.loaded()
    page.done()
    images.close()


def test_help_and_keyboard(page):
    page.open(f"/view?image={NEAR}")
    page.loaded()
    page.page.keyboard.press("?")
    assert page.page.locator("#help").is_visible()
    page.page.locator("#close-help").click()
    assert not page.page.locator("#help").is_visible()
    assert len(page.screenshot()) > 10_000
    page.done()


def test_channels_have_switches(browser, run_server, fluorescence, paint, tmp_path):
    from dlpr_wsi.pipeline.convert import convert

    image = paint(3, 192, 256)
    image[64:128, 64:128] = (200, 100, 50)
    convert(fluorescence(tmp_path / "cells.fake", image), tmp_path / "cells.zarr", tile=64, threads=2)
    page = Page(browser, run_server(ImageSet([open_store(tmp_path / "cells.zarr")])))
    page.open("/")
    page.wait("() => document.querySelectorAll('.card').length === 1", "a card")
    assert "DAPI, FITC <&>, Cy5 ü" in page.text(".card")
    page.open("/view?image=cells-zarr#x=96&y=96&scale=4&format=png")
    page.loaded()
    middle = page.js("() => [dlprViewer.element.clientWidth / 2, dlprViewer.element.clientHeight / 2]")
    labels = page.page.locator("#channels label")
    assert labels.all_inner_texts() == ["DAPI", "FITC <&>", "Cy5 ü"]
    assert page.pixel(*middle) == [50, 100, 200]  # blue, green, red by their colours
    labels.nth(1).click()
    page.wait("() => location.hash.includes('channels=0.2')", "the address")
    page.loaded()
    page.wait("() => document.querySelectorAll('#channels input:checked').length === 2", "two are on")
    assert page.pixel(*middle) == [50, 0, 200]
    page.page.keyboard.press("Shift+Digit1")
    page.wait("() => location.hash.includes('channels=2')", "the address")
    page.loaded()
    assert page.pixel(*middle) == [50, 0, 0]
    page.page.mouse.move(middle[0] + 4, middle[1] + 60)
    page.page.mouse.move(middle[0], middle[1] + 62)
    page.wait("() => document.querySelectorAll('#tile dt').length > 4", "facts")
    assert page.fact("#tile", "Channel") == "Cy5 ü"
    page.open("/view?image=cells-zarr#x=96&y=96&scale=4&format=png&channels=none")
    page.page.reload()
    page.loaded()
    assert page.pixel(*middle) == [0, 0, 0]
    assert any("png?channels=0,2" in url for url in page.requests)
    page.done()


def test_rgb_pictures_have_no_switches(page):
    page.open(f"/view?image={NEAR}")
    page.loaded()
    assert not page.page.locator("#channels").is_visible()
    assert not any("channels" in url for url in page.requests if "_files/" in url)
    page.done()
