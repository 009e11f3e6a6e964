// What stands beside the pointer while it rests on a frame; text alone.

import { byId, element } from "./dom.js";
import { duration, fullLocation, percent } from "./format.js";

const KIND_TEXT = { kernel: "kernel", user: "user", unresolved: "no symbol", group: "group", root: "everything", other: "folded" };
const OFFSET_PX = 14;
const MARGIN_PX = 4;

export class Tooltip {
  box = byId("tooltip");

  // `whole` is the CPU time of everything shown, `zoomed` the node that fills the width, if any.
  fill(node, whole, zoomed) {
    const frame = node.frame;
    const rows = [element("b", "", node.name)];
    const where = fullLocation(frame);
    if (where) rows.push(element("span", "where", where));
    if (frame.module && frame.kind !== "kernel") rows.push(element("span", "where", frame.module));
    const facts = element("span", "facts");
    const fact = (label, time, share) => facts.append(element("i", "", label), element("span", "num", time), element("span", "num", share));
    fact("Self", duration(node.self), percent(node.self, whole));
    fact("Total", duration(node.value), percent(node.value, whole));
    if (zoomed && zoomed !== node) fact("Of zoom", "", percent(node.value, zoomed.value));
    rows.push(facts, element("span", "kind", KIND_TEXT[frame.kind] ?? frame.kind));
    this.box.replaceChildren(...rows);
    this.box.hidden = false;
  }

  place(x, y) {
    const { offsetWidth: width, offsetHeight: height } = this.box;
    const left = x + OFFSET_PX + width > innerWidth ? x - width - OFFSET_PX : x + OFFSET_PX;
    const top = y + OFFSET_PX + height > innerHeight ? y - height - OFFSET_PX : y + OFFSET_PX;
    this.box.style.left = `${Math.max(MARGIN_PX, left)}px`;
    this.box.style.top = `${Math.max(MARGIN_PX, top)}px`;
  }

  hide() {
    this.box.hidden = true;
  }
}
