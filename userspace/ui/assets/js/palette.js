// A frame's colour: hue by kind, shade by name, so that neighbours can be told apart in both themes.

const LIGHT = {
  kernel: { hue: 28, hueSpread: 7, saturation: 84, light: 73, lightSpread: 6 },
  user: { hue: 211, hueSpread: 7, saturation: 68, light: 77, lightSpread: 6 },
  unresolved: { hue: 215, hueSpread: 0, saturation: 6, light: 80, lightSpread: 5 },
  group: { hue: 220, hueSpread: 0, saturation: 20, light: 87, lightSpread: 3 },
  root: { hue: 220, hueSpread: 0, saturation: 14, light: 91, lightSpread: 0 },
  other: { hue: 220, hueSpread: 0, saturation: 8, light: 92, lightSpread: 0 },
  match: { hue: 312, hueSpread: 0, saturation: 78, light: 78, lightSpread: 3 },
  dim: { saturation: 0.3, light: 91 },
};
const DARK = {
  kernel: { hue: 24, hueSpread: 7, saturation: 54, light: 36, lightSpread: 5 },
  user: { hue: 212, hueSpread: 7, saturation: 44, light: 39, lightSpread: 5 },
  unresolved: { hue: 215, hueSpread: 0, saturation: 6, light: 36, lightSpread: 4 },
  group: { hue: 220, hueSpread: 0, saturation: 16, light: 27, lightSpread: 2 },
  root: { hue: 220, hueSpread: 0, saturation: 12, light: 23, lightSpread: 0 },
  other: { hue: 220, hueSpread: 0, saturation: 8, light: 21, lightSpread: 0 },
  match: { hue: 314, hueSpread: 0, saturation: 58, light: 44, lightSpread: 3 },
  dim: { saturation: 0.35, light: 22 },
};

export function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
}

export function colour(node, searching) {
  const palette = isDark() ? DARK : LIGHT;
  if (node.match) return shade(palette.match, node.name);
  const tone = palette[node.frame.kind] ?? palette.other;
  if (searching) return `hsl(${tone.hue} ${tone.saturation * palette.dim.saturation}% ${palette.dim.light}%)`;
  return shade(tone, node.name);
}

export function legendColour(kind) {
  const tone = (isDark() ? DARK : LIGHT)[kind];
  return `hsl(${tone.hue} ${tone.saturation}% ${tone.light}%)`;
}

function shade(tone, name) {
  const spread = hash(name) * 2 - 1;
  return `hsl(${tone.hue + tone.hueSpread * spread} ${tone.saturation}% ${tone.light + tone.lightSpread * spread}%)`;
}

function hash(text) {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return ((value ^ (value >>> 15)) >>> 0) / 2 ** 32;
}
