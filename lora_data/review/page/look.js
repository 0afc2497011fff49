// Before and after, one over the other with a line to drag; and what was done to the picture.

import { details, picture } from "./store.js";
import { button, byId, el } from "./dom.js";

export const ENHANCEMENTS = {
  face_restore: "Face restoration", upscale: "Super-resolution", deblur: "Deblurring", matte: "Matte", colour: "Colour",
};
const WORDS = { applied: "applied", proposed: "waits for you", taken_back: "taken back", no: "not touched" };

// Which two pictures are compared: a proposal with what is there without it, or what came with what is finished.
export function pairOf(row, kinds) {
  const has = (kind) => kinds.includes(kind);
  const finished = has("final") ? "final" : has("thumbs") ? "thumbs" : null;
  if (has("accepted") && finished) {
    return { before: finished, after: "accepted", names: ["as it is", "deblurred"] };
  }
  const came = has("came") ? "came" : has("before") ? "before" : null;
  if (came && finished) return { before: came, after: finished, names: ["as it came", "finished"] };
  return { before: null, after: finished || came, names: ["", came && !finished ? "as it came" : "finished"] };
}

export class Look {
  constructor(sheet, { answer, act }) {
    this.sheet = sheet;
    this.told = { answer, act };
    this.dialog = byId("look");
    this.dialog.addEventListener("keydown", (event) => this.key(event));
  }

  get open() { return this.dialog.open; }

  async show() {
    const row = this.sheet.row;
    if (!row) return;
    const asked = (this.asked = {});
    let found;
    try { found = await details(row.key); } catch { return; }
    if (asked !== this.asked) return; // somebody moved on meanwhile
    const pair = pairOf(row, found.kinds);
    const place = el("p", { class: "dim" }, `${this.sheet.cursor + 1} of ${this.sheet.rows.length}`);
    const status = [row.status, row.reason && row.reason.toLowerCase(), row.verdict].filter(Boolean).join(", ");
    this.dialog.replaceChildren(
      el("div", { class: "look-head" },
        el("div", {}, el("h2", { id: "look-title" }, el("bdi", {}, row.key)), el("p", { class: "dim" }, `${row.character} · ${status}`)),
        place,
        button("Previous", () => this.step(-1)), button("Next", () => this.step(1)),
        button("Close", () => this.dialog.close()),
      ),
      this.slider(row, pair),
      el("div", { class: "look-acts" },
        ...found.enhancements.filter((e) => e.outcome !== "no").map((e) => this.line(row, e)),
        el("div", { class: "end" },
          button("Reject", () => this.told.act("x"), { title: "X" }),
          button("Keep", () => this.told.act("k"), { title: "K" })),
        el("details", {}, el("summary", {}, "Its numbers"),
          el("dl", { class: "numbers" }, ...[["file", found.source], ...found.numbers, ...(found.caption ? [["caption", found.caption]] : [])]
            .map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, el("bdi", {}, text)))))),
      ),
    );
    if (!this.dialog.open) this.dialog.showModal();
    (this.dialog.querySelector(".divide") || this.dialog).focus({ preventScroll: true });
  }

  slider(row, { before, after, names }) {
    if (!after) return el("div", { class: "compare" }, el("p", {}, "No picture was kept of this one."));
    const right = el("img", { src: picture(after, row.key), alt: names[1], draggable: false });
    if (!before) return el("div", { class: "compare" }, right);
    const left = el("img", { src: picture(before, row.key), alt: names[0], class: "over", draggable: false });
    const line = el("i", { class: "line" });
    const range = el("input", {
      type: "range", class: "divide", min: 0, max: 100, step: 0.5, value: 50,
      "aria-label": `Left of the line ${names[0]}, right of it ${names[1]}`,
    });
    const box = el("div", { class: "compare two" }, right, left, line, range,
      el("b", { class: "left" }, names[0]), el("b", { class: "right" }, names[1]));
    const move = () => {
      left.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`;
      line.style.left = `${range.value}%`;
    };
    range.addEventListener("input", move);
    move();
    return box;
  }

  line(row, { name, outcome, reason, review }) {
    const shift = row[`${name}_hue_shift`], gain = row[`${name}_gain`];
    const facts = [
      WORDS[outcome] || outcome, reason && reason.toLowerCase(),
      typeof gain === "number" && `gain ${gain}`, typeof shift === "number" && `hue ${shift}°`,
    ].filter(Boolean).join(" · ");
    const accept = outcome === "proposed" || (outcome === "taken_back" && review === "refuse");
    const refuse = outcome === "proposed" || outcome === "applied";
    return el("div", { class: "enhancement" },
      el("b", {}, ENHANCEMENTS[name]), el("span", {}, facts),
      accept && button("Accept", () => this.told.answer("accept", name, [row]), { class: "main", title: "Y" }),
      refuse && button("Take back", () => this.told.answer("refuse", name, [row]), { title: "T" }));
  }

  step(by) {
    this.sheet.move(this.sheet.cursor + by);
    this.show();
  }

  key(event) {
    const range = this.dialog.querySelector(".divide");
    if (event.key === "ArrowDown" || event.key === "]" || event.key === "PageDown") { this.step(1); event.preventDefault(); }
    if (event.key === "ArrowUp" || event.key === "[" || event.key === "PageUp") { this.step(-1); event.preventDefault(); }
    if (range && (event.key === "," || event.key === ".")) {
      range.value = event.key === "," ? 0 : 100;
      range.dispatchEvent(new Event("input"));
    }
  }
}
