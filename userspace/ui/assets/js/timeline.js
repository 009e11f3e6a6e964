// CPU use over time, drawn by uPlot; a drag selects a range.

import { byId } from "./dom.js";
import { clock } from "./format.js";

const HEIGHT_PX = 92;

export function createTimeline({ onSelect }) {
  const box = byId("timeline");
  const value = byId("timeline-value");
  let plot = null;
  let range = [0, 1];
  let step_ms = 15_000;
  let last = null;

  function options() {
    const style = getComputedStyle(document.documentElement);
    const line = style.getPropertyValue("--accent").trim();
    const axis = {
      stroke: style.getPropertyValue("--quiet").trim(),
      grid: { stroke: style.getPropertyValue("--line").trim(), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    return {
      width: Math.max(200, box.clientWidth),
      height: HEIGHT_PX,
      padding: [6, 10, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false, setScale: false } },
      scales: { x: { time: true, range: () => range }, y: { range: (u, min, max) => [0, Math.max(0.1, max * 1.1)] } },
      axes: [
        { ...axis, size: 22, gap: 4 },
        { ...axis, size: 40, gap: 4, space: 28, values: (u, splits) => splits.map((v) => (v >= 10 ? v.toFixed(0) : String(+v.toFixed(2)))) },
      ],
      series: [
        {},
        {
          stroke: line,
          width: 1.5,
          fill: `color-mix(in srgb, ${line} 22%, transparent)`,
          paths: window.uPlot.paths.stepped({ align: 1 }),
          points: { show: false },
        },
      ],
      hooks: { setSelect: [selected], setCursor: [moved] },
    };
  }

  function selected(u) {
    if (u.select.width < 4) return;
    const fromMs = u.posToVal(u.select.left, "x") * 1000;
    const toMs = u.posToVal(u.select.left + u.select.width, "x") * 1000;
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    const from = Math.floor(fromMs / step_ms) * step_ms;
    const to = Math.max(from + step_ms, Math.ceil(toMs / step_ms) * step_ms);
    onSelect(from, to);
  }

  function moved(u) {
    const index = u.cursor.idx;
    const cores = index === null || index === undefined ? null : u.data[1][index];
    value.textContent = cores === null || cores === undefined ? summary() : `${cores.toFixed(2)} CPUs at ${clock(u.data[0][index] * 1000)}`;
  }

  function summary() {
    if (!last || !last.total_ns) return "";
    const seconds = last.timeline.start_unix_ms.length * (last.timeline.step_ms / 1000);
    return seconds ? `${(last.total_ns / 1e9 / seconds).toFixed(2)} CPUs on average` : "";
  }

  function render(answer) {
    last = answer;
    step_ms = answer.timeline.step_ms;
    range = [answer.from_unix_ms / 1000, answer.to_unix_ms / 1000];
    const xs = answer.timeline.start_unix_ms.map((ms) => ms / 1000);
    const ys = answer.timeline.value_ns.map((ns) => ns / 1e6 / step_ms);
    if (xs.length) {
      // A step needs an end.
      xs.push(xs[xs.length - 1] + step_ms / 1000);
      ys.push(ys[ys.length - 1]);
    }
    if (plot) plot.setData([xs, ys]);
    else plot = new window.uPlot(options(), [xs, ys], box);
    value.textContent = summary();
    box.setAttribute("aria-label", `CPU use from ${clock(answer.from_unix_ms)} to ${clock(answer.to_unix_ms)}: ${summary()}`);
  }

  // Colours are drawn into the picture, so that a new theme needs a new one.
  function restyle() {
    if (!plot) return;
    const data = plot.data;
    plot.destroy();
    plot = new window.uPlot(options(), data, box);
  }

  new ResizeObserver(() => plot?.setSize({ width: Math.max(200, box.clientWidth), height: HEIGHT_PX })).observe(box);
  return { render, restyle };
}
