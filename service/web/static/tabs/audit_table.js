// Entries of the audit log as rows; on a phone each row becomes a small card, so every cell names its column.

import { element } from "../parts/elements.js";
import { count, dateTime } from "../parts/format.js";
import { words } from "../words/en.js";

const text = words.activity;

export function auditTable(rows) {
  const heads = Object.values(text.columns).map((name) => element("th", { scope: "col" }, name));
  return element("table", { class: "audit", "aria-label": text.audit }, element("thead", {}, element("tr", {}, ...heads)), rows);
}

/** only(key id): show this key's entries only. */
export function auditRow(entry, only) {
  const refused = entry.outcome >= 400;
  return element("tr", {},
    cell("number", element("span", { class: "muted" }, count(entry.number))),
    cell("at", element("time", { datetime: entry.at }, dateTime(entry.at))),
    cell("actor", entry.key_id
      ? element("button", { type: "button", class: "link", title: text.byKey, onclick: () => only(entry.key_id) }, entry.actor)
      : element("span", { class: "muted" }, entry.actor || text.noActor)),
    cell("action", element("code", {}, entry.action), details(entry.details)),
    cell("about", about(entry)),
    cell("outcome", element("span", { class: `badge ${refused ? "no" : "yes"}` }, String(entry.outcome))));
}

const cell = (column, ...content) => element("td", { "data-label": text.columns[column] }, element("div", {}, ...content));

function about({ collection_id: collection, subject_id: subject, subject_key: key }) {
  const whom = subject ?? (key == null ? null : text.erased(key));
  return [collection, whom].filter(Boolean).join(" / ") || "–";
}

function details(given) {
  const parts = Object.entries(given ?? {}).map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`);
  return parts.length ? element("span", { class: "muted small" }, parts.join(", ")) : null;
}
