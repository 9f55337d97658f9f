// What may be done with a collection: create, rename, delete.

import { api } from "../app/api.js";
import { Problem } from "../app/problem.js";
import { session } from "../app/session.js";
import { ask } from "../parts/dialogs.js";
import { element, field } from "../parts/elements.js";
import { plural } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { words } from "../words/en.js";
import { idFrom, ID_PATTERN } from "./identifiers.js";

const PERMANENT = "default";
const text = words.gallery;

export class CollectionActions {
  #create = action("plus", text.create, () => this.#createOne());
  #rename = action("pen", text.rename, () => this.#renameOne());
  #erase = action("bin", text.erase, () => this.#eraseOne());
  element = element("div", { class: "collection-actions", hidden: true }, this.#create, this.#rename, this.#erase);

  /** changed(): called when the collections are no longer as they were; the choice then names the one to show. */
  constructor(collection, changed) {
    this.collection = collection;
    this.changed = changed;
  }

  /** Offer what the key allows on the chosen collection. */
  show() {
    this.element.hidden = !session.may("admin");
    this.#create.hidden = !session.unscoped;
    this.#rename.disabled = this.#erase.disabled = this.collection.chosen === null;
    this.#erase.hidden = this.collection.value === PERMANENT;
  }

  async #createOne() {
    const name = element("input", { required: true, maxlength: 200, autocomplete: "off" });
    const id = element("input", { required: true, maxlength: 128, pattern: ID_PATTERN, autocomplete: "off", spellcheck: "false" });
    idFrom(name, id);
    const done = await ask({
      title: text.createTitle, about: text.createAbout, action: text.createAction,
      body: [field(text.name, name), field(text.id, id, text.idHint)],
      act: () => api.putCollection(id.value.trim(), name.value.trim()),
    });
    if (done) this.#show(id.value.trim());
  }

  async #renameOne() {
    const { id, name: before } = this.collection.chosen;
    const name = element("input", { required: true, maxlength: 200, value: before, autocomplete: "off" });
    const done = await ask({
      title: text.renameTitle(before), action: text.renameAction, body: [field(text.name, name)],
      act: () => api.renameCollection(id, name.value.trim()),
    });
    if (done) this.#show(id);
  }

  async #eraseOne() {
    const { id, name, subjects, faces } = await api.collection(this.collection.value);
    const typed = element("input", { required: true, autocomplete: "off", spellcheck: "false" });
    const done = await ask({
      title: text.eraseTitle(name), action: text.erase, danger: true,
      about: text.eraseCollection(plural(subjects, text.people), plural(faces, text.faces)),
      body: [field(text.typeToErase(id), typed)],
      act: async () => {
        if (typed.value.trim() !== id) throw new Problem(0, { code: "mistyped", detail: text.mistyped });
        await api.eraseCollection(id);
      },
    });
    if (done) this.#show(session.who.collections?.find((other) => other !== id) ?? PERMANENT);
  }

  #show(id) {
    this.collection.value = id;
    this.changed();
  }
}

const action = (pictogram, label, onclick) => element("button",
  { type: "button", class: "quiet", onclick }, icon(pictogram), element("span", {}, label));
