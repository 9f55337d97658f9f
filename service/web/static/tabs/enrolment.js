// Enrolling: a person's name and photos, each photo with what became of it.

import { announce } from "../app/announce.js";
import { api } from "../app/api.js";
import { problemBox } from "../app/problem.js";
import { hashOf } from "../app/router.js";
import { dropZone } from "../parts/drop_zone.js";
import { choice, element, field } from "../parts/elements.js";
import { Pool } from "../parts/pool.js";
import { words } from "../words/en.js";
import { idFrom, ID_PATTERN } from "./identifiers.js";
import { PhotoOutcome } from "./photo_outcome.js";

const AT_ONCE = 2;
const text = words.enrol;

export class Enrolment {
  #pool = new Pool(AT_ONCE);
  #outcomes = element("ul", { class: "outcomes" });
  #summary = element("div");
  #complaint = element("div");
  #policy = choice(Object.entries(text.policies));
  #name = null;
  #id = null;

  /** subject: whom the photos are of; without one the form asks. finished(): called when photos were enrolled. */
  constructor(collection, { subject = null, finished }) {
    this.collection = collection;
    this.subject = subject;
    this.finished = finished;
    this.element = element("form", { class: "card enrolment", onsubmit: (event) => event.preventDefault() },
      element("h2", {}, subject ? text.more : text.title),
      ...(subject ? [] : this.#whose()),
      dropZone({ title: text.drop, hint: words.photo.dropMany, multiple: true, small: true, take: (files) => this.given(files) }),
      field(text.policy, this.#policy),
      this.#complaint, this.#summary, this.#outcomes);
  }

  async given(files) {
    this.#complaint.replaceChildren();
    this.#summary.replaceChildren();
    const person = this.#person();
    if (!person) return;
    const outcomes = files.map((file) => new PhotoOutcome(file));
    this.#outcomes.replaceChildren(...outcomes.map((outcome) => outcome.element));
    const added = await Promise.all(outcomes.map((outcome) => this.#pool.run(() => this.#enrol(person.id, outcome))));
    const some = added.filter(Boolean).length;
    try {
      if (some && person.name) await api.renameSubject(this.collection, person.id, person.name);
      if (some) await this.finished();
    } catch (error) {
      this.#complaint.replaceChildren(problemBox(error));
    }
    this.#sum(person, some, added.length - some);
  }

  /** Say how it went; the form is then ready for somebody else, unless photos were refused. */
  #sum(person, added, refused) {
    const said = text.done(added, refused);
    announce(said);
    if (this.subject || !added) return;
    this.#summary.replaceChildren(element("p", { class: "enrolled" }, `${person.name ?? person.id}: ${said}`,
      element("a", { href: hashOf("gallery", this.collection, person.id) }, text.show)));
    if (!refused) this.#name.value = this.#id.value = "";
  }

  #whose() {
    this.#name = element("input", { maxlength: 200, autocomplete: "off", placeholder: "Ada Lovelace" });
    this.#id = element("input", { maxlength: 128, pattern: ID_PATTERN, autocomplete: "off", spellcheck: "false",
      placeholder: "ada-lovelace" });
    idFrom(this.#name, this.#id);
    return [field(text.name, this.#name), field(text.id, this.#id, text.idHint)];
  }

  /** {id, name}: the name is null if it need not be set. Null if the form is not filled in; it then says so. */
  #person() {
    if (this.subject) return { id: this.subject, name: null };
    const id = this.#id.value.trim();
    if (!id) {
      this.#complaint.replaceChildren(element("p", { class: "problem", role: "alert" }, text.nameFirst));
      (this.#name.value.trim() ? this.#id : this.#name).focus();
      return null;
    }
    if (!this.#id.reportValidity()) return null;
    const name = this.#name.value.trim();
    return { id, name: name && name !== id ? name : null };
  }

  /** Whether a face was added. */
  async #enrol(subject, outcome) {
    outcome.working();
    try {
      outcome.done(await api.enrol(this.collection, subject, outcome.file, this.#policy.value));
      return true;
    } catch (error) {
      outcome.refused(error);
      return false;
    }
  }
}
