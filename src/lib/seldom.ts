import type { Clock } from "./clock.js";

/** What others can cause as often as they like is told now and then: once in a while about each, and so many times in that while at most. */
export class Seldom {
  /** By subject: when it was told last. */
  readonly #told = new Map<string, number>();
  #untold = 0;

  constructor(
    private readonly clock: Clock,
    private readonly bounds: { readonly everyMs: number; readonly subjectsMax: number },
  ) {}

  /** @returns how many were not told since the last that was, when this one is to be told; null when it is not */
  may(subject: string): number | null {
    const nowMs = this.clock.monotonicMs();
    for (const [old, atMs] of this.#told) {
      if (nowMs - atMs < this.bounds.everyMs) break;
      this.#told.delete(old);
    }
    if (this.#told.has(subject) || this.#told.size >= this.bounds.subjectsMax) {
      this.#untold++;
      return null;
    }
    this.#told.set(subject, nowMs);
    const untold = this.#untold;
    this.#untold = 0;
    return untold;
  }
}
