import { assert } from "../../lib/assert.js";
import { KIB } from "../../lib/units.js";

/** Size of the buffers that replies are encoded in. */
export const OUTPUT_CHUNK_BYTES = 64 * KIB;

/**
 * Buffers in a few size classes, kept for reuse up to a bound of free bytes. It never refuses: whoever takes from it is bounded by other
 * means (record limit, in-flight and output limits of a connection).
 */
export class BufferPool {
  readonly #free: Buffer[][];
  #freeBytes = 0;

  constructor(
    /** Ascending. Larger requests are allocated and forgotten. */
    private readonly classes: readonly number[],
    private readonly freeBytesMax: number,
  ) {
    this.#free = classes.map(() => []);
  }

  get freeBytes(): number {
    return this.#freeBytes;
  }

  /** What a buffer for so many bytes takes. */
  sizeOf(byteCount: number): number {
    return this.classes[this.#classOf(byteCount)] ?? byteCount;
  }

  /** @returns a buffer of at least `byteCount` bytes, its content arbitrary */
  acquire(byteCount: number): Buffer {
    const index = this.#classOf(byteCount);
    const size = this.classes[index];
    if (size === undefined) return Buffer.allocUnsafeSlow(byteCount);
    const kept = this.#free[index]?.pop();
    if (kept === undefined) return Buffer.allocUnsafeSlow(size);
    this.#freeBytes -= size;
    return kept;
  }

  release(buffer: Buffer): void {
    const index = this.#classOf(buffer.length);
    if (this.classes[index] !== buffer.length) return;
    if (this.#freeBytes + buffer.length > this.freeBytesMax) return;
    assert(this.#free[index]?.at(-1) !== buffer, "a buffer is released once");
    this.#free[index]?.push(buffer);
    this.#freeBytes += buffer.length;
  }

  #classOf(byteCount: number): number {
    let index = 0;
    while (index < this.classes.length && (this.classes[index] ?? 0) < byteCount) index++;
    return index;
  }
}
