import { assert } from "../lib/assert.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { countBlocks, forEachBlock, maskOf } from "./block-mask.js";
import type { BlockPool } from "./block-pool.js";

/** What the cache needs to know of the array that a slot belongs to. */
export interface SlotOwner {
  /** Data chunks of its stripes. */
  readonly dataMembers: number;
  /** Everything of this slot in place; the slot is free afterwards, unless it was written to meanwhile. */
  destage(slot: StripeSlot): Promise<void>;
  /** What waits goes into the journal once more, so that the tail of the journal need not wait for it. */
  journalAgain(slot: StripeSlot): Promise<void>;
  /** Records before `tailSeq` are gone. */
  forgetJournaled(tailSeq: number): void;
}

/**
 * Blocks of one band, by data chunk and column. A block is
 *   dirty     written, not yet in the journal
 *   journaled in the journal, not yet in place (a dirty one may have an older version there)
 * One that is neither is not here: the member has it.
 */
export class SlotBlocks {
  readonly dirty: Uint32Array;
  readonly journaled: Uint32Array;
  /** First and last journal record with blocks that are here; 0: none. */
  firstSeq = 0;
  lastSeq = 0;
  readonly #numbers: Int32Array;
  readonly #pool: BlockPool;
  readonly #columns: number;

  constructor(pool: BlockPool, dataMembers: number, columns: number) {
    this.#pool = pool;
    this.#columns = columns;
    this.dirty = new Uint32Array(dataMembers);
    this.journaled = new Uint32Array(dataMembers);
    this.#numbers = new Int32Array(dataMembers * columns);
  }

  /** Blocks of a data chunk that are here. */
  held(chunk: number): number {
    return this.dirty[chunk]! | this.journaled[chunk]!;
  }

  /** Columns of which any chunk has a block here. */
  get columns(): number {
    let columns = 0;
    for (let i = 0; i < this.dirty.length; i++) columns |= this.held(i);
    return columns;
  }

  get dirtyBlocks(): number {
    let blocks = 0;
    for (let i = 0; i < this.dirty.length; i++) blocks += countBlocks(this.dirty[i]!);
    return blocks;
  }

  get empty(): boolean {
    return this.columns === 0;
  }

  buffer(chunk: number, column: number): Buffer {
    return this.#pool.buffer(this.#numbers[chunk * this.#columns + column]!);
  }

  /** In the arena. */
  offsetOf(chunk: number, column: number): number {
    return this.#pool.offsetOf(this.#numbers[chunk * this.#columns + column]!);
  }

  buffers(chunk: number, first: number, end: number): Buffer[] {
    return Array.from({ length: end - first }, (_, i) => this.buffer(chunk, first + i));
  }

  /** Copy whole blocks, from `first` on, into this chunk; the pool has as many blocks as are not here yet. */
  put(chunk: number, first: number, source: Buffer): void {
    const end = first + source.length / BLOCK_BYTES;
    const held = this.held(chunk);
    for (let column = first; column < end; column++) {
      if ((held & (1 << column)) === 0) this.#numbers[chunk * this.#columns + column] = this.#pool.take();
      source.copy(this.buffer(chunk, column), 0, (column - first) * BLOCK_BYTES, (column - first + 1) * BLOCK_BYTES);
    }
    this.dirty[chunk]! |= maskOf(first, end);
  }

  /** What is in the journal is to go there once more. */
  soil(): void {
    for (let i = 0; i < this.dirty.length; i++) this.dirty[i]! |= this.journaled[i]!;
  }

  /** Dirty blocks are in the journal now. */
  noteJournaled(seq: number): void {
    for (let i = 0; i < this.dirty.length; i++) {
      this.journaled[i]! |= this.dirty[i]!;
      this.dirty[i] = 0;
    }
    if (this.firstSeq === 0) this.firstSeq = seq;
    this.lastSeq = seq;
  }

  /** Copy those of the wanted blocks that are here. @param target begins with column `from` */
  copyTo(chunk: number, wanted: number, target: Buffer, from: number): void {
    forEachBlock(wanted & this.held(chunk), (column) => {
      this.buffer(chunk, column).copy(target, (column - from) * BLOCK_BYTES);
    });
  }

  /** Take over what `older` has and this has not; `older` is empty afterwards. */
  absorb(older: SlotBlocks): void {
    for (let i = 0; i < this.dirty.length; i++) {
      const held = this.held(i);
      forEachBlock(older.held(i), (column) => {
        const at = i * this.#columns + column;
        if ((held & (1 << column)) === 0) this.#numbers[at] = older.#numbers[at]!;
        else this.#pool.give(older.#numbers[at]!);
      });
      this.dirty[i]! |= older.dirty[i]! & ~held;
      this.journaled[i]! |= older.journaled[i]!;
      older.dirty[i] = 0;
      older.journaled[i] = 0;
    }
    if (older.firstSeq !== 0) this.firstSeq = older.firstSeq;
    this.lastSeq = Math.max(this.lastSeq, older.lastSeq);
    older.firstSeq = 0;
    older.lastSeq = 0;
  }

  /** Give all blocks back. */
  clear(): void {
    for (let i = 0; i < this.dirty.length; i++) {
      forEachBlock(this.held(i), (column) => this.#pool.give(this.#numbers[i * this.#columns + column]!));
    }
    this.dirty.fill(0);
    this.journaled.fill(0);
    this.firstSeq = 0;
    this.lastSeq = 0;
  }
}

/**
 * What is newer in memory than in place of one band of a stripe (the same columns of all its chunks). While the band is being put in place, `frozen`
 * holds
 * what is on its way, and new writes come to `fresh`.
 */
export class StripeSlot {
  owner: SlotOwner | null = null;
  stripe = 0;
  /** Of the array: which band of which stripe; -1 when free. */
  band = -1;
  lastUse = 0;
  /** It waits for a block that cannot be read now (partial-stripes.ts): until then on the monotonic clock it is not tried again. 0: it does not. */
  waitsUntilMs = 0;
  /** Of the last wait; the next one is longer. */
  waitMs = 0;
  /** Blocks that the journal will still get because of this slot; kept by the cache. */
  promised = 0;
  fresh: SlotBlocks;
  frozen: SlotBlocks;
  readonly allColumns: number;
  /** The frozen columns' parity is in the journal. */
  parityJournaled = false;

  /** @param dataMembers  chunks that it has room for: of the widest stripe */
  constructor(pool: BlockPool, dataMembers: number, columns: number) {
    this.fresh = new SlotBlocks(pool, dataMembers, columns);
    this.frozen = new SlotBlocks(pool, dataMembers, columns);
    this.allColumns = maskOf(0, columns);
  }

  /** Every data block is newer than anything in the journal: the band can go straight to the members. */
  get whollyDirty(): boolean {
    const { dirty } = this.fresh;
    const dataMembers = this.owner?.dataMembers ?? 0;
    for (let i = 0; i < dataMembers; i++) if (dirty[i] !== this.allColumns) return false;
    return dataMembers > 0;
  }

  /** Blocks of a data chunk whose newest content is here and not yet in place. */
  newer(chunk: number): number {
    return this.fresh.held(chunk) | this.frozen.held(chunk);
  }

  /** Copy the newest content of those of the wanted blocks that are here. @param target begins with column `from` */
  copyNewer(chunk: number, wanted: number, target: Buffer, from: number): void {
    this.frozen.copyTo(chunk, wanted & ~this.fresh.held(chunk), target, from);
    this.fresh.copyTo(chunk, wanted, target, from);
  }

  /** The oldest journal record that has something of this slot that is not in place; 0: none. */
  get firstSeq(): number {
    return this.frozen.firstSeq !== 0 ? this.frozen.firstSeq : this.fresh.firstSeq;
  }

  get empty(): boolean {
    return this.fresh.empty && this.frozen.empty;
  }

  /**
   * Blocks that the journal may still get because of this slot: what is dirty, each block perhaps in a record of its own, with a head; then
   * the parity of every column, with one head. Kept free in the ring, so that what is in memory can always be put in place.
   */
  get owed(): number {
    const frozen = this.parityJournaled ? 0 : owedBy(this.frozen);
    return owedBy(this.fresh) + frozen;
  }

  /** From now on what is here is on its way; new writes do not touch it. */
  freeze(): void {
    assert(this.frozen.empty, "a band is put in place once at a time");
    const { fresh } = this;
    this.fresh = this.frozen;
    this.frozen = fresh;
    this.parityJournaled = false;
  }

  /** What was on its way is in place. */
  settle(): void {
    this.frozen.clear();
    this.parityJournaled = false;
  }

  /** What was on its way did not get there. */
  thaw(): void {
    this.fresh.absorb(this.frozen);
    this.parityJournaled = false;
  }

  reset(owner: SlotOwner | null, stripe: number, band: number): void {
    this.fresh.clear();
    this.settle();
    this.owner = owner;
    this.stripe = stripe;
    this.band = band;
    this.waitsUntilMs = 0;
    this.waitMs = 0;
  }
}

function owedBy(blocks: SlotBlocks): number {
  const columns = countBlocks(blocks.columns);
  return columns === 0 ? 0 : 2 * blocks.dirtyBlocks + columns + 1;
}
