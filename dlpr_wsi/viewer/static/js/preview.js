// First paint: tiles from the lossy layer, one picture for all that are missing, until the exact ones are drawn.
//
// The server draws a mark into them. Here they are elements above the image that say data-layer="lossy", and each is
// taken away only when the exact tile has been drawn below it.

import { bestLevel, later, target } from "./loader.js";

const fewest = 3; // fewer tiles are there as soon as their preview
const widest = 12; // tiles beside each other, or above, in one preview
const near = [1, 2]; // levels up: an overview that is up to four times smaller looks as good as the lossy layer, and is bounded

export class Previews {
  /**
   * `url(level, column, row, lastColumn, lastRow)` is where a preview is; `changed(count)` is told how many of its
   * tiles are on the screen.
   */
  constructor(viewer, loader, url, changed) {
    Object.assign(this, { viewer, loader, url, changed });
    this.shown = new Map(); // "level/x_y": { element, tile }
    this.request = null;
    this.again = 0; // when a server that was busy is asked again
    this.answered = new Set(); // keys whose preview came, or is not worth it
    const ask = () => this.ask();
    loader.before.add(ask);
    viewer.addHandler("update-viewport", () => this.clean());
    viewer.addHandler("close", () => this.clear());
    viewer.addHandler("before-destroy", () => {
      loader.before.delete(ask);
      this.clear();
    });
  }

  get item() {
    return this.viewer.world.getItemAt(0);
  }

  /** Ask for what is missing in the view, unless a request runs. */
  ask() {
    const { item } = this;
    if (!item) return;
    const level = bestLevel(item);
    if (this.request && (this.request.level !== level || !this.inView(this.request))) this.stop();
    if (this.request || performance.now() < this.again) return;
    const missing = this.missing(item, level);
    if (missing.length < fewest) return;
    const columns = missing.map(({ x }) => x);
    const rows = missing.map(({ y }) => y);
    const place = { level, x: Math.min(...columns), y: Math.min(...rows) };
    place.lastX = Math.max(...columns);
    place.lastY = Math.max(...rows);
    this.load(item, place, new Set(missing.map(({ key }) => key)));
  }

  /** Tiles in view that are neither there nor under way, and that no near overview stands for. */
  missing(item, level) {
    const view = target(item);
    const [left, top, right, bottom] = this.corners(item, level, view);
    const found = [];
    for (let y = top; y <= bottom; y += 1) {
      for (let x = left; x <= right; x += 1) {
        const key = `${level}/${x}_${y}`;
        if (this.answered.has(key) || loaded(item, level, x, y)) continue;
        if (near.some((up) => loaded(item, level - up, x >> up, y >> up))) continue;
        found.push({ key, x, y });
      }
    }
    return found;
  }

  /** First and last column and row in view, those around the centre where they are too many. */
  corners(item, level, view) {
    const count = item.source.getNumTiles(level);
    const side = item.source.getTileWidth(level) / item.source.getLevelScale(level) / item.source.dimensions.x;
    const range = (low, size, most) => {
      const first = Math.max(0, Math.floor(low / side));
      const last = Math.min(most - 1, Math.ceil((low + size) / side) - 1);
      const spare = Math.max(0, last - first + 1 - widest);
      return [first + Math.floor(spare / 2), last - Math.ceil(spare / 2)];
    };
    const [left, right] = range(view.x, view.width, count.x);
    const [top, bottom] = range(view.y, view.height, count.y);
    return [left, top, right, bottom];
  }

  inView({ level, x, y, lastX, lastY }) {
    const [left, top, right, bottom] = this.corners(this.item, level, target(this.item));
    return x <= right && lastX >= left && y <= bottom && lastY >= top;
  }

  async load(item, place, keys) {
    const controller = new AbortController();
    const request = { ...place, controller };
    this.request = request;
    this.loader.reserved += 1;
    try {
      const answer = await fetch(this.url(place.level, place.x, place.y, place.lastX, place.lastY), { signal: controller.signal });
      if (answer.status === 503) { // busy
        this.again = performance.now() + later;
        setTimeout(() => this.loader.schedule(), later);
        return;
      }
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      for (const key of keys) this.answered.add(key);
      if (answer.status !== 204 && answer.headers.get("X-DLPR-Layer") === "lossy") {
        const picture = await createImageBitmap(await answer.blob());
        if (!controller.signal.aborted && item === this.item) this.show(item, place, answer.headers.get("X-DLPR-Tiles") ?? "", picture, keys);
        picture.close();
      }
    } catch {
      for (const key of keys) if (!controller.signal.aborted) this.answered.add(key); // the exact tile comes anyhow
    } finally {
      this.loader.reserved -= 1;
      if (this.request === request) this.request = null;
      this.loader.schedule();
    }
  }

  show(item, place, tiles, picture, keys) {
    this.clear(({ level }) => level !== place.level);
    const side = item.source.getTileWidth(place.level);
    const columns = place.lastX - place.x + 1;
    [...tiles].forEach((flag, number) => {
      const [column, row] = [number % columns, Math.floor(number / columns)];
      const [x, y] = [place.x + column, place.y + row];
      const key = `${place.level}/${x}_${y}`;
      if (flag !== "1" || !keys.has(key) || this.shown.has(key) || loaded(item, place.level, x, y)) return;
      const element = document.createElement("canvas");
      element.className = "preview-tile";
      element.dataset.layer = "lossy";
      element.dataset.tile = key;
      element.width = Math.min(side, picture.width - column * side);
      element.height = Math.min(side, picture.height - row * side);
      element.getContext("2d").drawImage(picture, -column * side, -row * side);
      this.viewer.addOverlay({
        element,
        location: item.source.getTileBounds(place.level, x, y),
        rotationMode: OpenSeadragon.OverlayRotationMode.EXACT,
      });
      this.shown.set(key, { element, level: place.level, x, y });
    });
    this.changed(this.shown.size);
  }

  /** After a frame was drawn: take away previews whose exact tile is in it, or that have left the view. */
  clean() {
    if (!this.item) return;
    if (this.shown.size) {
      const view = target(this.item);
      const ranges = new Map();
      this.clear(({ level, x, y }) => {
        if (drawn(this.item, level, x, y)) return true;
        if (!ranges.has(level)) ranges.set(level, this.corners(this.item, level, view));
        const [left, top, right, bottom] = ranges.get(level);
        return !this.viewer.isAnimating() && (x < left || x > right || y < top || y > bottom);
      });
    }
    if (this.answered.size > 4096) this.answered.clear();
  }

  stop() {
    this.request?.controller.abort();
    this.request = null;
  }

  /** Take away some, or all and what is under way. */
  clear(unwanted) {
    if (!unwanted) {
      this.stop();
      this.answered.clear();
    }
    const before = this.shown.size;
    for (const [key, preview] of this.shown) {
      if (unwanted && !unwanted(preview)) continue;
      this.viewer.removeOverlay(preview.element);
      this.shown.delete(key);
      this.answered.delete(key);
    }
    if (this.shown.size !== before) this.changed(this.shown.size);
  }
}

function tileOf(item, level, x, y) {
  return item.tilesMatrix[level]?.[x]?.[y];
}

function loaded(item, level, x, y) {
  return tileOf(item, level, x, y)?.loaded === true;
}

function drawn(item, level, x, y) {
  const tile = tileOf(item, level, x, y);
  return tile?.loaded === true && tile.beingDrawn;
}
