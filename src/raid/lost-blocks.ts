import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { LOST_BLOCKS_MAX } from "./limits.js";

/** A block of an LU whose content is lost: more members failed it than redundancy bears. */
export interface LostBlock {
  readonly lu: number;
  /** 4096 bytes each, from the start of the LU. */
  readonly block: number;
}

/**
 * Blocks that nothing can prove any more. On the disks they are zeros with consistent redundancy, so that their neighbours stay safe; to read
 * one is EIO (I-3) until it is written. Kept on the labels.
 */
export class LostBlocks {
  readonly #byLu = new Map<number, Set<number>>();
  #size = 0;

  constructor(blocks: readonly LostBlock[]) {
    for (const { lu, block } of blocks) this.#put(lu, block);
  }

  get size(): number {
    return this.#size;
  }

  list(): LostBlock[] {
    return [...this.#byLu].flatMap(([lu, blocks]) => [...blocks].map((block) => ({ lu, block })));
  }

  #put(lu: number, block: number): void {
    const blocks = this.#byLu.get(lu) ?? new Set<number>();
    this.#byLu.set(lu, blocks);
    if (blocks.has(block)) return;
    blocks.add(block);
    this.#size++;
  }

  /** @throws StorageError EIO when the labels have no room for one more */
  add(lu: number, block: number): void {
    if (this.#size >= LOST_BLOCKS_MAX) {
      throw new StorageError("EIO", `more than ${LOST_BLOCKS_MAX} blocks are lost: too many to go on`, { lu });
    }
    this.#put(lu, block);
  }

  /** Is a block of [at, at+byteCount) lost? */
  touches(lu: number, at: number, byteCount: number): boolean {
    const blocks = this.#byLu.get(lu);
    if (blocks === undefined) return false;
    const first = at / BLOCK_BYTES;
    const end = (at + byteCount) / BLOCK_BYTES;
    for (const block of blocks) if (block >= first && block < end) return true;
    return false;
  }

  /** They have new content. @returns whether one of them was lost */
  restore(lu: number, at: number, byteCount: number): boolean {
    const blocks = this.#byLu.get(lu);
    if (blocks === undefined) return false;
    const before = this.#size;
    for (let block = at / BLOCK_BYTES; block < (at + byteCount) / BLOCK_BYTES; block++) {
      if (blocks.delete(block)) this.#size--;
    }
    if (blocks.size === 0) this.#byLu.delete(lu);
    return this.#size < before;
  }

  /** The LU is deleted. */
  forget(lu: number): void {
    this.#size -= this.#byLu.get(lu)?.size ?? 0;
    this.#byLu.delete(lu);
  }
}
