// The model: what it is, and how it was calibrated.

import { element } from "../parts/elements.js";
import { empty } from "../parts/empty.js";
import { cosine, count, figure } from "../parts/format.js";
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
    ...figures(model.metrics),
  ];
  return element("section", { class: "card" }, element("h2", {}, text.model),
    element("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])));
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

/** The numbers among the checkpoint's own metrics, as far as they are plain ones. */
function figures(metrics) {
  return Object.entries(metrics).filter(([, value]) => typeof value === "number")
    .map(([name, value]) => [name.replaceAll("_", " "), figure(value)]);
}
