import type Database from "better-sqlite3";
import { assert } from "../../lib/assert.js";
import { StorageError } from "../../lib/errors.js";
import type { BlockWatcher } from "./block-index.js";
import type { RunList } from "./run-list.js";
import type { SpaceGeometry } from "./schema.js";

const POPULATION = Uint8Array.from({ length: 256 }, (_, byte) => {
  let count = 0;
  for (let rest = byte; rest !== 0; rest &= rest - 1) count++;
  return count;
});

/**
 * Which blocks of the data LU are in use, in two bitmaps:
 *
 *   stored  what the extents say; its segments are written with the commit that changes them
 *   busy    stored, and blocks that a write-back in flight has taken, and freed blocks in quarantine
 *
 * Space is promised when data becomes dirty, so that write-back cannot run out of it. Overwrites need new blocks too until their commit:
 * they may use the reserve, which new data may not.
 */
export class SpaceMap {
  #geometry: SpaceGeometry;
  #reserveBlocks = 0;
  #segmentCount: number;
  #stored: Uint8Array;
  #busy: Uint8Array;
  #stripeBusy = new Uint16Array();
  #segmentFreeStripes = new Uint16Array();
  #segmentFree = new Int32Array();
  readonly #blockWatchers: readonly BlockWatcher[];
  readonly #dirtySegments = new Set<number>();
  /** Segments that changed since the last seal, each counted again when its row was written in between. */
  #changedSegmentCount = 0;
  readonly #put: Database.Statement<[number, Buffer]>;
  readonly #delete: Database.Statement<[number]>;
  readonly #get: Database.Statement<[number], Buffer>;
  readonly #stripesPerSegment: number;
  #freeCount = 0;
  #promisedCount = 0;
  #stripeSegment = -1;
  #nextStripe = 0;
  #pieceSegment = -1;
  #nextPiece = 0;

  /** @param blockWatchers  told of blocks that become free; they come and go */
  constructor(db: Database.Database, geometry: SpaceGeometry, blockWatchers: readonly BlockWatcher[] = []) {
    this.#geometry = geometry;
    this.#blockWatchers = blockWatchers;
    const { blockCount, segmentBlocks, stripeBlocks } = geometry;
    this.#segmentCount = Math.ceil(blockCount / segmentBlocks);
    this.#stripesPerSegment = segmentBlocks / stripeBlocks;
    const bytes = Math.ceil((this.segmentCount * segmentBlocks) / 8);
    this.#stored = new Uint8Array(bytes);
    this.#busy = new Uint8Array(bytes);
    this.#put = db.prepare("INSERT INTO segment VALUES (?, ?) ON CONFLICT DO UPDATE SET bitmap = excluded.bitmap");
    this.#get = db.prepare<[number], Buffer>("SELECT bitmap FROM segment WHERE seg = ?").pluck();
    this.#delete = db.prepare("DELETE FROM segment WHERE seg = ?");
    this.#loadRows(db);
    this.#busy.set(this.#stored);
    this.#count();
  }

  get geometry(): SpaceGeometry {
    return this.#geometry;
  }

  get segmentCount(): number {
    return this.#segmentCount;
  }

  /** Blocks that only overwrites and truncates may use for a time. */
  get reserveBlocks(): number {
    return this.#reserveBlocks;
  }

  /**
   * The data LU has grown: what is new is free. Stripes and segments keep the size that they were made with; the last segment may
   * have been a part of one. Some 50 ms in one piece for each TiB that there is then.
   */
  grow(blockCount: number): void {
    const before = this.#geometry;
    assert(blockCount > before.blockCount, "an LU that has grown has more blocks");
    const { segmentBlocks } = before;
    this.#geometry = { ...before, blockCount };
    this.#segmentCount = Math.ceil(blockCount / segmentBlocks);
    const bytes = Math.ceil((this.#segmentCount * segmentBlocks) / 8);
    this.#stored = enlarged(this.#stored, bytes);
    this.#busy = enlarged(this.#busy, bytes);
    const segmentEnd = Math.ceil(before.blockCount / segmentBlocks) * segmentBlocks;
    for (let block = before.blockCount; block < segmentEnd; block++) clearBit(this.#busy, block);
    this.#count();
  }

  get freeCount(): number {
    return this.#freeCount;
  }

  get changedSegmentCount(): number {
    return this.#changedSegmentCount;
  }

  /** The changes so far go into the commit that is being sealed. */
  sealed(): void {
    this.#changedSegmentCount = 0;
  }

  get promisedCount(): number {
    return this.#promisedCount;
  }

  /** Neither allocated nor promised, without the reserve. */
  get availableCount(): number {
    return Math.max(0, this.#freeCount - this.#promisedCount - this.reserveBlocks);
  }

  /** @param fresh blocks that add to what is allocated; @param overwritten blocks whose old version is freed later */
  canPromise(fresh: number, overwritten: number): boolean {
    const left = this.#freeCount - this.#promisedCount - fresh - overwritten;
    return left >= (fresh > 0 ? this.reserveBlocks : 0);
  }

  promise(blockCount: number): void {
    this.#promisedCount += blockCount;
  }

  unpromise(blockCount: number): void {
    this.#promisedCount -= blockCount;
    assert(this.#promisedCount >= 0, "no more is given back than was promised");
  }

  /**
   * Take blocks for a write-back, whole free stripes of the emptiest segments first, then free pieces. They are busy, not stored.
   * @param addresses  filled from the start, one per block
   * @throws StorageError ENOSPC, nothing taken; only when a failed write-back was dirtied again meanwhile on a full LU
   */
  allocate(addresses: Float64Array): void {
    const wanted = addresses.length;
    if (wanted > this.#freeCount) throw new StorageError("ENOSPC", "the data LU has no free block", { wanted });
    const { stripeBlocks } = this.geometry;
    let taken = 0;
    while (wanted - taken >= stripeBlocks) {
      const stripe = this.#takeStripe();
      if (stripe < 0) break;
      for (let i = 0; i < stripeBlocks; i++) addresses[taken++] = this.#occupy(stripe * stripeBlocks + i);
    }
    while (taken < wanted) addresses[taken++] = this.#occupy(this.#findPiece());
  }

  /** The commit being collected maps this block. */
  store(block: number): void {
    assert(hasBit(this.#busy, block), "a block is taken before it is mapped");
    assert(!hasBit(this.#stored, block), "a block is mapped once");
    setBit(this.#stored, block);
    this.#markSegment(block);
  }

  /** The commit being collected unmaps this block; it stays busy until `release`. */
  unstore(block: number): void {
    assert(hasBit(this.#stored, block), "only a mapped block is unmapped");
    clearBit(this.#stored, block);
    this.#markSegment(block);
  }

  /** A block that is not mapped becomes free. */
  release(block: number): void {
    assert(hasBit(this.#busy, block), "only a busy block is released");
    assert(!hasBit(this.#stored, block), "a mapped block is not released");
    clearBit(this.#busy, block);
    const { stripeBlocks, segmentBlocks } = this.geometry;
    const segment = Math.floor(block / segmentBlocks);
    if (--this.#stripeBusy[Math.floor(block / stripeBlocks)]! === 0) this.#segmentFreeStripes[segment]!++;
    this.#segmentFree[segment]!++;
    this.#freeCount++;
    for (const watcher of this.#blockWatchers) watcher.released(block);
  }

  releaseAll(freed: RunList): void {
    for (let run = 0; run < freed.starts.length; run++) {
      const end = freed.starts[run]! + freed.counts[run]!;
      for (let block = freed.starts[run]!; block < end; block++) this.release(block);
    }
  }

  isStored(block: number): boolean {
    return block < this.geometry.blockCount && hasBit(this.#stored, block);
  }

  /** Stored blocks of a segment that are not set in `bits`, one bit for each block of the data LU. */
  countStoredOutside(segment: number, bits: Uint8Array): number {
    const { segmentBlocks, blockCount } = this.geometry;
    const first = segment * segmentBlocks;
    const end = Math.min(first + segmentBlocks, blockCount);
    let count = 0;
    for (let block = first; block < end; ) {
      const whole = block % 8 === 0 && block + 8 <= end;
      if (whole && this.#stored[block / 8] === bits[block / 8]) block += 8;
      else {
        if (hasBit(this.#stored, block) && !hasBit(bits, block)) count++;
        block++;
      }
    }
    return count;
  }

  /** Whether the segment's row says the same as memory. After `writeRows`. */
  rowAgrees(segment: number): boolean {
    const bytes = this.geometry.segmentBlocks / 8;
    const row = this.#get.get(segment) ?? Buffer.alloc(Math.ceil(bytes));
    return row.equals(this.#segmentBitmap(segment, bytes));
  }

  /** Write the bitmaps that changed into the open transaction. */
  writeRows(): void {
    const bytes = this.geometry.segmentBlocks / 8;
    for (const segment of this.#dirtySegments) {
      const bitmap = this.#segmentBitmap(segment, bytes);
      if (bitmap.every((byte) => byte === 0)) this.#delete.run(segment);
      else this.#put.run(segment, bitmap);
    }
    this.#dirtySegments.clear();
  }

  #markSegment(block: number): void {
    const before = this.#dirtySegments.size;
    this.#dirtySegments.add(Math.floor(block / this.geometry.segmentBlocks));
    this.#changedSegmentCount += this.#dirtySegments.size - before;
  }

  /** A segment need not be whole bytes of the flat bitmap; then its row is put together bit by bit. */
  #segmentBitmap(segment: number, bytes: number): Buffer {
    const first = segment * this.geometry.segmentBlocks;
    if (Number.isInteger(bytes)) return Buffer.from(this.#stored.buffer, first / 8, bytes);
    const bitmap = Buffer.alloc(Math.ceil(bytes));
    for (let i = 0; i < this.geometry.segmentBlocks; i++) if (hasBit(this.#stored, first + i)) setBit(bitmap, i);
    return bitmap;
  }

  #loadRows(db: Database.Database): void {
    const { segmentBlocks } = this.geometry;
    const rows = db.prepare<[], [number, Buffer]>("SELECT seg, bitmap FROM segment").raw();
    for (const [segment, bitmap] of rows.iterate()) {
      if (bitmap.length !== Math.ceil(segmentBlocks / 8) || segment >= this.segmentCount) {
        throw new StorageError("EIO", "a segment row is damaged", { segment, byteCount: bitmap.length });
      }
      for (let i = 0; i < segmentBlocks; i++) if (hasBit(bitmap, i)) setBit(this.#stored, segment * segmentBlocks + i);
    }
  }

  #count(): void {
    const { blockCount, segmentBlocks, stripeBlocks } = this.geometry;
    this.#stripeBusy = new Uint16Array(this.segmentCount * this.#stripesPerSegment);
    this.#segmentFreeStripes = new Uint16Array(this.segmentCount);
    this.#segmentFree = new Int32Array(this.segmentCount);
    this.#freeCount = 0;
    this.#reserveBlocks = reserveOf(this.geometry);
    // What lies past the end of the LU in the last segment is never free.
    for (let block = blockCount; block < this.segmentCount * segmentBlocks; block++) setBit(this.#busy, block);
    for (let stripe = 0; stripe < this.#stripeBusy.length; stripe++) {
      const busy = countBits(this.#busy, stripe * stripeBlocks, stripeBlocks);
      const segment = Math.floor(stripe / this.#stripesPerSegment);
      this.#stripeBusy[stripe] = busy;
      this.#segmentFree[segment]! += stripeBlocks - busy;
      if (busy === 0) this.#segmentFreeStripes[segment]!++;
      this.#freeCount += stripeBlocks - busy;
    }
  }

  #occupy(block: number): number {
    assert(!hasBit(this.#busy, block), "only a free block is taken");
    setBit(this.#busy, block);
    const { stripeBlocks, segmentBlocks } = this.geometry;
    const segment = Math.floor(block / segmentBlocks);
    if (this.#stripeBusy[Math.floor(block / stripeBlocks)]!++ === 0) this.#segmentFreeStripes[segment]!--;
    this.#segmentFree[segment]!--;
    this.#freeCount--;
    return block;
  }

  /** @returns a wholly free stripe, sequential within a segment; -1 when there is none */
  #takeStripe(): number {
    for (;;) {
      const end = (this.#stripeSegment + 1) * this.#stripesPerSegment;
      while (this.#stripeSegment >= 0 && this.#nextStripe < end) {
        const stripe = this.#nextStripe++;
        if (this.#stripeBusy[stripe] === 0) return stripe;
      }
      this.#stripeSegment = largest(this.#segmentFreeStripes, -1);
      if (this.#stripeSegment < 0) return -1;
      this.#nextStripe = this.#stripeSegment * this.#stripesPerSegment;
    }
  }

  /** Small allocations fill a segment of their own in order, so that they too become whole stripes in time. */
  #findPiece(): number {
    const { segmentBlocks } = this.geometry;
    for (;;) {
      const end = (this.#pieceSegment + 1) * segmentBlocks;
      while (this.#pieceSegment >= 0 && this.#nextPiece < end) {
        if (this.#nextPiece % 8 === 0 && this.#busy[this.#nextPiece / 8] === 0xff) this.#nextPiece += 8;
        else if (!hasBit(this.#busy, this.#nextPiece++)) return this.#nextPiece - 1;
      }
      this.#pieceSegment = largest(this.#segmentFree, this.#stripeSegment);
      if (this.#pieceSegment < 0) this.#pieceSegment = this.#stripeSegment;
      assert(this.#segmentFree[this.#pieceSegment]! > 0, "the free count and the bitmap agree");
      this.#nextPiece = this.#pieceSegment * segmentBlocks;
    }
  }
}

/** 1 % of the LU, at least enough for a few large overwrites, at most an eighth of a tiny LU. */
function reserveOf(geometry: SpaceGeometry): number {
  const wanted = Math.max(Math.ceil(geometry.blockCount / 100), 4 * geometry.stripeBlocks, 512);
  return Math.min(wanted, Math.floor(geometry.blockCount / 8));
}

/** @returns index of the largest value above 0, other than `except`; the first one of equals; -1 when there is none */
function largest(values: Uint16Array | Int32Array, except: number): number {
  let best = -1;
  let bestValue = 0;
  for (let i = 0; i < values.length; i++) {
    if (values[i]! <= bestValue || i === except) continue;
    best = i;
    bestValue = values[i]!;
  }
  return best;
}

function enlarged(bits: Uint8Array, bytes: number): Uint8Array {
  const larger = new Uint8Array(bytes);
  larger.set(bits);
  return larger;
}

// Divide, do not shift: block numbers pass 32 bits on an LU of 16 TiB.
function hasBit(bits: Uint8Array, block: number): boolean {
  return (bits[Math.floor(block / 8)]! & (1 << (block % 8))) !== 0;
}

function setBit(bits: Uint8Array, block: number): void {
  bits[Math.floor(block / 8)]! |= 1 << (block % 8);
}

function clearBit(bits: Uint8Array, block: number): void {
  bits[Math.floor(block / 8)]! &= ~(1 << (block % 8));
}

function countBits(bits: Uint8Array, first: number, count: number): number {
  let total = 0;
  let block = first;
  const end = first + count;
  for (; block < end && block % 8 !== 0; block++) if (hasBit(bits, block)) total++;
  for (; block + 8 <= end; block += 8) total += POPULATION[bits[block / 8]!]!;
  for (; block < end; block++) if (hasBit(bits, block)) total++;
  return total;
}
