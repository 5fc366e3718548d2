import { assert } from "../lib/assert.js";

interface Waiter extends RangeHold {
  resume: () => void;
}

/** One held range: numbers first to last, both included. */
export interface RangeHold {
  readonly first: number;
  readonly last: number;
}

/**
 * Exclusive ranges of stripes (or bytes): who holds one keeps others off every number in it. First come, first served among those
 * that overlap. A holder never asks for a second range, so there is no deadlock. Requests in flight are few; lists are searched.
 */
export class RangeLock {
  readonly #held: RangeHold[] = [];
  readonly #waiting: Waiter[] = [];

  get idle(): boolean {
    return this.#held.length === 0;
  }

  /** Nobody holds or waits for any number of the range: what is done without an `await` needs no lock then. */
  isFree(first: number, last: number): boolean {
    return !overlapsAny(this.#held, first, last) && !overlapsAny(this.#waiting, first, last);
  }

  tryAcquire(first: number, last: number): RangeHold | null {
    if (!this.isFree(first, last)) return null;
    const hold = { first, last };
    this.#held.push(hold);
    return hold;
  }

  async acquire(first: number, last: number): Promise<RangeHold> {
    const hold = this.tryAcquire(first, last);
    if (hold !== null) return hold;
    return new Promise((resolve) => {
      const waiter: Waiter = { first, last, resume: () => resolve(waiter) };
      this.#waiting.push(waiter);
    });
  }

  release(hold: RangeHold): void {
    const at = this.#held.indexOf(hold);
    assert(at >= 0, "a range is released by its holder, once");
    const last = this.#held.pop()!;
    if (at < this.#held.length) this.#held[at] = last;
    if (this.#waiting.length > 0) this.#grant();
  }

  async run<T>(first: number, last: number, action: () => Promise<T>): Promise<T> {
    const hold = this.tryAcquire(first, last) ?? (await this.acquire(first, last));
    try {
      return await action();
    } finally {
      this.release(hold);
    }
  }

  #grant(): void {
    const passed: RangeHold[] = [];
    for (const waiter of this.#waiting.splice(0)) {
      const { first, last } = waiter;
      if (overlapsAny(this.#held, first, last) || overlapsAny(passed, first, last)) {
        passed.push(waiter);
        this.#waiting.push(waiter);
      } else {
        this.#held.push(waiter);
        waiter.resume();
      }
    }
  }
}

function overlapsAny(ranges: readonly RangeHold[], first: number, last: number): boolean {
  for (const range of ranges) if (range.first <= last && first <= range.last) return true;
  return false;
}
