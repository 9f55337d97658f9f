// The model: what it is, and how it was calibrated.

import { element } from "../parts/elements.js";
import { empty } from "../parts/empty.js";
import { cosine, count, percent } from "../parts/format.js";
import { oneIn } from "../parts/rates.js";
import { words } from "../words/en.js";
import { calibrationCurve } from "./calibration_curve.js";

const text = words.status;

export function modelCard(model) {
  const { calibration } = model;
  const facts = [
    [text.facts.recogniser, model.model], [text.facts.detector, model.detector],
    [text.facts.architecture, model.architecture], [text.facts.size, text.numbers(count(model.embedding_size))],
    ...(calibration ? [[text.facts.data, calibration.data],
      [text.facts.pairs, text.pairs(count(calibration.genuine_pairs), count(calibration.impostor_pairs))]] : []),
  ];
  return element("section", { class: "card" }, element("h2", {}, text.model),
    element("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    measuredTable(model.metrics));
}

export function calibrationCard(calibration) {
  const card = element("section", { class: "card" }, element("h2", {}, text.calibration));
  if (!calibration) {
    card.append(empty("status", text.uncalibrated, text.uncalibratedAbout));
    return card;
  }
  const rows = [...calibration.rows].sort((one, other) => other.fmr - one.fmr);
  card.append(
    element("p", { class: "muted small" }, text.calibrationAbout), calibrationCurve(rows),
    element("details", {}, element("summary", { class: "small" }, text.table),
      element("table", {},
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, text.axisRate),
          element("th", { scope: "col" }, text.axisThreshold))),
        element("tbody", {}, ...rows.map(({ fmr, threshold }) => element("tr", {},
          element("td", {}, oneIn(fmr)), element("td", {}, cosine(threshold))))))));
  return card;
}

/** What the checkpoint says was measured with it, a row for each set of photos; null if it says nothing. */
function measuredTable(metrics) {
  const sets = Object.entries(metrics).filter(([, measured]) => typeof measured?.accuracy_mean === "number");
  if (!sets.length) return null;
  const measures = Object.entries(text.measures);
  const heads = [text.measured, ...measures.map(([, name]) => name)];
  return element("table", { class: "measured" },
    element("thead", {}, element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...sets.map(([set, measured]) => element("tr", {}, element("td", {}, set),
      ...measures.map(([measure]) => element("td", {}, percent(measured[measure])))))));
}
