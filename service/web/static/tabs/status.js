// Status: the model, its calibration, the index, latency; kept up to date while it is looked at.

import { api } from "../app/api.js";
import { problemBox } from "../app/problem.js";
import { element, heading } from "../parts/elements.js";
import { empty } from "../parts/empty.js";
import { count, duration, milliseconds } from "../parts/format.js";
import { Ticker } from "../parts/ticker.js";
import { words } from "../words/en.js";
import { calibrationCard, modelCard } from "./model_cards.js";

const SECONDS = 5;
const text = words.status;

export class StatusTab {
  #notices = element("div", { class: "notices" });
  #tiles = element("dl", { class: "tiles" });
  #index = element("div");
  #latency = element("div");
  #queue = element("p", { class: "muted small" });
  #ticker = new Ticker(SECONDS, () => this.#load());

  constructor(panel, model) {
    panel.replaceChildren(
      heading(text.title, text.about), this.#notices, this.#tiles,
      element("div", { class: "halves" },
        modelCard(model), calibrationCard(model.calibration),
        element("section", { class: "card" }, element("h2", {}, text.latency),
          element("p", { class: "muted small" }, text.latencyAbout), this.#latency, this.#queue),
        element("section", { class: "card" }, element("h2", {}, text.index), this.#index)));
  }

  shown() { this.#ticker.start(); }

  hidden() { this.#ticker.stop(); }

  async #load() {
    try {
      this.#show(await api.status());
    } catch (error) {
      this.#notices.replaceChildren(problemBox(error));
    }
  }

  #show(status) {
    const behind = status.gallery_revision - status.index_revision;
    const notices = [status.draining ? text.draining : null, status.restart_needed ? text.restart : null,
      behind > 0 ? text.behind(count(behind)) : null];
    this.#notices.replaceChildren(...notices.filter(Boolean).map((said) => element("p", { class: "notice" }, said)));
    this.#tiles.replaceChildren(
      tile(text.tiles.people, count(status.subjects)), tile(text.tiles.faces, count(status.faces)),
      tile(text.tiles.revision, count(status.gallery_revision)),
      tile(text.tiles.uptime, duration(status.uptime_s)), tile(text.tiles.version, status.version));
    this.#index.replaceChildren(status.index.length ? indexTable(status.index) : empty("gallery", text.noIndex, text.noIndexAbout));
    const stages = inOrder(Object.entries(status.latency_ms));
    this.#latency.replaceChildren(stages.length ? latencyBars(stages) : empty("status", text.noLatency, text.noLatencyAbout));
    this.#queue.textContent = queued(status.queue);
  }
}

const tile = (name, value) => element("div", { class: "tile" }, element("dt", {}, name), element("dd", {}, value));

function indexTable(indexes) {
  const row = ({ collection, subjects, faces, kind, snapshot_revision: at }) => element("tr", {},
    element("td", {}, collection), element("td", {}, count(subjects)), element("td", {}, count(faces)),
    element("td", {}, kind), element("td", {}, at == null ? text.noSnapshot : count(at)));
  return element("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": text.index },
    element("table", {},
      element("thead", {}, element("tr", {},
        ...Object.values(text.indexColumns).map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, ...indexes.map(row))));
}

/** The stages in the order a photo passes them; those the page does not know come last. */
function inOrder(stages) {
  const order = Object.keys(text.stages);
  const place = (stage) => (order.includes(stage) ? order.indexOf(stage) : order.length);
  return stages.sort(([one], [other]) => place(one) - place(other));
}

function latencyBars(stages) {
  const longest = Math.max(...stages.map(([, times]) => times.p95), 1);
  const share = (value) => `${(100 * value / longest).toFixed(1)}%`;
  return element("ul", { class: "bars" }, ...stages.map(([stage, { p50, p95 }]) => element("li", {},
    element("span", { class: "bar-name" }, text.stages[stage] ?? stage),
    element("span", { class: "bar-track", "aria-hidden": "true", "--half": share(p50), "--most": share(p95) },
      element("i", { class: "bar-half" }), element("i", { class: "bar-most" })),
    element("span", { class: "bar-value small" }, milliseconds(p50),
      element("span", { class: "muted" }, ` / ${milliseconds(p95)}`)))));
}

function queued(queue) {
  const waiting = Object.entries(queue).filter(([, number]) => number > 0);
  if (!waiting.length) return `${text.queue}: ${text.idle}`;
  return `${text.queue}: ${waiting.map(([name, number]) => `${count(number)} ${text.queues[name] ?? name}`).join(", ")}`;
}
