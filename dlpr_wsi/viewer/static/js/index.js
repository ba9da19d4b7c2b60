import { badge, bytes, fill, integer, promise } from "./format.js";

const list = document.getElementById("images");
const summary = document.getElementById("summary");

function thumbnail(image) {
  // The smallest DeepZoom level of at least 512 px whose source the server reads.
  const size = Math.min(512, Math.max(image.width, image.height));
  return `iiif/${image.id}/full/!${size},${size}/0/default.jpg`;
}

function rows(image) {
  const found = [["Size", `${integer(image.width)} × ${integer(image.height)} px`]];
  found.push(["Levels", String(image.levels.length)]);
  if (image.channels) found.push(["Channels", image.channels.map((channel) => channel.name).join(", ")]);
  if (image.mpp_x !== null) {
    const power = image.objective_power === null ? "" : ` (${image.objective_power}×)`;
    found.push(["Resolution", `${Number(image.mpp_x.toPrecision(4))} µm/px${power}`]);
  }
  found.push(["On disk", bytes(image.bytes)]);
  if (image.kind === "archive") {
    found.push(["Pixels", `${bytes(image.raw_bytes)}, ${image.ratio.toFixed(2)} : 1`]);
    if (image.source_bytes) {
      found.push(["Source file", `${bytes(image.source_bytes)}, archive is ${(image.bytes / image.source_bytes).toFixed(2)} ×`]);
    }
  }
  if (image.source_codec) found.push([image.kind === "slide" ? "Codec" : "Source codec", image.source_codec]);
  return found;
}

function card(image) {
  const node = document.getElementById("card").content.cloneNode(true);
  const href = `view?image=${image.id}`;
  for (const a of node.querySelectorAll("a")) a.href = href;
  node.querySelector(".cover").tabIndex = -1;
  node.querySelector("h2 a").textContent = image.name;
  const picture = node.querySelector("img");
  picture.src = thumbnail(image);
  picture.alt = `Overview of ${image.name}`;
  const badges = node.querySelector(".badges");
  if (image.kind === "archive") badges.append(badge("DLPR"), badge(promise(image)));
  else badges.append(badge("slide", true));
  fill(node.querySelector(".facts"), rows(image));
  const links = node.querySelector(".links");
  for (const [text, url] of [["DeepZoom", `deepzoom/${image.id}.dzi`], ["IIIF", `iiif/${image.id}/info.json`]]) {
    const a = document.createElement("a");
    a.href = url;
    a.textContent = text;
    links.append(a);
  }
  return node;
}

try {
  const answer = await fetch("api/images");
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const images = await answer.json();
  summary.textContent = images.length === 1 ? "1 image" : `${images.length} images`;
  list.append(...images.map(card));
} catch (error) {
  summary.textContent = "";
  const problem = document.getElementById("problem");
  problem.textContent = `The list of images could not be loaded: ${error.message}.`;
  problem.hidden = false;
}
