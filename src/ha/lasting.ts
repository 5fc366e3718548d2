/** Tells when a condition has held for long enough without a break. */
export class Lasting {
  #sinceMs: number | null = null;

  constructor(private readonly limitMs: number) {}

  /** @returns whether it has held for as long as the limit; then it begins anew */
  lasts(holds: boolean, nowMs: number): boolean {
    this.#sinceMs = holds ? (this.#sinceMs ?? nowMs) : null;
    if (this.#sinceMs === null || nowMs - this.#sinceMs < this.limitMs) return false;
    this.#sinceMs = null;
    return true;
  }
}
