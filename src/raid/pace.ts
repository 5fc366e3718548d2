import type { CancelTimer, Clock } from "../lib/clock.js";

/** How much slower a client's requests may become while work runs in the background. */
const SLOWDOWN_MAX = 1.3;
/** The share of time that background work gets beside busy clients, at least and at most. */
const SHARE_MIN = 0.02;
const SHARE_MAX = 1;
const SHARE_FIRST = 0.2;
/** A client counts as busy for so long after its last request. */
const BUSY_MS = 100;
const REST_MS_MAX = 500;
/** Weight of a new latency in the mean: one that met a flush takes a hundred times as long as its neighbours. */
const NEWEST = 1 / 128;

/**
 * Lets background work go at full speed while no client is there, and takes it back until clients are served nearly as fast as without it.
 * It learns from the clients' own latencies: those that overlapped a step of background work against those that did not.
 */
export class Pace {
  #share = SHARE_FIRST;
  #inFlight = 0;
  #stepping = 0;
  /** Steps begun: a request that saw this number change was disturbed. */
  #steps = 0;
  #lastRequestAt = Number.NEGATIVE_INFINITY;
  #calmMs = 0;
  #disturbedMs = 0;
  /** Each ends one rest: several kinds of work may be under way. */
  readonly #resting = new Set<() => void>();

  constructor(private readonly clock: Clock) {}

  /** The share of time that background work gets now. */
  get share(): number {
    return this.#share;
  }

  /** A client's request begins. @returns what to hand to `leave` with its start time */
  enter(): number {
    this.#inFlight++;
    return this.#stepping > 0 ? -1 : this.#steps;
  }

  leave(token: number, startedMs: number): void {
    this.#inFlight--;
    const now = this.clock.monotonicMs();
    this.#lastRequestAt = now;
    const took = now - startedMs;
    if (token < 0 || token !== this.#steps) this.#disturbedMs = mean(this.#disturbedMs, took);
    else this.#calmMs = mean(this.#calmMs, took);
  }

  get #busy(): boolean {
    return this.#inFlight > 0 || this.clock.monotonicMs() - this.#lastRequestAt < BUSY_MS;
  }

  /**
   * Do a step of background work, then rest as long as clients need.
   * @param goesOn  asked after the step: there is no rest when nothing follows
   */
  async turn<T>(step: () => Promise<T>, goesOn: () => boolean): Promise<T> {
    const startedMs = this.clock.monotonicMs();
    this.#steps++;
    this.#stepping++;
    try {
      return await step();
    } finally {
      this.#stepping--;
      if (goesOn()) await this.#rest(this.clock.monotonicMs() - startedMs);
    }
  }

  async #rest(workedMs: number): Promise<void> {
    if (!this.#busy) return;
    this.#adapt();
    const restMs = Math.min(REST_MS_MAX, (Math.max(workedMs, 1) * (1 - this.#share)) / this.#share);
    if (restMs >= 1) await this.wait(restMs);
  }

  /** Do nothing for so long, or until everybody is told to hurry. */
  async wait(forMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer: CancelTimer = this.clock.after(forMs, () => end());
      const end = (): void => {
        timer();
        this.#resting.delete(end);
        resolve();
      };
      this.#resting.add(end);
    });
  }

  #adapt(): void {
    if (this.#calmMs === 0 || this.#disturbedMs === 0) return;
    // Requests that met no step become rare as the share rises: what is known of them ages with it.
    const slowdown = this.#share * (this.#disturbedMs / this.#calmMs) + (1 - this.#share);
    const factor = slowdown > SLOWDOWN_MAX ? 0.8 : 1.05;
    this.#share = Math.min(SHARE_MAX, Math.max(SHARE_MIN, this.#share * factor));
  }

  /** End every rest at once. */
  hurry(): void {
    for (const end of [...this.#resting]) end();
  }
}

function mean(old: number, value: number): number {
  return old === 0 ? value : old + (value - old) * NEWEST;
}
