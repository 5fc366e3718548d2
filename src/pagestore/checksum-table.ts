import { assert, must } from "../lib/assert.js";
import { crc32c } from "../lib/crc32c.js";
import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../lib/units.js";
import type { LogicalUnit } from "../lu/lu.js";
import { beginBlock, isSealedBlock, readU64, sealBlock, writeU64 } from "./block.js";
import { type Geometry, MAGIC, PAGES_IN_TABLE_BLOCK, TABLE } from "./layout.js";
import { inParallel } from "./parallel.js";
import { type HealCounters, proveNewest } from "./prove.js";

const LOAD_BYTES = MIB;
const WRITES_IN_FLIGHT = 8;

interface TableBlock {
  readonly index: number;
  readonly marks: Uint32Array;
  /** Which of the two slots holds what the superblock refers to; the other one is overwritten next. */
  slot: 0 | 1;
  dirty: boolean;
  /** CRC-32C of all that stands in `slot`; -1 before it was ever written. */
  checksum: number;
}

/** The mark of a page whose CRC-32C is 0, or this. */
export const MARK_OF_ZERO = 0xffffffff;

/** A page's entry: its CRC-32C, with 0 kept for "never written home". */
export function markOf(checksum: number): number {
  return checksum === 0 ? MARK_OF_ZERO : checksum;
}

/**
 * The checksums of the page area. Each block of the table stands in two slots; a checkpoint writes the one that is not in use, marked
 * with the generation of the superblock that will make it count. A crash before that superblock leaves the other slot as it was.
 */
export class ChecksumTable {
  readonly #lu: LogicalUnit;
  readonly #geometry: Geometry;
  readonly #uuid: Buffer;
  readonly #blocks: TableBlock[] = [];

  constructor(lu: LogicalUnit, geometry: Geometry, uuid: Buffer) {
    this.#lu = lu;
    this.#geometry = geometry;
    this.#uuid = uuid;
  }

  /** Blocks from the start of the table that exist, here and (after `write`) on the LU. */
  get blocksUsed(): number {
    return this.#blocks.length;
  }

  /** @returns 0 when the page was never written home */
  mark(page: number): number {
    const block = this.#blocks[Math.floor((page - 1) / PAGES_IN_TABLE_BLOCK)];
    return block?.marks[(page - 1) % PAGES_IN_TABLE_BLOCK] ?? 0;
  }

  /** @param slot  counted from the table's start. @returns what the block there must have; -1 when it is not in use */
  checksumAt(slot: number): number {
    const block = this.#blocks[Math.floor(slot / 2)];
    return block?.slot === slot % 2 ? block.checksum : -1;
  }

  set(page: number, checksum: number): void {
    assert(page >= 1 && page <= this.#geometry.pageCapacity, "a page lies in the page area");
    const index = Math.floor((page - 1) / PAGES_IN_TABLE_BLOCK);
    while (this.#blocks.length <= index) this.#extend();
    const block = must(this.#blocks[index], "the table reaches the page");
    block.marks[(page - 1) % PAGES_IN_TABLE_BLOCK] = markOf(checksum);
    block.dirty = true;
  }

  #extend(): void {
    const marks = new Uint32Array(PAGES_IN_TABLE_BLOCK);
    this.#blocks.push({ index: this.#blocks.length, marks, slot: 1, dirty: true, checksum: -1 });
  }

  /**
   * Read the blocks that exist on the LU.
   * @param generation  of the superblock; a slot with a higher one belongs to a checkpoint that never finished
   * @throws StorageError EIO when neither slot of a block can be proven
   */
  async load(blockCount: number, generation: number, counters: HealCounters): Promise<void> {
    const pair = 2 * BLOCK_BYTES;
    for (let from = 0; from < blockCount; from += LOAD_BYTES / pair) {
      const count = Math.min(blockCount - from, LOAD_BYTES / pair);
      const slots = Buffer.allocUnsafe(count * pair);
      await this.#lu.read(slots, this.#at(from, 0));
      for (let i = 0; i < count; i++) {
        await this.#loadBlock(from + i, generation, slots.subarray(i * pair, (i + 1) * pair), counters);
      }
    }
  }

  async #loadBlock(index: number, generation: number, slots: Buffer, counters: HealCounters): Promise<void> {
    let newest = -1;
    for (const slot of [0, 1] as const) {
      const block = slots.subarray(slot * BLOCK_BYTES, (slot + 1) * BLOCK_BYTES);
      const versionOf = (b: Buffer): number => (this.#isBlock(b, index) ? readU64(b, TABLE.generation) : -1);
      const found = await proveNewest(this.#lu, block, this.#at(index, slot), versionOf, counters);
      if (found > generation || found <= newest) continue;
      newest = found;
      this.#blocks[index] = { index, marks: decodeMarks(block), slot, dirty: false, checksum: crc32c(block) };
    }
    if (newest === -1) throw new StorageError("EIO", "a block of the checksum table is damaged", { index });
  }

  #isBlock(block: Buffer, index: number): boolean {
    return (
      isSealedBlock(block, MAGIC.table, this.#uuid) &&
      block.readUInt32LE(TABLE.index) === index &&
      block.readUInt32LE(TABLE.reserved) === 0
    );
  }

  /** Write what has changed into the slots not in use. Not durable before the LU is flushed, without effect before the superblock. */
  async write(generation: number): Promise<void> {
    const dirty = this.#blocks.filter((block) => block.dirty);
    await inParallel(dirty, WRITES_IN_FLIGHT, async (block) => {
      const bytes = Buffer.allocUnsafe(BLOCK_BYTES);
      this.#encode(bytes, block, generation);
      block.slot = block.slot === 0 ? 1 : 0;
      block.checksum = crc32c(bytes);
      block.dirty = false;
      await this.#lu.write(bytes, this.#at(block.index, block.slot));
    });
  }

  #encode(bytes: Buffer, block: TableBlock, generation: number): void {
    beginBlock(bytes, MAGIC.table, this.#uuid);
    writeU64(bytes, generation, TABLE.generation);
    bytes.writeUInt32LE(block.index, TABLE.index);
    for (let i = 0; i < PAGES_IN_TABLE_BLOCK; i++) bytes.writeUInt32LE(block.marks[i] ?? 0, TABLE.entries + i * 4);
    sealBlock(bytes);
  }

  #at(index: number, slot: number): LuByte {
    return (this.#geometry.tableStart + (index * 2 + slot) * BLOCK_BYTES) as LuByte;
  }
}

function decodeMarks(block: Buffer): Uint32Array {
  const marks = new Uint32Array(PAGES_IN_TABLE_BLOCK);
  for (let i = 0; i < PAGES_IN_TABLE_BLOCK; i++) marks[i] = block.readUInt32LE(TABLE.entries + i * 4);
  return marks;
}
