import { assert, must } from "../lib/assert.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { Arena } from "./arena.js";

export interface BufferPoolOptions {
  /** How many buffers. */
  readonly count: number;
  /** Of each; a multiple of 4096, so that every buffer is aligned for direct I/O. */
  readonly bufferBytes: number;
  /** The name in the arena's budget. */
  readonly owner: string;
}

/**
 * Equal buffers cut from one reservation. When none is free, `acquire` waits, first come first served: this is where
 * back-pressure comes from. Views are made once; taking a free buffer allocates nothing but the promise.
 */
export class BufferPool {
  readonly bufferBytes: number;
  readonly count: number;
  readonly #arena: Arena;
  readonly #start: number;
  readonly #buffers: Buffer[] = [];
  /** Stack of free indices, the last used on top: it is the most likely one to be in the processor's cache. */
  readonly #free: number[] = [];
  /** 1 while the buffer is out. */
  readonly #out: Uint8Array;
  readonly #waiters: Array<(buffer: Buffer) => void> = [];

  /** @throws StorageError ENOSPC when the arena has no room for it */
  constructor(arena: Arena, options: BufferPoolOptions) {
    const { count, bufferBytes, owner } = options;
    assert(Number.isSafeInteger(count) && count > 0, "a pool has a buffer");
    assert(bufferBytes > 0 && bufferBytes % BLOCK_BYTES === 0, "pool buffers are whole blocks");
    const all = arena.take(count * bufferBytes, owner);
    this.#arena = arena;
    this.#start = arena.offsetOf(all);
    this.bufferBytes = bufferBytes;
    this.count = count;
    this.#out = new Uint8Array(count);
    for (let i = 0; i < count; i++) this.#buffers.push(all.subarray(i * bufferBytes, (i + 1) * bufferBytes));
    for (let i = count - 1; i >= 0; i--) this.#free.push(i);
  }

  get available(): number {
    return this.#free.length;
  }

  get waiting(): number {
    return this.#waiters.length;
  }

  /** A buffer with whatever it held before, or null when none is free. */
  tryAcquire(): Buffer | null {
    const index = this.#free.pop();
    if (index === undefined) return null;
    assert(this.#out[index] === 0, "a free buffer is not out");
    this.#out[index] = 1;
    return must(this.#buffers[index], "the buffer of a free index");
  }

  acquire(): Promise<Buffer> {
    const buffer = this.tryAcquire();
    if (buffer !== null) return Promise.resolve(buffer);
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** Give back exactly what was acquired. Giving back twice, or something else, is our own mistake. */
  release(buffer: Buffer): void {
    const index = this.#indexOf(buffer);
    assert(this.#out[index] === 1, "a buffer is released once");
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) {
      waiter(must(this.#buffers[index], "the buffer of an index"));
      return;
    }
    this.#out[index] = 0;
    this.#free.push(index);
  }

  #indexOf(buffer: Buffer): number {
    const index = (this.#arena.offsetOf(buffer) - this.#start) / this.bufferBytes;
    assert(Number.isInteger(index) && index >= 0 && index < this.count, "a released buffer is one of the pool");
    assert(buffer.length === this.bufferBytes, "a released buffer is whole");
    return index;
  }
}
