// Of several questions asked in a row only the last one's answer counts.

export class Latest {
  #asked = 0;

  /** Run `task`; then call `done(answer)` or `failed(error)`, unless another task was started meanwhile. */
  async run(task, done, failed) {
    const number = this.#asked += 1;
    const current = () => number === this.#asked;
    try {
      const answer = await task();
      if (current()) done(answer);
    } catch (error) {
      if (current()) failed(error);
    }
  }

  /** Whatever is still under way no longer counts. */
  cancel() { this.#asked += 1; }
}
