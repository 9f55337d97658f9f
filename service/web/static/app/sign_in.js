// Signing in with a key.

import { element } from "../parts/elements.js";
import { mark } from "../parts/icons.js";
import { words } from "../words/en.js";
import { pause } from "./http.js";
import { problemBox } from "./problem.js";

const BETWEEN_TRIES = 2; // seconds

/** enter(key): signs in; throws Problem. */
export class SignIn {
  #key = element("input", {
    id: "key", name: "key", type: "password", autocomplete: "off", spellcheck: "false", autocapitalize: "off",
    "aria-describedby": "key-hint",
  });
  #complaint = element("div", { class: "complaint" });
  #button = element("button", { class: "primary", type: "submit" }, words.signIn.action);

  constructor(enter) {
    this.enter = enter;
    this.element = element("div", { class: "sign-in", hidden: true },
      element("form", { class: "card sign-in-card", onsubmit: (event) => { event.preventDefault(); this.attempt(this.#key.value.trim()); } },
        mark(48),
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

  /** Sign in; while the server still loads its models, wait for it. What fails is shown. */
  async attempt(key) {
    this.#complaint.replaceChildren();
    this.#button.disabled = true;
    try {
      await this.#enterOnceLoaded(key);
    } catch (error) {
      this.show(error);
      this.#key.select();
    } finally {
      this.#button.disabled = false;
    }
  }

  async #enterOnceLoaded(key) {
    for (;;) {
      try {
        return await this.enter(key);
      } catch (error) {
        if (error.code !== "loading") throw error;
        this.show();
        this.#complaint.replaceChildren(element("p", { class: "notice", role: "status" }, words.signIn.loading));
        await pause(error.retryAfter ?? BETWEEN_TRIES);
      }
    }
  }
}
