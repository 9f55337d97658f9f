// What became of a photo that was to be enrolled.

import { Problem } from "../app/problem.js";
import { element } from "../parts/elements.js";
import { plural, sentence } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { words } from "../words/en.js";

const text = words.enrol;

export class PhotoOutcome {
  #sign = element("span", { class: "outcome-sign" });
  #said = element("span", { class: "muted small" }, text.waiting);

  constructor(file) {
    this.file = file;
    const address = URL.createObjectURL(file);
    const forget = () => URL.revokeObjectURL(address);
    const picture = element("img", { alt: "", width: 40, height: 40, onload: forget,
      onerror: () => { forget(); picture.classList.add("unseen"); } });
    picture.src = address;
    this.element = element("li", { class: "outcome" }, picture,
      element("span", { class: "person-text" }, element("b", {}, file.name), this.#said), this.#sign);
  }

  working() {
    this.element.classList.add("busy");
    this.#said.textContent = text.working;
  }

  done(answer) {
    const added = plural(answer.indexed.length, text.added);
    const reasons = new Set(answer.rejected.flatMap((face) => face.reasons).map((code) => words.reasons[code] ?? code));
    this.#end("yes", "check", reasons.size ? text.partly(added, [...reasons].join(", ")) : added);
  }

  refused(error) {
    if (!(error instanceof Problem)) throw error;
    this.#end("no", "close", sentence(error.reasons.join(", ") || error.message));
  }

  #end(tone, pictogram, said) {
    this.element.classList.remove("busy");
    this.element.classList.add(tone);
    this.#sign.replaceChildren(icon(pictogram));
    this.#said.textContent = said;
  }
}
