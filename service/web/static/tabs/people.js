// The people of a collection: searched, and shown part by part.

import { api } from "../app/api.js";
import { problemBox } from "../app/problem.js";
import { hashOf } from "../app/router.js";
import { session } from "../app/session.js";
import { element } from "../parts/elements.js";
import { empty } from "../parts/empty.js";
import { date, plural } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { Latest } from "../parts/latest.js";
import { words } from "../words/en.js";
import { Portraits } from "./portraits.js";

const TYPING_PAUSE = 200; // milliseconds
const text = words.gallery;

export class People {
  #latest = new Latest();
  #portraits;
  #cursor = null;
  #timer = null;
  #list = element("ul", { class: "people", "aria-label": text.heading });
  #note = element("div");
  #search = element("input", { type: "search", placeholder: text.searchHint, "aria-label": text.search, autocomplete: "off",
    oninput: () => this.#typed() });
  #more = element("button", { type: "button", class: "quiet more", hidden: true, onclick: () => this.#read(this.#cursor) },
    words.more);

  constructor(collection) {
    this.collection = collection;
    this.#portraits = new Portraits(collection);
    this.element = element("section", { class: "card" },
      element("div", { class: "row" }, element("h2", {}, text.heading),
        element("div", { class: "search" }, icon("search"), this.#search)),
      this.#list, this.#note, this.#more);
  }

  /** Read the list from its start. */
  load() { return this.#read(null); }

  #typed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.load(), TYPING_PAUSE);
  }

  #read(cursor) {
    const search = this.#search.value.trim();
    return this.#latest.run(() => api.subjects(this.collection, { search, cursor }), (page) => {
      const entries = page.subjects.map((subject) => this.#entry(subject));
      if (cursor) this.#list.append(...entries);
      else this.#list.replaceChildren(...entries);
      this.#cursor = page.next_cursor;
      this.#more.hidden = this.#cursor === null;
      this.#list.hidden = this.#list.children.length === 0;
      this.#note.replaceChildren(...(this.#list.hidden ? [nobody(search)] : []));
    }, (error) => {
      this.#list.replaceChildren();
      this.#more.hidden = true;
      this.#note.replaceChildren(problemBox(error));
    });
  }

  #entry(subject) {
    const facts = [subject.name === subject.subject_id ? null : subject.subject_id,
      plural(subject.faces, text.faces), text.since(date(subject.created_at))];
    return element("li", {},
      element("a", { href: hashOf("gallery", this.collection, subject.subject_id) },
        this.#portraits.of(subject),
        element("span", { class: "person-text" }, element("b", {}, subject.name),
          element("span", { class: "muted small" }, facts.filter(Boolean).join(" · "))),
        icon("chevron")));
  }
}

function nobody(search) {
  if (search) return empty("search", text.notFound, text.notFoundAbout(search));
  return empty("gallery", text.nobody, session.may("enrol") ? text.nobodyAbout : text.nobodyRead);
}
