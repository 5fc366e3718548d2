/** After an attempt that failed. */
export const RETRY_MS = 500;
const RETRY_MS_MAX = 10_000;

/** When something that failed is tried again: soon, and ever less often as long as it fails for the same reason. */
export class Retry {
  #why: string | null = null;
  #waitMs = 0;
  #atMs = 0;
  #heldUntilMs = 0;

  /** @param why  it failed: another reason than the last time begins anew */
  failed(why: string, nowMs: number): void {
    this.#waitMs = why === this.#why ? Math.min(2 * this.#waitMs, RETRY_MS_MAX) : RETRY_MS;
    this.#why = why;
    this.#atMs = nowMs + this.#waitMs;
  }

  /** It went well, or what it depends on has changed: the next attempt comes at once. */
  reset(): void {
    this.#why = null;
    this.#waitMs = 0;
    this.#atMs = 0;
  }

  /** Not before this, whatever changes. */
  hold(untilMs: number): void {
    this.#heldUntilMs = untilMs;
  }

  isDue(nowMs: number): boolean {
    return nowMs >= this.#atMs && nowMs >= this.#heldUntilMs;
  }

  /** The last attempt failed, and nothing has changed since. */
  get waits(): boolean {
    return this.#why !== null;
  }
}
