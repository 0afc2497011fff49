// A few words for making elements. Text is always text: nothing that a file is called ever becomes markup.

export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && key !== "list") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...present(children));
  return element;
}

const present = (children) => children.filter((child) => child !== null && child !== undefined && child !== false);

export const fill = (element, ...children) => element.replaceChildren(...present(children));

export const byId = (id) => document.getElementById(id);

export const count = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export function button(text, act, properties = {}) {
  return el("button", { type: "button", onclick: act, ...properties }, text);
}

// Ask for a line of text, with the names that there are as suggestions. Resolves with it, or null.
export function askFor(title, { label, names = [], value = "", hint = "", action = "OK" }) {
  const dialog = byId("ask");
  return new Promise((resolve) => {
    const input = el("input", { type: "text", value, autocomplete: "off", spellcheck: false, maxLength: 80, required: true, "aria-describedby": "ask-hint" });
    input.setAttribute("list", "ask-names");
    const form = el("form", { method: "dialog" },
      el("h2", { id: "ask-title" }, title),
      el("label", {}, el("span", {}, label), input),
      el("datalist", { id: "ask-names" }, ...names.map((name) => el("option", { value: name }))),
      el("p", { class: "dim", id: "ask-hint" }, hint),
      el("div", { class: "choices" }, ...names.slice(0, 12).map((name) => button(name, () => { input.value = name; input.focus(); }))),
      el("div", { class: "end" }, button("Cancel", () => dialog.close()), el("button", { value: "ok", class: "main" }, action)),
    );
    dialog.replaceChildren(form);
    dialog.returnValue = "";
    dialog.onclose = () => resolve(dialog.returnValue === "ok" && input.value.trim() ? input.value.trim() : null);
    dialog.showModal();
    input.select();
  });
}
