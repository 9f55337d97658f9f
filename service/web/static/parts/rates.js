// Error rates to choose from, and what they mean.

import { words } from "../words/en.js";
import { choice } from "./elements.js";
import { count } from "./format.js";

export const oneIn = (rate) => words.rates.oneIn(count(1 / rate));

/** A choice of error rates; those that the calibration's data do not reach say so. "" is the server's default. */
export function rateChoice(rates, calibration, attributes) {
  const reached = calibration ? Math.min(...calibration.rows.map((row) => row.fmr)) : 0;
  return choice([["", words.rates.standard],
    ...rates.map((rate) => [String(rate), rate < reached ? words.rates.estimated(oneIn(rate)) : oneIn(rate)])], attributes);
}
