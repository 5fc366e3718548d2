import { crc32c, crc32cAppendBlock } from "../lib/crc32c.js";
import { BLOCK_BYTES, type LuByte } from "../lib/units.js";
import type { BlockInspector } from "./lu.js";

/** What the owner of an LU's blocks knows of their content. Blocks count from the start of the LU. */
export interface KnownChecksums {
  /** As BlockInspector. */
  readonly sliceBytes: number;
  prepare(from: LuByte, to: LuByte): Promise<void>;
  /** The CRC-32C that the block must have now; -1 when nobody owns it, or it need not have any, or that is not known. Allocates nothing. */
  checksumOf(block: number): number;
  /** Whether it was written after the slice with it was prepared: what somebody has read of it may be older than its checksum. */
  writtenSince(block: number): boolean;
  nameOf(block: number): Promise<string | null>;
  close(): void;
}

/**
 * A BlockInspector over checksums that are at hand. What cannot be held against a block is "unknown", never "bad": a block that was
 * written since `prepare` is good when it matches, and otherwise perhaps only a copy of what stood there before.
 */
export class ChecksumInspector implements BlockInspector {
  readonly #known: KnownChecksums;

  constructor(known: KnownChecksums) {
    this.#known = known;
  }

  get sliceBytes(): number {
    return this.#known.sliceBytes;
  }

  prepare(from: LuByte, to: LuByte): Promise<void> {
    return this.#known.prepare(from, to);
  }

  /**
   * Neighbours whose checksums are known are verified together, which costs a third of a call for each; one by one only when that fails.
   * Where all blocks of `data` are known nothing is allocated, else one view for each run of them.
   */
  suspects(data: Buffer, at: LuByte, bad: (at: LuByte) => void): void {
    const first = at / BLOCK_BYTES;
    const count = data.length / BLOCK_BYTES;
    for (let start = 0; start < count; start++) {
      let sum = this.#known.checksumOf(first + start);
      if (sum < 0) continue;
      let end = start + 1;
      for (; end < count; end++) {
        const next = this.#known.checksumOf(first + end);
        if (next < 0) break;
        sum = crc32cAppendBlock(sum, next);
      }
      const whole = start === 0 && end === count;
      const run = whole ? data : data.subarray(start * BLOCK_BYTES, end * BLOCK_BYTES);
      if (crc32c(run) !== sum) this.#compare(run, first + start, bad);
      start = end;
    }
  }

  async judge(block: Buffer, at: LuByte): Promise<"good" | "bad" | "unknown"> {
    const index = at / BLOCK_BYTES;
    const wanted = this.#known.checksumOf(index);
    if (wanted < 0) return "unknown";
    if (crc32c(block) === wanted) return "good";
    return this.#known.writtenSince(index) ? "unknown" : "bad";
  }

  nameOf(at: LuByte): Promise<string | null> {
    return this.#known.nameOf(Math.floor(at / BLOCK_BYTES));
  }

  close(): void {
    this.#known.close();
  }

  #compare(run: Buffer, first: number, bad: (at: LuByte) => void): void {
    for (let i = 0; i * BLOCK_BYTES < run.length; i++) {
      const block = run.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
      if (crc32c(block) !== this.#known.checksumOf(first + i)) bad(((first + i) * BLOCK_BYTES) as LuByte);
    }
  }
}
