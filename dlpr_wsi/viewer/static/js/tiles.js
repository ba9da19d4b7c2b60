// Tile sources for OpenSeadragon.

import { largestTau } from "./format.js";

/** `channels`: numbers of those to show, or null for all (and for RGB pictures). `loader` fetches the tiles. */
export function source(image, { format, icc, channels, loader }) {
  const query = queryOf({ icc, channels });
  return {
    width: image.width,
    height: image.height,
    tileSize: image.deepzoom_tile,
    tileOverlap: 0,
    minLevel: image.deepzoom_min_level,
    maxLevel: image.deepzoom_levels - 1,
    getTileUrl: (level, x, y) => `deepzoom/${image.id}_files/${level}/${x}_${y}.${format}${query}`,
    ...loader.methods(),
  };
}

/** Where the lossy layer of some tiles is, in one picture. */
export function previewUrl(image, { icc, channels }, ...places) {
  const [level, ...corners] = places;
  return `preview/${image.id}_files/${level}/${corners.join("_")}.jpg${queryOf({ icc, channels })}`;
}

function queryOf({ icc, channels }) {
  return suffix({ icc: icc ? "1" : null, channels: channels ? channels.join(",") : null });
}

function suffix(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null);
  return given.length ? `?${given.map(([name, value]) => `${name}=${value}`).join("&")}` : "";
}

/** |error| between two images; errors of `peak` get the brightest colour. */
export function errorSource(image, other, peak, loader) {
  return {
    ...source(image, { format: "png", icc: false, loader }),
    getTileUrl: (level, x, y) => `compare/${image.id}/${other.id}_files/${level}/${x}_${y}.png?peak=${peak}`,
  };
}

/** Largest error that an archive may have against its source, or two archives against each other. */
export function bound(image, other) {
  return Math.max(1, largestTau(image) + largestTau(other));
}
