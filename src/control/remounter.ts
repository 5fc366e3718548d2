import type { CancelTimer, Clock } from "../lib/clock.js";

const RETRY_MS = 1_000;
const RETRY_MS_MAX = 30_000;

/** Brings back what is not served for a reason that may pass: tried again, ever less often, until there is nothing more to do. */
export class Remounter {
  readonly #waiting = new Map<string, CancelTimer>();
  #ended = false;

  /** @param attempt  resolves with whether that was all: it is served, or somebody else's business now. Never rejects */
  constructor(
    private readonly clock: Clock,
    private readonly attempt: (name: string) => Promise<boolean>,
  ) {}

  /** A second call before the first attempt changes nothing. */
  later(name: string): void {
    if (!this.#waiting.has(name)) this.#arm(name, RETRY_MS);
  }

  end(): void {
    this.#ended = true;
    for (const cancel of this.#waiting.values()) cancel();
    this.#waiting.clear();
  }

  #arm(name: string, delayMs: number): void {
    if (this.#ended) return;
    const cancel = this.clock.after(delayMs, () => {
      void this.attempt(name).then((done) => {
        if (done) this.#waiting.delete(name);
        else this.#arm(name, Math.min(2 * delayMs, RETRY_MS_MAX));
      });
    });
    this.#waiting.set(name, cancel);
  }
}
