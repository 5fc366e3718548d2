import { BLOCK_BYTES } from "../../src/lib/units.js";
import { fillBlock } from "./lu-model.js";

/** What must be on LUs after a crash, kept as bytes, so that it is compared in long runs. */
export class CrashExpectation {
  readonly #units: Array<{ readonly wanted: Buffer; readonly sure: Uint8Array }>;

  /** @param blockCounts of each LU; all of it is zeroes, surely */
  constructor(blockCounts: readonly number[]) {
    this.#units = blockCounts.map((count) => ({
      wanted: Buffer.alloc(count * BLOCK_BYTES),
      sure: new Uint8Array(count).fill(1),
    }));
  }

  /** @param version of the block's content that every crash leaves; negative: it may be anything */
  change(unit: number, block: number, version: number): void {
    const { wanted, sure } = this.#units[unit]!;
    sure[block] = version < 0 ? 0 : 1;
    if (version >= 0) fillBlock(wanted.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES), block, version);
  }

  /** @throws Error naming the first block that is wrong */
  check(unit: number, found: Buffer): void {
    const { wanted, sure } = this.#units[unit]!;
    for (let first = 0; first < sure.length; ) {
      let end = first;
      while (end < sure.length && sure[end] === 1) end++;
      const [from, to] = [first * BLOCK_BYTES, end * BLOCK_BYTES];
      if (end > first && found.compare(wanted, from, to, from, to) !== 0) this.#complain(unit, found, first, end);
      first = end + 1;
    }
  }

  #complain(unit: number, found: Buffer, first: number, end: number): never {
    const { wanted } = this.#units[unit]!;
    for (let block = first; block < end; block++) {
      const [from, to] = [block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES];
      if (found.compare(wanted, from, to, from, to) !== 0)
        throw new Error(`LU ${unit}, block ${block} is not what was flushed`);
    }
    throw new Error("unequal as a whole, equal block by block");
  }
}
