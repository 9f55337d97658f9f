// Signing in with a key.

import { element } from "../parts/elements.js";
import { mark } from "../parts/icons.js";
import { words } from "../words/en.js";
import { problemBox } from "./problem.js";

/** enter(key): signs in; throws Problem. */
export class SignIn {
  #key = element("input", {
    id: "key", name: "key", type: "password", autocomplete: "off", spellcheck: "false", autocapitalize: "off",
    "aria-describedby": "key-hint",
  });
  #complaint = element("div", { class: "complaint" });
  #button = element("button", { class: "primary", type: "submit" }, words.signIn.action);

  constructor(enter) {
    this.element = element("div", { class: "sign-in", hidden: true },
      element("form", { class: "card sign-in-card", onsubmit: (event) => this.#submit(event, enter) },
        element("div", { class: "sign-in-brand" }, mark(44), element("span", {}, words.product)),
        element("h1", {}, words.signIn.title),
        element("p", { class: "muted" }, words.signIn.about),
        element("label", { for: "key" }, words.signIn.key),
        this.#key,
        element("p", { class: "muted small", id: "key-hint" }, words.signIn.hint),
        this.#complaint,
        this.#button));
  }

  /** Show the form, with the problem that brought the user here if there is one. */
  show(error = null) {
    this.element.hidden = false;
    this.#complaint.replaceChildren(...(error ? [problemBox(error)] : []));
    this.#key.focus();
  }

  hide() {
    this.element.hidden = true;
    this.#key.value = "";
    this.#complaint.replaceChildren();
  }

  async #submit(event, enter) {
    event.preventDefault();
    this.#complaint.replaceChildren();
    this.#button.disabled = true;
    try {
      await enter(this.#key.value.trim());
    } catch (error) {
      this.#complaint.replaceChildren(problemBox(error));
      this.#key.select();
    } finally {
      this.#button.disabled = false;
    }
  }
}
