// What the server refuses, and what to do about it.

import { words } from "../words/en.js";
import { element } from "../parts/elements.js";
import { sentence } from "../parts/format.js";

/** A refusal, after RFC 9457. status 0: the server was not reached. retryAfter: seconds, or null. */
export class Problem extends Error {
  constructor(status, document, retryAfter = null) {
    super(document.detail ?? words.problems.answered(status));
    this.status = status;
    this.code = document.code ?? "unknown";
    this.document = document;
    this.retryAfter = retryAfter;
  }

  /** What the user can do, or null when the problem says it itself. */
  get remedy() {
    const { remedies, remediesByStatus } = words.problems;
    return remedies[this.code] ?? remediesByStatus[this.status] ?? null;
  }

  /** Why faces were rejected, in words; empty if the problem is not about faces. */
  get reasons() {
    const codes = new Set((this.document.rejected ?? []).flatMap((face) => face.reasons));
    return [...codes].map((code) => words.reasons[code] ?? code);
  }
}

/** The problem as part of the page. Errors that are not Problems are bugs of the page: they go on. */
export function problemBox(error) {
  if (!(error instanceof Problem)) throw error;
  const { remedy, reasons } = error;
  return element("div", { class: "problem", role: "alert" },
    element("p", { class: "problem-detail" }, sentence(error.message)),
    reasons.length ? element("p", {}, sentence(reasons.join(", "))) : null,
    remedy ? element("p", { class: "muted" }, remedy) : null,
    error.document.request_id
      ? element("p", { class: "muted small" }, words.problems.requestId(error.document.request_id)) : null);
}
