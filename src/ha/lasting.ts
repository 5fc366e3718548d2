/** Tells when a condition has held for long enough without a break. */
export class Lasting {
  #sinceMs: number | null = null;

  constructor(private readonly limitMs: number) {}

  /** @returns whether it has held for as long as the limit */
  lasts(holds: boolean, nowMs: number): boolean {
    this.#sinceMs = holds ? (this.#sinceMs ?? nowMs) : null;
    return this.#sinceMs !== null && nowMs - this.#sinceMs >= this.limitMs;
  }

  /** As `lasts`; once it has, it counts anew. */
  lastsOnce(holds: boolean, nowMs: number): boolean {
    const has = this.lasts(holds, nowMs);
    if (has) this.restart();
    return has;
  }

  /** What holds from here on counts anew. */
  restart(): void {
    this.#sinceMs = null;
  }
}
