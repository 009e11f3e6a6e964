// A text field with a list of choices that typing narrows, after the ARIA combobox pattern.

import { element } from "./dom.js";
import { percent } from "./format.js";

const SHOWN_MAX = 200;

export function createCombobox({ id, box, onPick }) {
  const input = element("input");
  Object.assign(input, { id, type: "text", autocomplete: "off", spellcheck: false, placeholder: "all" });
  const list = element("ul", "options");
  list.id = `${id}-list`;
  list.hidden = true;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", `Choices for ${id}`);
  for (const [name, value] of [["role", "combobox"], ["aria-autocomplete", "list"], ["aria-controls", list.id], ["aria-expanded", "false"]]) {
    input.setAttribute(name, value);
  }
  box.append(input, list);
  let choices = [];
  let chosen = "";
  let typed = "";
  let active = -1;

  const nameOf = (value) => choices.find((choice) => choice.value === value)?.text ?? value;

  function visible() {
    const wanted = typed.toLowerCase();
    const hits = choices.filter((c) => c.text.toLowerCase().includes(wanted) || c.value.toLowerCase().includes(wanted));
    return [...(typed ? [] : [{ value: "", text: "all", share: null }]), ...hits].slice(0, SHOWN_MAX);
  }

  function draw() {
    const rows = visible();
    const total = choices.reduce((sum, choice) => sum + choice.ns, 0);
    list.replaceChildren(
      ...rows.map((choice, index) => {
        const row = element("li", choice.value === chosen ? "chosen" : "");
        row.id = `${id}-option-${index}`;
        row.setAttribute("role", "option");
        row.setAttribute("aria-selected", String(index === active));
        row.dataset.value = choice.value;
        row.append(element("span", "text", choice.text));
        if (choice.value) {
          row.append(element("span", "num quiet", percent(choice.ns, total)));
          row.style.setProperty("--share", total ? choice.ns / total : 0);
        }
        return row;
      }),
    );
    if (!rows.length) list.append(element("li", "none", "nothing by that name"));
    const current = list.children[active];
    if (active >= 0 && current) {
      input.setAttribute("aria-activedescendant", current.id);
      current.scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  }

  function open() {
    if (!list.hidden) return;
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    typed = "";
    active = -1;
    draw();
  }

  function close() {
    list.hidden = true;
    typed = "";
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    input.value = chosen ? nameOf(chosen) : "";
  }

  function pick(value) {
    const changed = value !== chosen;
    chosen = value;
    close();
    if (changed) onPick(value);
  }

  input.addEventListener("focus", () => {
    input.select();
    open();
  });
  input.addEventListener("click", open);
  input.addEventListener("input", () => {
    open();
    typed = input.value;
    active = typed && visible().length ? 0 : -1;
    draw();
  });
  input.addEventListener("blur", close);
  // Before the field loses the focus.
  list.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    const row = event.target.closest("li[role=option]");
    if (row) {
      pick(row.dataset.value);
      input.blur();
    }
  });
  input.addEventListener("keydown", (event) => {
    const rows = list.hidden ? [] : visible();
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      open();
      const step = event.key === "ArrowDown" ? 1 : -1;
      active = Math.min(Math.max(active + step, 0), visible().length - 1);
      draw();
    } else if (event.key === "Enter") {
      // A name that is not in the list may still be in another range.
      if (active >= 0 && rows[active]) pick(rows[active].value);
      else if (!list.hidden) pick(input.value === nameOf(chosen) ? chosen : input.value.trim());
    } else if (event.key === "Escape" && !list.hidden) {
      close();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });

  return {
    set(next, value) {
      choices = next;
      chosen = value;
      input.classList.toggle("set", Boolean(chosen));
      if (list.hidden) input.value = chosen ? nameOf(chosen) : "";
      else draw();
    },
  };
}
