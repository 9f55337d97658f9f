// A similarity against the threshold it has to reach.

import { words } from "../words/en.js";
import { element } from "./elements.js";
import { cosine } from "./format.js";

/** Two unrelated faces have a cosine around 0; below it says nothing more than 0 does. */
const position = (value) => `${(100 * Math.max(0, Math.min(1, value))).toFixed(1)}%`;

export function gauge(similarity, threshold) {
  return element("div", {
    class: "gauge", role: "img", "aria-label": words.verify.gauge(cosine(similarity), cosine(threshold)),
    "--at": position(similarity), "--threshold": position(threshold),
  },
  element("span", { class: "gauge-value" }, cosine(similarity)),
  element("span", { class: "gauge-track" }),
  element("span", { class: "gauge-mark" }),
  element("span", { class: "gauge-needle" }),
  element("span", { class: "gauge-limit" }, words.verify.limit(cosine(threshold))),
  element("span", { class: "gauge-end start" }, words.verify.unlike),
  element("span", { class: "gauge-end" }, words.verify.alike));
}
