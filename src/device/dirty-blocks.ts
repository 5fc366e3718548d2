import { assert, must } from "../lib/assert.js";
import { BLOCK_BYTES } from "../lib/units.js";

/** Adjacent blocks, ready for one request: `buffers` are views on the slab, valid until `settle`. */
export interface DirtyRun {
  readonly blocks: readonly number[];
  readonly position: number;
  readonly buffers: readonly Buffer[];
}

/**
 * The blocks of a disk's volatile cache, in one slab of fixed size. Nothing here waits.
 *
 *     a block is      in #slotOf   in #busySlotOf   a write to it goes
 *     clean           no           no               into a free slot
 *     dirty           yes          no               into its slot
 *     being written   same slot    yes              into a free slot: what is on its way below must not change
 *     both            newer slot   older slot       into the newer slot, which waits until the older one has arrived
 */
export class DirtyBlocks {
  readonly #slab: Buffer;
  /** By slot: the number of the oldest write whose bytes, or newer ones, are in it. */
  readonly #writeOf: Float64Array;
  /** Oldest first. */
  readonly #slotOf = new Map<number, number>();
  readonly #busySlotOf = new Map<number, number>();
  readonly #free: number[] = [];
  #write = 0;

  constructor(readonly slotCount: number) {
    this.#slab = Buffer.allocUnsafeSlow(slotCount * BLOCK_BYTES);
    this.#writeOf = new Float64Array(slotCount);
    for (let slot = slotCount - 1; slot >= 0; slot--) this.#free.push(slot);
  }

  get freeCount(): number {
    return this.#free.length;
  }

  /** Blocks that are not below yet. */
  get dirtyCount(): number {
    return this.#slotOf.size;
  }

  /** The number of the last write. */
  get lastWrite(): number {
    return this.#write;
  }

  has(block: number): boolean {
    return this.#slotOf.has(block);
  }

  /** Whether something that was written at or before `write` is not below yet. */
  holdsUpTo(write: number): boolean {
    for (const slot of this.#slotOf.values()) if (must(this.#writeOf[slot], "a slot") <= write) return true;
    for (const slot of this.#busySlotOf.values()) if (must(this.#writeOf[slot], "a slot") <= write) return true;
    return false;
  }

  /** The newest content; a view on the slab, valid until something is written. */
  bytes(block: number): Buffer {
    return this.#view(must(this.#slotOf.get(block), "the block is dirty"), 1);
  }

  /**
   * Take a write. The caller has seen to it that there are as many free slots as blocks.
   * @param sources  whole blocks together
   */
  put(sources: readonly Buffer[], firstBlock: number, blockCount: number): void {
    this.#write++;
    let source = 0;
    let within = 0;
    for (let block = firstBlock; block < firstBlock + blockCount; block++) {
      const start = this.#slotFor(block) * BLOCK_BYTES;
      for (let done = 0; done < BLOCK_BYTES; ) {
        const bytes = must(sources[source], "the sources fill the blocks");
        const moved = bytes.copy(this.#slab, start + done, within, Math.min(bytes.length, within + BLOCK_BYTES - done));
        done += moved;
        within += moved;
        if (within < bytes.length) continue;
        source++;
        within = 0;
      }
    }
  }

  /** Dirty blocks that may be written below now, oldest first, at most `count`; they are busy until `settle`. */
  takeOldest(count: number, upTo = Number.POSITIVE_INFINITY): number[] {
    const taken: number[] = [];
    for (const [block, slot] of this.#slotOf) {
      if (taken.length >= count) break;
      if (this.#busySlotOf.has(block) || must(this.#writeOf[slot], "a slot") > upTo) continue;
      taken.push(block);
    }
    for (const block of taken) this.#markBusy(block);
    return taken;
  }

  /** Those of a range, in its order. */
  takeRange(firstBlock: number, blockCount: number): number[] {
    const taken: number[] = [];
    for (let block = firstBlock; block < firstBlock + blockCount; block++) {
      if (!this.#slotOf.has(block) || this.#busySlotOf.has(block)) continue;
      this.#markBusy(block);
      taken.push(block);
    }
    return taken;
  }

  /** What was taken, as few requests as adjacency allows. */
  runs(taken: readonly number[]): DirtyRun[] {
    const sorted = [...taken].sort((a, b) => a - b);
    const runs: DirtyRun[] = [];
    for (let i = 0; i < sorted.length; ) {
      let end = i + 1;
      while (end < sorted.length && sorted[end] === must(sorted[end - 1], "before the end") + 1) end++;
      const blocks = sorted.slice(i, end);
      const position = must(blocks[0], "a run has a block") * BLOCK_BYTES;
      runs.push({ blocks, position, buffers: this.#gather(blocks) });
      i = end;
    }
    return runs;
  }

  /** @param below  whether they have arrived; otherwise they are as dirty as before */
  settle(blocks: readonly number[], below: boolean): void {
    for (const block of blocks) {
      const slot = must(this.#busySlotOf.get(block), "the block was taken");
      this.#busySlotOf.delete(block);
      const superseded = this.#slotOf.get(block) !== slot;
      if (below && !superseded) this.#slotOf.delete(block);
      if (below || superseded) this.#free.push(slot);
    }
  }

  /** Everything that is not below, ascending; for a cut. */
  dirty(): number[] {
    return [...this.#slotOf.keys()].sort((a, b) => a - b);
  }

  #slotFor(block: number): number {
    const slot = this.#slotOf.get(block);
    if (slot !== undefined && this.#busySlotOf.get(block) !== slot) return slot;
    const fresh = this.#free.pop();
    assert(fresh !== undefined, "there is a free slot for every block of a write");
    // Anew, so that it is the youngest.
    this.#slotOf.delete(block);
    this.#slotOf.set(block, fresh);
    this.#writeOf[fresh] = this.#write;
    return fresh;
  }

  #markBusy(block: number): void {
    this.#busySlotOf.set(block, must(this.#slotOf.get(block), "the block is dirty"));
  }

  /** Adjacent blocks in adjacent slots are one buffer. */
  #gather(blocks: readonly number[]): Buffer[] {
    const buffers: Buffer[] = [];
    for (let i = 0; i < blocks.length; ) {
      const first = this.#busySlot(blocks[i]);
      let count = 1;
      while (i + count < blocks.length && this.#busySlot(blocks[i + count]) === first + count) count++;
      buffers.push(this.#view(first, count));
      i += count;
    }
    return buffers;
  }

  #busySlot(block: number | undefined): number {
    return must(this.#busySlotOf.get(must(block, "inside the run")), "the block was taken");
  }

  #view(slot: number, count: number): Buffer {
    return this.#slab.subarray(slot * BLOCK_BYTES, (slot + count) * BLOCK_BYTES);
  }
}
