// Does something again and again while it is looked at, never twice at once.

export class Ticker {
  #timer = null;
  #running = false;

  constructor(seconds, task) {
    this.seconds = seconds;
    this.task = task;
  }

  start() {
    if (this.#running) return;
    this.#running = true;
    this.#beat();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
  }

  async #beat() {
    if (!document.hidden) await this.task();
    if (this.#running) this.#timer = setTimeout(() => this.#beat(), 1000 * this.seconds);
  }
}
