import type { TurnWatcher } from "../device/device.js";
import type { Clock } from "../lib/clock.js";

/** read: from the disk. write: into its cache. sync: durable when it ends, a write or a flush. Each takes its own time, also on a good disk. */
export const CALL_KINDS = ["read", "write", "sync"] as const;
export type CallKind = (typeof CALL_KINDS)[number];

/** A new call counts an eighth. */
const WEIGHT = 8;

/** How long calls of one kind take at one disk: those that have ended, and those that have not. Per call a few numbers, whatever is under way. */
export class CallTimes {
  meanMs = 0;
  /** Calls that have ended. */
  count = 0;
  /** Of those. */
  totalMs = 0;
  /** Calls that take so long are slow, as whoever compares has found last, and so many that have ended were. */
  slowFromMs = Number.POSITIVE_INFINITY;
  slowCount = 0;
  /**
   * Calls under way, in two heaps: the older ones, and those that began while one of the older ones was still under way. When the older heap is empty, the
   * younger one takes its place. So the age of the older heap is that of the oldest call, or a little more.
   */
  readonly #pending = [0, 0];
  readonly #sinceMs = [0, 0];
  #older = 0;
  /** When the last one ended. */
  #endedMs = Number.NEGATIVE_INFINITY;

  /** @returns its heap, for `end` */
  begin(nowMs: number): number {
    const older = this.#older;
    const heap = this.#pending[older] === 0 ? older : 1 - older;
    if (this.#pending[heap] === 0) this.#sinceMs[heap] = nowMs;
    this.#pending[heap]!++;
    return heap;
  }

  end(heap: number, tookMs: number, nowMs: number): void {
    this.count++;
    this.totalMs += tookMs;
    if (tookMs >= this.slowFromMs) this.slowCount++;
    this.#endedMs = nowMs;
    this.meanMs += (tookMs - this.meanMs) / Math.min(this.count, WEIGHT);
    this.withdraw(heap);
  }

  /** It is not under way: it waits, or was given up before it began. */
  withdraw(heap: number): void {
    this.#pending[heap]!--;
    if (this.#pending[this.#older] === 0) this.#older = 1 - this.#older;
  }

  /** How long the oldest call has been under way. */
  ageMs(nowMs: number): number {
    return this.#pending[this.#older] === 0 ? 0 : nowMs - this.#sinceMs[this.#older]!;
  }

  /** Nothing is under way, and nothing has ended since so long. */
  isQuiet(nowMs: number, sinceMs: number): boolean {
    return this.#pending[this.#older] === 0 && nowMs - this.#endedMs > sinceMs;
  }

  /** As calls are now: what they took, or take already. */
  nowMs(nowMs: number): number {
    return Math.max(this.meanMs, this.ageMs(nowMs));
  }
}

/** Of no heap. */
const NOT_UNDER_WAY = -1;

/** One call, from when it began. What it waits behind others of its own disk says nothing of the disk: those that it waits for do. */
export class TimedCall implements TurnWatcher {
  #startedMs = 0;
  #heap = NOT_UNDER_WAY;

  constructor(
    private readonly times: CallTimes,
    private readonly clock: Clock,
  ) {
    this.begins();
  }

  begins(): void {
    if (this.#heap !== NOT_UNDER_WAY) return;
    this.#startedMs = this.clock.monotonicMs();
    this.#heap = this.times.begin(this.#startedMs);
  }

  waits(): void {
    if (this.#heap === NOT_UNDER_WAY) return;
    this.times.withdraw(this.#heap);
    this.#heap = NOT_UNDER_WAY;
  }

  /** @returns how long it took; 0: it never began */
  end(): number {
    if (this.#heap === NOT_UNDER_WAY) return 0;
    const endedMs = this.clock.monotonicMs();
    const tookMs = endedMs - this.#startedMs;
    this.times.end(this.#heap, tookMs, endedMs);
    return tookMs;
  }
}
