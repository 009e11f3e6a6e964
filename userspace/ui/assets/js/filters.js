// The filters by service, container and process, each with the share of CPU of its choices.

import { byId } from "./dom.js";
import { Combobox } from "./combobox.js";
import { view } from "./view.js";

const NAMES = ["service", "container", "process"];
const CONTAINER_NONE = "none";

export function createFilters({ onChange }) {
  const boxes = Object.fromEntries(
    NAMES.map((name) => [name, new Combobox({ id: name, box: byId(`${name}-box`), onPick: (value) => onChange({ [name]: value }) })]),
  );

  function render(series) {
    for (const name of NAMES) boxes[name].set(choices(series, name), view[name]);
  }

  return { render };
}

// What the other filters leave, largest first.
function choices(series, name) {
  const sums = new Map();
  for (const entry of series) {
    if (NAMES.some((other) => other !== name && view[other] && valueOf(entry, other) !== view[other])) continue;
    const value = valueOf(entry, name);
    if (value) sums.set(value, (sums.get(value) ?? 0) + entry.value_ns);
  }
  return [...sums].sort((a, b) => b[1] - a[1]).map(([value, ns]) => ({ value, ns, text: textOf(name, value) }));
}

function valueOf(entry, name) {
  return entry[name] || (name === "container" ? CONTAINER_NONE : "");
}

function textOf(name, value) {
  if (name !== "container") return value;
  if (value === CONTAINER_NONE) return "no container";
  return /^[0-9a-f]{64}$/.test(value) ? value.slice(0, 12) : value;
}
