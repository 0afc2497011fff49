// What training may do with a character: symmetry, and the augmentation's ranges with a preview by training's own code.

import { draw, state } from "./store.js";
import { button, byId, el } from "./dom.js";

// The strategy's limits, which the server checks: a range is symmetric about what leaves the picture alone.
const RANGES = [
  { key: "rotation", label: "Turn", max: 5, step: 0.5, text: (v) => `±${v}°`, to: (v) => [-v, v], from: ([low, high]) => Math.max(-low, high) },
  { key: "brightness", label: "Light", max: 0.1, step: 0.01, text: (v) => `±${Math.round(v * 100)} %`, to: (v) => [round(1 - v), round(1 + v)], from: ([low, high]) => round(Math.max(1 - low, high - 1)) },
  { key: "contrast", label: "Contrast", max: 0.05, step: 0.01, text: (v) => `±${Math.round(v * 100)} %`, to: (v) => [round(1 - v), round(1 + v)], from: ([low, high]) => round(Math.max(1 - low, high - 1)) },
  { key: "crop_scales", label: "Closest crop", max: 0.2, step: 0.05, text: (v) => `${Math.round((1 - v) * 100)} %`, to: (v) => (v ? [...new Set([round(1 - v), round(1 - v / 2), 1])] : [1]), from: (scales) => round(1 - Math.min(...scales)) },
  { key: "noise_std", label: "Noise", max: 0.01, step: 0.001, text: (v) => v.toFixed(3), to: (v) => v, from: (v) => v },
  { key: "noise_probability", label: "Noisy share", max: 1, step: 0.05, text: (v) => `${Math.round(v * 100)} %`, to: (v) => v, from: (v) => v },
  { key: "horizontal_flip", label: "Flipped share", max: 1, step: 0.05, text: (v) => `${Math.round(v * 100)} %`, to: (v) => v, from: (v) => v },
];
const round = (value) => Math.round(value * 1000) / 1000;
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

export class Training {
  constructor({ decide }) {
    this.dialog = byId("training");
    this.decide = decide;
  }

  async show(character) {
    const decided = state.settings[character] || {};
    this.character = character;
    this.symmetric = decided.symmetric;
    this.changes = { ...(decided.augment || {}) }; // what differs from the configuration
    this.epoch = 0;
    this.preview = el("div", { class: "draws", "aria-live": "polite" }, el("p", { class: "dim" }, "Drawing…"));
    this.said = el("p", { class: "wrong", role: "alert" });
    this.dialog.replaceChildren(el("h2", { id: "training-title" }, "Training of ", el("bdi", {}, character)), this.preview);
    this.dialog.showModal();
    await this.redraw(true);
  }

  async redraw(first = false) {
    const asked = (this.asked = {});
    let found;
    try {
      found = await draw({ character: this.character, symmetric: this.symmetric ?? null, augment: this.changes, epoch: this.epoch });
    } catch (error) {
      this.said.textContent = error.message;
      if (first) this.preview.replaceChildren(this.said, el("div", { class: "end" }, button("Close", () => this.dialog.close())));
      return;
    }
    if (asked !== this.asked) return;
    this.said.textContent = "";
    if (first) this.form(found);
    this.preview.replaceChildren(...found.rows.map((row) => this.row(row)),
      found.rows.length ? "" : el("p", { class: "dim" }, "No picture of this character is kept."));
  }

  form({ policy, symmetric, configured }) {
    this.configured = configured;
    this.policy = policy;
    const flip = RANGES.find((r) => r.key === "horizontal_flip");
    const box = el("input", { type: "checkbox", checked: symmetric, onchange: () => {
      this.symmetric = box.checked;
      if (!box.checked) { delete this.changes.horizontal_flip; flipped.value = 0; flipped.dispatchEvent(new Event("input")); }
      flipped.disabled = !box.checked;
      this.later();
    } });
    const lines = RANGES.map((range) => this.range(range, policy));
    const flipped = lines[RANGES.indexOf(flip)].querySelector("input");
    flipped.disabled = !symmetric;
    const enabled = el("select", { onchange: () => this.set("enabled", JSON.parse(enabled.value)) },
      ...[["\"auto\"", "below 300 pictures"], ["true", "always"], ["false", "never"]].map(([value, text]) =>
        el("option", { value, selected: JSON.stringify(policy.enabled) === value }, text)));
    const form = el("div", { class: "policy" },
      el("label", { class: "check" }, box, el("span", {}, "Its design has no left and right (symmetric): it may be flipped")),
      el("label", {}, el("span", {}, "Augment"), enabled),
      ...lines);
    this.dialog.replaceChildren(
      el("div", { class: "look-head" }, el("h2", { id: "training-title" }, "Training of ", el("bdi", {}, this.character)),
        button("Draw again", () => { this.epoch += 1; this.redraw(); }),
        button("As configured", () => { this.changes = {}; this.redraw(true); }),
        button("Cancel", () => this.dialog.close()),
        button("Save", () => this.save(), { class: "main" })),
      this.said, el("div", { class: "sides" }, form, this.preview));
  }

  range({ key, label, max, step, text, to, from }, policy) {
    const value = from(policy[key]);
    const says = el("output", {}, text(value));
    const input = el("input", { type: "range", min: 0, max, step, value, oninput: () => {
      says.textContent = text(Number(input.value));
      this.set(key, to(Number(input.value)));
    } });
    return el("label", {}, el("span", {}, label), input, says);
  }

  set(key, value) {
    if (same(value, this.configured[key])) delete this.changes[key];
    else this.changes[key] = value;
    this.later();
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.redraw(), 150);
  }

  row({ key, still, draws }) {
    return el("div", { class: "draw-row" },
      el("figure", {}, el("img", { src: still, alt: key }), el("figcaption", {}, "as it is")),
      ...draws.map((d) => el("figure", {}, el("img", { src: d.src, alt: `${key}, drawn` }),
        el("figcaption", {}, `crop ${d.crop.toFixed(2)}${d.missed ? ` (${d.missed})` : ""} · turn ${d.turn.toFixed(1)}°${d.flipped ? " · flipped" : ""}`,
          el("br"), `light ${d.light.toFixed(2)} · contrast ${d.contrast.toFixed(2)}${d.noise ? ` · noise ${d.noise.toFixed(3)}` : ""}`))));
  }

  async save() {
    const before = state.settings[this.character] || {};
    const done = [];
    if (this.symmetric !== undefined && this.symmetric !== before.symmetric) {
      done.push(this.decide({ do: "symmetric", character: this.character, symmetric: this.symmetric }));
    }
    if (!same(this.changes, before.augment || {})) {
      done.push(this.decide({ do: "augment", character: this.character, augment: this.changes }));
    }
    this.dialog.close();
    await Promise.all(done);
  }
}
