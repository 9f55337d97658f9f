// Who was found in a photo, as marks over it and as a list beside it.

import { element } from "../parts/elements.js";
import { cosine, percent, plural } from "../parts/format.js";
import { oneIn } from "../parts/rates.js";
import { words } from "../words/en.js";

const isKnown = (face) => face.decision === "known";

/** For overlay(): the known ones last, so that they lie on top. */
export function marksOf(faces) {
  return faces.map((face, number) => ({
    box: face.box,
    landmarks: face.landmarks,
    tone: isKnown(face) ? "yes" : "plain",
    label: isKnown(face) ? face.candidates[0].name
      : faces.length > 1 ? String(number + 1) : words.identify.unknown,
    note: isKnown(face) ? percent(face.candidates[0].probability) : null,
  })).sort((one, other) => (one.tone === "yes") - (other.tone === "yes"));
}

export function answerList(answer) {
  const text = words.identify;
  if (answer.faces.length === 0) return [element("p", { class: "muted" }, text.noFace)];
  const known = answer.faces.filter(isKnown).length;
  const { far } = answer.threshold_policy;
  return [
    element("p", { class: "muted small" },
      [plural(answer.faces.length, text.faces), text.known(known), plural(answer.subjects, text.among)].join(" · ")),
    element("ol", { class: "persons" }, ...answer.faces.map(person)),
    far == null ? null : element("p", { class: "muted small" }, text.promise(oneIn(far))),
  ].filter(Boolean);
}

function person(face, number) {
  const known = isKnown(face);
  const [best, ...others] = face.candidates;
  return element("li", { class: `person ${known ? "known" : ""}` },
    element("span", { class: "number", "aria-hidden": "true" }, String(number + 1)),
    element("div", { class: "person-text" },
      element("b", {}, known ? best.name : words.identify.unknown),
      element("span", { class: "muted small" },
        known ? `${words.identify.similarity} ${cosine(best.similarity)}` : words.identify.unknownAbout),
      ...others.map(({ name, similarity, probability }) => element("span", { class: "muted small" },
        `${name} · ${percent(probability)} · ${cosine(similarity)}`))),
    known ? element("span", { class: "badge yes" }, percent(best.probability)) : null);
}
