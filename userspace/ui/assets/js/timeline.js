// CPU use over time, drawn by uPlot; a drag selects a range.

import { byId } from "./dom.js";
import { clock } from "./format.js";

const HEIGHT_PX = 80;
// A bucket that has just begun would show a hole that was none.
const EDGE_MIN = 0.3;

export function createTimeline({ onSelect }) {
  const box = byId("timeline");
  const value = byId("timeline-value");
  let plot = null;
  let range = [0, 1];
  let step_ms = 15_000;
  let last = null;

  function options() {
    const line = resolve("--accent");
    const axis = {
      stroke: resolve("--quiet"),
      grid: { stroke: resolve("--line"), width: 1 },
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
        { ...axis, size: 22, gap: 4, space: 70, values: (u, splits) => splits.map((v) => label(v * 1000)) },
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

  // A canvas wants the colour itself, not the variable or light-dark().
  function resolve(variable) {
    box.style.color = `var(${variable})`;
    const colour = getComputedStyle(box).color;
    box.style.color = "";
    return colour;
  }

  function label(unixMs) {
    const days = range[1] - range[0] > 86_400;
    const text = clock(unixMs, days);
    return range[1] - range[0] > 300 ? text.slice(0, -3) : text;
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

  // Of what is drawn: the total has profiles that began before the range as a whole.
  function summary() {
    if (!last || !last.total_ns) return "";
    const [xs, ys] = steps(last);
    const seconds = xs.length ? xs[xs.length - 1] - xs[0] : 0;
    if (seconds <= 0) return "";
    const cpuSeconds = ys.slice(0, -1).reduce((sum, cores, index) => sum + cores * (xs[index + 1] - xs[index]), 0);
    return `${(cpuSeconds / seconds).toFixed(2)} CPUs on average`;
  }

  function render(answer) {
    last = answer;
    step_ms = answer.timeline.step_ms;
    range = [answer.from_unix_ms / 1000, answer.to_unix_ms / 1000];
    const [xs, ys] = steps(answer);
    if (plot) plot.setData([xs, ys]);
    else plot = new window.uPlot(options(), [xs, ys], box);
    value.textContent = summary();
    box.setAttribute("aria-label", `CPU use from ${clock(answer.from_unix_ms)} to ${clock(answer.to_unix_ms)}: ${summary()}`);
  }

  // CPUs in use per bucket. The bucket over the range's border lacks what ended before it, and shows a dip that was
  // none where others are there to show; the last one lies only partly in the range.
  function steps(answer) {
    const xs = [];
    const ys = [];
    const { start_unix_ms, value_ns } = answer.timeline;
    const hasWhole = start_unix_ms.some((start) => start >= answer.from_unix_ms);
    start_unix_ms.forEach((start, index) => {
      const end = Math.min(start + step_ms, answer.to_unix_ms);
      const isOutside = hasWhole ? start < answer.from_unix_ms : end <= answer.from_unix_ms;
      if (isOutside || end - start < step_ms * EDGE_MIN) return;
      xs.push(Math.max(start, answer.from_unix_ms) / 1000);
      ys.push(value_ns[index] / 1e6 / (end - start));
    });
    if (xs.length) {
      // A step needs an end.
      xs.push(Math.min(answer.to_unix_ms, start_unix_ms[start_unix_ms.length - 1] + step_ms) / 1000);
      ys.push(ys[ys.length - 1]);
    }
    return [xs, ys];
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
