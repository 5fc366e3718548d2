import { assert, must } from "../../lib/assert.js";
import { KIB } from "../../lib/units.js";
import { TRANSFER_BYTES_MAX } from "../limits.js";

/**
 * Where the data of large READ replies lies, from the read until the kernel has taken it. The composition root supplies buffers in the
 * arena, so that they are aligned for direct I/O; the default below is made of plain ones.
 */
export interface ReadBuffers {
  /** @returns a buffer of at least `byteCount` bytes (1 to 1 MiB); a promise when the caller must wait for one */
  acquireReadBuffer(byteCount: number): Buffer | Promise<Buffer>;
  releaseReadBuffer(buffer: Buffer): void;
}

const CLASSES = [32 * KIB, 64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, 1024 * KIB];
assert(CLASSES.at(-1) === TRANSFER_BYTES_MAX, "the largest READ has a buffer");

interface Waiter {
  readonly size: number;
  readonly resolve: (buffer: Buffer) => void;
}

/** Plain buffers in size classes of powers of two. Their sum has a ceiling; above it callers wait, first come first served. */
export class PlainReadBuffers implements ReadBuffers {
  readonly #free = new Map<number, Buffer[]>(CLASSES.map((size) => [size, []]));
  readonly #waiting: Waiter[] = [];
  /** In use and free. */
  #bytes = 0;

  constructor(private readonly bytesMax: number) {
    assert(bytesMax >= TRANSFER_BYTES_MAX, "the largest READ can be served");
  }

  get allocatedBytes(): number {
    return this.#bytes;
  }

  acquireReadBuffer(byteCount: number): Buffer | Promise<Buffer> {
    const size = must(
      CLASSES.find((candidate) => candidate >= byteCount),
      "a READ is at most 1 MiB",
    );
    // Nobody overtakes: a large READ would wait for ever behind small ones.
    const buffer = this.#waiting.length === 0 ? this.#take(size) : null;
    if (buffer !== null) return buffer;
    return new Promise((resolve) => this.#waiting.push({ size, resolve }));
  }

  releaseReadBuffer(buffer: Buffer): void {
    must(this.#free.get(buffer.length), "a read buffer of this pool").push(buffer);
    while (this.#waiting.length > 0) {
      const first = must(this.#waiting[0], "somebody waits");
      const next = this.#take(first.size);
      if (next === null) return;
      this.#waiting.shift();
      first.resolve(next);
    }
  }

  #take(size: number): Buffer | null {
    const kept = this.#free.get(size)?.pop();
    if (kept !== undefined) return kept;
    if (this.#bytes + size > this.bytesMax) this.#dropFree(this.#bytes + size - this.bytesMax);
    if (this.#bytes + size > this.bytesMax) return null;
    this.#bytes += size;
    return Buffer.allocUnsafeSlow(size);
  }

  /** Give up free buffers of other sizes, the large ones first. */
  #dropFree(byteCount: number): void {
    let left = byteCount;
    for (const size of CLASSES.toReversed()) {
      const free = this.#free.get(size) ?? [];
      while (left > 0 && free.pop() !== undefined) {
        this.#bytes -= size;
        left -= size;
      }
    }
  }
}
