// Identify: every face of some photos or of the camera, named or stated as unknown.

import { api } from "../app/api.js";
import { announce } from "../app/announce.js";
import { problemBox } from "../app/problem.js";
import { dropZone } from "../parts/drop_zone.js";
import { element, field, heading } from "../parts/elements.js";
import { empty } from "../parts/empty.js";
import { plural } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { Latest } from "../parts/latest.js";
import { PhotoView } from "../parts/photo_view.js";
import { Pool } from "../parts/pool.js";
import { rateChoice } from "../parts/rates.js";
import { words } from "../words/en.js";
import { CollectionChoice } from "./collection_choice.js";
import { answerList, marksOf } from "./identified.js";
import { LiveCamera } from "./live_camera.js";

const RATES = [0.1, 0.01, 0.001, 0.0001];
const AT_ONCE = 2;

export class IdentifyTab {
  #pool = new Pool(AT_ONCE);
  #photos = [];
  #list = element("div", { class: "identified" });
  #nothing = empty("identify", words.identify.empty, words.identify.emptyAbout);
  #complaint = element("div");
  #clear;

  constructor(panel, model) {
    const text = words.identify;
    this.collection = new CollectionChoice(() => this.#again());
    this.far = rateChoice(RATES, model.calibration, { onchange: () => this.#again() });
    this.camera = new LiveCamera(() => this.#where());
    this.#clear = element("button", { type: "button", class: "quiet", hidden: true, onclick: () => this.#forget() },
      text.clear);
    panel.replaceChildren(
      heading(text.title, text.about, field(text.collection, this.collection.element), field(text.far, this.far)),
      this.#complaint,
      element("div", { class: "sources" },
        dropZone({ title: text.drop, hint: words.photo.dropMany, multiple: true, small: true, take: (files) => this.given(files) }),
        this.camera.button),
      this.camera.element, element("div", { class: "row end" }, this.#clear), this.#list, this.#nothing);
  }

  async shown() {
    this.#complaint.replaceChildren();
    try {
      await this.collection.load();
    } catch (error) {
      this.#complaint.replaceChildren(problemBox(error));
    }
  }

  hidden() { this.camera.stop(); }

  given(files) {
    for (const file of files) {
      const photo = new IdentifiedPhoto(file, () => this.#remove(photo));
      this.#photos.unshift(photo);
      this.#list.prepend(photo.element);
      this.#search(photo);
    }
    this.#arrange();
  }

  #where() { return { collection: this.collection.value, far: this.far.value }; }

  #search(photo) { photo.search(this.#pool, () => this.#where()); }

  #again() { for (const photo of this.#photos) this.#search(photo); }

  #remove(photo) {
    this.#photos = this.#photos.filter((other) => other !== photo);
    photo.element.remove();
    this.#arrange();
  }

  #forget() {
    this.#photos = [];
    this.#list.replaceChildren();
    this.#arrange();
  }

  #arrange() {
    this.#nothing.hidden = this.#photos.length > 0;
    this.#clear.hidden = this.#photos.length === 0;
  }
}

/** A photo and who is in it. */
class IdentifiedPhoto {
  #view = new PhotoView();
  #answer = element("div", { class: "answer" });
  #latest = new Latest();
  #drawn;

  constructor(file, remove) {
    this.file = file;
    const label = words.identify.remove(file.name);
    this.element = element("article", { class: "card identified-photo", "aria-label": file.name },
      element("div", { class: "identified-picture" }, this.#view.element,
        element("button", { type: "button", class: "icon-button over-photo", title: label, onclick: remove },
          icon("close"), element("span", { class: "visually-hidden" }, label))),
      this.#answer);
    this.#drawn = this.#view.show(file);
  }

  search(pool, where) {
    this.#view.busy = true;
    this.#answer.replaceChildren(element("p", { class: "muted" }, words.identify.waiting));
    this.#latest.run(async () => {
      await this.#drawn;
      return pool.run(() => api.identify(this.file, where()));
    }, (answer) => this.#show(answer), (error) => this.#fail(error));
  }

  #show(answer) {
    this.#view.busy = false;
    this.#view.mark(marksOf(answer.faces));
    this.#answer.replaceChildren(...answerList(answer));
    announce(`${this.file.name}: ${plural(answer.faces.length, words.identify.faces)}`);
  }

  #fail(error) {
    this.#view.busy = false;
    this.#view.mark([]);
    this.#answer.replaceChildren(problemBox(error));
  }
}
