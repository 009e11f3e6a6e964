// d3-flame-graph with what it lacks here: zoom that survives a refresh, keys, a cursor, a tooltip of text.

import { byId, element } from "./dom.js";
import { ancestors } from "./profile.js";
import { colour } from "./palette.js";
import { Tooltip } from "./tooltip.js";

const CELL_PX = 20;
const FRAME_MIN_PX = 1;
const WIDTH_MIN_PX = 200;
const CURSOR_MIN_PX = 3;
const ZOOM_MS = 180;

export class Flamegraph {
  #box = byId("flamegraph");
  #cursorMark = element("div", "cursor");
  #tooltip = new Tooltip();
  #calm = matchMedia("(prefers-reduced-motion: reduce)");
  #selection;
  #chart;
  #events;
  #profile = null;
  #isDrawn = false;
  #isSearching = false;
  #zoomed = null;
  #cursor = null;
  #pointer = null;

  // onZoom(node or null), onFrame(node), onEscape()
  constructor(events) {
    this.#events = events;
    const canvas = element("div", "canvas");
    this.#cursorMark.hidden = true;
    this.#box.append(canvas, this.#cursorMark);
    this.#selection = window.d3.select(canvas);
    this.#chart = this.#newChart();
    this.#listen();
  }

  get zoomed() {
    return this.#zoomed;
  }

  // Shows other data at once; the cursor stays on the frame of the same path.
  render(profile, zoomTarget, isSearching) {
    const path = this.#cursor?.path;
    this.#profile = profile;
    this.#isSearching = isSearching;
    this.#zoomed = zoomTarget?.parent ? zoomTarget : null;
    if (this.#zoomed) flagZoom(this.#zoomed);
    this.#chart.width(this.#width()).transitionDuration(0);
    if (this.#isDrawn) this.#chart.update(profile.root);
    else this.#selection.datum(profile.root).call(this.#chart);
    this.#isDrawn = true;
    this.#cursor = (path !== undefined && profile.nodes.find((node) => node.path === path)) || null;
    this.#placeCursor(false);
    this.#events.onFrame(this.#cursor ?? this.#zoomed ?? profile.root);
    if (this.#pointer) this.#refreshTip();
  }

  // The same data after a change of size or theme.
  redraw() {
    if (!this.#isDrawn) return;
    this.#chart.width(this.#width()).transitionDuration(0).update();
    this.#placeCursor(false);
  }

  // The same data with other matches.
  search(isSearching) {
    this.#isSearching = isSearching;
    this.redraw();
  }

  zoomTo(node) {
    const item = this.#itemOf(node);
    if (!item) return;
    this.#chart.transitionDuration(this.#calm.matches ? 0 : ZOOM_MS);
    this.#chart.zoomTo(item);
  }

  reset() {
    if (this.#profile) this.zoomTo(this.#profile.root);
  }

  focusOn(node) {
    this.#cursor = node;
    this.#placeCursor(true);
    this.#events.onFrame(node);
  }

  #newChart() {
    const tip = Object.assign(() => {}, {
      show: (event, d) => {
        this.#pointer = event;
        this.#tooltip.fill(d.data, this.#profile.totalNs, this.#zoomed);
        this.#tooltip.place(event.clientX, event.clientY);
      },
      hide: () => this.#hideTip(),
    });
    return window.flamegraph
      .default()
      .cellHeight(CELL_PX)
      .minFrameSize(FRAME_MIN_PX)
      .inverted(true)
      .sort(false)
      .resetHeightOnZoom(true)
      .transitionDuration(0)
      .getName((d) => d.data.name)
      .setLabelHandler((d) => d.data.name)
      .setDetailsHandler(() => {})
      .setColorMapper((d) => colour(d.data, this.#isSearching))
      .tooltip(tip)
      .onClick((d) => this.#zoomDone(d.data));
  }

  #zoomDone(node) {
    this.#zoomed = node.parent ? node : null;
    this.#cursor = node;
    this.#chart.transitionDuration(0);
    this.#placeCursor(false);
    this.#events.onFrame(node);
    this.#events.onZoom(this.#zoomed);
  }

  #listen() {
    const box = this.#box;
    box.addEventListener("keydown", (event) => this.#key(event));
    box.addEventListener("focus", () => {
      if (this.#profile && !this.#cursor && box.matches(":focus-visible")) this.focusOn(this.#zoomed ?? this.#profile.root);
    });
    box.addEventListener("mousemove", (event) => {
      if (!this.#pointer) return;
      this.#pointer = event;
      this.#tooltip.place(event.clientX, event.clientY);
    });
    box.addEventListener("mouseleave", () => this.#hideTip());
    new ResizeObserver(() => {
      if (this.#isDrawn && Math.abs(this.#chart.width() - this.#width()) > 1) this.redraw();
    }).observe(box);
  }

  #key(event) {
    if (!this.#profile || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") this.#events.onEscape();
    else if (event.key === "Enter" || event.key === " ") {
      if (this.#cursor) this.zoomTo(this.#cursor);
    } else if (event.key === "Home" || event.key.startsWith("Arrow")) this.#move(event.key);
    else return;
    event.preventDefault();
  }

  #move(key) {
    const shown = this.#items();
    const at = shown.find((d) => d.data === this.#cursor);
    if (!at) return this.focusOn(this.#zoomed ?? this.#profile.root);
    const size = (d) => d.x1 - d.x0;
    let to;
    if (key === "ArrowUp") to = at.parent;
    else if (key === "ArrowDown") to = shown.filter((d) => d.parent === at).sort((a, b) => size(b) - size(a))[0];
    else if (key === "Home") to = shown.find((d) => !d.parent);
    else {
      const row = shown.filter((d) => d.depth === at.depth).sort((a, b) => a.x0 - b.x0);
      to = row[row.indexOf(at) + (key === "ArrowRight" ? 1 : -1)];
    }
    if (to) this.focusOn(to.data);
  }

  #placeCursor(isScrolling) {
    const item = this.#cursor && this.#items().find((d) => d.data === this.#cursor);
    const mark = this.#cursorMark;
    mark.hidden = !item;
    if (!item) return;
    const top = item.depth * CELL_PX;
    mark.style.left = `${item.x0 * this.#width()}px`;
    mark.style.top = `${top}px`;
    mark.style.width = `${Math.max(CURSOR_MIN_PX, (item.x1 - item.x0) * this.#width())}px`;
    mark.style.height = `${CELL_PX}px`;
    if (!isScrolling) return;
    const box = this.#box;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + CELL_PX > box.scrollTop + box.clientHeight) box.scrollTop = top + 2 * CELL_PX - box.clientHeight;
  }

  // New data came while the pointer rests on a frame.
  #refreshTip() {
    const under = document.elementFromPoint(this.#pointer.clientX, this.#pointer.clientY)?.closest("g.frame");
    if (under) this.#tooltip.fill(window.d3.select(under).datum().data, this.#profile.totalNs, this.#zoomed);
    else this.#hideTip();
  }

  #hideTip() {
    this.#pointer = null;
    this.#tooltip.hide();
  }

  #width() {
    return Math.max(WIDTH_MIN_PX, this.#box.clientWidth);
  }

  // The library's items of the frames that are drawn.
  #items() {
    return this.#selection.selectAll("g.frame").data();
  }

  // Also of a frame that is too thin to be drawn.
  #itemOf(node) {
    let item = this.#selection.datum();
    for (const step of ancestors(node).slice(1)) item = item?.children?.find((child) => child.data === step);
    return item;
  }
}

// Marks the data as the library's own zoom does.
function flagZoom(node) {
  for (let at = node; at.parent; at = at.parent) {
    at.parent.fade = true;
    for (const sibling of at.parent.children) if (sibling !== at) sibling.hide = true;
  }
}
