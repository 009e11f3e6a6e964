// The state of the collector in the header.

import { byId, element } from "./dom.js";
import { count, span } from "./format.js";

export function renderStatus(status) {
  const lost = status.ticks.lost.reduce((sum, entry) => sum + entry.ticks, 0);
  byId("node").textContent = status.node || "this machine";
  byId("version").textContent = status.version;
  document.title = status.node ? `${status.node} - kovar` : "kovar";
  const pill = byId("health");
  pill.dataset.state = status.healthy.ok ? "good" : "bad";
  pill.textContent = status.healthy.ok ? "healthy" : "unhealthy";
  byId("health-message").textContent = status.healthy.ok ? "Everything that should work works." : status.healthy.message;
  byId("samples").textContent = `${count(status.ticks.delivered)} samples, ${count(lost)} lost`;
  byId("uptime").textContent = span(Date.now() - status.started_unix_ms);
  byId("delivered").textContent = status.ticks.delivered.toLocaleString();
  byId("lost").textContent = lost.toLocaleString();
  byId("counted").textContent = status.ticks.counted.toLocaleString();
  byId("idle").textContent = status.ticks.idle.toLocaleString();
  const reasons = status.ticks.lost.filter((entry) => entry.ticks > 0);
  byId("lost-reasons").replaceChildren(
    ...reasons.map((entry) => element("li", "num", `${entry.ticks.toLocaleString()} lost: ${entry.reason}`)),
  );
  byId("destinations").replaceChildren(...destinations(status.destinations));
}

export function renderUnreachable() {
  const pill = byId("health");
  pill.dataset.state = "bad";
  pill.textContent = "unreachable";
}

function destinations(list) {
  if (!list.length) return [element("li", "quiet", "none configured; profiles are kept on this machine")];
  return list.map((destination) => {
    const row = element("li", "destination");
    row.append(
      element("b", "", destination.name),
      element("span", "quiet", `${destination.kind} ${destination.url}`),
      element("span", "", `${destination.state}, ${count(destination.records_pending)} records pending`),
    );
    if (destination.last_error) row.append(element("span", "trouble", destination.last_error));
    return row;
  });
}
