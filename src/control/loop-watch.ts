import type { CancelTimer, Clock } from "../lib/clock.js";

/** How often the loop is looked at. A piece of work is seen at least as long as it was, less one interval. */
const LOOK_EVERY_MS = 5;

/** The last minute is kept by the second. */
const SECONDS_KEPT = 60;

/** Upper ends of the classes that are counted, ms: 10 is what one piece may take, 20 the most that a hostile client has reached. */
const CLASSES_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] as const;

export interface LoopDelay {
  /** Of the looks of the last minute, 99 of 100 came no later than this (the upper end of its class), ms. */
  readonly p99Ms: number;
  /** The longest of the last minute, ms. */
  readonly maxMs: number;
  /** The longest since the start, ms. */
  readonly longestMs: number;
  /** How long since the start others had the CPU while there was something to do here, ms: that is in none of the other figures. */
  readonly starvedMs: number;
}

/** One second's looks. */
class Second {
  readonly counts = new Uint32Array(CLASSES_MS.length + 1);
  maxMs = 0;

  clear(): void {
    this.counts.fill(0);
    this.maxMs = 0;
  }
}

/**
 * How long work of ours keeps the event loop from everybody else. A timer looks every few milliseconds how late it comes, less what it waited for a CPU;
 * counters since the start let whoever asks twice know what happened in between, whoever else asks. Little is allocated per look: 0.1 % of a CPU.
 */
export class LoopWatch {
  readonly #seconds = Array.from({ length: SECONDS_KEPT }, () => new Second());
  readonly #overSinceStart = new Float64Array(CLASSES_MS.length);
  #secondAt = 0;
  #secondEndsMs: number;
  #dueMs = 0;
  #starvedMsAtArm = 0;
  readonly #starvedMsAtStart: number;
  #longestMs = 0;
  #cancel: CancelTimer = () => {};

  /** @param starvedMs  rises by what the thread waits for a CPU */
  constructor(
    private readonly clock: Clock,
    private readonly starvedMs: () => number = () => 0,
  ) {
    this.#starvedMsAtStart = starvedMs();
    this.#secondEndsMs = clock.monotonicMs() + 1000;
    this.#arm();
  }

  delay(): LoopDelay {
    this.#turn(this.clock.monotonicMs());
    const starvedMs = this.starvedMs() - this.#starvedMsAtStart;
    const counts = new Float64Array(CLASSES_MS.length + 1);
    let maxMs = 0;
    for (const second of this.#seconds) {
      maxMs = Math.max(maxMs, second.maxMs);
      second.counts.forEach((count, at) => {
        counts[at] = (counts[at] ?? 0) + count;
      });
    }
    return { p99Ms: Math.min(maxMs, quantile(counts, 0.99)), maxMs, longestMs: this.#longestMs, starvedMs };
  }

  /** How many looks since the start came later than each of these, ms. */
  over(): { readonly overMs: number; readonly count: number }[] {
    return CLASSES_MS.map((overMs, at) => ({ overMs, count: this.#overSinceStart[at] ?? 0 }));
  }

  end(): void {
    this.#cancel();
  }

  readonly #look = (): void => {
    const nowMs = this.clock.monotonicMs();
    this.#turn(nowMs);
    const starvedMs = this.starvedMs() - this.#starvedMsAtArm;
    this.#count(Math.max(0, nowMs - this.#dueMs - starvedMs));
    this.#arm();
  };

  #arm(): void {
    this.#starvedMsAtArm = this.starvedMs();
    this.#dueMs = this.clock.monotonicMs() + LOOK_EVERY_MS;
    this.#cancel = this.clock.after(LOOK_EVERY_MS, this.#look);
  }

  #count(lateMs: number): void {
    const second = this.#seconds[this.#secondAt]!;
    let at = 0;
    while (at < CLASSES_MS.length && lateMs > CLASSES_MS[at]!) this.#overSinceStart[at++]!++;
    second.counts[at]!++;
    if (lateMs > second.maxMs) second.maxMs = lateMs;
    if (lateMs > this.#longestMs) this.#longestMs = lateMs;
  }

  /** Seconds that have passed leave the minute. */
  #turn(nowMs: number): void {
    const passed = Math.floor((nowMs - this.#secondEndsMs) / 1000) + 1;
    if (passed <= 0) return;
    for (let i = 0; i < Math.min(passed, SECONDS_KEPT); i++) {
      this.#secondAt = (this.#secondAt + 1) % SECONDS_KEPT;
      this.#seconds[this.#secondAt]!.clear();
    }
    this.#secondEndsMs += passed * 1000;
  }
}

function quantile(counts: Float64Array, share: number): number {
  const wanted = counts.reduce((sum, count) => sum + count, 0) * share;
  let sum = 0;
  for (const [at, endMs] of CLASSES_MS.entries()) {
    sum += counts[at] ?? 0;
    if (sum >= wanted) return endMs;
  }
  return Number.POSITIVE_INFINITY;
}
