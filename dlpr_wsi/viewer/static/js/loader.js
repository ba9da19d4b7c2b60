// Fetches tiles: those in view, from the centre outwards. A tile that leaves the view is given up, on the server too.

const connections = 6; // a browser opens no more to one server
const attempts = 4;
const pace = 50; // ms between tiles that are handed over: each time all of the view is drawn anew
export const later = 1000; // ms until a server that is busy is asked again

/** The finest level that OpenSeadragon shows at the zoom that a viewer goes to. */
export function bestLevel(item) {
  const scale = item.viewportToImageZoom(item.viewport.getZoom(false));
  let level = item.source.maxLevel;
  while (level > item.source.minLevel && scale / item.source.getLevelScale(level) < item.minPixelRatio) level -= 1;
  return level;
}

/** What a viewer shows when it has come to rest, as an upright rectangle. */
export function target(item) {
  return item.viewport.getBounds(false).getBoundingBox();
}

/** Whether rectangles share a point; OpenSeadragon waits also for tiles that only touch the view. */
function touch(a, b) {
  const slack = 1e-3 * b.width;
  return a.x <= b.x + b.width + slack && b.x <= a.x + a.width + slack && a.y <= b.y + b.height + slack && b.y <= a.y + a.height + slack;
}

export class TileLoader {
  constructor() {
    this.jobs = new Map(); // OpenSeadragon's job: what aborts its request, or null while it waits
    this.tries = new WeakMap();
    this.broken = new WeakSet(); // images with a tile that cannot be had: the levels above stand in for it
    this.begun = new Set(); // viewers that have asked for tiles
    this.reserved = 0; // connections for previews
    this.before = new Set(); // called before tiles are asked for
    this.due = false;
    this.ready = [];
    this.handed = -pace;
  }

  /** How OpenSeadragon asks; for a tile source. */
  methods() {
    return {
      downloadTileStart: (job) => {
        this.jobs.set(job, null);
        this.begun.add(job.tile.tiledImage?.viewer);
        this.schedule();
      },
      downloadTileAbort: (job) => this.drop(job),
    };
  }

  /** Requests that run. */
  get running() {
    return [...this.jobs.values()].filter((request) => request !== null).length;
  }

  drop(job) {
    this.jobs.get(job)?.abort();
    this.jobs.delete(job);
  }

  /** Forget what a viewer and its navigator, or one of its images, asked for. */
  forget(owner) {
    this.begun.delete(owner);
    for (const job of [...this.jobs.keys(), ...this.ready.map(([done]) => done)]) {
      const item = job.tile.tiledImage;
      if (![item, item?.viewer].includes(owner) && !(owner.navigator && item?.viewer === owner.navigator)) continue;
      clearTimeout(job.jobId); // nobody waits for it: it is to end in silence
      job.jobId = null;
      this.drop(job);
    }
  }

  /** Where a job stands in the line, the smallest first; null: it is not to be fetched now. */
  rank(job) {
    const { tile } = job;
    const item = tile.tiledImage;
    if (!item || !touch(target(item), tile.bounds)) return null;
    const best = bestLevel(item);
    const only = item.immediateRender && !this.broken.has(item);
    if (tile.level > best || (only && tile.level < best)) return null;
    const centre = tile.bounds.getCenter();
    const navigator = item.viewer.element.classList.contains("navigator");
    if (navigator && !this.begun.has(item.viewer.viewer)) return null; // it may not overtake the view
    return [navigator ? 1 : 0, tile.level, centre.squaredDistanceTo(item.viewport.getCenter(false))];
  }

  /** Tiles came, were asked for, or the view moved: see soon what is to be done. */
  schedule() {
    if (this.due) return;
    this.due = true;
    setTimeout(() => { this.due = false; this.work(); }, 0);
  }

  work() {
    const line = [];
    for (const [job, request] of this.jobs) {
      const rank = this.rank(job);
      if (rank === null && request !== null) {
        this.jobs.set(job, null); // it waits again, in case the view comes back
        request.abort();
      } else if (rank !== null && request === null) {
        line.push({ job, rank });
      }
    }
    for (const call of this.before) call();
    line.sort((a, b) => a.rank[0] - b.rank[0] || a.rank[1] - b.rank[1] || a.rank[2] - b.rank[2]);
    for (const { job } of line.slice(0, Math.max(0, connections - this.reserved - this.running))) this.fetch(job);
  }

  deliver(job, blob) {
    this.ready.push([job, blob]);
    if (this.ready.length > 1) return;
    setTimeout(() => {
      this.handed = performance.now();
      for (const [done, data] of this.ready.splice(0)) done.finish(data, null, "rasterBlob");
    }, Math.max(0, this.handed + pace - performance.now()));
  }

  async fetch(job) {
    const request = new AbortController();
    this.jobs.set(job, request);
    try {
      const answer = await fetch(job.src, { signal: request.signal });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`, { cause: answer.status });
      const blob = await answer.blob();
      if (this.jobs.delete(job)) this.deliver(job, blob);
    } catch (error) {
      if (request.signal.aborted || !this.jobs.has(job)) return;
      const tries = (this.tries.get(job) ?? 0) + 1;
      this.tries.set(job, tries);
      const hopeless = error.cause !== undefined && error.cause !== 503;
      if (hopeless || tries >= attempts) {
        this.jobs.delete(job);
        this.broken.add(job.tile.tiledImage);
        job.fail(error.message, null);
      } else {
        setTimeout(() => {
          if (this.jobs.get(job) === request) this.jobs.set(job, null);
          this.schedule();
        }, later);
      }
    } finally {
      this.schedule();
    }
  }
}
