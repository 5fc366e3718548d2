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
    this.#endedMs = nowMs;
    this.meanMs += (tookMs - this.meanMs) / Math.min(this.count, WEIGHT);
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
