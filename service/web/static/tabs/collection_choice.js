// Which collection: chosen once, for all tabs.

import { api } from "../app/api.js";
import { session } from "../app/session.js";
import { element } from "../parts/elements.js";

const STANDARD = "default";
const STORED = "facemargin-collection";

export class CollectionChoice {
  collections = [];

  /** changed(): called when the user chose another one. */
  constructor(changed) {
    this.element = element("select", { onchange: () => { sessionStorage.setItem(STORED, this.value); changed(); } });
    this.#fill([{ id: this.value, name: this.value }]);
  }

  get value() { return this.element.value || sessionStorage.getItem(STORED) || session.who.collections?.[0] || STANDARD; }

  set value(id) {
    sessionStorage.setItem(STORED, id);
    this.element.value = id;
  }

  /** The one that is chosen, as it was last loaded. */
  get chosen() { return this.collections.find(({ id }) => id === this.value) ?? null; }

  /** Ask for the collections. Throws Problem. */
  async load() {
    const wanted = sessionStorage.getItem(STORED) ?? this.value;
    this.collections = await api.collections();
    this.#fill(this.collections);
    if (this.collections.length) {
      this.element.value = (this.collections.find(({ id }) => id === wanted) ?? this.collections[0]).id;
    }
  }

  #fill(collections) {
    this.element.replaceChildren(...collections.map(({ id, name }) =>
      element("option", { value: id }, name === id ? id : `${name} (${id})`)));
  }
}
