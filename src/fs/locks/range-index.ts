import { assert } from "../../lib/assert.js";
import type { ByteRange } from "./range.js";

/** The two ends as doubles: a comparison of BigInts costs ten times as much. Rounding keeps their order, so what is apart when rounded is apart. */
export interface RoughRange {
  readonly low: number;
  readonly high: number;
}

export function roughly({ first, last }: ByteRange): RoughRange {
  return { low: Number(first), high: Number(last) };
}

/**
 * Ranges by where they begin, with the highest end of all up to each: whatever may overlap a range is found from there backwards until no end
 * reaches it. A client may hold thousands of ranges of one file; a look costs about as much as what it finds, a change moves some memory.
 */
export class RangeIndex<T extends RoughRange> {
  readonly #items: T[] = [];
  /** Highest `high` of the items up to this one. */
  readonly #reach: number[] = [];

  get size(): number {
    return this.#items.length;
  }

  all(): readonly T[] {
    return this.#items;
  }

  add(item: T): void {
    const at = this.#countUpTo(item.low);
    this.#items.splice(at, 0, item);
    this.#reach.splice(at, 0, Number.NaN);
    this.#recount(at);
  }

  remove(item: T): void {
    let at = this.#countUpTo(item.low) - 1;
    while (at >= 0 && this.#items[at] !== item) at--;
    assert(at >= 0, "what is removed was there");
    this.#items.splice(at, 1);
    this.#reach.splice(at, 1);
    this.#recount(at);
  }

  /** All that may overlap `range`, the last to begin first; the exact ends are the caller's to compare. */
  *near({ low, high }: RoughRange): Generator<T> {
    for (let at = this.#countUpTo(high) - 1; at >= 0; at--) {
      if ((this.#reach[at] ?? 0) < low) return;
      const item = this.#items[at];
      if (item !== undefined && item.high >= low) yield item;
    }
  }

  /** How many begin at `low` or before. */
  #countUpTo(low: number): number {
    let from = 0;
    let to = this.#items.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#items[middle]?.low ?? 0) <= low) from = middle + 1;
      else to = middle;
    }
    return from;
  }

  /** From `at` on, until the values are what they were: then all behind them are, too. */
  #recount(at: number): void {
    for (let i = at; i < this.#items.length; i++) {
      const reach = Math.max(i === 0 ? 0 : (this.#reach[i - 1] ?? 0), this.#items[i]?.high ?? 0);
      if (this.#reach[i] === reach) return;
      this.#reach[i] = reach;
    }
  }
}
