// Questions that must be answered before anything goes on.

import { problemBox } from "../app/problem.js";
import { words } from "../words/en.js";
import { element } from "./elements.js";

const dialog = element("dialog", { id: "dialog", "aria-labelledby": "dialog-title" });

export const dialogs = () => dialog;

/**
 * Ask; answers true when `act` was done, false when it was cancelled.
 * body: further elements. act(): does it; a Problem it throws is shown, and the dialog stays open.
 */
export function ask({ title, about, action, danger = false, body = [], act }) {
  return new Promise((resolve) => {
    let done = false;
    const complaint = element("div");
    const go = element("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
    const cancel = element("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, words.cancel);
    const submit = async (event) => {
      event.preventDefault();
      go.disabled = cancel.disabled = true;
      complaint.replaceChildren();
      try {
        await act();
        done = true;
        dialog.close();
      } catch (error) {
        complaint.replaceChildren(problemBox(error));
      } finally {
        go.disabled = cancel.disabled = false;
      }
    };
    dialog.replaceChildren(element("form", { onsubmit: submit },
      element("h2", { id: "dialog-title" }, title),
      about ? element("p", { class: "muted" }, about) : null,
      ...body, complaint,
      element("div", { class: "actions" }, cancel, go)));
    // What has begun cannot be cancelled with Escape.
    dialog.oncancel = (event) => { if (go.disabled) event.preventDefault(); };
    dialog.addEventListener("close", () => resolve(done), { once: true });
    dialog.showModal();
    // What cannot be undone is not what Enter does without looking.
    (dialog.querySelector("input, select") ?? (danger ? cancel : go)).focus();
  });
}
