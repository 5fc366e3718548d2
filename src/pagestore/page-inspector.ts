import { BitSet } from "../lib/bit-set.js";
import { crc32c } from "../lib/crc32c.js";
import { BLOCK_BYTES, GIB, type LuByte } from "../lib/units.js";
import type { KnownChecksums } from "../lu/checksum-inspector.js";
import type { Checkpointer } from "./checkpointer.js";
import { type ChecksumTable, MARK_OF_ZERO } from "./checksum-table.js";
import type { LogArea } from "./log.js";
import type { ObservedLu, WriteObserver } from "./observed-lu.js";
import { encodeSuperblock, type Superblock } from "./superblock.js";

/** Nothing has to be loaded. The shorter a slice, the fewer blocks count as written since it was prepared. */
const SLICE_BYTES = GIB;

export interface PageInspectorParts {
  readonly lu: ObservedLu;
  readonly log: LogArea;
  readonly table: ChecksumTable;
  readonly checkpointer: Checkpointer;
  readonly isClosed: () => boolean;
}

/**
 * What the page store knows of the blocks of its LU, from memory alone, at this moment:
 *
 *   superblock  the one that counts. The other one may have been torn in a crash, and is overwritten next
 *   log         every block of the records from tail to head; what lies beyond is free, or a record that is being written
 *   table       the slot that is in use of each block
 *   pages       what the table says. A page with an image in the log that is not home yet is that image: its home may be half
 *               written, and replay would not look at it
 *
 * Memory: a bit a block, for what was written since `prepare`.
 */
export class PageInspector implements KnownChecksums, WriteObserver {
  readonly sliceBytes = SLICE_BYTES;
  readonly #parts: PageInspectorParts;
  readonly #scratch = Buffer.alloc(BLOCK_BYTES);
  #written: BitSet | null = null;
  #encoded: Superblock | null = null;
  #encodedChecksum = 0;

  constructor(parts: PageInspectorParts) {
    this.#parts = parts;
  }

  async prepare(from: LuByte, to: LuByte): Promise<void> {
    const { lu } = this.#parts;
    if (this.#written === null) {
      this.#written = new BitSet(Math.ceil(lu.sizeBytes / BLOCK_BYTES));
      lu.observers.add(this);
    }
    this.#written.deleteRange(Math.floor(from / BLOCK_BYTES), Math.ceil(to / BLOCK_BYTES));
  }

  writing(at: number, byteCount: number): void {
    this.#written?.addRange(at / BLOCK_BYTES, (at + byteCount) / BLOCK_BYTES);
  }

  writtenSince(block: number): boolean {
    return this.#written?.has(block) === true;
  }

  checksumOf(block: number): number {
    if (this.#parts.isClosed()) return -1;
    const { log, table, checkpointer } = this.#parts;
    const { geometry } = checkpointer.superblock;
    const at = block * BLOCK_BYTES;
    if (at >= geometry.pagesStart) return this.#pageChecksum(pageAt(geometry.pagesStart, at));
    if (at >= geometry.tableStart) return table.checksumAt((at - geometry.tableStart) / BLOCK_BYTES);
    if (at >= geometry.logStart) return log.checksumAt(at - geometry.logStart);
    return this.#superblockChecksum(block);
  }

  async nameOf(block: number): Promise<string | null> {
    if (this.checksumOf(block) < 0 && !this.#isImage(block)) return null;
    const { geometry, name } = this.#parts.checkpointer.superblock;
    const at = block * BLOCK_BYTES;
    if (at >= geometry.pagesStart) return `metadata of "${name}" (page ${pageAt(geometry.pagesStart, at)})`;
    if (at >= geometry.tableStart) return `checksums of the metadata of "${name}"`;
    if (at >= geometry.logStart) return `log of "${name}"`;
    return `superblock of "${name}"`;
  }

  close(): void {
    this.#parts.lu.observers.delete(this);
    this.#written = null;
  }

  #pageChecksum(page: number): number {
    const { checkpointer, table } = this.#parts;
    if (checkpointer.hasImage(page)) return -1;
    const mark = table.mark(page);
    // A mark that may stand for two checksums is not worth a rule of its own: one page in four thousand million.
    return mark === 0 || mark === MARK_OF_ZERO ? -1 : mark;
  }

  #isImage(block: number): boolean {
    const { checkpointer, isClosed } = this.#parts;
    const { pagesStart } = checkpointer.superblock.geometry;
    return !isClosed() && checkpointer.hasImage(pageAt(pagesStart, block * BLOCK_BYTES));
  }

  #superblockChecksum(slot: number): number {
    const { superblock } = this.#parts.checkpointer;
    if (slot !== superblock.generation % 2) return -1;
    if (this.#encoded !== superblock) {
      encodeSuperblock(this.#scratch, superblock);
      this.#encodedChecksum = crc32c(this.#scratch);
      this.#encoded = superblock;
    }
    return this.#encodedChecksum;
  }
}

function pageAt(pagesStart: number, at: number): number {
  return (at - pagesStart) / BLOCK_BYTES + 1;
}
