import { must } from "./assert.js";

/** What stands in a ring knows where, so that it leaves at once. */
export interface Placed {
  /** Its ring's; -1 while it stands in none. */
  place: number;
}

/** The entries of a cache in a circle, and the hand that goes round and asks each whether it may leave (second chance). What has died is not kept for the hand to find. */
export class EvictionRing<T extends Placed> {
  readonly #entries: T[] = [];
  #hand = 0;

  get length(): number {
    return this.#entries.length;
  }

  add(entry: T): void {
    entry.place = this.#entries.push(entry) - 1;
  }

  /** The last one takes its place. */
  remove(entry: T): void {
    const last = must(this.#entries.pop(), "who leaves the ring stands in it");
    if (last !== entry) {
      this.#entries[entry.place] = last;
      last.place = entry.place;
    }
    entry.place = -1;
  }

  /** The entry at the hand, which goes on. */
  next(): T {
    const at = this.#hand < this.#entries.length ? this.#hand : 0;
    this.#hand = at + 1;
    return must(this.#entries[at], "the ring is not empty");
  }
}
