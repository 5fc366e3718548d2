import fs from "node:fs/promises";
import { crc32c } from "../lib/crc32c.js";
import { BLOCK_BYTES, KIB, type LuByte, MIB } from "../lib/units.js";
import type { LogicalUnit } from "../lu/lu.js";
import { ChecksumTable, markOf } from "./checksum-table.js";
import { type ImageMap, loadImages } from "./images.js";
import { homeOf } from "./layout.js";
import { LogArea } from "./log.js";
import { writePages } from "./page-file.js";
import { type HealCounters, prove } from "./prove.js";
import { Replay } from "./replay.js";
import { scratchError } from "./scratch.js";
import { newStatistics } from "./statistics.js";
import { readNewestSuperblock, type Superblock } from "./superblock.js";

/** Read and written at a time while the whole page area is copied. */
const PIECE_BYTES = MIB;
const WINDOW_BYTES = 256 * KIB;

/** A copy of the pages, as it is handed to `openPageStore`: what of it is still true is proven there. */
export interface WarmPages {
  readonly file: string;
  /** CRC-32C of each page of the file as a table entry (checksum-table.ts), from page 1 on; 0: not known. */
  readonly marks: Uint32Array;
  /** Every record before this one, which begins at this position of the log, is in the file. */
  readonly nextSeq: number;
  readonly position: number;
  /** Checksum of the head of the record before. */
  readonly chain: number;
  readonly uuid: Buffer;
}

interface Cursor {
  readonly superblock: Superblock;
  position: number;
  seq: number;
  chain: number;
  pageCount: number;
  epoch: number;
}

/**
 * Follows the log of a page store that another node writes, and keeps a copy of its pages: when that node dies only what it wrote last has to be read.
 * It never writes to the LU. Whatever it reads half, or too late, fails its checksum or breaks the chain of records; then it begins anew.
 */
export class WarmCopy {
  readonly #lu: LogicalUnit;
  readonly #file: string;
  readonly #counters: HealCounters = newStatistics();
  readonly #window = Buffer.allocUnsafeSlow(WINDOW_BYTES);
  #handle: fs.FileHandle | null = null;
  #marks = new Uint32Array(0);
  #cursor: Cursor | null = null;
  #round: Promise<number> | null = null;
  /** Handed over or closed: the file is somebody else's, or gone. */
  #ended = false;

  /** @param file  where the copy lies; made anew */
  constructor(lu: LogicalUnit, file: string) {
    this.#lu = lu;
    this.#file = file;
  }

  /** The next record that it waits for; 0 before the first round. */
  get nextSeq(): number {
    return this.#cursor?.seq ?? 0;
  }

  /**
   * Catch up with what is there now. A second call waits for the first; after `take` or `close` nothing happens any more.
   * @returns how many records came, or were copied anew
   * @throws StorageError EIO (cannot be read in any copy), ENOSPC (the file cannot be written); the next round begins anew
   */
  follow(): Promise<number> {
    if (this.#ended) return Promise.resolve(0);
    this.#round ??= this.#follow().finally(() => {
      this.#round = null;
    });
    return this.#round;
  }

  async #follow(): Promise<number> {
    try {
      const superblock = await readNewestSuperblock(this.#lu, this.#counters);
      if (superblock === null) return 0;
      const cursor = this.#cursor;
      if (cursor?.superblock.uuid.equals(superblock.uuid)) {
        // Also when the tail has passed it: what the log no longer needs stands there until it is overwritten, and then the chain breaks.
        const records = await this.#catchUp(cursor);
        if (cursor.seq >= superblock.tailSeq) return records;
      }
      return await this.#copy(superblock);
    } catch (error) {
      this.#cursor = null;
      throw scratchError(error);
    }
  }

  /**
   * Hand the copy over; it is followed no more.
   * @param tailSeq  where the log begins now: from there on whoever takes the copy reads for himself
   * @returns null: there is none
   */
  async take(tailSeq: number): Promise<WarmPages | null> {
    if (this.#ended) return null;
    await this.#round?.catch(() => {});
    // Its owner wrote a checkpoint at the end.
    if (this.#cursor !== null && this.#cursor.seq < tailSeq) await this.follow().catch(() => {});
    await this.#end();
    const cursor = this.#cursor;
    if (cursor === null) return null;
    const { superblock, seq, position, chain } = cursor;
    return { file: this.#file, marks: this.#marks, nextSeq: seq, position, chain, uuid: superblock.uuid };
  }

  /** Nothing when it was taken. */
  async close(): Promise<void> {
    if (this.#ended) return;
    await this.#end();
    await fs.rm(this.#file, { force: true });
  }

  /** What is under way ends first, and nothing begins after it. */
  async #end(): Promise<void> {
    this.#ended = true;
    await this.#round?.catch(() => {});
    await this.#handle?.close();
    this.#handle = null;
  }

  async #copy(superblock: Superblock): Promise<number> {
    this.#cursor = null;
    this.#handle ??= await fs.open(this.#file, "w+", 0o600);
    const table = new ChecksumTable(this.#lu, superblock.geometry, superblock.uuid);
    await table.load(superblock.tableBlocksUsed, superblock.generation, newStatistics());
    this.#marks = new Uint32Array(Math.max(superblock.pageCount, 1024));
    const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
    const pagesPerPiece = PIECE_BYTES / BLOCK_BYTES;
    for (let first = 1; first <= superblock.pageCount; first += pagesPerPiece) {
      const count = Math.min(pagesPerPiece, superblock.pageCount - first + 1);
      const bytes = piece.subarray(0, count * BLOCK_BYTES);
      await this.#lu.read(bytes, homeOf(superblock.geometry, first) as LuByte);
      for (let i = 0; i < count; i++) {
        const block = bytes.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
        const mark = table.mark(first + i);
        const isGood = (one: Buffer): boolean => markOf(crc32c(one)) === mark;
        // None is, when it is being written home just now: the log has it.
        const at = homeOf(superblock.geometry, first + i);
        if (mark !== 0 && (await prove(this.#lu, block, at, isGood, this.#counters))) this.#marks[first + i - 1] = mark;
      }
      await this.#handle.write(bytes, 0, bytes.length, (first - 1) * BLOCK_BYTES);
    }
    const { tailPosition: position, tailSeq: seq, tailChain: chain, pageCount, epoch } = superblock;
    const cursor = { superblock, position, seq, chain, pageCount, epoch };
    const records = await this.#catchUp(cursor);
    this.#cursor = cursor;
    return records + 1;
  }

  /** Read on from the cursor to the last whole record. */
  async #catchUp(cursor: Cursor): Promise<number> {
    const { superblock } = cursor;
    const log = new LogArea(this.#lu, superblock.geometry, cursor);
    const images: ImageMap = new Map();
    const replay = new Replay(this.#lu, log, superblock.uuid, this.#window, this.#counters);
    const { records, pageCount, epoch } = await replay.follow(cursor, images);
    if (records === 0) return 0;
    await loadImages(this.#lu, log, [...images.values()], this.#window, this.#counters, async (pages) => {
      if (this.#handle !== null) writePages(this.#handle.fd, pages);
      for (const { page, checksum } of pages) this.#mark(page, checksum);
    });
    Object.assign(cursor, { position: log.head, seq: log.nextSeq, chain: log.chain, pageCount, epoch });
    return records;
  }

  #mark(page: number, checksum: number): void {
    if (page > this.#marks.length) {
      const more = new Uint32Array(Math.max(page, 2 * this.#marks.length));
      more.set(this.#marks);
      this.#marks = more;
    }
    this.#marks[page - 1] = markOf(checksum);
  }
}
