// Switches for the channels of an image that is no RGB picture.

/** Numbers of the channels that the address names: "" is all (null), "none" none, "0.2" the first and the third. */
export function shownChannels(image, text) {
  if (!image.channels || text === "") return null;
  const numbers = text.split(".").filter((part) => /^\d{1,6}$/.test(part)).map(Number);
  return [...new Set(numbers)].filter((number) => number < image.channels.length).sort((a, b) => a - b);
}

/** Fill a list with one switch for each channel; `changed` gets the text for the address. */
export function channelSwitches(list, image, changed) {
  const boxes = (image.channels ?? []).map((channel) => {
    const label = document.createElement("label");
    const box = document.createElement("input");
    const dot = document.createElement("i");
    const name = document.createElement("span");
    box.type = "checkbox";
    dot.style.backgroundColor = channel.colour;
    name.textContent = channel.name;
    label.title = channel.name;
    label.append(box, dot, name);
    list.append(label);
    box.addEventListener("change", tell);
    return box;
  });
  list.hidden = boxes.length === 0;

  function tell() {
    const on = boxes.flatMap((box, number) => (box.checked ? [number] : []));
    changed(on.length === boxes.length ? "" : on.join(".") || "none");
  }

  return {
    set(text) {
      const shown = shownChannels(image, text);
      boxes.forEach((box, number) => { box.checked = shown === null || shown.includes(number); });
    },
    toggle(number) {
      if (number >= boxes.length) return;
      boxes[number].checked = !boxes[number].checked;
      tell();
    },
  };
}
