import { channelSwitches, shownChannels } from "./channels.js";
import { Edge, copyView, link } from "./compare.js";
import { badge, fill, integer, label, length, promise } from "./format.js";
import { TileLoader } from "./loader.js";
import { TilePanel } from "./panel.js";
import { Previews } from "./preview.js";
import { drawScale } from "./scale.js";
import { bound, errorSource, previewUrl, source } from "./tiles.js";

const mostCounted = 4e6; // px of level 0 whose errors are counted: all of them have to be decoded
const byId = (id) => document.getElementById(id);
const stage = byId("stage");
const controls = { other: byId("other"), mode: byId("mode"), format: byId("format"), icc: byId("icc") };

// What the address holds after "#"; everything needed to come back to this view.
const state = { x: null, y: null, scale: null, rotation: 0, flip: 0, other: "", mode: "slider", edge: 0.5, format: "jpg", icc: 0, dark: 0, channels: "" };

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [key, initial] of Object.entries(state)) {
    if (!given.has(key)) continue;
    const text = given.get(key);
    const number = typeof initial === "number" || initial === null;
    if (!number) state[key] = text;
    else if (text !== "" && Number.isFinite(Number(text))) state[key] = Number(text);
  }
}

function writeAddress() {
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    if (value === null || value === "" || value === 0) continue;
    if ((key === "mode" || key === "edge") && !state.other) continue;
    if (key === "format" && value === "jpg") continue;
    parts.set(key, typeof value === "number" ? String(Number(value.toPrecision(8))) : value);
  }
  history.replaceState(null, "", `${location.pathname}${location.search}#${parts}`);
}

function fail(text) {
  const problem = byId("problem");
  problem.textContent = text;
  problem.hidden = false;
  byId("panel").hidden = true;
}

async function getJson(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? `the server answered ${answer.status}`);
  return answer.json();
}

const loader = new TileLoader();

/** A viewer; tiles of `archive` come at the level that is shown alone, as their lossy layer is there sooner than an overview. */
function makeViewer(element, navigator, archive) {
  const viewer = OpenSeadragon({
    element,
    drawer: "canvas",
    showNavigationControl: false,
    showNavigator: navigator,
    navigatorPosition: "BOTTOM_RIGHT",
    navigatorSizeRatio: 0.17,
    navigatorAutoFade: false,
    animationTime: 0.4,
    springStiffness: 9,
    blendTime: 0, // no pixel is shown that is a mixture of what came and what was there before
    imageLoaderLimit: 0, // TileLoader knows how many, and how long they may take
    maxTilesPerFrame: 64,
    timeout: 2 ** 31 - 1,
    immediateRender: archive,
    overlayPreserveContentDirection: false,
    maxImageCacheCount: 400,
    maxZoomPixelRatio: 24,
    minZoomImageRatio: 0.6,
    visibilityRatio: 0.35,
    preserveImageSizeOnResize: true,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    crossOriginPolicy: false,
  });
  viewer.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; }); // keys() below has them all
  viewer.addHandler("viewport-change", () => loader.schedule());
  viewer.addHandler("resize", () => loader.schedule());
  viewer.addHandler("close", () => loader.forget(viewer));
  viewer.addHandler("before-destroy", () => loader.forget(viewer));
  viewer.addHandler("animation-start", () => setPadding(viewer, true));
  viewer.addHandler("animation-finish", () => settle(viewer));
  let smooth = true;
  viewer.addHandler("viewport-change", () => {
    // At 1:1, and from two screen pixels a pixel on, pixels are shown as what they are.
    const scale = scaleOf(viewer);
    const wanted = scale < 2 && Math.abs(scale - 1) > 1e-4;
    if (wanted !== smooth) viewer.drawer.setImageSmoothingEnabled(wanted);
    smooth = wanted;
  });
  return viewer;
}

function scaleOf(viewer) {
  const item = viewer.world.getItemAt(0);
  return item ? item.viewportToImageZoom(viewer.viewport.getZoom(true)) : 1;
}

/**
 * OpenSeadragon draws a tile without overlap one pixel too large, so that no seam shows between tiles at odd scales.
 * When the view has come to rest at a whole scale, put it on whole pixels and draw tiles at their own size instead:
 * then what is on the screen is what was decoded, sample by sample.
 */
function settle(viewer) {
  const { viewport } = viewer;
  const item = viewer.world.getItemAt(0);
  if (!item) return;
  const scale = item.viewportToImageZoom(viewport.getZoom(true));
  const whole = Math.round(scale);
  const exact = whole >= 1 && Math.abs(scale - whole) < 1e-3 && viewport.getRotation(true) % 90 === 0;
  setPadding(viewer, !exact);
  if (!exact) return;
  if (scale !== whole) viewport.zoomTo(item.imageToViewportZoom(whole), null, true);
  const corner = viewport.pixelFromPoint(new OpenSeadragon.Point(0, 0), true);
  const off = new OpenSeadragon.Point(corner.x - Math.round(corner.x), corner.y - Math.round(corner.y));
  if (Math.abs(off.x) + Math.abs(off.y) > 1e-3) viewport.panBy(viewport.deltaPointsFromPixels(off, true), true);
}

function setPadding(viewer, padded) {
  for (let i = 0; i < viewer.world.getItemCount(); i += 1) {
    viewer.world.getItemAt(i).source.tileOverlap = padded ? 0 : 1e-9;
  }
  viewer.world.update(true); // sizes of tiles are computed there
  viewer.forceRedraw();
}

function opened(viewer) {
  return new Promise((resolve, reject) => {
    viewer.addOnceHandler("open", resolve);
    viewer.addOnceHandler("open-failed", (event) => reject(new Error(event.message)));
  });
}

readAddress();
const images = await getJson("api/images").catch((error) => fail(`The list of images could not be loaded: ${error.message}.`)) ?? [];
const image = images.find((one) => one.id === new URLSearchParams(location.search).get("image"));
if (!image) {
  if (images.length) fail("There is no such image here. The list of images is at the upper left.");
} else {
  start();
}

function start() {
  document.title = `${image.name} · dlpr-wsi`;
  byId("name").textContent = image.name;
  byId("name").title = `${integer(image.width)} × ${integer(image.height)} px`;
  if (image.kind === "archive") byId("badges").append(badge("DLPR"), badge(promise(image)));
  else byId("badges").append(badge("slide", true));

  const partners = images.filter((one) => one !== image && one.width === image.width && one.height === image.height);
  for (const one of partners) controls.other.append(new Option(label(one), one.id));
  controls.other.disabled = partners.length === 0;
  controls.other.title = partners.length ? "" : "No other image of the same size is served";
  if (!partners.some((one) => one.id === state.other)) state.other = "";
  if (![...controls.mode.options].some((option) => option.value === state.mode)) state.mode = "slider";
  if (!["jpg", "png"].includes(state.format)) state.format = "jpg";
  controls.icc.hidden = !images.some((one) => one.icc);

  const left = makeViewer(stage.querySelector("#left .osd"), true, image.kind === "archive");
  const panel = new TilePanel(byId("tile"), left, image);
  const edge = new Edge(stage, byId("handle"), byId("right"));
  edge.set(state.edge);
  edge.changed = () => { state.edge = edge.share; writeAddress(); };
  let right = null;
  let unlink = () => {};
  let heat = null;

  const switches = channelSwitches(byId("channels"), image, (text) => { state.channels = text; reopen(); });
  const options = (one) => ({
    format: state.format,
    icc: state.icc === 1,
    channels: one.channels?.length === image.channels?.length ? shownChannels(one, state.channels) : null,
    loader,
  });
  const counts = new Map(); // previews on the screen, by viewer
  const addPreviews = (viewer, one) => {
    if (!one.previews) return;
    const told = (count) => {
      counts.set(viewer, count);
      const sum = [...counts.values()].reduce((a, b) => a + b, 0);
      stage.dataset.previews = String(sum);
      byId("preview").hidden = sum === 0;
    };
    new Previews(viewer, loader, (...place) => previewUrl(one, options(one), ...place), told);
  };
  addPreviews(left, image);
  const partner = () => partners.find((one) => one.id === state.other);

  async function show() {
    const ready = opened(left);
    left.open(source(image, options(image)));
    try {
      await ready;
    } catch (error) {
      fail(`The image could not be opened: ${error.message}.`);
    }
  }

  /** Bring the page in line with the state, keeping the place. */
  async function compare() {
    const other = partner();
    const mode = other ? state.mode : "";
    unlink();
    if (right) {
      right.destroy();
      right = null;
    }
    if (heat) {
      loader.forget(heat);
      left.world.removeItem(heat);
      heat = null;
    }
    stage.classList.toggle("side", mode === "side");
    stage.classList.toggle("slider", mode === "slider");
    byId("right").hidden = mode !== "side" && mode !== "slider";
    byId("error").hidden = mode !== "error";
    const tag = stage.querySelector("#left .tag");
    tag.textContent = label(image);
    tag.hidden = mode !== "side" && mode !== "slider";
    edge.hide();
    left.forceResize();
    if (mode === "side" || mode === "slider") {
      stage.querySelector("#right .tag").textContent = label(other);
      right = makeViewer(stage.querySelector("#right .osd"), false, other.kind === "archive");
      addPreviews(right, other);
      const ready = opened(right);
      right.open(source(other, options(other)));
      await ready.catch((error) => fail(`The other image could not be opened: ${error.message}.`));
      copyView(left, right);
      unlink = link(left, right);
      if (mode === "slider") edge.show();
    }
    if (mode === "error") {
      left.addTiledImage({
        tileSource: errorSource(image, other, bound(image, other), loader),
        opacity: byId("opacity").value / 100,
        success: (event) => { heat = event.item; },
      });
      drawLegend(bound(image, other));
      measure();
    }
    controls.mode.disabled = !other;
    controls.other.value = state.other;
    controls.mode.value = state.mode;
    writeAddress();
  }

  function drawLegend(peak) {
    const middle = peak > 2 ? [String(Math.round(peak / 2))] : [];
    const marks = peak > 1 ? ["1", ...middle, String(peak)] : ["", "1"];
    byId("error").querySelector("ol").replaceChildren(...marks.map((text) => {
      const li = document.createElement("li");
      li.textContent = text;
      return li;
    }));
  }

  /** Count the errors of what is on the screen. */
  async function measure() {
    const other = partner();
    if (state.mode !== "error" || !other) return;
    const item = left.world.getItemAt(0);
    const view = item.viewportToImageRectangle(left.viewport.getBounds(false)).getBoundingBox();
    const x = Math.max(0, Math.floor(view.x));
    const y = Math.max(0, Math.floor(view.y));
    const width = Math.min(Math.ceil(view.x + view.width), image.width) - x;
    const height = Math.min(Math.ceil(view.y + view.height), image.height) - y;
    if (width < 1 || height < 1) return;
    const list = byId("error").querySelector("dl");
    if (width * height > mostCounted) {
      fill(list, [["Zoom in", "to count errors"]]);
      return;
    }
    try {
      const found = await getJson(`api/compare/${image.id}/${other.id}?x=${x}&y=${y}&width=${width}&height=${height}`);
      fill(list, [
        ["Region", `${integer(width)} × ${integer(height)} px`],
        ["Largest", String(found.max_error), found.max_error > (image.tau ?? 0) + (other.tau ?? 0) ? "bad" : ""],
        ["Mean", found.mean_error.toPrecision(3)],
        ["Samples that differ", `${(100 * found.different).toFixed(1)} %`],
      ]);
    } catch (error) {
      fill(list, [["Not counted", error.message, "bad"]]);
    }
  }

  function place() {
    const item = left.world.getItemAt(0);
    if (!item) return;
    const centre = item.viewportToImageCoordinates(left.viewport.getCenter(false));
    Object.assign(state, {
      x: Math.round(centre.x * 100) / 100,
      y: Math.round(centre.y * 100) / 100,
      scale: item.viewportToImageZoom(left.viewport.getZoom(false)),
      rotation: ((left.viewport.getRotation(false) % 360) + 360) % 360,
      flip: left.viewport.getFlip() ? 1 : 0,
    });
    writeAddress();
    measure();
  }

  /** Go where the address says. */
  function goTo() {
    const item = left.world.getItemAt(0);
    left.viewport.setRotation(state.rotation, true);
    left.viewport.setFlip(state.flip === 1);
    if (state.x === null || state.y === null || !(state.scale > 0)) return;
    left.viewport.zoomTo(item.imageToViewportZoom(state.scale), null, true);
    left.viewport.panTo(item.imageToViewportCoordinates(state.x, state.y), true);
  }

  function status() {
    const scale = scaleOf(left);
    const um = image.mpp_x === null ? NaN : image.mpp_x / scale;
    drawScale(byId("scale"), um);
    const shown = scale >= 1 ? `${Number(scale.toPrecision(3))} : 1` : `1 : ${Number((1 / scale).toPrecision(3))}`;
    const power = image.objective_power === null ? "" : ` · ${Number((image.objective_power * scale).toPrecision(3))}×`;
    byId("zoom").textContent = `${shown}${power}`;
  }

  left.addHandler("viewport-change", status);
  left.addHandler("resize", status);
  left.addHandler("animation-finish", place);
  for (const name of ["rotate", "flip"]) left.addHandler(name, () => setTimeout(place, 500));
  const loading = byId("loading");
  setInterval(() => {
    const text = loader.running > 0 ? "loading tiles…" : "";
    if (loading.textContent !== text) loading.textContent = text;
  }, 200);

  function pointer(viewer) {
    viewer.element.addEventListener("pointermove", (event) => {
      const item = left.world.getItemAt(0);
      if (!item) return;
      const box = viewer.element.getBoundingClientRect();
      const at = new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top);
      const point = item.viewportToImageCoordinates(left.viewport.pointFromPixel(at, true));
      const inside = point.x >= 0 && point.y >= 0 && point.x < image.width && point.y < image.height;
      const um = image.mpp_x === null ? "" : `  ·  ${length(point.x * image.mpp_x)}, ${length(point.y * (image.mpp_y ?? image.mpp_x))}`;
      byId("position").textContent = inside ? `x ${Math.floor(point.x)}, y ${Math.floor(point.y)}${um}` : " ";
      if (!byId("panel").hidden) panel.at(point.x, point.y, scaleOf(left));
    });
  }
  pointer(left);

  const toggle = (button, on) => button.setAttribute("aria-pressed", String(on));
  async function reopen() {
    controls.format.value = state.format;
    toggle(controls.icc, state.icc === 1);
    switches.set(state.channels);
    panel.channel = shownChannels(image, state.channels)?.[0] ?? 0;
    panel.hide();
    unlink();
    if (right) {
      right.destroy();
      right = null;
    }
    heat = null; // it goes with the world that is opened anew
    await show();
    goTo();
    await compare();
  }

  function backdrop() {
    stage.classList.toggle("dark", state.dark === 1);
    toggle(byId("backdrop"), state.dark === 1);
  }

  const actions = {
    "zoom-in": () => left.viewport.zoomBy(1.6),
    "zoom-out": () => left.viewport.zoomBy(1 / 1.6),
    home: () => left.viewport.goHome(),
    actual: () => left.viewport.zoomTo(left.world.getItemAt(0).imageToViewportZoom(1)),
    rotate: (event) => left.viewport.rotateBy(event.shiftKey ? -90 : 90),
    flip: () => left.viewport.toggleFlip(),
    icc: () => { state.icc = 1 - state.icc; reopen(); },
    backdrop: () => { state.dark = 1 - state.dark; backdrop(); writeAddress(); },
    info: () => {
      const hidden = byId("panel").hidden = !byId("panel").hidden;
      toggle(byId("info"), !hidden);
      stage.classList.toggle("paneled", !hidden);
      if (hidden) panel.hide();
    },
    link: async () => {
      place();
      const button = byId("link");
      try {
        await navigator.clipboard.writeText(location.href);
        button.textContent = "Copied";
      } catch {
        button.textContent = "In the address bar";
      }
      setTimeout(() => { button.textContent = "Link"; }, 1500);
    },
    keys: () => byId("help").showModal(),
  };
  for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", action);
  controls.other.addEventListener("change", () => { state.other = controls.other.value; compare(); });
  controls.mode.addEventListener("change", () => { state.mode = controls.mode.value; compare(); });
  controls.format.addEventListener("change", () => { state.format = controls.format.value; reopen(); });
  byId("opacity").addEventListener("input", () => heat?.setOpacity(byId("opacity").value / 100));

  const pan = (x, y) => {
    const size = left.viewport.getBounds(false);
    const turned = new OpenSeadragon.Point(x * size.width, y * size.width).rotate(-left.viewport.getRotation(false));
    left.viewport.panBy(turned);
  };
  const keys = {
    ArrowLeft: () => pan(-0.15, 0), ArrowRight: () => pan(0.15, 0), ArrowUp: () => pan(0, -0.15), ArrowDown: () => pan(0, 0.15),
    a: () => pan(-0.15, 0), d: () => pan(0.15, 0), w: () => pan(0, -0.15), s: () => pan(0, 0.15),
    "+": actions["zoom-in"], "=": actions["zoom-in"], "-": actions["zoom-out"], 0: actions.home, 1: actions.actual,
    r: actions.rotate, f: actions.flip, b: actions.backdrop, i: actions.info, l: actions.link, "?": actions.keys,
    p: () => { state.format = state.format === "jpg" ? "png" : "jpg"; reopen(); },
    c: () => {
      if (!partners.length) return;
      const modes = [...controls.mode.options].map((option) => option.value);
      if (!state.other) [state.other, state.mode] = [partners[0].id, modes[0]];
      else if (state.mode === modes.at(-1)) state.other = "";
      else state.mode = modes[modes.indexOf(state.mode) + 1];
      compare();
    },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    const typing = event.target instanceof HTMLInputElement && event.target.type !== "checkbox";
    if (event.target instanceof HTMLSelectElement || typing) return;
    const digit = event.shiftKey ? /^Digit([1-9])$/.exec(event.code) : null;
    const action = digit && image.channels
      ? () => switches.toggle(Number(digit[1]) - 1)
      : keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action(event);
  });

  window.addEventListener("hashchange", () => {
    readAddress();
    backdrop();
    reopen();
  });

  stage.classList.add("paneled");
  backdrop();
  reopen();
  window.dlprViewer = left; // for the browser's console, and for tests
}
