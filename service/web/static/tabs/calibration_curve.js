// The calibration as a curve: the threshold by the rate of false matches it allows, on a logarithmic axis.

import { drawn } from "../parts/elements.js";
import { cosine } from "../parts/format.js";
import { oneIn } from "../parts/rates.js";
import { words } from "../words/en.js";

const [WIDTH, HEIGHT] = [520, 280];
const EDGE = { left: 46, right: 34, top: 14, bottom: 56 };
const STEP = 0.1; // of cosine, from one grid line to the next

/** rows: [{fmr, threshold}] from the loosest rate to the strictest; at least one. */
export function calibrationCurve(rows) {
  const decades = rows.map(({ fmr }) => -Math.log10(fmr));
  const [first, last] = [Math.floor(decades[0] + 1e-9), Math.max(Math.ceil(decades.at(-1) - 1e-9), Math.floor(decades[0]) + 1)];
  const low = STEP * Math.floor(Math.min(...rows.map((row) => row.threshold)) / STEP);
  const high = STEP * Math.ceil(Math.max(...rows.map((row) => row.threshold)) / STEP + 1e-9);
  const x = (decade) => EDGE.left + (decade - first) / (last - first) * (WIDTH - EDGE.left - EDGE.right);
  const y = (threshold) => HEIGHT - EDGE.bottom - (threshold - low) / (high - low || 1) * (HEIGHT - EDGE.top - EDGE.bottom);
  const points = rows.map(({ threshold }, number) => [x(decades[number]), y(threshold)]);
  const line = points.map(([left, top], number) => `${number ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}`).join("");
  return drawn("svg", { class: "curve", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    "aria-label": words.status.curve(oneIn(rows[0].fmr), oneIn(rows.at(-1).fmr)) },
  ...grid(low, high, y), ...rates(first, last, x),
  drawn("path", { class: "curve-area", d: `${line}L${points.at(-1)[0]} ${HEIGHT - EDGE.bottom}L${points[0][0]} ${HEIGHT - EDGE.bottom}Z` }),
  drawn("path", { class: "curve-line", d: line }),
  ...points.map(([cx, cy], number) => drawn("circle", { class: "curve-point", cx, cy, r: 4.5 },
    drawn("title", {}, `${oneIn(rows[number].fmr)}: ${cosine(rows[number].threshold)}`))));
}

function grid(low, high, y) {
  const lines = Math.round((high - low) / STEP);
  return Array.from({ length: lines + 1 }, (_, number) => low + number * STEP).flatMap((value) => [
    drawn("path", { class: "curve-grid", d: `M${EDGE.left} ${y(value)}H${WIDTH - EDGE.right}` }),
    drawn("text", { class: "curve-text", x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(1)),
  ]);
}

function rates(first, last, x) {
  const labels = Array.from({ length: last - first + 1 }, (_, number) => first + number).map((decade) =>
    drawn("text", { class: "curve-text", x: x(decade), y: HEIGHT - EDGE.bottom + 22, "text-anchor": "middle" }, short(decade)));
  return [...labels, drawn("text", { class: "curve-text axis", x: (EDGE.left + WIDTH - EDGE.right) / 2, y: HEIGHT - 6,
    "text-anchor": "middle" }, words.status.axisRate)];
}

/** "1/1k" for three decades: full numbers would run into each other on a phone. */
function short(decade) {
  const unit = ["", "k", "M", "G"][Math.floor(decade / 3)] ?? "";
  return `1/${10 ** (decade % 3)}${unit}`;
}
