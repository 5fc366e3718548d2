import { crc32c } from "../lib/crc32c.js";
import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES, MIB } from "../lib/units.js";
import type { LogicalUnit } from "../lu/lu.js";
import { type ImageMap, noteImage } from "./images.js";
import { MAGIC } from "./layout.js";
import type { LogArea } from "./log.js";
import { type HealCounters, prove } from "./prove.js";
import {
  bodyBlocksOf,
  bodyStartOf,
  decodeEntries,
  decodeHead,
  isListBlock,
  listBlocksOf,
  RecordEntries,
  type RecordHead,
  recordBytesOf,
  seqOf,
} from "./record.js";

/** Read at once while the rest of the log is searched, nearly all of it at every mount: as much as keeps every I/O thread busy. */
const SEARCH_BYTES = 4 * MIB;
const RECORD_MAGIC_LOW = Number(MAGIC.record & 0xffff_ffffn);

export interface ReplayResult {
  /** Of the last valid record; what replay was given when there is none. */
  pageCount: number;
  epoch: number;
  records: number;
}

/**
 * Reads the log from its tail to the last valid record.
 *
 * What comes after the last valid record must not be a record either: one record is in flight at a time, so a later one proves that
 * the one that cannot be read was durable. Going on without it would lose what was acknowledged; that is EIO (I-3).
 */
export class Replay {
  readonly #lu: LogicalUnit;
  readonly #log: LogArea;
  readonly #uuid: Buffer;
  readonly #counters: HealCounters;
  readonly #window: Buffer;
  #windowStart = 0;
  #windowEnd = 0;
  /** Reading further would come round to the tail. */
  readonly #limit: number;
  readonly #entries = new RecordEntries();

  /** @param window  read-ahead, at least one block */
  constructor(lu: LogicalUnit, log: LogArea, uuid: Buffer, window: Buffer, counters: HealCounters) {
    this.#lu = lu;
    this.#log = log;
    this.#uuid = uuid;
    this.#window = window;
    this.#counters = counters;
    this.#limit = log.head + log.bytes;
  }

  /**
   * Read to the last whole record. `search` follows, before anything is appended.
   * @param start     what the superblock knows
   * @param images    receives the newest image of every page
   * @param onRecord  each record in order; the sidecar (empty when there is none) belongs to the callee
   * @throws StorageError EIO, ESTALE when a record carries an epoch above `epochMax`
   */
  run(
    start: Omit<ReplayResult, "records">,
    epochMax: number,
    images: ImageMap,
    onRecord: (seq: number, sidecar: Buffer) => void,
  ): Promise<ReplayResult> {
    return this.#readOn(start, epochMax, images, onRecord);
  }

  /** As `run`, while the owner goes on writing: what stands behind the last whole record says nothing. */
  follow(start: Omit<ReplayResult, "records">, images: ImageMap): Promise<ReplayResult> {
    return this.#readOn(start, Number.MAX_SAFE_INTEGER, images, () => {});
  }

  async #readOn(
    start: Omit<ReplayResult, "records">,
    epochMax: number,
    images: ImageMap,
    onRecord: (seq: number, sidecar: Buffer) => void,
  ): Promise<ReplayResult> {
    const { pageCount, epoch } = start;
    const result = { pageCount, epoch, records: 0 };
    for (;;) {
      const head = await this.#readHead(result.epoch);
      const sidecar = head === null ? null : await this.#readBody(head);
      if (head === null || sidecar === null) break;
      if (head.epoch > epochMax) throw new StorageError("ESTALE", "the log has a newer owner", { epoch: head.epoch });
      this.#noteImages(head, images);
      this.#log.accept(recordBytesOf(head.pagesLogged, head.sidecarBytes), head.checksum);
      result.pageCount = head.pageCount;
      result.epoch = head.epoch;
      result.records++;
      onRecord(head.seq, sidecar);
    }
    return result;
  }

  async #readHead(epochMin: number): Promise<RecordHead | null> {
    const position = this.#log.head;
    const accepts = (block: Buffer): boolean => {
      const head = decodeHead(block, this.#uuid);
      return head !== null && this.#follows(head, position, epochMin);
    };
    const block = await this.#proven(position, accepts);
    if (block === null) return null;
    const head = decodeHead(block, this.#uuid);
    if (head === null || !(await this.#readEntries(head, Buffer.from(block)))) return null;
    return head;
  }

  #follows(head: RecordHead, position: number, epochMin: number): boolean {
    return (
      head.seq === this.#log.nextSeq &&
      head.position === position &&
      head.previousChecksum === this.#log.chain &&
      head.epoch >= epochMin &&
      recordBytesOf(head.pagesLogged, head.sidecarBytes) <= this.#limit - position
    );
  }

  async #readEntries(head: RecordHead, headBlock: Buffer): Promise<boolean> {
    const count = listBlocksOf(bodyBlocksOf(head.pagesLogged, head.sidecarBytes));
    const lists = Buffer.alloc(count * BLOCK_BYTES);
    for (let i = 0; i < count; i++) {
      const position = head.position + (1 + i) * BLOCK_BYTES;
      const block = await this.#proven(position, (b) => isListBlock(b, this.#uuid, head.seq, i));
      if (block === null) return false;
      block.copy(lists, i * BLOCK_BYTES);
    }
    if (crc32c(lists) !== head.listChecksum) return false;
    this.#log.noteBlock(head.position, crc32c(headBlock));
    for (let at = 0; at < lists.length; at += BLOCK_BYTES) {
      this.#log.noteBlock(head.position + BLOCK_BYTES + at, crc32c(lists.subarray(at, at + BLOCK_BYTES)));
    }
    decodeEntries(head, headBlock, lists, this.#entries);
    return true;
  }

  /** @returns the sidecar, or null when a block of the record is missing */
  async #readBody(head: RecordHead): Promise<Buffer | null> {
    const bodyStart = head.position + bodyStartOf(head.pagesLogged, head.sidecarBytes);
    const sidecar = Buffer.alloc((this.#entries.count - head.pagesLogged) * BLOCK_BYTES);
    for (let i = 0; i < this.#entries.count; i++) {
      const checksum = this.#entries.checksums[i] ?? 0;
      const block = await this.#proven(bodyStart + i * BLOCK_BYTES, (b) => crc32c(b) === checksum);
      if (block === null) return null;
      this.#log.noteBlock(bodyStart + i * BLOCK_BYTES, checksum);
      if (i >= head.pagesLogged) block.copy(sidecar, (i - head.pagesLogged) * BLOCK_BYTES);
    }
    return sidecar.subarray(0, head.sidecarBytes);
  }

  #noteImages(head: RecordHead, images: ImageMap): void {
    const bodyStart = head.position + bodyStartOf(head.pagesLogged, head.sidecarBytes);
    for (let i = 0; i < head.pagesLogged; i++) {
      noteImage(images, this.#entries.pages[i] ?? 0, bodyStart + i * BLOCK_BYTES, this.#entries.checksums[i] ?? 0);
    }
  }

  /** Look through the rest of the log for a later record. @throws StorageError EIO (see above) */
  async search(): Promise<void> {
    const piece = Buffer.allocUnsafeSlow(SEARCH_BYTES);
    for (let start = this.#log.head; start < this.#limit; start += piece.length) {
      const bytes = piece.subarray(0, Math.min(piece.length, this.#limit - start));
      await this.#log.read(bytes, start);
      for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
        if (bytes.readUInt32LE(at) === RECORD_MAGIC_LOW)
          this.#refuseIfLater(bytes.subarray(at, at + BLOCK_BYTES), start + at);
      }
    }
  }

  #refuseIfLater(block: Buffer, position: number): void {
    // Nearly all of them are of the laps before: that is seen without their checksums.
    if (seqOf(block) <= this.#log.nextSeq) return;
    const head = decodeHead(block, this.#uuid);
    if (head === null || head.position !== position) return;
    const detail = { seq: this.#log.nextSeq, position: this.#log.head, laterSeq: head.seq };
    throw new StorageError("EIO", "a record in the middle of the log is damaged in every copy", detail);
  }

  /** @returns a view that is valid until the next block is asked for, or null when no copy is good */
  async #proven(position: number, isGood: (block: Buffer) => boolean): Promise<Buffer | null> {
    const block = this.#view(position) ?? (await this.#load(position));
    if (isGood(block)) return block;
    return (await prove(this.#lu, block, this.#log.place(position), isGood, this.#counters)) ? block : null;
  }

  #view(position: number): Buffer | null {
    if (position < this.#windowStart || position >= this.#windowEnd) return null;
    const at = position - this.#windowStart;
    return this.#window.subarray(at, at + BLOCK_BYTES);
  }

  async #load(position: number): Promise<Buffer> {
    const byteCount = Math.min(this.#window.length, this.#limit - position);
    await this.#log.read(this.#window.subarray(0, byteCount), position);
    this.#windowStart = position;
    this.#windowEnd = position + byteCount;
    return this.#window.subarray(0, BLOCK_BYTES);
  }
}
