import { length } from "./format.js";

const wanted = 140; // px on screen

/** Draw the scale bar: the longest of 1, 2, 5 times a power of ten that fits. */
export function drawScale(element, micrometresPerScreenPixel) {
  if (!Number.isFinite(micrometresPerScreenPixel) || micrometresPerScreenPixel <= 0) {
    element.hidden = true;
    return;
  }
  const most = wanted * micrometresPerScreenPixel;
  const power = 10 ** Math.floor(Math.log10(most));
  const step = [5, 2, 1].find((n) => n * power <= most) ?? 1;
  const um = step * power;
  element.querySelector(".rule").style.width = `${um / micrometresPerScreenPixel}px`;
  element.querySelector(".text").textContent = length(um);
  element.hidden = false;
}
