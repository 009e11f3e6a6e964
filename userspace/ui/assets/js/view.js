// What the page shows, kept in the URL's query so that a link shows the same.

const DEFAULTS = {
  from: "now-5m",
  to: "now",
  live: "1",
  service: "",
  container: "",
  process: "",
  frames: "all",
  group: "process",
  q: "",
  zoom: "",
  sort: "-self",
  view: "both",
};
const CHOICES = {
  live: ["0", "1"],
  frames: ["all", "kernel", "user"],
  group: ["none", "process", "pid", "container", "service"],
  view: ["graph", "both", "table"],
  sort: ["name", "location", "self", "total"].flatMap((column) => [column, `-${column}`]),
};
const SELECTION = ["from", "to", "service", "container", "process", "frames", "group"];

export const view = { ...DEFAULTS };

export function readUrl() {
  const query = new URLSearchParams(window.location.search);
  for (const [name, fallback] of Object.entries(DEFAULTS)) {
    const value = query.get(name);
    view[name] = value === null || (CHOICES[name] && !CHOICES[name].includes(value)) ? fallback : value;
  }
  if (view.to !== "now") view.live = "0";
}

// `step` makes an entry that the browser's Back returns from.
export function setView(changes, step) {
  Object.assign(view, changes);
  if (view.to !== "now") view.live = "0";
  const query = new URLSearchParams();
  for (const [name, fallback] of Object.entries(DEFAULTS)) {
    if (view[name] !== fallback) query.set(name, view[name]);
  }
  const text = query.toString();
  const url = text ? `?${text}` : window.location.pathname;
  if (step) window.history.pushState(null, "", url);
  else window.history.replaceState(null, "", url);
}

export function apiQuery() {
  const query = new URLSearchParams();
  for (const name of SELECTION) if (view[name]) query.set(name, view[name]);
  return query.toString();
}

export function isFiltered() {
  return Boolean(view.service || view.container || view.process || view.frames !== "all");
}
