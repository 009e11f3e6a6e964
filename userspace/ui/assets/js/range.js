// The time range: presets, steps through time, and what it is in words.

import { byId, checkRadio } from "./dom.js";
import { clock, span } from "./format.js";
import { view } from "./view.js";

const PRESETS = ["now-1m", "now-5m", "now-15m", "now-1h", "now-6h"];
const RANGE_MAX_MS = 31 * 86_400_000;

export function createRange({ onChange }) {
  let shown = null;

  for (const input of document.getElementsByName("range")) {
    input.addEventListener("change", () => onChange({ from: input.value, to: "now" }));
  }
  byId("earlier").addEventListener("click", () => shift(-1));
  byId("later").addEventListener("click", () => shift(1));
  byId("wider").addEventListener("click", widen);

  function shift(direction) {
    if (!shown) return;
    const step = (shown.to - shown.from) / 2;
    const to = shown.to + direction * step;
    if (to >= Date.now()) return onChange({ from: nearest(shown.to - shown.from), to: "now" });
    onChange({ from: String(Math.round(to - 2 * step)), to: String(Math.round(to)) });
  }

  function widen() {
    if (!shown) return;
    const width = Math.min((shown.to - shown.from) * 2, RANGE_MAX_MS);
    const to = shown.to + width / 4;
    if (view.to === "now" || to >= Date.now()) return onChange({ from: nearest(width), to: "now" });
    onChange({ from: String(Math.round(to - width)), to: String(Math.round(to)) });
  }

  function render(answer) {
    if (answer) shown = { from: answer.from_unix_ms, to: answer.to_unix_ms };
    checkRadio("range", view.to === "now" ? view.from : "");
    byId("later").disabled = view.to === "now";
    if (!shown) return;
    const days = new Date(shown.from).toDateString() !== new Date().toDateString();
    byId("range-text").textContent = `${clock(shown.from, days)} to ${clock(shown.to, days)} (${span(shown.to - shown.from)})`;
  }

  return { render };
}

// A preset when one is that long, else whole seconds.
function nearest(ms) {
  const preset = PRESETS.find((text) => Math.abs(length(text) - ms) < 1_500);
  return preset ?? `now-${Math.max(1, Math.round(ms / 1000))}s`;
}

function length(text) {
  return Number.parseInt(text.slice(4), 10) * (text.endsWith("h") ? 3_600_000 : 60_000);
}
