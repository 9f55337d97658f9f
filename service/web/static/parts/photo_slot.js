// A place for one photo: empty it invites, filled it shows the photo and can be emptied again.

import { words } from "../words/en.js";
import { dropZone } from "./drop_zone.js";
import { element } from "./elements.js";
import { icon } from "./icons.js";
import { PhotoView } from "./photo_view.js";

export class PhotoSlot {
  #view = new PhotoView();
  #zone;
  #remove;
  file = null;

  /** changed(): called when a photo has come or gone; `file` is then it, or null. */
  constructor({ title, hint, changed }) {
    this.changed = changed;
    this.#zone = dropZone({ title, hint, take: ([file]) => this.fill(file) });
    this.#remove = element("button",
      { type: "button", class: "icon-button over-photo", title: words.photo.remove(title), hidden: true,
        onclick: () => this.clear() },
      icon("close"), element("span", { class: "visually-hidden" }, words.photo.remove(title)));
    this.element = element("div", { class: "slot" }, this.#zone, this.#remove);
  }

  async fill(file) {
    this.file = file;
    await this.#view.show(file);
    this.#zone.prepend(this.#view.element);
    this.#zone.classList.add("filled");
    this.#remove.hidden = false;
    this.changed();
  }

  clear() {
    this.file = null;
    this.#view.element.remove();
    this.#zone.classList.remove("filled");
    this.#remove.hidden = true;
    this.changed();
    this.#zone.querySelector("input").focus();
  }

  mark(faces) { this.#view.mark(faces); }

  set busy(value) { this.#view.busy = value; }
}
