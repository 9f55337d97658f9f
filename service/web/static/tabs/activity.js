// Activity: how far bulk work is, and who did what.

import { session } from "../app/session.js";
import { element, heading } from "../parts/elements.js";
import { empty } from "../parts/empty.js";
import { words } from "../words/en.js";
import { Audit } from "./audit.js";
import { Jobs } from "./jobs.js";

const text = words.activity;

export class ActivityTab {
  #jobs = new Jobs();
  #audit = session.may("admin") && session.unscoped ? new Audit() : null;

  constructor(panel) {
    panel.replaceChildren(heading(text.title, text.about), this.#jobs.element, this.#audit?.element ?? refused());
  }

  shown() {
    this.#jobs.watch();
    this.#audit?.load();
  }

  hidden() { this.#jobs.rest(); }
}

const refused = () => element("section", { class: "card" }, element("h2", {}, text.audit),
  empty("shield", text.adminOnly, session.may("admin") ? text.scopedAbout : text.adminOnlyAbout(session.who.role)));
