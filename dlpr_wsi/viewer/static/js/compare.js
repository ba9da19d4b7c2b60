// Two viewers that show the same place, and the edge between them.

export function copyView(from, to) {
  const a = from.viewport;
  const b = to.viewport;
  b.setRotation(a.getRotation(true), true);
  b.setFlip(a.getFlip());
  b.zoomTo(a.getZoom(true), null, true);
  b.panTo(a.getCenter(true), true);
}

/** Keep two viewers at the same place, whichever of them is moved. */
export function link(a, b) {
  let leading = null;
  const follow = (from, to) => () => {
    if (leading !== null) return;
    leading = from;
    copyView(from, to);
    leading = null;
  };
  const handlers = [[a, follow(a, b)], [b, follow(b, a)]];
  const names = ["viewport-change", "rotate", "flip"];
  for (const [viewer, handler] of handlers) for (const name of names) viewer.addHandler(name, handler);
  return () => {
    for (const [viewer, handler] of handlers) for (const name of names) viewer.removeHandler(name, handler);
  };
}

/** The edge that is dragged between two panes that lie on each other. */
export class Edge {
  constructor(stage, handle, upper) {
    this.stage = stage;
    this.handle = handle;
    this.upper = upper;
    this.share = 0.5;
    this.changed = () => {};
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      event.preventDefault();
      handle.focus();
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = stage.getBoundingClientRect();
      this.set((event.clientX - box.left) / box.width);
      this.changed();
    });
    handle.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
      if (!step) return;
      event.stopPropagation();
      event.preventDefault();
      this.set(this.share + step);
      this.changed();
    });
  }

  set(share) {
    this.share = Math.min(0.98, Math.max(0.02, share));
    const percent = `${100 * this.share}%`;
    this.handle.style.left = percent;
    this.handle.setAttribute("aria-valuenow", String(Math.round(100 * this.share)));
    this.upper.style.clipPath = `inset(0 0 0 ${percent})`;
  }

  hide() {
    this.handle.hidden = true;
    this.upper.style.clipPath = "";
  }

  show() {
    this.handle.hidden = false;
    this.set(this.share);
  }
}
