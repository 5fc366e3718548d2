import { BitSet } from "../../lib/bit-set.js";
import { BLOCK_BYTES, GIB } from "../../lib/units.js";
import { BlockLog } from "./block-log.js";

/** A bucket is so many blocks of the data LU: 1 GiB, more where there would be too many of them. */
const BUCKET_BLOCKS_MIN = GIB / BLOCK_BYTES;
const BUCKETS_MAX = 1024;

/** Told of what happens to blocks of the data LU, as it happens. */
export interface BlockWatcher {
  /** The block holds this, and an extent row says so from now on. */
  mapped(ino: number, group: number, address: number, crc: number): void;
  /** No row maps it any more. Its content stays, and may be wanted again after a crash or by a read in flight, until it is released. */
  unmapped(ino: number, group: number, address: number, crc: number): void;
  /** It is free. */
  released(address: number): void;
}

/** A row of the extent table. */
export interface BlockOwner {
  readonly ino: number;
  readonly group: number;
}

/** One bucket as checksums are looked up in it. */
interface Bucket {
  readonly crcs: Uint32Array;
  readonly known: BitSet;
  readonly fresh: BitSet;
}

export function bucketBlocksOf(blockCount: number): number {
  return Math.max(BUCKET_BLOCKS_MIN, Math.ceil(blockCount / BUCKETS_MAX));
}

/**
 * The checksums of all blocks from `from` on, in the order of their addresses, kept true while files change. All of it is in a BlockLog; the
 * buckets that are looked at now are in memory, with 4.25 bytes a block: for an LU up to 1 TiB 1.1 MiB a bucket, then 1/1024 of what
 * its blocks would take.
 */
export class BlockIndex implements BlockWatcher {
  /** Rows are still being noted: what they do not map any more when their turn comes is noted as it is unmapped. */
  filling = true;
  readonly from: number;
  readonly #bucketBlocks: number;
  readonly #blockCount: number;
  readonly #log: BlockLog;
  readonly #loaded = new Map<number, Bucket>();

  /** @param from  the first block that anybody will ask for */
  constructor(folder: string, blockCount: number, from: number) {
    this.#bucketBlocks = bucketBlocksOf(blockCount);
    this.#blockCount = blockCount;
    this.from = Math.floor(from / this.#bucketBlocks) * this.#bucketBlocks;
    this.#log = new BlockLog(folder, Math.ceil(blockCount / this.#bucketBlocks));
  }

  /** What a row says, at this moment. */
  note(ino: number, group: number, address: number, crc: number): void {
    if (!this.#covers(address)) return;
    const bucket = Math.floor(address / this.#bucketBlocks);
    this.#log.owned(bucket, address % this.#bucketBlocks, ino, group, crc);
    const loaded = this.#loaded.get(bucket);
    if (loaded !== undefined) this.#set(loaded, address % this.#bucketBlocks, crc);
  }

  mapped(ino: number, group: number, address: number, crc: number): void {
    this.note(ino, group, address, crc);
    this.#loaded.get(Math.floor(address / this.#bucketBlocks))?.fresh.add(address % this.#bucketBlocks);
  }

  unmapped(ino: number, group: number, address: number, crc: number): void {
    if (this.filling) this.note(ino, group, address, crc);
  }

  released(address: number): void {
    if (!this.#covers(address)) return;
    const bucket = Math.floor(address / this.#bucketBlocks);
    this.#log.released(bucket, address % this.#bucketBlocks);
    this.#loaded.get(bucket)?.known.delete(address % this.#bucketBlocks);
  }

  /**
   * Have the checksums of [from, to) at hand; those of buckets before it may go.
   * @throws StorageError EIO
   */
  async load(from: number, to: number): Promise<void> {
    const first = Math.floor(from / this.#bucketBlocks);
    const end = Math.ceil(Math.min(to, this.#blockCount) / this.#bucketBlocks);
    for (const number of this.#loaded.keys()) if (number < first || number >= end) this.#loaded.delete(number);
    for (let number = first; number < end; number++) await this.#loadBucket(number);
    for (const [number, { fresh }] of this.#loaded) {
      const start = number * this.#bucketBlocks;
      fresh.deleteRange(Math.max(0, from - start), Math.min(this.#bucketBlocks, to - start));
    }
  }

  /** @returns -1 when nobody owns the block, or it is not loaded */
  checksumOf(block: number): number {
    const bucket = this.#loaded.get(Math.floor(block / this.#bucketBlocks));
    const index = block % this.#bucketBlocks;
    return bucket?.known.has(index) === true ? bucket.crcs[index]! : -1;
  }

  /** Mapped after it was loaded. */
  isFresh(block: number): boolean {
    const bucket = this.#loaded.get(Math.floor(block / this.#bucketBlocks));
    return bucket?.fresh.has(block % this.#bucketBlocks) === true;
  }

  /** Whose the block is, by what was noted last; one pass over its bucket. @throws StorageError EIO */
  async ownerOf(block: number): Promise<BlockOwner | null> {
    if (!this.#covers(block)) return null;
    const index = block % this.#bucketBlocks;
    const last: { owner: BlockOwner | null } = { owner: null };
    await this.#log.read(Math.floor(block / this.#bucketBlocks), {
      owned: (first, count, ino, group) => {
        if (index >= first && index < first + count) last.owner = { ino, group };
      },
      released: (released) => {
        if (released === index) last.owner = null;
      },
    });
    return last.owner;
  }

  close(): void {
    this.#loaded.clear();
    this.#log.close();
  }

  #covers(block: number): boolean {
    return block >= this.from && block < this.#blockCount;
  }

  async #loadBucket(number: number): Promise<void> {
    if (this.#loaded.has(number)) return;
    const count = this.#bucketBlocks;
    const bucket = { crcs: new Uint32Array(count), known: new BitSet(count), fresh: new BitSet(count) };
    const reader = {
      owned: (first: number, runCount: number, _ino: number, _group: number, crcAt: (i: number) => number) => {
        for (let i = 0; i < runCount; i++) this.#set(bucket, first + i, crcAt(i));
      },
      released: (index: number) => bucket.known.delete(index),
    };
    // From here on it is kept true by what happens.
    await this.#log.read(number, reader, () => this.#loaded.set(number, bucket));
  }

  #set(bucket: Bucket, index: number, crc: number): void {
    bucket.crcs[index] = crc;
    bucket.known.add(index);
  }
}
