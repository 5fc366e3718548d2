import { assert } from "../lib/assert.js";
import { BlockViews } from "../lib/block-views.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { Arena } from "../parity/arena.js";

/** Blocks of 4096 bytes in the arena, by number. Nobody waits here: who finds it empty has to make room (stripe-cache.ts). */
export class BlockPool {
  readonly count: number;
  readonly #buffers: BlockViews;
  readonly #offset: number;
  /** Numbers of the free blocks: the first `#freeCount`. */
  readonly #free: Int32Array;
  #freeCount: number;

  /** @throws StorageError ENOSPC when the arena has no memory for them */
  constructor(arena: Arena, count: number, owner: string) {
    const memory = arena.take(count * BLOCK_BYTES, owner);
    this.count = count;
    this.#offset = arena.offsetOf(memory);
    this.#buffers = new BlockViews(memory);
    this.#free = Int32Array.from({ length: count }, (_, i) => count - 1 - i);
    this.#freeCount = count;
  }

  get freeCount(): number {
    return this.#freeCount;
  }

  /** A block with any content. There is one: see `freeCount`. */
  take(): number {
    assert(this.#freeCount > 0, "who takes a block has seen that there is one");
    return this.#free[--this.#freeCount]!;
  }

  give(block: number): void {
    assert(this.#freeCount < this.count, "a block is given back once");
    this.#free[this.#freeCount++] = block;
  }

  buffer(block: number): Buffer {
    return this.#buffers.at(block);
  }

  /** In the arena. */
  offsetOf(block: number): number {
    return this.#offset + block * BLOCK_BYTES;
  }
}
