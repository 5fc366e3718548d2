/** A disk may give so many errors within a while before it is given up. */
const HALF_LIFE_MS = 60 * 60 * 1000;

/**
 * Errors of a member, the older ones counting less and less (half after an hour, as md's read_errors): a disk with a bad sector now and then
 * stays, one that is dying goes.
 */
export class ErrorBudget {
  #spent = 0;
  #at = 0;

  /** @param limit  errors; Infinity: never */
  constructor(private readonly limit: number) {}

  /** @returns whether that was one too many */
  spend(nowMs: number): boolean {
    this.#spent = this.#spent * 0.5 ** ((nowMs - this.#at) / HALF_LIFE_MS) + 1;
    this.#at = nowMs;
    return this.#spent > this.limit;
  }
}
