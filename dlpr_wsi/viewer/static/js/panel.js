// Facts of the stored chunk under the pointer.
import { bytes, fill, integer } from "./format.js";

const delay = 90; // ms the pointer must rest

export class TilePanel {
  constructor(section, viewer, image) {
    this.section = section;
    this.viewer = viewer;
    this.image = image;
    this.key = null;
    this.timer = 0;
    this.channel = 0; // whose chunk is described, of an image that has channels
    this.outline = document.createElement("div");
    this.outline.className = "chunk-outline";
    this.outlined = false;
  }

  /** The level that is on the screen, as the server chooses it. */
  level(scale) {
    let best = 0;
    this.image.levels.forEach((level, i) => {
      if (level.downsample <= Math.max(1, 1.0001 / scale)) best = i;
    });
    return best;
  }

  /** The pointer is at (x, y) px of level 0, shown at `scale` screen px a px. */
  at(x, y, scale) {
    const number = this.level(scale);
    const level = this.image.levels[number];
    if (x < 0 || y < 0 || x >= this.image.width || y >= this.image.height) return;
    const column = Math.min(level.columns - 1, Math.floor(x / level.downsample / level.tile_width));
    const row = Math.min(level.rows - 1, Math.floor(y / level.downsample / level.tile_height));
    const key = `${number}/${row}/${column}`;
    if (key === this.key) return;
    this.key = key;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(key, level), delay);
  }

  async load(key, level) {
    try {
      const query = this.image.channels ? `?channel=${this.channel}` : "";
      const answer = await fetch(`api/images/${this.image.id}/chunks/${key}${query}`);
      if (!answer.ok || key !== this.key) return;
      this.show(await answer.json(), level);
    } catch {
      this.key = null; // the server is away; the next move tries again
    }
  }

  show(chunk, level) {
    const rows = [["Level", this.image.levels.length > 1 ? `${chunk.level} (of 0–${this.image.levels.length - 1})` : "0"], ["Row, column", `${chunk.row}, ${chunk.column}`]];
    if (chunk.channel !== null) rows.push(["Channel", chunk.channel]);
    const bad = chunk.mode === "damaged" || chunk.mode === "missing";
    rows.push(["Mode", chunk.mode === "slide" ? "read from the slide" : chunk.mode, bad ? "bad" : ""]);
    rows.push(["Covers", `${chunk.width} × ${chunk.height} px`]);
    if (chunk.tau !== null) rows.push(["Bound", chunk.tau === 0 ? "lossless" : `|error| ≤ ${chunk.tau}`]);
    if (chunk.bytes !== null) {
      rows.push(["Stored", `${integer(chunk.bytes)} bytes`]);
      rows.push(["Bits per pixel", chunk.bits_per_pixel.toFixed(chunk.bits_per_pixel < 0.1 ? 4 : 3)]);
      rows.push(["Of raw pixels", `${(100 * chunk.bytes / (chunk.samples * chunk.width * chunk.height)).toPrecision(3)} %`]);
    }
    if (chunk.milliseconds !== null) {
      rows.push([chunk.mode === "slide" ? "Read in" : "Decoded in", `${chunk.milliseconds.toFixed(1)} ms`]);
    }
    if (chunk.weights) rows.push(["Weights", chunk.weights.slice(0, 8)]);
    if (chunk.message) rows.push(["Problem", chunk.message, "bad"]);
    this.section.querySelector(".hint").hidden = true;
    fill(this.section.querySelector("dl"), rows);
    this.drawParts(chunk.parts);
    this.drawOutline(chunk, level);
  }

  drawParts(parts) {
    const bar = this.section.querySelector(".parts");
    bar.replaceChildren();
    bar.hidden = !parts || !("lanes" in parts);
    if (bar.hidden) return;
    for (const name of ["header", "lossy", "linear", "lanes"]) {
      const piece = document.createElement("i");
      piece.style.flexGrow = parts[name];
      bar.append(piece);
    }
    bar.title = Object.entries(parts).map(([name, n]) => `${name} ${bytes(n)}`).join(", ");
  }

  drawOutline(chunk, level) {
    const item = this.viewer.world.getItemAt(0);
    if (!item) return;
    const d = level.downsample;
    const place = item.imageToViewportRectangle(chunk.x * d, chunk.y * d, chunk.width * d, chunk.height * d);
    if (this.outlined) this.viewer.updateOverlay(this.outline, place);
    else this.viewer.addOverlay({ element: this.outline, location: place, rotationMode: OpenSeadragon.OverlayRotationMode.EXACT });
    this.outlined = true;
  }

  hide() {
    this.key = null;
    clearTimeout(this.timer);
    if (this.outlined) this.viewer.removeOverlay(this.outline);
    this.outlined = false;
  }
}
