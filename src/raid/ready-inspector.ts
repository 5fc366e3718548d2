import type { LuByte } from "../lib/units.js";
import type { BlockInspector } from "./contract.js";
import type { RaidArray } from "./core.js";
import type { WalkPart } from "./scrub-walk.js";

/** An inspector that is made ready slice by slice, as a walk comes to them. */
export class ReadyInspector {
  readonly #inspector: BlockInspector;
  readonly #pairBytes: number;
  /** Bytes of the LU that it is prepared for. */
  #prepared = { from: 0, to: 0 };

  /** @param pairBytes  two chunks */
  constructor(inspector: BlockInspector, pairBytes: number) {
    this.#inspector = inspector;
    this.#pairBytes = pairBytes;
  }

  /**
   * Have it ready for what comes next.
   * @param to  where the step would end
   * @returns where it ends, so that its bytes lie in the prepared slice
   */
  async prepare({ from, to: partEnd }: WalkPart, array: RaidArray, to: number): Promise<number> {
    const pair = this.#pairBytes;
    const start = array.span(from, from + pair).from;
    if (start < this.#prepared.from || start >= this.#prepared.to) {
      // Whole pairs of chunk rows, one at least.
      const perPair = array.span(from, from + pair).to - start;
      const pairs = Math.max(Math.floor(this.#inspector.sliceBytes / perPair), 1);
      const end = array.span(from, Math.min(partEnd, from + pairs * pair)).to;
      await this.#inspector.prepare(start as LuByte, end as LuByte);
      this.#prepared = { from: start, to: end };
    }
    let end = to;
    while (array.span(from, end).to > this.#prepared.to) end -= pair;
    return end;
  }
}
