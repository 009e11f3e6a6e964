// Numbers as people read them.

const UNITS = [
  [3_600e9, "h"],
  [60e9, "min"],
  [1e9, "s"],
  [1e6, "ms"],
  [1e3, "us"],
];

export function duration(ns) {
  if (!ns) return "0 s";
  // Minutes and hours only once seconds are hard to read.
  const [size, unit] = UNITS.find(([size, unit]) => ns >= (unit === "min" ? 600e9 : unit === "h" ? 36_000e9 : size)) ?? [1, "ns"];
  const value = ns / size;
  return `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ${unit}`;
}

export function percent(part, whole) {
  if (!whole || !part) return "0 %";
  const share = (100 * part) / whole;
  if (share > 0 && share < 0.01) return "<0.01 %";
  return `${share >= 99.95 ? share.toFixed(0) : share >= 10 ? share.toFixed(1) : share.toFixed(2)} %`;
}

export function count(number) {
  if (number < 10_000) return String(number);
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= size) return `${(number / size).toFixed(number >= 100 * size ? 0 : 1)} ${unit}`;
  }
  return String(number);
}

export function location(frame) {
  if (!frame.file) return frame.module ? baseName(frame.module) : "";
  return frame.line > 0 ? `${baseName(frame.file)}:${frame.line}` : baseName(frame.file);
}

export function fullLocation(frame) {
  if (!frame.file) return "";
  return frame.line > 0 ? `${frame.file}:${frame.line}` : frame.file;
}

export function baseName(path) {
  return path.slice(path.lastIndexOf("/") + 1) || path;
}

export function clock(unixMs, withDate) {
  const time = new Date(unixMs);
  const clockText = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return withDate ? `${time.toLocaleDateString([], { month: "short", day: "numeric" })} ${clockText}` : clockText;
}

export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}
