import { BLOCK_BYTES } from "../lib/units.js";
import { countBlocks, maskOf } from "./block-mask.js";

/** What the cache needs to know of the array that a slot belongs to. */
export interface SlotOwner {
  /** Data chunks of its stripes. */
  readonly dataMembers: number;
  /** Everything of this slot in place; the slot is free afterwards, unless it was written to meanwhile. */
  destage(slot: StripeSlot): Promise<void>;
  /** Records before `tailSeq` are gone. */
  forgetJournaled(tailSeq: number): void;
}

/**
 * A band of a stripe in memory: the same columns of all its chunks, and of the parity. Per data chunk, a block is
 *   absent    not in memory
 *   present   as on the disk, read for parity
 *   dirty     written, not yet in the journal (also present)
 *   journaled in the journal, not yet in place (also present; a dirty one may have an older version there)
 */
export class StripeSlot {
  owner: SlotOwner | null = null;
  stripe = 0;
  /** Of the array: which band of which stripe. */
  band = -1;
  readonly dirty: Uint32Array;
  readonly journaled: Uint32Array;
  readonly present: Uint32Array;
  /** Columns whose parity is in the journal and not yet in place. */
  parityColumns = 0;
  /** First and last journal record with blocks of this slot that are not yet in place; 0: none. */
  firstSeq = 0;
  lastSeq = 0;
  lastUse = 0;
  /** Of the owner: how many chunks of data there are. */
  dataMembers = 0;
  /** Per data chunk, then the parity (after that unused, where the owner is not spread over all members): its part of the slot's memory. */
  readonly chunks: readonly Buffer[];
  readonly allColumns: number;

  constructor(
    readonly memory: Buffer,
    /** Of `memory` in the arena. */
    readonly arenaOffset: number,
    /** Chunks that it has memory for: of the widest stripe. */
    chunkCount: number,
    readonly bandBytes: number,
  ) {
    this.dirty = new Uint32Array(chunkCount - 1);
    this.journaled = new Uint32Array(chunkCount - 1);
    this.present = new Uint32Array(chunkCount - 1);
    this.allColumns = maskOf(0, bandBytes / BLOCK_BYTES);
    this.chunks = Array.from({ length: chunkCount }, (_, i) => memory.subarray(i * bandBytes, (i + 1) * bandBytes));
  }

  offsetOf(chunk: number, block: number): number {
    return this.arenaOffset + chunk * this.bandBytes + block * BLOCK_BYTES;
  }

  view(chunk: number, first: number, end: number): Buffer {
    return this.chunks[chunk]!.subarray(first * BLOCK_BYTES, end * BLOCK_BYTES);
  }

  get dirtyColumns(): number {
    let columns = 0;
    for (let i = 0; i < this.dataMembers; i++) columns |= this.dirty[i]!;
    return columns;
  }

  get dirtyBlocks(): number {
    let blocks = 0;
    for (let i = 0; i < this.dataMembers; i++) blocks += countBlocks(this.dirty[i]!);
    return blocks;
  }

  /** Every data block is newer than anything in the journal: the slot can go straight to the members. */
  get whollyDirty(): boolean {
    for (let i = 0; i < this.dataMembers; i++) if (this.dirty[i] !== this.allColumns) return false;
    return true;
  }

  /** Blocks of a data chunk whose newest content is here and not yet in place. */
  newer(chunk: number): number {
    return this.dirty[chunk]! | this.journaled[chunk]!;
  }

  reset(owner: SlotOwner | null, stripe: number, band: number): void {
    this.owner = owner;
    this.dataMembers = owner?.dataMembers ?? 0;
    this.stripe = stripe;
    this.band = band;
    this.dirty.fill(0);
    this.present.fill(0);
    this.settle();
  }

  /** What was journaled is in place. */
  settle(): void {
    this.journaled.fill(0);
    this.parityColumns = 0;
    this.firstSeq = 0;
    this.lastSeq = 0;
  }
}
