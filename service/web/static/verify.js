// Verify: two photos, their similarity against the threshold, and what the threshold promises.

import { api } from "./api.js";
import { element, find, percent, problem } from "./elements.js";
import { PhotoSlot } from "./photo.js";

export function startVerify() {
  const files = { source: null, target: null };
  const result = find("#verify-result");
  const slots = {};
  let latest = 0;

  async function compare() {
    if (!files.source || !files.target) return;
    const asked = ++latest;
    for (const slot of Object.values(slots)) slot.busy = true;
    try {
      const answer = await api.verify(files.source, files.target, find("#verify-far").value);
      if (asked === latest) show(answer);
    } catch (error) {
      if (asked === latest) result.replaceChildren(problem(error));
    } finally {
      if (asked === latest) for (const slot of Object.values(slots)) slot.busy = false;
    }
  }

  function show(answer) {
    const tone = answer.match ? "yes" : "no";
    slots.source.mark([{ box: answer.source_face.box, tone }]);
    slots.target.mark(answer.faces.map((face, rank) => ({
      box: face.box,
      tone: rank === 0 ? tone : "plain",
      label: answer.faces.length > 1 ? face.similarity.toFixed(2) : null,
    })).reverse());
    result.replaceChildren(verdict(answer));
  }

  for (const [side, title] of [["source", "First photo"], ["target", "Second photo"]]) {
    slots[side] = new PhotoSlot(find(`#verify-${side}`), {
      title,
      hint: "Drop it here, or click to choose",
      onPhotos: async ([file]) => {
        files[side] = file;
        result.replaceChildren();
        await slots[side].show(file);
        await compare();
      },
    });
  }
  find("#verify-far").addEventListener("change", compare);
}

function verdict(answer) {
  const tone = answer.match ? "yes" : "no";
  return element("div", { class: "verdict" },
    element("span", { class: `badge ${tone}` }, answer.match ? "✓ Match" : "✕ No match"),
    gauge(answer.similarity, answer.threshold),
    element("p", { class: "facts muted small" },
      element("span", {}, "Probability of the same person ", element("b", {}, percent(answer.probability))),
      element("span", {}, promise(answer.threshold_policy)),
      element("span", {}, "Answered in ", element("b", {}, `${Math.round(answer.timing_ms.total ?? 0)} ms`))));
}

// Similarities below zero say nothing more than zero does.
const position = (cosine) => `${(100 * Math.max(0, Math.min(1, cosine))).toFixed(1)}%`;

function gauge(similarity, threshold) {
  const made = element("div", {
    class: "gauge",
    role: "img",
    "aria-label": `Similarity ${similarity.toFixed(3)}, threshold ${threshold.toFixed(3)}`,
    "--at": position(similarity),
    "--threshold": position(threshold),
  },
  element("span", { class: "track" }),
  element("span", { class: "mark" }),
  element("span", { class: "needle" }),
  element("span", { class: "value" }, similarity.toFixed(3)),
  element("span", { class: "limit" }, `threshold ${threshold.toFixed(3)}`));
  return made;
}

function promise({ far, extrapolated }) {
  if (far == null) return "Threshold named by the caller";
  const text = `Threshold lets 1 of ${Math.round(1 / far).toLocaleString("en")} strangers pass`;
  return extrapolated ? `${text} (estimated beyond what was measured)` : text;
}
