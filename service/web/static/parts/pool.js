// Runs tasks side by side, but not too many: the rest wait their turn.

export class Pool {
  #free;
  #waiting = [];

  constructor(most) { this.#free = most; }

  /** Run `task` when there is room; answers what it answers. */
  async run(task) {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise((resolve) => { this.#waiting.push(resolve); });
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}
