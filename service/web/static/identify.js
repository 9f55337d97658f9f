// Identify: every face of a photo, named or stated as unknown.

import { api } from "./api.js";
import { element, find, percent, problem } from "./elements.js";
import { PhotoSlot } from "./photo.js";

export function startIdentify() {
  const result = find("#identify-result");
  const collection = find("#identify-collection");
  let file = null;
  let latest = 0;

  async function search() {
    if (!file) return;
    const asked = ++latest;
    slot.busy = true;
    try {
      const answer = await api.identify(file, collection.value);
      if (asked === latest) show(answer);
    } catch (error) {
      if (asked === latest) result.replaceChildren(problem(error));
    } finally {
      if (asked === latest) slot.busy = false;
    }
  }

  function show(answer) {
    slot.mark(answer.faces.map((face, number) => ({
      box: face.box,
      tone: face.decision === "known" ? "yes" : "plain",
      label: face.candidates[0]?.name ?? (answer.faces.length > 1 ? `${number + 1}` : "unknown"),
    })).sort((one, other) => (one.tone === "yes") - (other.tone === "yes")));
    const known = answer.faces.filter((face) => face.decision === "known").length;
    const faces = answer.faces.length === 1 ? "1 face" : `${answer.faces.length} faces`;
    const people = answer.subjects === 1 ? "1 person" : `${answer.subjects} people`;
    result.replaceChildren(
      element("p", { class: "muted" }, `${faces}, ${known} known. Searched among ${people}.`),
      ...answer.faces.map(person));
  }

  const slot = new PhotoSlot(find("#identify-photo"), {
    title: "A photo with faces",
    hint: "Drop it here, or click to choose",
    onPhotos: async ([chosen]) => {
      file = chosen;
      result.replaceChildren();
      await slot.show(file);
      await search();
    },
  });
  collection.addEventListener("change", search);
}

function person(face, number) {
  const known = face.decision === "known";
  const best = face.candidates[0];
  return element("article", { class: "person" },
    element("div", { class: "row" },
      element("span", { class: "who" },
        element("span", { class: "number" }, `${number + 1}`),
        element("span", { class: "name" }, known ? best.name : "Unknown")),
      element("span", { class: `badge ${known ? "yes" : "plain"}` }, known ? percent(best.probability) : "unknown")),
    ...face.candidates.map(candidate),
    known ? null : element("p", { class: "muted small" }, "Nobody in this collection is similar enough."));
}

const candidate = (found) => element("div", {},
  element("div", { class: "row small" },
    element("span", {}, found.name), element("span", { class: "muted" }, found.similarity.toFixed(3))),
  element("div", { class: "meter", "--share": `${Math.max(0, 100 * found.similarity)}%` }, element("i")));
