import { BLOCK_BYTES } from "../../src/lib/units.js";

/** Blocks that nobody uses any more, for the next platter: a run makes and forgets millions of them. */
const spare: Buffer[] = [];
const SLAB_BLOCKS = 64;

function takeBlock(): Buffer {
  const block = spare.pop();
  if (block !== undefined) return block;
  const slab = Buffer.allocUnsafeSlow(SLAB_BLOCKS * BLOCK_BYTES);
  for (let i = 1; i < SLAB_BLOCKS; i++) spare.push(slab.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES));
  return slab.subarray(0, BLOCK_BYTES);
}

/**
 * What is on a disk: sparse, and copy on write over the platter below. A fork costs nothing; the one below must not change in blocks
 * that a living fork has not written itself.
 */
export class Platter {
  readonly #own = new Map<number, Buffer>();
  readonly #below: Platter | null;

  constructor(below: Platter | null = null) {
    this.#below = below;
  }

  fork(): Platter {
    return new Platter(this);
  }

  /** null: never written, zeroes. Borrowed. */
  block(index: number): Buffer | null {
    for (let layer: Platter | null = this; layer !== null; layer = layer.#below) {
      const found = layer.#own.get(index);
      if (found !== undefined) return found;
    }
    return null;
  }

  /** Blocks that were ever written, also below. */
  blocks(): number[] {
    const all = new Set<number>();
    for (let layer: Platter | null = this; layer !== null; layer = layer.#below) {
      for (const index of layer.#own.keys()) all.add(index);
    }
    return [...all];
  }

  read(target: Buffer, position: number): void {
    for (let done = 0; done < target.length; ) {
      const index = Math.floor((position + done) / BLOCK_BYTES);
      const within = position + done - index * BLOCK_BYTES;
      const byteCount = Math.min(BLOCK_BYTES - within, target.length - done);
      const block = this.block(index);
      if (block === null) target.fill(0, done, done + byteCount);
      else block.copy(target, done, within, within + byteCount);
      done += byteCount;
    }
  }

  write(source: Buffer, position: number): void {
    for (let done = 0; done < source.length; ) {
      const index = Math.floor((position + done) / BLOCK_BYTES);
      const within = position + done - index * BLOCK_BYTES;
      const byteCount = Math.min(BLOCK_BYTES - within, source.length - done);
      source.copy(this.#writable(index, byteCount === BLOCK_BYTES), within, done, done + byteCount);
      done += byteCount;
    }
  }

  #writable(index: number, whole: boolean): Buffer {
    const own = this.#own.get(index);
    if (own !== undefined) return own;
    const fresh = takeBlock();
    if (!whole) {
      const old = this.#below?.block(index) ?? null;
      if (old === null) fresh.fill(0);
      else old.copy(fresh);
    }
    this.#own.set(index, fresh);
    return fresh;
  }

  /** Forget what was written since the fork; the blocks are used again. Forks of this one are dead. */
  release(): void {
    for (const block of this.#own.values()) spare.push(block);
    this.#own.clear();
  }
}
