// Gallery: a collection's people, or one of them.

import { api } from "../app/api.js";
import { problemBox } from "../app/problem.js";
import { go } from "../app/router.js";
import { session } from "../app/session.js";
import { element, field, heading } from "../parts/elements.js";
import { words } from "../words/en.js";
import { CollectionActions } from "./collection_actions.js";
import { CollectionChoice } from "./collection_choice.js";
import { Enrolment } from "./enrolment.js";
import { People } from "./people.js";
import { Person } from "./person.js";

export class GalleryTab {
  #visits = 0;
  #takes = null;

  constructor(panel) {
    this.collection = new CollectionChoice(() => go("gallery", this.collection.value));
    this.actions = new CollectionActions(this.collection, () => go("gallery", this.collection.value));
    this.body = element("div", { class: "gallery-body" });
    panel.replaceChildren(
      heading(words.gallery.title, words.gallery.about,
        field(words.gallery.collection, this.collection.element), this.actions.element),
      this.body);
  }

  /** #/gallery, #/gallery/COLLECTION, #/gallery/COLLECTION/SUBJECT */
  async shown([collection, subject]) {
    const visit = this.#visits += 1;
    if (collection) this.collection.value = collection;
    try {
      await this.collection.load();
      // One that the list does not name does not exist, or is not for this key: the server says which.
      if (collection && collection !== this.collection.value) await api.collection(collection);
      if (visit !== this.#visits) return;
      this.actions.show();
      await (subject ? this.#showPerson(this.collection.value, subject) : this.#showPeople(this.collection.value));
    } catch (error) {
      if (visit === this.#visits) this.body.replaceChildren(problemBox(error));
    }
  }

  given(files) { this.#takes?.given(files); }

  #showPeople(collection) {
    const people = new People(collection);
    const enrolment = session.may("enrol") ? new Enrolment(collection, { finished: () => this.#refresh(people) }) : null;
    this.#takes = enrolment;
    this.body.replaceChildren(element("div", { class: enrolment ? "split" : "" }, people.element, enrolment?.element));
    return people.load();
  }

  #showPerson(collection, subject) {
    const person = new Person(collection, subject);
    this.#takes = person;
    this.body.replaceChildren(person.element);
    return person.load();
  }

  async #refresh(people) {
    await people.load();
    await this.collection.load();
    this.actions.show();
  }
}
