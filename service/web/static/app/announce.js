// Tells users of screen readers what changed without their doing.

import { element } from "../parts/elements.js";

const region = element("div", { class: "visually-hidden", role: "status", "aria-live": "polite" });

export const announcer = () => region;

export function announce(text) {
  // The same text twice is said twice only if it went away between.
  region.textContent = "";
  setTimeout(() => { region.textContent = text; }, 50);
}
