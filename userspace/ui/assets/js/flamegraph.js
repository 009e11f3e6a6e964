// d3-flame-graph with what it lacks here: zoom that survives a refresh, keys, a cursor, a tooltip of text.

import { byId, element } from "./dom.js";
import { duration, fullLocation, percent } from "./format.js";
import { ancestors } from "./profile.js";
import { colour } from "./palette.js";

const CELL_PX = 20;
const FRAME_MIN_PX = 1;
const ZOOM_MS = 180;
const KIND_TEXT = { kernel: "kernel", user: "user", unresolved: "no symbol", group: "group", root: "everything", other: "folded" };

export function createFlamegraph({ onZoom, onFrame, onEscape }) {
  const box = byId("flamegraph");
  const canvas = element("div", "canvas");
  const mark = element("div", "cursor");
  mark.hidden = true;
  box.append(canvas, mark);
  const selection = window.d3.select(canvas);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let profile = null;
  let searching = false;
  let zoomed = null;
  let cursor = null;
  let drawn = false;
  let pointer = null;

  const tip = Object.assign(() => {}, { show: showTip, hide: hideTip, destroy: hideTip });
  const chart = window.flamegraph
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
    .setColorMapper((d) => colour(d.data, searching))
    .tooltip(tip)
    .onClick((d) => settle(d.data, true));

  function width() {
    return Math.max(200, box.clientWidth);
  }

  function render(next, zoomTarget, isSearching) {
    profile = next;
    searching = isSearching;
    const kept = cursor && profile.nodes.find((node) => node.path === cursor.path);
    zoomed = zoomTarget && zoomTarget.parent ? zoomTarget : null;
    if (zoomed) flagZoom(zoomed);
    chart.width(width()).transitionDuration(0);
    if (drawn) {
      chart.update(profile.root);
    } else {
      selection.datum(profile.root).call(chart);
      drawn = true;
    }
    cursor = kept || null;
    placeCursor(false);
    if (!cursor) onFrame(zoomed ?? profile.root);
    else onFrame(cursor);
    if (pointer) refreshTip();
  }

  // Redraws with the same data: after a search, a change of size or theme.
  function redraw() {
    if (!profile) return;
    chart.width(width()).transitionDuration(0).update();
    placeCursor(false);
  }

  function search(active) {
    searching = active;
    redraw();
  }

  function zoomTo(node) {
    const item = items().find((d) => d.data === node) ?? deepItem(node);
    if (!item) return;
    chart.transitionDuration(calm.matches ? 0 : ZOOM_MS);
    chart.zoomTo(item);
  }

  function settle(node, byUser) {
    zoomed = node.parent ? node : null;
    cursor = node;
    chart.transitionDuration(0);
    placeCursor(false);
    onFrame(node);
    if (byUser) onZoom(zoomed);
  }

  function items() {
    return selection.selectAll("g.frame").data();
  }

  // A frame too thin to be drawn is still in the library's tree.
  function deepItem(node) {
    let item = selection.datum();
    for (const step of ancestors(node).slice(1)) item = item?.children?.find((child) => child.data === step);
    return item;
  }

  function focusOn(node) {
    cursor = node;
    placeCursor(true);
    onFrame(node);
  }

  function placeCursor(scroll) {
    const item = cursor && items().find((d) => d.data === cursor);
    mark.hidden = !item;
    if (!item) return;
    const left = item.x0 * width();
    const top = item.depth * CELL_PX;
    mark.style.left = `${left}px`;
    mark.style.top = `${top}px`;
    mark.style.width = `${Math.max(3, (item.x1 - item.x0) * width())}px`;
    mark.style.height = `${CELL_PX}px`;
    mark.textContent = "";
    if (scroll) {
      if (top < box.scrollTop) box.scrollTop = top;
      else if (top + CELL_PX > box.scrollTop + box.clientHeight) box.scrollTop = top + 2 * CELL_PX - box.clientHeight;
    }
  }

  function move(key) {
    const shown = items();
    const at = shown.find((d) => d.data === cursor);
    if (!at) return focusOn(zoomed ?? profile.root);
    let to = null;
    if (key === "ArrowUp") to = at.parent;
    else if (key === "ArrowDown") to = shown.filter((d) => d.parent === at).sort((a, b) => b.x1 - b.x0 - (a.x1 - a.x0))[0];
    else if (key === "Home") to = shown.find((d) => !d.parent);
    else {
      const row = shown.filter((d) => d.depth === at.depth).sort((a, b) => a.x0 - b.x0);
      to = row[row.indexOf(at) + (key === "ArrowRight" ? 1 : -1)];
    }
    if (to) focusOn(to.data);
  }

  box.addEventListener("keydown", (event) => {
    if (!profile || event.ctrlKey || event.metaKey || event.altKey) return;
    if (["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home"].includes(event.key)) move(event.key);
    else if ((event.key === "Enter" || event.key === " ") && cursor) zoomTo(cursor);
    else if (event.key === "Escape") onEscape();
    else return;
    event.preventDefault();
  });
  box.addEventListener("focus", () => {
    if (profile && !cursor && box.matches(":focus-visible")) focusOn(zoomed ?? profile.root);
  });
  box.addEventListener("mousemove", (event) => {
    if (pointer) placeTip((pointer = event));
  });
  box.addEventListener("mouseleave", hideTip);
  new ResizeObserver(() => {
    if (drawn && Math.abs(chart.width() - width()) > 1) redraw();
  }).observe(box);

  function showTip(event, d) {
    pointer = event;
    fillTip(d.data);
    placeTip(event);
  }

  function fillTip(node) {
    const frame = node.frame;
    const rows = [element("b", "", node.name)];
    const where = fullLocation(frame);
    if (where) rows.push(element("span", "where", where));
    if (frame.module && frame.kind !== "kernel") rows.push(element("span", "where", frame.module));
    const facts = element("span", "facts");
    for (const [label, ns] of [["Self", node.self], ["Total", node.value]]) {
      facts.append(element("i", "", label), element("span", "num", duration(ns)), element("span", "num", percent(ns, profile.totalNs)));
    }
    if (zoomed && zoomed !== node) {
      facts.append(element("i", "", "Of zoom"), element("span", "num", ""), element("span", "num", percent(node.value, zoomed.value)));
    }
    rows.push(facts, element("span", `kind ${frame.kind}`, KIND_TEXT[frame.kind] ?? frame.kind));
    const box = byId("tooltip");
    box.replaceChildren(...rows);
    box.hidden = false;
  }

  function placeTip(event) {
    const tipBox = byId("tooltip");
    const x = event.clientX + 14 + tipBox.offsetWidth > innerWidth ? event.clientX - tipBox.offsetWidth - 10 : event.clientX + 14;
    const y = event.clientY + 16 + tipBox.offsetHeight > innerHeight ? event.clientY - tipBox.offsetHeight - 10 : event.clientY + 16;
    tipBox.style.left = `${Math.max(4, x)}px`;
    tipBox.style.top = `${Math.max(4, y)}px`;
  }

  // New data came while the pointer rests on a frame.
  function refreshTip() {
    const under = document.elementFromPoint(pointer.clientX, pointer.clientY)?.closest("g.frame");
    if (under) fillTip(window.d3.select(under).datum().data);
    else hideTip();
  }

  function hideTip() {
    pointer = null;
    byId("tooltip").hidden = true;
  }

  return {
    render,
    redraw,
    search,
    zoomTo,
    reset: () => profile && zoomTo(profile.root),
    focusOn,
    zoomed: () => zoomed,
  };
}

// As the library's own zoom marks its data.
function flagZoom(node) {
  for (let at = node; at.parent; at = at.parent) {
    at.parent.fade = true;
    for (const sibling of at.parent.children) if (sibling !== at) sibling.hide = true;
  }
}
