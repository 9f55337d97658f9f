// One person: name, faces, and what may be done with them.

import { api } from "../app/api.js";
import { problemBox } from "../app/problem.js";
import { go, hashOf } from "../app/router.js";
import { session } from "../app/session.js";
import { ask } from "../parts/dialogs.js";
import { element, field } from "../parts/elements.js";
import { date, plural } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { words } from "../words/en.js";
import { Enrolment } from "./enrolment.js";
import { Faces } from "./faces.js";
import { askMerge } from "./merging.js";
import { Portraits } from "./portraits.js";

const text = words.person;

export class Person {
  #head = element("div", { class: "person-head" });
  #faces;
  #enrolment = null;

  constructor(collection, subject) {
    this.collection = collection;
    this.subject = subject;
    this.#faces = new Faces(collection, subject, () => this.load());
    if (session.may("enrol")) this.#enrolment = new Enrolment(collection, { subject, finished: () => this.load() });
    this.element = element("div", { class: "person-page" },
      element("a", { class: "back", href: hashOf("gallery", collection) }, icon("back"), words.gallery.back),
      this.#head,
      element("div", { class: this.#enrolment ? "split" : "" }, this.#faces.element, this.#enrolment?.element));
  }

  given(files) { this.#enrolment?.given(files); }

  /** Read the person and the faces anew. */
  async load() {
    try {
      this.known = await api.subject(this.collection, this.subject);
      this.#showHead();
      await this.#faces.load(this.known.name);
    } catch (error) {
      this.element.replaceChildren(this.element.firstElementChild, problemBox(error));
    }
  }

  #showHead() {
    const { name, subject_id: id, faces, created_at: since } = this.known;
    const facts = [name === id ? null : id, plural(faces, words.gallery.faces), words.gallery.since(date(since))];
    this.#head.replaceChildren(
      new Portraits(this.collection).of(this.known),
      element("div", { class: "person-text" }, element("h2", {}, name),
        element("p", { class: "muted small" }, facts.filter(Boolean).join(" · "))),
      ...(session.may("enrol") ? [element("div", { class: "person-actions" },
        action("pen", text.rename, () => this.#rename()),
        action("merge", text.merge, () => this.#merge()),
        action("bin", text.erase, () => this.#erase()))] : []));
  }

  async #rename() {
    const name = element("input", { required: true, maxlength: 200, value: this.known.name, autocomplete: "off" });
    const done = await ask({
      title: words.gallery.renameTitle(this.known.name), action: words.gallery.renameAction,
      body: [field(words.gallery.name, name)],
      act: () => api.renameSubject(this.collection, this.subject, name.value.trim()),
    });
    if (done) await this.load();
  }

  async #merge() {
    const into = await askMerge(this.collection, this.known);
    if (into !== null) go("gallery", this.collection, into);
  }

  async #erase() {
    const { name, faces } = this.known;
    const done = await ask({
      title: words.gallery.eraseTitle(name), action: words.gallery.erase, danger: true,
      about: words.gallery.erasePerson(plural(faces, words.gallery.faces)),
      act: () => api.eraseSubject(this.collection, this.subject),
    });
    if (done) go("gallery", this.collection);
  }
}

const action = (pictogram, label, onclick) => element("button",
  { type: "button", class: "quiet", onclick }, icon(pictogram), element("span", {}, label));
