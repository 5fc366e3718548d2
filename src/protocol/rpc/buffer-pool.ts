import { assert } from "../../lib/assert.js";
import { KIB } from "../../lib/units.js";

/** Size of the buffers that replies are encoded in. */
export const OUTPUT_CHUNK_BYTES = 64 * KIB;

/**
 * Buffers in a few size classes, kept for reuse. It never refuses: whoever takes from it is bounded by other means (record limit, in-flight and output
 * limits of a connection). What is out and what is kept together stay below a bound, unless so much is out: V8 counts every buffer that is made anew, and
 * collects its whole heap after each 64 MiB of them.
 */
export class BufferPool {
  readonly #free: Buffer[][];
  #freeBytes = 0;
  #outBytes = 0;

  constructor(
    /** Ascending. Larger requests are allocated and forgotten. */
    private readonly classes: readonly number[],
    /** Out and kept. */
    private readonly bytesMax: number,
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
    this.#outBytes += size;
    const kept = this.#free[index]?.pop();
    if (kept === undefined) {
      this.#trim();
      return Buffer.allocUnsafeSlow(size);
    }
    this.#freeBytes -= size;
    return kept;
  }

  release(buffer: Buffer): void {
    const index = this.#classOf(buffer.length);
    if (this.classes[index] !== buffer.length) return;
    this.#outBytes -= buffer.length;
    assert(this.#outBytes >= 0, "a buffer that is released was acquired");
    if (this.#outBytes + this.#freeBytes + buffer.length > this.bytesMax) return;
    assert(this.#free[index]?.at(-1) !== buffer, "a buffer is released once");
    this.#free[index]?.push(buffer);
    this.#freeBytes += buffer.length;
  }

  /** Buffers of other sizes leave for one that was made. */
  #trim(): void {
    for (let index = this.classes.length - 1; index >= 0; index--) {
      const free = this.#free[index]!;
      while (free.length > 0 && this.#outBytes + this.#freeBytes > this.bytesMax) this.#freeBytes -= free.pop()!.length;
    }
  }

  #classOf(byteCount: number): number {
    let index = 0;
    while (index < this.classes.length && (this.classes[index] ?? 0) < byteCount) index++;
    return index;
  }
}
