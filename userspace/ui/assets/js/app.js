// The page: reads the API, keeps the parts in step with the URL and with each other.

import { byId, checkRadio, element, show } from "./dom.js";
import { createFilters } from "./filters.js";
import { Flamegraph } from "./flamegraph.js";
import { count, duration, fullLocation, percent } from "./format.js";
import { exactly, parseSearch } from "./matcher.js";
import { legendColour } from "./palette.js";
import { ancestors, decode, findPath, markMatches } from "./profile.js";
import { createRange } from "./range.js";
import { renderStatus, renderUnreachable } from "./status.js";
import { createTimeline } from "./timeline.js";
import { createTop } from "./top.js";
import { apiQuery, isFiltered, readUrl, setView, view } from "./view.js";
import { emptyReason, summary, warnings } from "./words.js";

const REFRESH_MS = 2_000;
// A slow answer is asked for less often, so that a page left open costs the machine little.
const REFRESH_COST_FACTOR = 5;
const REQUEST_TIMEOUT_MS = 30_000;
const SEARCH_DELAY_MS = 120;
const CRUMBS_MAX = 6;

let profile = null;
let status = null;
let timer = 0;
let searchTimer = 0;
let running = null;

const flamegraph = new Flamegraph({
  onZoom: (node) => {
    setView({ zoom: node ? node.path.toString(16) : "" }, true);
    renderBreadcrumb();
  },
  onFrame: renderFocus,
  onEscape: () => {
    if (flamegraph.zoomed) flamegraph.reset();
    else setSearch("");
  },
});
const timeline = createTimeline({ onSelect: (from, to) => change({ from: String(from), to: String(to) }) });
const top = createTop({
  onSort: (sort) => {
    setView({ sort }, false);
    renderTop();
  },
  onPick: pickFunction,
});
const filters = createFilters({ onChange: change });
const range = createRange({ onChange: change });

// A change of what is read.
function change(changes) {
  setView(changes, true);
  renderControls();
  refresh();
}

async function fetchJson(url, signal) {
  const response = await fetch(url, { signal, headers: { accept: "application/json" } });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(body.error ?? `the server answered ${response.status}`);
    error.busy = response.status === 503;
    throw error;
  }
  return body;
}

async function refresh() {
  clearTimeout(timer);
  running?.abort();
  const mine = (running = new AbortController());
  const timeout = setTimeout(() => mine.abort("timeout"), REQUEST_TIMEOUT_MS);
  document.body.classList.add("loading");
  const started = performance.now();
  let isBusy = false;
  try {
    const answering = fetchJson(`/api/v1/profile?${apiQuery()}`, mine.signal);
    answering.catch(() => {}); // awaited below
    const state = await fetchJson("/api/v1/status", mine.signal);
    if (mine !== running) return;
    status = state;
    renderStatus(status);
    const answer = await answering;
    if (mine !== running) return;
    profile = decode(answer);
    show(byId("error"), "");
    render();
  } catch (error) {
    if (mine !== running) return;
    // Busy is no fault: what is shown stays, and the next turn asks again, also when the page is paused.
    isBusy = error.busy === true;
    if (!isBusy) {
      const silent = mine.signal.aborted;
      const unreachable = error instanceof TypeError; // what fetch throws without an answer
      const reason = silent ? "no answer within 30 s" : unreachable ? "the collector cannot be reached" : error.message;
      show(byId("error"), `The profile could not be read: ${reason}`);
      if (unreachable || silent) renderUnreachable();
      if (!profile) renderEmpty("No profile to show", "The message above says why.");
    }
  } finally {
    clearTimeout(timeout);
    if (mine === running) {
      document.body.classList.toggle("loading", isBusy);
      schedule(performance.now() - started, isBusy);
    }
  }
}

function schedule(cost_ms, isBusy) {
  clearTimeout(timer);
  const isWaiting = isBusy || ((!profile || !profile.totalNs) && view.to === "now");
  if (document.hidden || (view.live !== "1" && !isWaiting)) return;
  timer = setTimeout(refresh, Math.max(REFRESH_MS, cost_ms * REFRESH_COST_FACTOR));
}

function render() {
  const answer = profile.answer;
  const empty = answer.total_ns === 0;
  byId("flamegraph").hidden = empty;
  byId("empty").hidden = !empty;
  const searching = applySearch();
  if (empty) renderEmpty(...emptyReason(answer, status));
  else flamegraph.render(profile, findPath(profile, view.zoom), searching);
  renderBreadcrumb();
  renderTop();
  timeline.render(answer);
  filters.render(answer.series);
  range.render(answer);
  // What is shown, also when "now" has moved on.
  const shown = new URLSearchParams(apiQuery());
  shown.set("from", answer.from_unix_ms);
  shown.set("to", answer.to_unix_ms);
  byId("download").href = `/api/v1/pprof?${shown}`;
  show(byId("warning"), warnings(answer, status).join(" "));
}

function renderControls() {
  checkRadio("frames", view.frames);
  checkRadio("view", view.view);
  document.body.dataset.view = view.view;
  byId("group").value = view.group;
  if (byId("search") !== document.activeElement) byId("search").value = view.q;
  const live = byId("live");
  live.setAttribute("aria-pressed", String(view.live === "1"));
  live.textContent = view.live === "1" ? "Live" : "Paused";
  byId("clear").hidden = !isFiltered();
  range.render(null);
}

function renderEmpty(title, text) {
  byId("flamegraph").hidden = true;
  byId("empty").hidden = false;
  byId("empty-title").textContent = title;
  byId("empty-text").textContent = text;
  renderFocus(null);
}

function renderBreadcrumb() {
  const zoomed = profile && profile.totalNs ? flamegraph.zoomed : null;
  byId("reset").disabled = !zoomed;
  const crumbs = byId("breadcrumb");
  const path = zoomed ? ancestors(zoomed) : [];
  const shown = path.length > CRUMBS_MAX ? [path[0], null, ...path.slice(2 - CRUMBS_MAX)] : path;
  crumbs.replaceChildren(
    ...shown.map((node) => {
      if (!node) return element("span", "quiet", "...");
      const button = element("button", "", node.name);
      button.type = "button";
      button.title = node.name;
      if (node === zoomed) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => flamegraph.zoomTo(node));
      return button;
    }),
  );
  if (!zoomed && profile?.totalNs) crumbs.append(element("span", "quiet", summary(profile.answer)));
}

function renderFocus(node) {
  const name = byId("focus-name");
  // Read aloud on a change only.
  if (name.textContent !== (node?.name ?? "")) name.textContent = node?.name ?? "";
  byId("focus-location").textContent = node ? fullLocation(node.frame) || node.frame.module : "";
  byId("focus-self").textContent = node ? `self ${duration(node.self)} (${percent(node.self, profile.totalNs)})` : "";
  byId("focus-total").textContent = node ? `total ${duration(node.value)} (${percent(node.value, profile.totalNs)})` : "";
}

function renderTop() {
  top.render(profile, view.sort, parseSearch(view.q).test);
}

// Marks matches and says how much of the whole they are.
function applySearch() {
  const { test, error } = parseSearch(view.q);
  const found = markMatches(profile, test);
  byId("match").textContent = error || (test ? (found.frames ? `${percent(found.sum, profile.totalNs)} in ${count(found.frames)}` : "no match") : "");
  byId("match").title = test ? `${duration(found.sum)} in ${found.frames} frames` : "";
  return Boolean(test);
}

function setSearch(text) {
  clearTimeout(searchTimer);
  setView({ q: text }, false);
  byId("search").value = text;
  if (!profile) return;
  flamegraph.search(applySearch());
  renderTop();
}

function searchTyped() {
  if (byId("search").value !== view.q) setSearch(byId("search").value);
}

function pickFunction(frame) {
  setSearch(exactly(frame.name));
  const hits = profile.nodes.filter((node) => node.frame === frame);
  const heaviest = hits.sort((a, b) => b.value - a.value)[0];
  if (!heaviest) return;
  const zoomed = flamegraph.zoomed;
  if (zoomed && !ancestors(heaviest).includes(zoomed)) flamegraph.reset();
  flamegraph.focusOn(heaviest);
}

function restyle() {
  for (const item of byId("legend").children) item.style.setProperty("--swatch", legendColour(item.dataset.kind));
  for (const kind of ["kernel", "user", "unresolved"]) {
    document.documentElement.style.setProperty(`--kind-${kind}`, legendColour(kind));
  }
  if (profile) {
    flamegraph.redraw();
    timeline.restyle();
  }
}

function fromUrl() {
  readUrl();
  byId("search").value = view.q;
  renderControls();
  refresh();
}

for (const name of ["frames", "view"]) {
  for (const input of document.getElementsByName(name)) {
    input.addEventListener("change", () => {
      if (name === "frames") return change({ frames: input.value });
      setView({ view: input.value }, false);
      renderControls();
    });
  }
}
byId("group").addEventListener("change", (event) => change({ group: event.target.value, zoom: "" }));
byId("clear").addEventListener("click", () => change({ service: "", container: "", process: "", frames: "all" }));
byId("refresh").addEventListener("click", refresh);
byId("reset").addEventListener("click", () => flamegraph.reset());
byId("live").addEventListener("click", () => {
  if (view.live === "1") setView({ live: "0" }, false);
  else setView(view.to === "now" ? { live: "1" } : { live: "1", from: "now-5m", to: "now" }, false);
  renderControls();
  refresh();
});
byId("search").addEventListener("input", () => {
  clearTimeout(searchTimer);
  searchTimer = setTimeout(searchTyped, SEARCH_DELAY_MS);
});
// The field is left before the delay is over: what is drawn next must not take the text back.
byId("search").addEventListener("change", searchTyped);
byId("search").addEventListener("keydown", (event) => {
  if (event.key === "Escape") setSearch("");
  else if (event.key === "Enter") {
    searchTyped();
    const first = profile?.nodes.filter((node) => node.match).sort((a, b) => b.value - a.value)[0];
    if (first) flamegraph.focusOn(first);
  } else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !typing) {
    event.preventDefault();
    byId("search").focus();
    byId("search").select();
  } else if (event.key === "Escape") {
    const sheet = byId("collector");
    if (sheet.open) sheet.open = false;
    else if (!typing && !event.defaultPrevented && flamegraph.zoomed) flamegraph.reset();
  }
});
document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest("#collector")) byId("collector").open = false;
});
document.addEventListener("visibilitychange", () => {
  const isWaiting = document.body.classList.contains("loading");
  if (!document.hidden && (view.live === "1" || isWaiting)) refresh();
});
document.addEventListener("kovar-theme", restyle);
window.addEventListener("popstate", fromUrl);

restyle();
fromUrl();
