// What the server knows: rows, decisions, settings. Every decision is sent at once; one that could not be saved stays
// here, and in the browser's own storage, until it is.

const base = new URL(".", location.href);
const own = "lora-data-unsaved:";

export const state = {
  version: 0, title: "", input: "", target: [200, 300], columns: [], rows: [], // rows: objects by column
  decisions: [], settings: {}, waiting: 0, writable: true, problem: null,
  unsaved: [], // [{decision, error}]
  lost: null, // why the server does not answer
  stamp: "0", // of the run: part of every picture's address
};

const listeners = [];
export function onChange(listener) { listeners.push(listener); }
function changed(rows) { for (const listener of listeners) listener(rows); }

export function picture(kind, key) { return `picture/${kind}/${encodeURIComponent(key)}.webp?${state.stamp}`; }

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(new URL(path, base), options);
  } catch {
    const error = new Error("The server does not answer. Start lora-data review again.");
    error.offline = true;
    throw error;
  }
  const content = await answer.json().catch(() => ({ error: `The server answered with ${answer.status}.` }));
  if (!answer.ok) {
    const error = new Error(content.error);
    error.status = answer.status;
    throw error;
  }
  return content;
}

function head(content) {
  for (const name of ["version", "waiting", "problem", "writable", "decisions", "settings"]) state[name] = content[name];
}

const asRow = (values) => Object.fromEntries(state.columns.map((name, i) => [name, values[i]]));

export async function load() {
  const content = await ask("api/state");
  head(content);
  Object.assign(state, { title: content.title, input: content.input, target: content.target, columns: content.columns });
  state.rows = content.rows.map(asRow);
  state.rows.forEach((row, place) => { row.place = place; });
  state.byKey = new Map(state.rows.map((row) => [row.key, row]));
  state.stamp = String(content.version);
  recall();
  changed(null);
}

function take(content) {
  if (content.reload) return load();
  const before = JSON.stringify([state.waiting, state.problem, state.writable, state.decisions.length, state.settings, state.lost]);
  head(content);
  state.lost = null;
  for (const [place, values] of content.rows) Object.assign(state.rows[place], asRow(values));
  const after = JSON.stringify([state.waiting, state.problem, state.writable, state.decisions.length, state.settings, null]);
  if (content.rows.length || before !== after) changed(content.rows.map(([place]) => state.rows[place]));
  return null;
}

export async function poll() {
  try {
    await take(await ask(`api/changes?since=${state.version}`));
  } catch (error) {
    if (state.lost !== error.message) { state.lost = error.message; changed([]); }
  }
}

export const details = (key) => ask(`api/instance/${encodeURIComponent(key)}`);
export const draw = (asked) => ask("api/draw", asked);

// One after the other: the order of the file is the order in which a person decided.
let queue = Promise.resolve();
const undone = [];

export function decide(decision) {
  undone.length = 0;
  return send({ id: newId(), ...decision });
}

function send(decision) {
  const sent = queue.then(() => deliver(decision));
  queue = sent.catch(() => {});
  return sent;
}

async function deliver(decision) {
  try {
    await take(await ask("api/decide", { ...decision, since: state.version }));
    mine.push(decision.id);
    forget(decision);
    return true;
  } catch (error) {
    forget(decision);
    state.unsaved.push({ decision, error: error.message });
    remember();
    changed([]);
    return false;
  }
}

const mine = []; // what this page decided, so that two pages do not undo each other
export const standing = () => {
  const there = new Map(state.decisions.map((d) => [d.id, d]));
  const last = [...mine].reverse().find((id) => there.has(id));
  return last ? there.get(last) : state.decisions[state.decisions.length - 1];
};

export async function undo(id) {
  const decision = id ? state.decisions.find((d) => d.id === id) : standing();
  if (!decision) return null;
  if (await send({ id: newId(), do: "undo", of: decision.id })) undone.push(decision);
  return decision;
}

export const canRedo = () => undone.length > 0;

export async function redo() {
  const decision = undone.pop();
  if (decision) await send({ ...decision.table, id: newId() });
  return decision;
}

export async function again() {
  const waiting = state.unsaved.splice(0);
  remember();
  for (const { decision } of waiting) await send(decision);
}

export function discard() {
  state.unsaved.length = 0;
  remember();
  changed([]);
}

const place = () => own + state.input;

function remember() {
  try {
    if (state.unsaved.length) localStorage.setItem(place(), JSON.stringify(state.unsaved));
    else localStorage.removeItem(place());
  } catch { /* a browser that stores nothing: they stay on this page */ }
}

function recall() {
  if (state.unsaved.length) return;
  try {
    const found = JSON.parse(localStorage.getItem(place()) || "[]");
    if (Array.isArray(found)) state.unsaved = found.filter((u) => u && u.decision);
  } catch { /* as above */ }
}

function forget(decision) {
  state.unsaved = state.unsaved.filter((u) => u.decision.id !== decision.id);
  remember();
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}
