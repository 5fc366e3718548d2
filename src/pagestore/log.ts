import { assert, must } from "../lib/assert.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../lib/units.js";
import type { LogicalUnit } from "../lu/lu.js";
import type { Geometry } from "./layout.js";

/** One write hands at most this much to the layers below, which may have to copy it. */
const WRITE_BYTES_MAX = 4 * MIB;

/** A record between tail and head. */
export interface LiveRecord {
  readonly seq: number;
  readonly position: number;
  /** Checksum of the head of the record before it. */
  readonly previousChecksum: number;
}

/**
 * The circular log. Positions only ever rise (position % logBytes is the place), so that an old lap is never mistaken for this one.
 * Live records lie from `tail` to `head` without a gap.
 */
export class LogArea {
  readonly bytes: number;
  /** Where the next record goes. */
  head: number;
  /** Sequence number of the next record, and the checksum of the head of the last. */
  nextSeq: number;
  chain: number;
  readonly #lu: LogicalUnit;
  readonly #start: number;
  /** CRC-32C of each block of the log, by place; of the live records they are true. 64 KiB for a log of 64 MiB. */
  readonly #checksums: Uint32Array;
  #records: LiveRecord[] = [];
  /** `#records` before this index are dropped; compacted now and then. */
  #first = 0;

  constructor(lu: LogicalUnit, geometry: Geometry, tail: { position: number; seq: number; chain: number }) {
    this.#lu = lu;
    this.#start = geometry.logStart;
    this.bytes = geometry.logBytes;
    this.#checksums = new Uint32Array(this.bytes / BLOCK_BYTES);
    this.head = tail.position;
    this.nextSeq = tail.seq;
    this.chain = tail.chain;
  }

  get tailPosition(): number {
    return this.#records[this.#first]?.position ?? this.head;
  }

  get usedBytes(): number {
    return this.head - this.tailPosition;
  }

  get freeBytes(): number {
    return this.bytes - this.usedBytes;
  }

  /** Where in the log, and on the LU, a position lies. */
  place(position: number): LuByte {
    return (this.#start + (position % this.bytes)) as LuByte;
  }

  /** Bytes from `position` to where the log wraps. */
  #untilWrap(position: number): number {
    return this.bytes - (position % this.bytes);
  }

  async read(target: Buffer, position: number): Promise<void> {
    const first = Math.min(target.length, this.#untilWrap(position));
    await this.#lu.read(target.subarray(0, first), this.place(position));
    if (first < target.length) await this.#lu.read(target.subarray(first), this.place(position + first));
  }

  /** Write a record at the head, durably. Its first piece goes last, so that nothing looks like a record before all of it is there. */
  async append(record: Buffer): Promise<void> {
    assert(record.length <= this.freeBytes, "a record fits the free part of the log");
    for (let end = record.length; end > 0; ) {
      const start = this.#pieceStart(end);
      await this.#lu.writeThrough([record.subarray(start, end)], this.place(this.head + start));
      end = start;
    }
  }

  /** Where the last piece begins of a record's first `end` bytes: cut at the wrap and at the largest write. */
  #pieceStart(end: number): number {
    const wrap = this.#untilWrap(this.head);
    const atWrap = wrap < end ? wrap : 0;
    return Math.max(atWrap, end - WRITE_BYTES_MAX);
  }

  /** What a block of the record at the head holds; before `accept`. */
  noteBlock(position: number, checksum: number): void {
    this.#checksums[(position % this.bytes) / BLOCK_BYTES] = checksum;
  }

  /** @param place  byte in the log. @returns CRC-32C of the block there; -1 when it belongs to no live record */
  checksumAt(place: number): number {
    const ahead = this.head % this.bytes;
    const behindHead = place < ahead ? ahead - place : this.bytes + ahead - place;
    return behindHead <= this.usedBytes ? (this.#checksums[place / BLOCK_BYTES] ?? -1) : -1;
  }

  /** A record is durable: count it. */
  accept(byteCount: number, checksum: number): void {
    this.#records.push({ seq: this.nextSeq, position: this.head, previousChecksum: this.chain });
    this.head += byteCount;
    this.nextSeq++;
    this.chain = checksum;
    assert(this.head % BLOCK_BYTES === 0, "records are whole blocks");
  }

  /** Where reading would begin if every record before `seq` were dropped. */
  tailAt(seq: number): LiveRecord {
    if (seq >= this.nextSeq) return { seq: this.nextSeq, position: this.head, previousChecksum: this.chain };
    const oldest = must(this.#records[this.#first], "there are live records");
    return must(this.#records[this.#first + Math.max(0, seq - oldest.seq)], "live records are without a gap");
  }

  /** Records before `seq` may be overwritten from now on. */
  drop(seq: number): void {
    while (this.#first < this.#records.length && must(this.#records[this.#first], "in range").seq < seq) this.#first++;
    if (this.#first < 1024) return;
    this.#records = this.#records.slice(this.#first);
    this.#first = 0;
  }
}
