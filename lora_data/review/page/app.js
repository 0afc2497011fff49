// The review page: characters on the left, their pictures in the middle, the one under the cursor on the right.

import { again, canRedo, decide, details, discard, load, onChange, picture, poll, redo, standing, state, undo } from "./store.js";
import { askFor, button, byId, count, el, fill } from "./dom.js";
import { ENHANCEMENTS, Look } from "./look.js";
import { Sheet } from "./sheet.js";
import { Training } from "./training.js";

const UNKNOWN = "unknown";
const VIEWS = [
  ["kept", "Kept", (row) => row.status === "kept"],
  ["flagged", "Flagged", (row) => row.status === "kept" && row.flagged],
  ["waiting", "Deblur?", (row) => row.deblur === "proposed" && row.status !== "error"],
  ["enhanced", "Enhanced", (row) => Object.keys(ENHANCEMENTS).some((name) => row[name] !== "no")],
  ["surplus", "Surplus", (row) => row.status === "surplus"],
  ["duplicate", "Duplicates", (row) => row.status === "duplicate"],
  ["rejected", "Rejected", (row) => row.status === "rejected"],
  ["all", "All", (row) => row.status !== "error"],
];
const seen = { character: null, view: "kept" }; // null: everybody
const sheet = new Sheet(byId("sheet"), { onCursor: inspect, onSelect: drawActs, onOpen: () => look.show() });
const look = new Look(sheet, { answer, act });
const training = new Training({ decide });

// -- what is shown

function names() {
  const counts = new Map();
  for (const row of state.rows) {
    if (row.status === "error") continue;
    const entry = counts.get(row.character) || { name: row.character, kept: 0, all: 0, face: null };
    entry.all += 1;
    if (row.status === "kept") {
      entry.kept += 1;
      if (!entry.face || (row.quality || 0) > (entry.face.quality || 0)) entry.face = row;
    }
    counts.set(row.character, entry);
  }
  return [...counts.values()].sort((a, b) => (a.name === UNKNOWN) - (b.name === UNKNOWN) || b.kept - a.kept || a.name.localeCompare(b.name));
}

// The numbers of the keys stay with their characters while pictures move between them.
let numbered = [];
function renumber(found) {
  const there = new Set(found.map((c) => c.name));
  numbered = numbered.filter((name) => there.has(name));
  for (const { name } of found) if (name !== UNKNOWN && !numbered.includes(name)) numbered.push(name);
}

function refresh({ keep = true } = {}) {
  const found = names();
  renumber(found);
  if (seen.character !== null && !found.some((c) => c.name === seen.character)) seen.character = null;
  byId("title").textContent = state.title;
  document.title = `${state.title} · review`;
  drawCharacters(found);
  drawViews();
  drawAbout(found);
  drawStatus();
  const of = VIEWS.find(([name]) => name === seen.view)[2];
  const rows = state.rows.filter((row) => (seen.character === null || row.character === seen.character) && of(row));
  if (seen.view === "kept" || seen.view === "all") rows.sort((a, b) => numbered.indexOf(a.character) - numbered.indexOf(b.character) || a.place - b.place);
  sheet.show(rows, { keep });
  byId("empty").hidden = rows.length > 0;
  byId("empty").textContent = seen.view === "waiting" ? "No deblurring waits for you." : seen.view === "flagged" ? "Nothing is flagged." : "No pictures here.";
}

function drawCharacters(found) {
  const everybody = { name: null, kept: state.rows.filter((r) => r.status === "kept").length };
  const focused = document.activeElement?.closest?.("#characters button")?.dataset.name;
  byId("characters").replaceChildren(...[everybody, ...found].map((c) => {
    const number = c.name === null ? 0 : numbered.indexOf(c.name) + 1;
    const [low, high] = state.target;
    const share = c.name === null || c.name === UNKNOWN ? null : Math.min(1, c.kept / high);
    const line = el("button", {
      type: "button", class: c.name === seen.character ? "here" : "", "aria-current": c.name === seen.character ? "true" : null,
      onclick: () => { seen.character = c.name; refresh({ keep: false }); },
    },
    c.face ? el("img", { src: picture("thumbs", c.face.key), alt: "", loading: "lazy" }) : el("span", { class: "noface" }),
    el("span", { class: "who" },
      el("bdi", {}, c.name === null ? "Everybody" : c.name === UNKNOWN ? "Nobody known" : c.name),
      share === null ? null : el("span", { class: "bar" }, bar(share, low / high))),
    el("span", { class: "count" }, c.kept.toLocaleString("en")),
    number >= 1 && number <= 9 ? el("kbd", { "aria-label": `key ${number}` }, number) : el("span"));
    line.dataset.name = c.name ?? "";
    return el("li", {}, line);
  }));
  if (focused !== undefined) byId("characters").querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
}

function bar(share, wanted) {
  const filled = el("i", { class: share >= wanted ? "enough" : "" });
  filled.style.width = `${share * 100}%`;
  const mark = el("i", { class: "mark" });
  mark.style.left = `${wanted * 100}%`;
  const whole = document.createDocumentFragment();
  whole.append(filled, mark);
  return whole;
}

function drawViews() {
  const rows = state.rows.filter((row) => seen.character === null || row.character === seen.character);
  byId("views").replaceChildren(...VIEWS.map(([name, label, of]) => {
    const number = rows.reduce((sum, row) => sum + (of(row) ? 1 : 0), 0);
    const one = button(label, () => { seen.view = name; refresh({ keep: false }); }, { "aria-pressed": String(name === seen.view), class: number ? "" : "none" });
    one.append(" ", el("span", {}, number.toLocaleString("en")));
    return one;
  }));
}

function drawAbout(found) {
  const about = byId("about");
  const [low, high] = state.target;
  const c = found.find((one) => one.name === seen.character);
  if (!c || c.name === UNKNOWN) {
    about.replaceChildren(el("h2", {}, c ? "Nobody known" : "Everybody"),
      el("p", { class: "dim" }, c ? "Give these a name, move them to a character, or leave them." : `${count(found.filter((f) => f.name !== UNKNOWN).length, "character", "characters")}, ${low} to ${high} pictures wanted of each`));
    return;
  }
  const rest = c.kept < low ? `${low - c.kept} more to reach ${low}` : c.kept <= high ? `enough: ${low} to ${high} are wanted` : `${c.kept - high} more than ${high}`;
  const told = state.settings[c.name] || {};
  const marks = [told.symmetric && "symmetric", told.augment && "own augmentation"].filter(Boolean);
  about.replaceChildren(
    el("h2", {}, el("bdi", {}, c.name)),
    el("p", { class: "dim" }, `${count(c.kept, "picture", "pictures")} kept of ${c.all.toLocaleString("en")} · ${rest}${marks.length ? ` · ${marks.join(", ")}` : ""}`),
    el("div", { class: "character-acts" },
      button("Name", () => act("n"), { title: "N" }), button("Merge", () => act("m"), { title: "M" }), button("Training", () => act("p"), { title: "P" })));
}

function drawStatus() {
  const saved = byId("saved");
  saved.textContent = state.unsaved.length ? `${count(state.unsaved.length, "decision", "decisions")} not saved`
    : state.waiting ? `Saved · ${count(state.waiting, "decision", "decisions")} for the next run` : "Saved · as the last run left it";
  saved.className = state.unsaved.length ? "wrong" : "";
  byId("undo").disabled = !standing();
  byId("undo").title = standing() ? `Undo: ${standing().text} (Z)` : "Undo (Z)";
  byId("redo").disabled = !canRedo();
  const banner = byId("banner");
  const lines = [];
  if (state.lost) lines.push(el("p", {}, state.lost));
  if (state.problem) lines.push(el("p", {}, `${state.problem}. Until that is mended, nothing can be decided here.`));
  if (!state.writable && !state.problem) lines.push(el("p", {}, "This folder is read-only: you can look, but no decision can be saved."));
  if (state.unsaved.length) {
    lines.push(el("p", {}, `${count(state.unsaved.length, "decision is", "decisions are")} not saved: ${state.unsaved[0].error.replace(/\.$/, "")}. They wait in this browser.`),
      el("div", {}, button("Try again", again, { class: "main" }), button("Copy as TOML", copyUnsaved), button("Discard", discard)));
  }
  banner.replaceChildren(...lines);
  banner.hidden = !lines.length;
}

function copyUnsaved() {
  const text = state.unsaved.map(({ decision }) => "[[decision]]\n" + Object.entries(decision).map(([k, v]) => `${k} = ${toml(v)}`).join("\n")).join("\n\n");
  navigator.clipboard.writeText(`${text}\n`);
}

function toml(value) {
  if (value && typeof value === "object" && !Array.isArray(value)) return `{ ${Object.entries(value).map(([k, v]) => `${k} = ${toml(v)}`).join(", ")} }`;
  return Array.isArray(value) ? `[${value.map(toml).join(", ")}]` : JSON.stringify(value);
}

// -- the picture under the cursor

let asked = 0;
function inspect(row) {
  const panel = byId("inspector");
  if (!row) { panel.replaceChildren(el("p", { class: "dim" }, "No picture.")); return; }
  const mine = (asked += 1);
  const facts = el("dl", { class: "numbers" });
  const shown = el("div", { class: "pair" }, shot("before", row, "as it came"), shot("thumbs", row, "finished"));
  const why = [row.status, row.reason && row.reason.toLowerCase(), row.verdict].filter(Boolean).join(" · ");
  fill(panel, shown,
    el("p", { class: "key" }, el("bdi", {}, row.key)),
    el("p", {}, el("b", { class: row.status }, why), row.reviewed ? el("span", { class: "dim" }, " by you") : null),
    el("p", { class: "dim" }, el("bdi", {}, row.character), row.changed ? " · changed since the last run" : ""),
    row.flagged ? el("p", { class: "flag" }, `Flagged: ${row.flagged.toLowerCase()}`) : null,
    row.near ? el("p", { class: "dim" }, "Nearest kept: ", button(row.near, () => goTo(row.near), { class: "link" })) : null,
    el("div", { class: "line" }, button("Look closely", () => look.show(), { title: "Enter" })),
    facts);
  setTimeout(async () => {
    if (mine !== asked) return; // somebody is moving fast
    let found;
    try { found = await details(row.key); } catch { return; }
    if (mine !== asked) return;
    const lines = [["file", found.source], ...found.numbers];
    if (found.caption) lines.push(["caption", found.caption]);
    facts.replaceChildren(...lines.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, el("bdi", {}, text)))));
  }, 60);
}

function shot(kind, row, text) {
  const image = el("img", { src: picture(kind, row.key), alt: text });
  const figure = el("figure", {}, image, el("figcaption", {}, text));
  image.onerror = () => { figure.classList.add("nothing"); };
  return figure;
}

function goTo(key) {
  const row = state.byKey.get(key);
  if (!row) return;
  seen.character = row.character;
  seen.view = VIEWS.find(([, , of]) => of(row))?.[0] || "all";
  refresh({ keep: false });
  sheet.move(sheet.rows.indexOf(row));
}

// -- acts

function drawActs(rows) {
  const bar = byId("acts");
  const many = sheet.selected.size;
  const focus = bar.contains(document.activeElement) ? document.activeElement.dataset.act : null;
  const acts = [
    ["Enter", "Look", rows.length > 0],
    ["x", "Reject", rows.some((r) => r.status !== "rejected")],
    ["k", "Keep", rows.some((r) => r.restorable && (r.status !== "kept" || r.flagged))],
    ["g", "Move", rows.length > 0],
    ["s", "Split off", rows.length > 0],
    ...(rows.some((r) => open(r, "accept").length) ? [["y", "Accept", true], ["t", "Take back", true]] : []),
  ];
  bar.replaceChildren(
    el("span", { class: "how-many", "aria-live": "polite" }, many ? `${many.toLocaleString("en")} selected` : rows.length ? "1 picture" : "none"),
    ...acts.map(([key, label, can]) => {
      const one = button("", () => act(key), { disabled: !can, title: key.length > 1 ? key : key.toUpperCase() });
      one.dataset.act = key;
      one.append(label, el("kbd", { "aria-hidden": true }, key.length > 1 ? "↵" : key.toUpperCase()));
      return one;
    }),
    many ? button("Clear", () => sheet.clear()) : "");
  if (focus) bar.querySelector(`[data-act="${focus}"]`)?.focus();
}

// Enhancements of a picture that can be accepted, or refused.
function open(row, what) {
  return Object.keys(ENHANCEMENTS).filter((name) => what === "accept" ? row[name] === "proposed" : row[name] === "proposed" || row[name] === "applied");
}

const keys = (rows) => rows.map((row) => row.key);

async function answer(what, enhancement, rows) {
  if (!rows.length) return;
  await decide({ do: what, enhancement, instances: keys(rows) });
  if (look.open) look.show();
}

// A few pictures that stand for a character: decisions name pictures, because the next run may number anew.
function standFor(name) {
  const own = state.rows.filter((row) => row.character === name && row.status !== "error");
  const best = [...own].sort((a, b) => (b.status === "kept") - (a.status === "kept") || (b.quality || 0) - (a.quality || 0) || (a.key < b.key ? -1 : 1));
  return keys(best.slice(0, 3));
}

async function act(key) {
  const rows = sheet.chosen();
  const others = numbered.filter((name) => name !== seen.character);
  if (key === "Enter") look.show();
  else if (key === "x") {
    const these = rows.filter((r) => r.status !== "rejected" && r.status !== "error");
    if (these.length) await decide({ do: "reject", instances: keys(these) });
  } else if (key === "k") {
    const these = rows.filter((r) => r.restorable && (r.status !== "kept" || r.flagged));
    if (these.length) await decide({ do: "restore", instances: keys(these) });
  } else if (key === "g" || /^[1-9]$/.test(key)) {
    if (!rows.length) return;
    const to = key === "g" ? await askFor(`Move ${count(rows.length, "picture", "pictures")}`, { label: "To", names: others, action: "Move", hint: "Only these pictures; a new name makes a new character." }) : numbered[Number(key) - 1];
    const these = rows.filter((r) => r.character !== to);
    if (to && these.length) await decide({ do: "move", instances: keys(these), character: to });
  } else if (key === "s") {
    if (!rows.length) return;
    const name = await askFor(`Split ${count(rows.length, "picture", "pictures")} off`, { label: "As", value: freeName(), action: "Split", hint: "These pictures become a character of their own." });
    if (name) await decide({ do: "split", instances: keys(rows), character: name });
  } else if (key === "n") {
    const who = seen.character ?? sheet.row?.character;
    if (!who) return;
    const unknown = who === UNKNOWN;
    const name = await askFor(unknown ? `Name ${count(rows.length, "picture", "pictures")}` : `Name ${who}`, { label: "Name", value: unknown ? "" : who, names: [], action: "Name", hint: unknown ? "Only these pictures." : "For everybody whom a run takes for the same." });
    if (!name || name === who || name === UNKNOWN) return;
    if (seen.character === who) seen.character = name;
    await decide(unknown ? { do: "move", instances: keys(rows), character: name } : { do: "name", instances: standFor(who), character: name });
  } else if (key === "m") {
    const who = [...new Set(rows.map((r) => r.character))].filter((name) => name !== UNKNOWN);
    const from = who.length > 1 ? who : [seen.character ?? who[0]].filter(Boolean);
    if (!from.length || from[0] === UNKNOWN) return;
    const to = await askFor(`Merge ${from.join(" and ")}`, { label: from.length > 1 ? "As" : "Into", value: from.length > 1 ? from[0] : "", names: from.length > 1 ? from : numbered.filter((name) => name !== from[0]), action: "Merge", hint: "All pictures of both become one character." });
    if (!to) return;
    const all = [...new Set([...from, ...(numbered.includes(to) ? [to] : [])])];
    if (all.length < 2) return;
    seen.character = seen.character === null ? null : to;
    await decide({ do: "merge", instances: all.flatMap(standFor), character: to });
  } else if (key === "y" || key === "t") {
    const what = key === "y" ? "accept" : "refuse";
    const by = new Map();
    for (const row of rows) for (const name of open(row, what)) by.set(name, [...(by.get(name) || []), row]);
    // with "take back" on several enhancements, what waits goes first: the rest has its own button in the closer look
    const pick = by.has("deblur") && rows.some((r) => r.deblur === "proposed") ? "deblur" : by.size === 1 ? [...by.keys()][0] : null;
    if (pick) await answer(what, pick, by.get(pick));
    else if (by.size) look.show();
  } else if (key === "p") {
    const who = seen.character ?? sheet.row?.character;
    if (who && who !== UNKNOWN) training.show(who);
  }
  if (look.open && key !== "Enter") look.show();
}

function freeName() {
  for (let i = 0; ; i += 1) {
    const name = `character_${String(i).padStart(2, "0")}`;
    if (!state.rows.some((row) => row.character === name)) return name;
  }
}

// -- keys

const grounds = ["", "black", "white"];
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && /^[zy]$/i.test(event.key) && !/^(input|textarea)$/i.test(event.target.tagName)) {
      event.preventDefault();
      if (event.key.toLowerCase() === "y" || event.shiftKey) redo(); else undo();
    }
    return;
  }
  const typing = /^(input|select|textarea)$/i.test(event.target.tagName) && event.target.type !== "range" && event.target.type !== "checkbox";
  if (typing || byId("ask").open || byId("keys").open || byId("training").open) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (look.open) {
    if (/^[xkytgs1-9z]$/.test(key)) { event.preventDefault(); if (key === "z") { event.shiftKey ? redo() : undo(); } else act(key); }
    return;
  }
  const button = event.target.closest?.("button, a, input");
  if (button && (key === "Enter" || key === " " || (event.target.type === "range" && key.startsWith("Arrow")))) return;
  const columns = sheet.columns, page = columns * Math.max(1, Math.floor(byId("sheet").clientHeight / sheet.side) - 1);
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
  if (key in moves) {
    const to = Math.max(0, Math.min(sheet.rows.length - 1, sheet.cursor + moves[key]));
    sheet.move(to, { extend: event.shiftKey });
  } else if (key === " ") sheet.toggleCursor();
  else if (key === "Enter") look.show();
  else if (key === "Escape") sheet.clear();
  else if (key === "a") sheet.selectAll();
  else if (key === "z") { if (event.shiftKey) redo(); else undo(); }
  else if (key === "?") byId("keys").showModal();
  else if (key === "[" || key === "]") {
    const order = [null, ...names().map((c) => c.name)];
    const at = order.indexOf(seen.character) + (key === "]" ? 1 : -1);
    seen.character = order[(at + order.length) % order.length];
    refresh({ keep: false });
  } else if (key === "v") {
    const at = VIEWS.findIndex(([name]) => name === seen.view) + (event.shiftKey ? VIEWS.length - 1 : 1);
    seen.view = VIEWS[at % VIEWS.length][0];
    refresh({ keep: false });
  } else if (key === "b") {
    const at = grounds.indexOf(document.body.dataset.ground || "");
    document.body.dataset.ground = grounds[(at + 1) % grounds.length];
  } else if (key === "-" || key === "+" || key === "=") resize(sheet.side + (key === "-" ? -24 : 24));
  else if (/^[xkgsnmytp1-9]$/.test(key)) act(key);
  else return;
  event.preventDefault();
});

function resize(side) {
  sheet.side = Math.max(72, Math.min(240, side));
  byId("size").value = sheet.side;
  sheet.draw(true);
  sheet.reveal();
}

byId("undo").addEventListener("click", () => undo());
byId("redo").addEventListener("click", () => redo());
byId("help").addEventListener("click", () => byId("keys").showModal());
byId("select").addEventListener("click", () => {
  sheet.tapping = !sheet.tapping;
  byId("select").setAttribute("aria-pressed", String(sheet.tapping));
  if (!sheet.tapping) sheet.clear();
});
byId("size").addEventListener("input", (event) => resize(Number(event.target.value)));
window.addEventListener("beforeunload", (event) => { if (state.unsaved.length) event.preventDefault(); });

onChange(() => { refresh(); if (look.open) look.show(); });
sheet.side = window.innerWidth < 600 ? 84 : 120;
byId("size").value = sheet.side;
load().then(() => {
  byId("sheet").focus({ preventScroll: true });
  setInterval(() => { if (!document.hidden) poll(); }, 2000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
}).catch((error) => {
  byId("saved").textContent = "Nothing could be loaded";
  byId("banner").hidden = false;
  byId("banner").replaceChildren(el("p", {}, error.message));
});
