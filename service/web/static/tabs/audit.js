// The audit log: newest first, filtered, checked and exported.

import { announce } from "../app/announce.js";
import { api } from "../app/api.js";
import { problemBox } from "../app/problem.js";
import { choice, element, field } from "../parts/elements.js";
import { empty } from "../parts/empty.js";
import { count } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { Latest } from "../parts/latest.js";
import { words } from "../words/en.js";
import { auditRow, auditTable } from "./audit_table.js";

const ACTIONS = ["verify", "identify", "embed", "face.enrol", "enrol", "face.erase", "subject.create", "subject.put",
  "subject.change", "subject.merge", "subject.erase", "collection.create", "collection.put", "collection.change",
  "collection.erase", "import", "export", "job.cancel", "key.create", "key.revoke", "audit.export", "denied"];
const text = words.activity;

export class Audit {
  #latest = new Latest();
  #cursor = null;
  #verdict = element("p", { class: "chain", role: "status" });
  #rows = element("tbody");
  #table = auditTable(this.#rows);
  #note = element("div");
  #more = element("button", { type: "button", class: "quiet more", hidden: true, onclick: () => this.#read(this.#cursor) },
    words.more);
  #filters = {
    action: choice([["", text.anyAction], ...ACTIONS.map((action) => [action, action])]),
    collection: choice([["", text.anyCollection]]),
    subject: element("input", { type: "search", autocomplete: "off", spellcheck: "false" }),
    key_id: element("input", { type: "search", autocomplete: "off", spellcheck: "false" }),
  };

  constructor() {
    this.element = element("section", { class: "card" },
      element("div", { class: "row wrap" },
        element("div", {}, element("h2", {}, text.audit), element("p", { class: "muted small" }, text.auditAbout)),
        element("div", { class: "person-actions" }, action("shield", text.verify, () => this.#verify()),
          action("download", text.export, () => this.#export()))),
      this.#verdict, this.#form(), this.#table, this.#note, this.#more);
  }

  async load() {
    try {
      const chosen = this.#filters.collection.value;
      const ids = (await api.collections()).map(({ id }) => element("option", { value: id }, id));
      this.#filters.collection.replaceChildren(element("option", { value: "" }, text.anyCollection), ...ids);
      this.#filters.collection.value = chosen;
      await this.#read(null);
    } catch (error) {
      this.#note.replaceChildren(problemBox(error));
    }
  }

  #form() {
    const { action, collection, subject, key_id: key } = this.#filters;
    const again = () => this.#read(null);
    action.addEventListener("change", again);
    collection.addEventListener("change", again);
    return element("form", {
      class: "filters", "aria-label": text.filters,
      onsubmit: (event) => { event.preventDefault(); again(); },
      onreset: () => { setTimeout(again); },
    },
    field(text.action, action), field(text.collection, collection), field(text.subject, subject), field(text.key, key),
    element("div", { class: "actions" }, element("button", { type: "submit", class: "primary" }, text.apply),
      element("button", { type: "reset", class: "quiet" }, text.reset)));
  }

  #read(cursor) {
    const filters = Object.fromEntries(Object.entries(this.#filters).map(([name, input]) => [name, input.value.trim()]));
    return this.#latest.run(() => api.audit({ ...filters, cursor }), (page) => {
      const rows = page.entries.map((entry) => auditRow(entry, (key) => this.#only(key)));
      if (cursor) this.#rows.append(...rows);
      else this.#rows.replaceChildren(...rows);
      this.#cursor = page.next_cursor;
      this.#more.hidden = this.#cursor == null;
      this.#table.hidden = this.#rows.children.length === 0;
      this.#note.replaceChildren(...(this.#table.hidden ? [empty("activity", text.none, text.noneAbout)] : []));
    }, (error) => this.#fail(error));
  }

  #fail(error) {
    this.#table.hidden = this.#more.hidden = true;
    this.#note.replaceChildren(problemBox(error));
  }

  #only(key) {
    this.#filters.key_id.value = key;
    this.#read(null);
  }

  async #verify() {
    try {
      const { intact, entries, broken_at: broken } = await api.auditIntact();
      this.#verdict.className = `chain ${intact ? "yes" : "no"}`;
      this.#verdict.replaceChildren(icon(intact ? "check" : "close"), intact ? text.intact(count(entries)) : text.broken(broken));
    } catch (error) {
      this.#verdict.replaceChildren(problemBox(error));
    }
  }

  async #export() {
    try {
      const address = URL.createObjectURL(await api.auditExport());
      element("a", { href: address, download: text.exportName }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
      announce(text.exportName);
    } catch (error) {
      this.#verdict.replaceChildren(problemBox(error));
    }
  }
}

const action = (pictogram, label, onclick) => element("button",
  { type: "button", class: "quiet", onclick }, icon(pictogram), element("span", {}, label));
