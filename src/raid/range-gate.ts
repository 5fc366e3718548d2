import { assert } from "../lib/assert.js";

/** Bytes [from, to). */
interface Range {
  readonly from: number;
  readonly to: number;
}

function overlap(a: Range, b: Range): boolean {
  return a.from < b.to && b.from < a.to;
}

/**
 * Keeps requests off one range of an LU at a time. Any number of requests may be inside at once, overlapping or not; who closes a range
 * waits until those that touch it are out, and new ones that touch it wait until it is open again.
 */
export class RangeGate {
  readonly #inside = new Set<Range>();
  #closed: Range | null = null;
  readonly #waiting: Array<() => void> = [];
  #wake: (() => void) | null = null;

  /** Run `action` while the range is not closed. */
  async pass<T>(from: number, to: number, action: () => Promise<T>): Promise<T> {
    const range = { from, to };
    while (this.#closed !== null && overlap(this.#closed, range)) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#inside.add(range);
    try {
      return await action();
    } finally {
      this.#inside.delete(range);
      this.#wake?.();
    }
  }

  /** Nobody is inside the range when it resolves. */
  async close(from: number, to: number): Promise<void> {
    assert(this.#closed === null, "one range is closed at a time");
    const range = { from, to };
    this.#closed = range;
    while ([...this.#inside].some((other) => overlap(range, other))) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    this.#wake = null;
  }

  open(): void {
    this.#closed = null;
    for (const resume of this.#waiting.splice(0)) resume();
  }
}
