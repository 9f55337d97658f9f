// The faces of a person: their crops where they are kept, their quality, and their deletion.

import { api } from "../app/api.js";
import { problemBox } from "../app/problem.js";
import { session } from "../app/session.js";
import { ask } from "../parts/dialogs.js";
import { element } from "../parts/elements.js";
import { empty } from "../parts/empty.js";
import { date, share } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { words } from "../words/en.js";
import { cropPicture } from "./portraits.js";

const text = words.person;

export class Faces {
  #cursor = null;
  #name = "";
  #list = element("ul", { class: "faces" });
  #note = element("div");
  #more = element("button", { type: "button", class: "quiet more", hidden: true, onclick: () => this.#read(this.#cursor) },
    words.more);

  /** changed(): called when a face was erased. */
  constructor(collection, subject, changed) {
    this.collection = collection;
    this.subject = subject;
    this.changed = changed;
    this.element = element("section", { class: "card" }, element("h2", {}, text.faces), this.#list, this.#note, this.#more);
  }

  load(name) {
    this.#name = name;
    return this.#read(null);
  }

  async #read(cursor) {
    try {
      const page = await api.faces(this.collection, this.subject, { cursor });
      const shown = cursor ? this.#list.children.length : 0;
      const entries = page.faces.map((face, number) => this.#entry(face, shown + number + 1));
      if (cursor) this.#list.append(...entries);
      else this.#list.replaceChildren(...entries);
      this.#cursor = page.next_cursor;
      this.#more.hidden = this.#cursor === null;
      this.#list.hidden = this.#list.children.length === 0;
      this.#note.replaceChildren(...(this.#list.hidden ? [empty("face", text.noFaces, text.noFacesAbout)] : []));
    } catch (error) {
      this.#note.replaceChildren(problemBox(error));
    }
  }

  #entry(face, number) {
    const picture = element("div", { class: "face-picture" }, icon("face"));
    if (face.crop) this.#fill(picture, face, text.crop(this.#name, number));
    return element("li", { class: "face" }, picture,
      element("div", { class: "person-text" },
        element("span", { class: "small" }, text.quality(share(face.quality))),
        element("span", { class: "muted small" }, date(face.created_at))),
      session.may("enrol") ? this.#eraser(face, number) : null);
  }

  #eraser(face, number) {
    const label = `${text.eraseFace} ${number}`;
    return element("button", { type: "button", class: "quiet icon-button", title: label, onclick: () => this.#erase(face) },
      icon("bin"), element("span", { class: "visually-hidden" }, label));
  }

  async #fill(picture, face, alt) {
    try {
      picture.replaceChildren(await cropPicture(this.collection, this.subject, face.face_id, alt));
    } catch (error) {
      picture.replaceChildren(problemBox(error));
    }
  }

  async #erase(face) {
    const done = await ask({
      title: words.gallery.eraseFace, about: words.gallery.eraseFaceAbout, action: words.gallery.erase, danger: true,
      act: () => api.eraseFace(this.collection, this.subject, face.face_id),
    });
    if (done) this.changed();
  }
}
