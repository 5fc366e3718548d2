import { BLOCK_BYTES } from "./units.js";

/** The blocks of a piece of memory, each with one view that is made when it is used first: making all of them takes a node that takes over some 20 ms. */
export class BlockViews {
  readonly count: number;
  readonly #memory: Buffer;
  readonly #views: (Buffer | undefined)[];

  /** @param memory  what is left behind the last whole block is not used */
  constructor(memory: Buffer) {
    this.count = Math.floor(memory.length / BLOCK_BYTES);
    this.#memory = memory;
    this.#views = new Array<Buffer | undefined>(this.count).fill(undefined);
  }

  at(block: number): Buffer {
    return this.#views[block] ?? this.#make(block);
  }

  #make(block: number): Buffer {
    const view = this.#memory.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
    this.#views[block] = view;
    return view;
  }
}
