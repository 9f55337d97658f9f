// Gallery: the people of a collection, enrolled from dropped photos and deleted after a question.

import { api } from "./api.js";
import { element, find, problem } from "./elements.js";
import { PhotoSlot } from "./photo.js";

const REASONS = {
  no_face: "no face found",
  multiple_faces: "several faces",
  small_face: "face too small",
  low_detection_score: "not clearly a face",
  blurred: "blurred",
  extreme_pose: "turned too far",
  low_quality: "not good enough",
};

export function startGallery() {
  const collection = find("#gallery-collection");
  const list = find("#subjects");
  const more = find("#subjects-more");
  const filter = find("#subjects-filter");
  let cursor = null;

  async function load(from = null) {
    try {
      const page = await api.subjects(collection.value, from);
      const entries = page.subjects.map((subject) => entry(subject, () => erase(subject)));
      if (from) list.append(...entries);
      else list.replaceChildren(...entries);
      cursor = page.next_cursor;
      more.hidden = !cursor;
      find("#subjects-empty").hidden = list.children.length > 0;
      narrow();
    } catch (error) {
      list.replaceChildren(problem(error));
    }
  }

  function narrow() {
    const wanted = filter.value.trim().toLowerCase();
    for (const item of list.children) item.hidden = !item.textContent.toLowerCase().includes(wanted);
  }

  async function erase(subject) {
    const faces = subject.faces === 1 ? "1 face" : `${subject.faces} faces`;
    if (!(await confirmed(`Delete ${subject.name}?`, `The person and ${faces} are erased. This cannot be undone.`))) return;
    try {
      await api.eraseSubject(collection.value, subject.subject_id);
      await load();
    } catch (error) {
      list.prepend(problem(error));
    }
  }

  async function enrol(files) {
    const form = find("#enrol-form");
    if (!form.reportValidity()) return;
    const subject = find("#enrol-subject").value;
    const outcomes = find("#enrol-result");
    outcomes.replaceChildren();
    slot.busy = true;
    // One request a photo, so that a bad photo says so and the others still count.
    for (const file of files) {
      const line = element("li", {}, `${file.name}: …`);
      outcomes.append(line);
      try {
        const answer = await api.enrol(collection.value, subject, file, find("#enrol-policy").value);
        const faces = answer.indexed.length === 1 ? "added" : `${answer.indexed.length} faces added`;
        line.replaceChildren(element("span", { class: "yes" }, "✓"), `${file.name}: ${faces}`);
      } catch (error) {
        line.replaceChildren(element("span", { class: "no" }, "✕"), `${file.name}: ${explain(error)}`);
      }
    }
    slot.busy = false;
    await load();
  }

  const slot = new PhotoSlot(find("#enrol-photos"), {
    title: "Photos of this person",
    hint: "Drop them here, or click to choose",
    multiple: true,
    onPhotos: enrol,
  });
  find("#enrol-form").addEventListener("submit", (event) => event.preventDefault());
  collection.addEventListener("change", () => load());
  filter.addEventListener("input", narrow);
  more.addEventListener("click", () => load(cursor));
  return { load };
}

function explain(error) {
  const reasons = new Set((error.document.rejected ?? []).flatMap((face) => face.reasons));
  return reasons.size ? [...reasons].map((reason) => REASONS[reason] ?? reason).join(", ") : error.message;
}

function entry(subject, onErase) {
  const initials = subject.name.split(/[\s._-]+/).filter(Boolean).map((word) => word[0]).slice(0, 2).join("").toUpperCase();
  const faces = subject.faces === 1 ? "1 face" : `${subject.faces} faces`;
  const since = new Date(subject.created_at).toLocaleDateString(undefined, { dateStyle: "medium" });
  const id = subject.name === subject.subject_id ? "" : `${subject.subject_id} · `;
  return element("li", {},
    element("span", { class: "initials", "aria-hidden": "true" }, initials || "?"),
    element("span", { class: "about" },
      element("b", {}, subject.name),
      element("span", { class: "muted small" }, `${id}${faces} · since ${since}`)),
    element("button", { class: "quiet", "aria-label": `Delete ${subject.name}`, onclick: onErase }, "Delete"));
}

function confirmed(title, text) {
  const dialog = find("#confirm");
  find("#confirm-title").textContent = title;
  find("#confirm-text").textContent = text;
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "confirm"), { once: true });
  });
}
