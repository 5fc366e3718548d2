/** Requests under way, counted, so that somebody can wait until they have ended. */
export class Traffic {
  #count = 0;
  readonly #waiting: Array<() => void> = [];

  get idle(): boolean {
    return this.#count === 0;
  }

  enter(): void {
    this.#count++;
  }

  leave(): void {
    if (--this.#count > 0) return;
    for (const resume of this.#waiting.splice(0)) resume();
  }

  /** Resolves when there are none; new ones may come at any time. */
  async gone(): Promise<void> {
    while (this.#count > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}
