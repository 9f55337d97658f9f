// The tabs, after the ARIA practice: arrow keys, Home and End move; only the shown one is in the tab order.

import { element } from "../parts/elements.js";
import { icon } from "../parts/icons.js";
import { words } from "../words/en.js";

const STEPS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 };

export class TabList {
  #tabs;

  /** names: of the tabs. choose: called with a name when the user picks it. */
  constructor(names, choose) {
    this.#tabs = new Map(names.map((name) => [name, tab(name, choose)]));
    this.element = element("div", { class: "tabs", role: "tablist", "aria-label": words.tabs.label },
      ...this.#tabs.values());
    this.element.addEventListener("keydown", (event) => {
      const to = destination(event.key, names.indexOf(event.target.dataset.tab), names.length);
      if (to === null) return;
      event.preventDefault();
      choose(names[to]);
      this.#tabs.get(names[to]).focus();
    });
  }

  select(chosen) {
    for (const [name, button] of this.#tabs) {
      button.setAttribute("aria-selected", String(name === chosen));
      button.tabIndex = name === chosen ? 0 : -1;
    }
  }
}

export const panelOf = (name) => element("section",
  { id: `panel-${name}`, class: `panel panel-${name}`, role: "tabpanel", "aria-labelledby": `tab-${name}`, hidden: true });

function tab(name, choose) {
  return element("button", {
    type: "button", class: "tab", role: "tab", id: `tab-${name}`, "data-tab": name,
    "aria-controls": `panel-${name}`, "aria-selected": "false", onclick: () => choose(name),
  }, icon(name), element("span", {}, words.tabs[name]));
}

function destination(key, at, count) {
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  return key in STEPS ? (at + STEPS[key] + count) % count : null;
}
