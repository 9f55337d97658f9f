// Bulk work with its progress, kept up to date while it is looked at.

import { api } from "../app/api.js";
import { problemBox } from "../app/problem.js";
import { session } from "../app/session.js";
import { ask } from "../parts/dialogs.js";
import { element } from "../parts/elements.js";
import { count, dateTime, plural, sentence } from "../parts/format.js";
import { Ticker } from "../parts/ticker.js";
import { words } from "../words/en.js";

const SECONDS = 2;
const SECONDS_IDLE = 15;
const TONES = { done: "yes", failed: "no", interrupted: "no", cancelled: "no" };
const text = words.activity;

export class Jobs {
  #list = element("div", { class: "jobs" });
  #ticker = new Ticker(SECONDS, () => this.#load());
  element = element("section", { class: "card" }, element("h2", {}, text.jobs), this.#list);

  watch() { this.#ticker.start(); }

  rest() { this.#ticker.stop(); }

  async #load() {
    try {
      const { jobs } = await api.jobs();
      const working = jobs.some(unfinished);
      this.#ticker.seconds = working ? SECONDS : SECONDS_IDLE;
      this.#list.replaceChildren(...(jobs.length ? jobs.map((job) => this.#entry(job)) : [element("p", { class: "muted none" }, text.noJobs)]));
    } catch (error) {
      this.#ticker.seconds = SECONDS_IDLE;
      this.#list.replaceChildren(problemBox(error));
    }
  }

  #entry(job) {
    const title = [text.kinds[job.kind] ?? job.kind, job.collection ? text.into(job.collection) : null].filter(Boolean).join(" ");
    const total = job.total === null ? null : count(job.total);
    return element("article", { class: "job" },
      element("div", { class: "row" },
        element("b", {}, title),
        element("span", { class: "state" },
          element("span", { class: `badge ${TONES[job.state] ?? "plain"}` }, text.states[job.state]),
          unfinished(job) && session.may("enrol") ? this.#stopper(job, title) : null)),
      element("progress", { "aria-label": title, ...(job.total === null ? {} : { value: job.done, max: Math.max(1, job.total) }) }),
      element("p", { class: "muted small" }, [text.progress(count(job.done), total),
        job.rejected ? plural(job.rejected, text.rejected) : null, dateTime(job.updated_at)].filter(Boolean).join(" · ")),
      job.state === "interrupted" ? element("p", { class: "small" }, text.interruptedAbout) : null,
      job.report.error ? element("p", { class: "problem" }, sentence(String(job.report.error))) : null);
  }

  #stopper(job, title) {
    const stop = async () => {
      const done = await ask({ title: text.stopTitle(title), about: text.stopAbout,
        action: text.stopAction, danger: true, act: () => api.cancelJob(job.job_id) });
      if (done) await this.#load();
    };
    return element("button", { type: "button", class: "quiet", onclick: stop }, text.stopJob);
  }
}

const unfinished = ({ state }) => state === "running" || state === "queued";
