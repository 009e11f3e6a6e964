// Elements by id, and elements made of text alone: names come from programs that nobody vouches for.

export const byId = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function show(node, text) {
  node.textContent = text ?? "";
  node.hidden = !text;
}

export function checkRadio(name, value) {
  for (const input of document.getElementsByName(name)) input.checked = input.value === value;
}
