// The contact sheet: as many pictures as there are, of which only those in sight (and two lines more) are in the page.

import { picture } from "./store.js";

const MARGIN = 2; // lines above and below what is in sight

export class Sheet {
  constructor(element, { onCursor, onSelect, onOpen }) {
    this.element = element;
    this.rows = [];
    this.cursor = 0;
    this.anchor = 0;
    this.selected = new Set(); // of keys
    this.tapping = false; // whether a tap selects
    this.side = 120;
    this.told = { onCursor, onSelect, onOpen };
    this.tiles = new Map(); // place: element
    this.strip = document.createElement("div");
    this.strip.className = "strip";
    this.strip.setAttribute("role", "presentation");
    element.append(this.strip);
    element.addEventListener("scroll", () => this.schedule(), { passive: true });
    element.addEventListener("click", (event) => this.clicked(event));
    element.addEventListener("dblclick", (event) => { if (this.at(event) >= 0) this.told.onOpen(); });
    new ResizeObserver(() => this.draw(true)).observe(element);
  }

  show(rows, { keep = true } = {}) {
    const key = this.row?.key;
    this.rows = rows;
    const place = keep && key !== undefined ? rows.findIndex((row) => row.key === key) : 0;
    // what left the view makes room for the one behind it
    this.cursor = Math.max(0, Math.min(place >= 0 ? place : this.cursor, rows.length - 1));
    if (!keep) { this.cursor = 0; this.element.scrollTop = 0; }
    const there = new Set(rows.map((row) => row.key));
    for (const one of [...this.selected]) if (!there.has(one)) this.selected.delete(one);
    this.draw(true);
    this.told.onCursor(this.row);
    this.told.onSelect(this.chosen());
  }

  get row() { return this.rows[this.cursor]; }

  // What an act is about: the selected, or the one under the cursor.
  chosen() {
    if (this.selected.size) return this.rows.filter((row) => this.selected.has(row.key));
    return this.row ? [this.row] : [];
  }

  get columns() {
    return Math.max(1, Math.floor((this.element.clientWidth - 12) / this.side));
  }

  schedule() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.draw(false); });
  }

  draw(all) {
    const { columns, side } = this;
    const width = Math.floor((this.element.clientWidth - 12) / columns);
    this.strip.style.height = `${Math.ceil(this.rows.length / columns) * side + 12}px`;
    const first = Math.max(0, Math.floor(this.element.scrollTop / side) - MARGIN);
    const last = Math.ceil((this.element.scrollTop + this.element.clientHeight) / side) + MARGIN;
    const from = first * columns, to = Math.min(this.rows.length, last * columns);
    for (const [place, tile] of this.tiles) {
      if (all || place < from || place >= to) { if (place < from || place >= to || !this.rows[place]) { tile.remove(); this.tiles.delete(place); } }
    }
    for (let place = from; place < to; place += 1) {
      let tile = this.tiles.get(place);
      const fresh = !tile;
      if (fresh) {
        tile = document.createElement("div");
        tile.className = "tile";
        tile.setAttribute("role", "option");
        const image = document.createElement("img");
        image.decoding = "async";
        image.alt = "";
        image.draggable = false;
        tile.append(image);
        this.tiles.set(place, tile);
        this.strip.append(tile);
      }
      if (fresh || all) this.fill(tile, place, { columns, side, width });
    }
    if (this.row) this.element.setAttribute("aria-activedescendant", `tile-${this.cursor}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  fill(tile, place, { columns, side, width }) {
    const row = this.rows[place];
    tile.id = `tile-${place}`;
    tile.dataset.place = place;
    tile.style.transform = `translate(${6 + (place % columns) * width}px, ${6 + Math.floor(place / columns) * side}px)`;
    tile.style.width = `${width}px`;
    tile.style.height = `${side}px`;
    const image = tile.firstChild;
    const source = picture(row.status === "kept" || row.status === "surplus" ? "thumbs" : "before", row.key);
    if (image.getAttribute("src") !== source) {
      image.onerror = () => {
        image.onerror = () => { image.hidden = true; };
        image.src = picture(source.includes("/thumbs/") ? "before" : "thumbs", row.key);
      };
      image.hidden = false;
      image.src = source;
    }
    tile.className = ["tile", row.status, row.flagged && "flagged", row.changed && "changed", row.deblur === "proposed" && "proposed",
      place === this.cursor && "cursor"].filter(Boolean).join(" ");
    tile.setAttribute("aria-selected", String(this.selected.has(row.key)));
    tile.setAttribute("aria-posinset", place + 1);
    tile.setAttribute("aria-setsize", this.rows.length);
    const says = [row.key, row.character, row.status, row.reason, row.flagged && `flagged: ${row.flagged}`].filter(Boolean);
    tile.setAttribute("aria-label", says.join(", "));
  }

  at(event) {
    const tile = event.target.closest?.(".tile");
    return tile ? Number(tile.dataset.place) : -1;
  }

  clicked(event) {
    const place = this.at(event);
    this.element.focus({ preventScroll: true });
    if (place < 0) return;
    if (event.shiftKey) this.range(this.anchor, place);
    else if (event.ctrlKey || event.metaKey || this.tapping) { this.toggle(this.rows[place].key); this.anchor = place; }
    else { this.selected.clear(); this.anchor = place; }
    this.move(place, { keepAnchor: true });
    this.told.onSelect(this.chosen());
  }

  range(from, to) {
    this.selected.clear();
    for (let i = Math.min(from, to); i <= Math.max(from, to); i += 1) this.selected.add(this.rows[i].key);
  }

  toggle(key) { if (!this.selected.delete(key)) this.selected.add(key); }

  toggleCursor() {
    if (!this.row) return;
    this.toggle(this.row.key);
    this.anchor = this.cursor;
    this.draw(true);
    this.told.onSelect(this.chosen());
  }

  selectAll() {
    for (const row of this.rows) this.selected.add(row.key);
    this.draw(true);
    this.told.onSelect(this.chosen());
  }

  clear() {
    this.selected.clear();
    this.draw(true);
    this.told.onSelect(this.chosen());
  }

  move(place, { extend = false, keepAnchor = false } = {}) {
    if (!this.rows.length) return;
    this.cursor = Math.max(0, Math.min(this.rows.length - 1, place));
    if (extend) this.range(this.anchor, this.cursor);
    else if (!keepAnchor) this.anchor = this.cursor;
    this.reveal();
    this.draw(true);
    this.told.onCursor(this.row);
    if (extend) this.told.onSelect(this.chosen());
    else if (!this.selected.size) this.told.onSelect(this.chosen());
  }

  reveal() {
    const line = Math.floor(this.cursor / this.columns);
    const top = line * this.side, bottom = top + this.side + 12;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (bottom > this.element.scrollTop + this.element.clientHeight) this.element.scrollTop = bottom - this.element.clientHeight;
  }
}
