// Building elements. Text is always set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. "onclick": a listener; "--x": a custom property; true: an attribute without a value. */
export function element(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function drawn(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) made.style.setProperty(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child != null));
  return made;
}

/** A labelled control: the label above it, and a hint below it if there is one. */
export function field(label, control, hint = null) {
  control.id ||= `field-${counter += 1}`;
  if (hint) control.setAttribute("aria-describedby", `${control.id}-hint`);
  return element("div", { class: "field" },
    element("label", { for: control.id }, label), control,
    hint ? element("p", { class: "muted small", id: `${control.id}-hint` }, hint) : null);
}

let counter = 0;

/** A choice of [value, text] pairs. */
export function choice(options, attributes = {}) {
  return element("select", attributes, ...options.map(([value, text]) => element("option", { value }, text)));
}

/** A heading of a tab with what may be set beside it. */
export function heading(title, about, ...controls) {
  return element("div", { class: "heading" },
    element("div", { class: "heading-text" }, element("h1", {}, title), element("p", { class: "muted" }, about)),
    element("div", { class: "heading-controls" }, ...controls));
}
