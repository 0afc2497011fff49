"use strict";
for (const bar of document.querySelectorAll(".sort")) {
  bar.hidden = false;
  bar.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const by = button.dataset.by;
    const value = (card) => (by in card.dataset ? Number(card.dataset[by]) : -1e9);
    const order = by === "name" ? (a, b) => (a.dataset.name < b.dataset.name ? -1 : 1) : (a, b) => value(b) - value(a);
    for (const group of bar.closest("article").querySelectorAll(".group")) {
      const grids = [...group.querySelectorAll(".cards")];
      const sizes = grids.map((grid) => grid.children.length);
      const cards = grids.flatMap((grid) => [...grid.children]).sort(order);
      grids.forEach((grid, i) => grid.append(...cards.splice(0, sizes[i])));
    }
    for (const other of bar.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
  });
}
