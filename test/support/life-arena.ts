import { assert } from "../../src/lib/assert.js";
import { BLOCK_BYTES, roundUp } from "../../src/lib/units.js";
import { Arena } from "../../src/parity/arena.js";

/** An arena for many lives, one after the other: what one life has taken is there again for the next. */
export class LifeArena extends Arena {
  readonly #memory: Buffer;
  #used = 0;

  constructor(byteCount: number) {
    super({ byteCount });
    this.#memory = super.take(byteCount, "one life");
  }

  /** The life before this one is over. */
  begin(): void {
    this.#memory.fill(0, 0, this.#used);
    this.#used = 0;
  }

  override take(byteCount: number, _owner: string): Buffer {
    const from = this.#used;
    this.#used += roundUp(byteCount, BLOCK_BYTES);
    assert(this.#used <= this.#memory.length, "the arena holds one life");
    return this.#memory.subarray(from, from + byteCount);
  }
}
