// Verify: two photos, their similarity against the threshold, and what the threshold promises.

import { announce } from "../app/announce.js";
import { api } from "../app/api.js";
import { problemBox } from "../app/problem.js";
import { element, field, heading } from "../parts/elements.js";
import { cosine, milliseconds, percent, plural, share } from "../parts/format.js";
import { gauge } from "../parts/gauge.js";
import { icon } from "../parts/icons.js";
import { Latest } from "../parts/latest.js";
import { PhotoSlot } from "../parts/photo_slot.js";
import { oneIn, rateChoice } from "../parts/rates.js";
import { words } from "../words/en.js";

const RATES = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6];

export class VerifyTab {
  #latest = new Latest();
  #result = element("div", { class: "result" });

  constructor(panel, model) {
    this.prior = model.calibration?.prior ?? null;
    const text = words.verify;
    const slot = (title) => new PhotoSlot({ title, hint: words.photo.dropOne, changed: () => this.#compare() });
    this.slots = [slot(text.first), slot(text.second)];
    this.far = rateChoice(RATES, model.calibration, { onchange: () => this.#compare() });
    panel.replaceChildren(
      heading(text.title, text.about, field(text.far, this.far)),
      element("div", { class: "pair" }, ...this.slots.map((each) => each.element)),
      this.#result);
  }

  shown() {}

  /** Photos from elsewhere fill the empty places, then the second one. */
  given(files) {
    for (const file of files.slice(0, 2)) (this.slots.find((slot) => !slot.file) ?? this.slots[1]).fill(file);
  }

  #compare() {
    const [source, target] = this.slots;
    for (const slot of this.slots) slot.mark([]);
    if (!source.file || !target.file) {
      this.#latest.cancel();
      this.#busy(false);
      this.#result.replaceChildren(...(source.file || target.file
        ? [element("p", { class: "muted centred" }, words.verify.oneMore)] : []));
      return;
    }
    this.#busy(true);
    this.#result.replaceChildren(element("p", { class: "muted centred" }, words.verify.waiting));
    this.#latest.run(() => api.verify(source.file, target.file, this.far.value),
      (answer) => { this.#busy(false); this.#show(answer); },
      (error) => { this.#busy(false); this.#result.replaceChildren(problemBox(error)); });
  }

  #busy(value) { for (const slot of this.slots) slot.busy = value; }

  #show(answer) {
    const tone = answer.match ? "yes" : "no";
    this.slots[0].mark([{ ...answer.source_face, tone }]);
    this.slots[1].mark(answer.faces.map((face, rank) => ({
      ...face,
      tone: rank === 0 ? tone : "plain",
      label: answer.faces.length > 1 ? cosine(face.similarity) : null,
    })).reverse());
    this.#result.replaceChildren(verdict(answer, this.prior));
    announce(words.verify.said(answer.match, cosine(answer.similarity)));
  }
}

function verdict(answer, prior) {
  const text = words.verify;
  const tone = answer.match ? "yes" : "no";
  return element("article", { class: `card verdict ${tone}` },
    element("div", { class: "verdict-head" },
      element("span", { class: `badge big ${tone}` }, icon(answer.match ? "check" : "close"),
        answer.match ? text.match : text.noMatch),
      prior === null ? null : element("p", { class: "verdict-probability" },
        element("b", {}, percent(answer.probability)), element("span", { class: "muted small" }, text.probability(share(prior))))),
    gauge(answer.similarity, answer.threshold),
    !answer.match && answer.probability > 0.5 ? element("p", {}, element("b", {}, text.likely)) : null,
    element("p", {}, promise(answer.threshold_policy)),
    element("p", { class: "muted small" },
      [plural(answer.faces.length, text.faces), text.answered(milliseconds(answer.timing_ms.total ?? 0)), answer.model].join(" · ")));
}

function promise({ far, extrapolated }) {
  if (far == null) return words.verify.unpromised;
  const kept = words.verify.promise(oneIn(far));
  return extrapolated ? `${kept} ${words.verify.extrapolated}` : kept;
}
