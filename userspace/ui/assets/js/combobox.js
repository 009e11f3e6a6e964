// A text field with a list of choices that typing narrows, after the ARIA combobox pattern.

import { element } from "./dom.js";
import { percent } from "./format.js";

const SHOWN_MAX = 200;
const ALL = { value: "", text: "all", ns: 0 };

export class Combobox {
  #input = element("input");
  #list = element("ul", "options");
  #onPick;
  #choices = [];
  #chosen = "";
  #typed = "";
  #active = -1;

  constructor({ id, box, onPick }) {
    this.#onPick = onPick;
    const input = this.#input;
    Object.assign(input, { id, type: "text", autocomplete: "off", spellcheck: false, placeholder: "all" });
    input.setAttribute("role", "combobox");
    input.setAttribute("aria-autocomplete", "list");
    input.setAttribute("aria-controls", `${id}-list`);
    input.setAttribute("aria-expanded", "false");
    this.#list.id = `${id}-list`;
    this.#list.hidden = true;
    this.#list.setAttribute("role", "listbox");
    this.#list.setAttribute("aria-label", `Choices for ${id}`);
    box.append(input, this.#list);
    this.#listen();
  }

  // Choices are { value, text, ns }, largest first.
  set(choices, value) {
    this.#choices = choices;
    this.#chosen = value;
    this.#input.classList.toggle("set", Boolean(value));
    if (this.#list.hidden) this.#showChosen();
    else this.#draw();
  }

  #listen() {
    const input = this.#input;
    input.addEventListener("focus", () => {
      input.select();
      this.#open();
    });
    input.addEventListener("click", () => this.#open());
    input.addEventListener("blur", () => this.#close());
    input.addEventListener("input", () => {
      this.#open();
      this.#typed = input.value;
      this.#active = this.#typed && this.#visible().length ? 0 : -1;
      this.#draw();
    });
    input.addEventListener("keydown", (event) => {
      if (!this.#key(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
    });
    // Before the field loses the focus.
    this.#list.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const row = event.target.closest("li[role=option]");
      if (!row) return;
      this.#pick(row.dataset.value);
      input.blur();
    });
  }

  #key(key) {
    if (key === "ArrowDown" || key === "ArrowUp") {
      this.#open();
      const to = this.#active + (key === "ArrowDown" ? 1 : -1);
      this.#active = Math.min(Math.max(to, 0), this.#visible().length - 1);
      this.#draw();
      return true;
    }
    if (this.#list.hidden) return false;
    if (key === "Escape") this.#close();
    else if (key === "Enter") this.#enter();
    else return false;
    return true;
  }

  #enter() {
    const row = this.#visible()[this.#active];
    if (row) this.#pick(row.value);
    // A name that is not listed may still be in another range.
    else this.#pick(this.#input.value === this.#nameOf(this.#chosen) ? this.#chosen : this.#input.value.trim());
  }

  #pick(value) {
    const changed = value !== this.#chosen;
    this.#chosen = value;
    this.#close();
    if (changed) this.#onPick(value);
  }

  #open() {
    if (!this.#list.hidden) return;
    this.#list.hidden = false;
    this.#input.setAttribute("aria-expanded", "true");
    this.#typed = "";
    this.#active = -1;
    this.#draw();
  }

  #close() {
    this.#list.hidden = true;
    this.#typed = "";
    this.#input.setAttribute("aria-expanded", "false");
    this.#input.removeAttribute("aria-activedescendant");
    this.#showChosen();
  }

  #showChosen() {
    this.#input.value = this.#chosen ? this.#nameOf(this.#chosen) : "";
  }

  #nameOf(value) {
    return this.#choices.find((choice) => choice.value === value)?.text ?? value;
  }

  #visible() {
    const wanted = this.#typed.toLowerCase();
    if (!wanted) return [ALL, ...this.#choices].slice(0, SHOWN_MAX);
    const hit = (text) => text.toLowerCase().includes(wanted);
    return this.#choices.filter((choice) => hit(choice.text) || hit(choice.value)).slice(0, SHOWN_MAX);
  }

  #draw() {
    const total = this.#choices.reduce((sum, choice) => sum + choice.ns, 0);
    const rows = this.#visible().map((choice, index) => this.#row(choice, index, total));
    this.#list.replaceChildren(...(rows.length ? rows : [element("li", "none", "nothing by that name")]));
    const current = rows[this.#active];
    if (current) {
      this.#input.setAttribute("aria-activedescendant", current.id);
      current.scrollIntoView({ block: "nearest" });
    } else this.#input.removeAttribute("aria-activedescendant");
  }

  #row(choice, index, total) {
    const row = element("li", choice.value === this.#chosen ? "chosen" : "");
    row.id = `${this.#input.id}-option-${index}`;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", String(index === this.#active));
    row.dataset.value = choice.value;
    row.append(element("span", "text", choice.text));
    if (choice.value) {
      row.append(element("span", "num quiet", percent(choice.ns, total)));
      row.style.setProperty("--share", total ? choice.ns / total : 0);
    }
    return row;
  }
}
