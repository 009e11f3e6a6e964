// The table of functions.

import { byId, element } from "./dom.js";
import { duration, fullLocation, location, percent } from "./format.js";

const STACK_PX = 700;
const COLUMNS = {
  name: (row) => row.frame.name,
  location: (row) => location(row.frame),
  self: (row) => row.self,
  total: (row) => row.total,
};

export function createTop({ onSort, onPick }) {
  const table = byId("top");
  const body = table.tBodies[0];
  let profile = null;
  let sort = "-self";
  let matcher = null;

  for (const head of table.tHead.rows[0].cells) {
    head.querySelector("button").addEventListener("click", () => {
      const column = head.dataset.sort;
      const numeric = column === "self" || column === "total";
      const first = numeric ? `-${column}` : column;
      const second = numeric ? column : `-${column}`;
      onSort(sort === first ? second : first);
    });
  }
  // Too narrow for four columns: the place stands under the name.
  new ResizeObserver(() => byId("top-panel").classList.toggle("stacked", table.parentElement.clientWidth < STACK_PX)).observe(
    table.parentElement,
  );
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && window.getSelection().isCollapsed) onPick(row.entry.frame);
  });

  function render(next, order, test) {
    if (next) profile = next;
    sort = order;
    matcher = test;
    if (!profile) return;
    const down = sort.startsWith("-");
    const key = COLUMNS[sort.replace("-", "")];
    const rows = [...profile.top].sort((a, b) => compare(key(a), key(b)) * (down ? -1 : 1));
    for (const head of table.tHead.rows[0].cells) {
      const active = head.dataset.sort === sort.replace("-", "");
      head.setAttribute("aria-sort", active ? (down ? "descending" : "ascending") : "none");
    }
    const had = document.activeElement?.closest?.("#top tbody tr")?.entry?.frame;
    while (body.rows.length < rows.length) body.append(newRow());
    while (body.rows.length > rows.length) body.lastElementChild.remove();
    rows.forEach((entry, index) => fill(body.rows[index], entry));
    if (had) refocus(had);
    byId("top-count").textContent = rows.length ? `${rows.length} heaviest` : "";
  }

  function newRow() {
    const row = element("tr");
    const name = element("td", "name");
    const pick = element("button");
    pick.type = "button";
    name.append(element("i", "dot"), pick);
    row.append(name, element("td", "location"), numberCell(), numberCell());
    return row;
  }

  function fill(row, entry) {
    const { frame, self, total } = entry;
    row.entry = entry;
    row.className = matcher?.(frame) ? "match" : "";
    const [name, place, selfCell, totalCell] = row.cells;
    name.firstChild.dataset.kind = frame.kind;
    name.lastChild.textContent = frame.name;
    name.title = frame.name;
    place.textContent = location(frame);
    place.title = fullLocation(frame) || frame.module;
    number(selfCell, self);
    number(totalCell, total);
  }

  function number(cell, ns) {
    cell.firstChild.textContent = duration(ns);
    cell.lastChild.textContent = percent(ns, profile.totalNs);
    cell.style.setProperty("--share", profile.totalNs ? ns / profile.totalNs : 0);
  }

  function refocus(frame) {
    const row = [...body.rows].find((r) => r.entry.frame.name === frame.name && r.entry.frame.module === frame.module);
    row?.querySelector("button").focus({ preventScroll: true });
  }

  return { render };
}

function numberCell() {
  const cell = element("td", "right num");
  cell.append(element("span"), element("small"));
  return cell;
}

function compare(a, b) {
  return typeof a === "string" ? a.localeCompare(b) : a - b;
}
