// Numbers for people.

const units = ["B", "kB", "MB", "GB", "TB"];

export function bytes(n) {
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) {
    n /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? n : n.toPrecision(3)} ${units[unit]}`;
}

export function integer(n) {
  return Math.round(n).toLocaleString("en-US");
}

/** A length in micrometres, in the unit that suits it. */
export function length(um) {
  if (um >= 1000) return `${trim(um / 1000)} mm`;
  if (um >= 1) return `${trim(um)} µm`;
  return `${trim(um * 1000)} nm`;
}

function trim(n) {
  return String(Number(n.toPrecision(3)));
}

/** The bound that every level keeps: levels that a conversion made can have a larger one than level 0. */
export function largestTau(image) {
  return Math.max(0, ...image.levels.map((level) => level.tau ?? 0));
}

/** "lossless", or the bound on the error of every sample. */
export function promise(image) {
  if (image.tau === null) return null;
  const made = largestTau(image);
  const lower = made > image.tau ? `, levels made ≤ ${made}` : "";
  return (image.tau === 0 ? "lossless" : `|error| ≤ ${image.tau}`) + lower;
}

/** A short name for an image beside others of the same slide. */
export function label(image) {
  return image.tau === null ? `${image.name} (slide)` : `${image.name} (${promise(image)})`;
}

/** Fill a <dl> with [term, text, class] rows. */
export function fill(list, rows) {
  list.replaceChildren();
  for (const [term, text, kind] of rows) {
    const dt = document.createElement("dt");
    const dd = document.createElement("dd");
    dt.textContent = term;
    dd.textContent = text;
    if (kind) dd.className = kind;
    list.append(dt, dd);
  }
}

export function badge(text, plain = false) {
  const span = document.createElement("span");
  span.className = plain ? "badge plain" : "badge";
  span.textContent = text;
  return span;
}
