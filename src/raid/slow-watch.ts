import type { CancelTimer, Clock } from "../lib/clock.js";
import { countBlocks } from "./block-mask.js";
import type { Member } from "./member.js";

/** Below this a disk is never called slow, whatever its neighbours do: a disk with seeks takes some milliseconds. */
const SLOW_MS_MIN = 40;
/** How many times later than the median of its neighbours it has to answer, on average. */
const SLOW_FACTOR = 8;
/** Well again below this share of what made it slow. */
const WELL_SHARE = 0.5;
const SAMPLES_MIN = 8;
/** Reads that would not go to a slow disk: one now and then, to see whether it is well again. */
const PROBE_MS = 5000;

export interface SlowWatchOptions {
  readonly members: readonly Member[];
  readonly clock: Clock;
  /** A byte that every member has. */
  readonly probeAt: number;
  readonly onChange: (member: Member) => void;
}

/**
 * Finds the latency outlier among the members: one that answers much later than the others is read only when there is no other way,
 * until probes find it well again. At most one at a time: when two are slow there is nowhere to go.
 */
export class SlowWatch {
  readonly #options: SlowWatchOptions;
  #timer: CancelTimer | null = null;

  constructor(options: SlowWatchOptions) {
    this.#options = options;
  }

  /** After a read of a member that took long; cheap, because short reads do not come here. */
  judge(member: Member): void {
    if (member.slow || !member.online || member.latency.samples < SAMPLES_MIN) return;
    if (member.latency.meanMs < this.#limitFor(member)) return;
    if (this.#options.members.some((one) => one.slow || !one.online)) return;
    member.slow = true;
    this.#options.onChange(member);
    this.#armProbe(member);
  }

  /** @returns milliseconds */
  #limitFor(member: Member): number {
    const others = this.#options.members.filter((one) => one !== member && one.online && one.latency.samples > 0);
    const means = others.map((one) => one.latency.meanMs).sort((a, b) => a - b);
    const median = means[Math.floor(means.length / 2)] ?? Number.POSITIVE_INFINITY;
    return Math.max(SLOW_MS_MIN, SLOW_FACTOR * median);
  }

  #armProbe(member: Member): void {
    this.#timer = this.#options.clock.after(PROBE_MS, () => void this.#probe(member));
  }

  async #probe(member: Member): Promise<void> {
    this.#timer = null;
    await member.probe(this.#options.probeAt);
    if (!member.slow || !member.online) return;
    if (member.latency.meanMs > WELL_SHARE * this.#limitFor(member)) {
      this.#armProbe(member);
      return;
    }
    member.slow = false;
    this.#options.onChange(member);
  }

  close(): void {
    this.#timer?.();
  }
}

/** Reads that take longer are late. */
const LATE_MS = 20;
/** Of the latest 16 reads so many have to be late: one hiccup is none. */
const LATE_MIN = 4;

/** How long the latest reads of a member took. */
export class Latency {
  /** A new one counts an eighth. */
  meanMs = 0;
  samples = 0;
  /** One bit a read, the latest lowest; set: late. */
  #late = 0;

  /** @returns whether the member should be looked at */
  add(ms: number): boolean {
    this.samples++;
    this.meanMs += (ms - this.meanMs) / Math.min(this.samples, 8);
    const late = ms > LATE_MS;
    this.#late = ((this.#late << 1) | (late ? 1 : 0)) & 0xffff;
    return late && countBlocks(this.#late) >= LATE_MIN;
  }
}
