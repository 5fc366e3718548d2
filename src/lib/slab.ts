import { KIB } from "./units.js";

const CHUNK_BYTES = 64 * KIB;
/** Above this a copy has memory of its own. */
const SHARED_BYTES_MAX = CHUNK_BYTES / 8;

/**
 * Memory for many small copies that are kept about equally long, such as a queue of them: a chunk goes with the last copy in it. Buffer's own pool is
 * shared with whatever else is allocated, and one byte that is kept holds 8 KiB of it.
 */
export class Slab {
  #chunk: Buffer = Buffer.alloc(0);
  #at = 0;

  copy(bytes: Uint8Array): Buffer {
    const { length } = bytes;
    if (length > SHARED_BYTES_MAX) return ownCopy(bytes);
    if (this.#at + length > this.#chunk.length) {
      this.#chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
      this.#at = 0;
    }
    const copy = this.#chunk.subarray(this.#at, this.#at + length);
    this.#at += length;
    copy.set(bytes);
    return copy;
  }
}

/** A copy that is kept for long, by itself. */
export function ownCopy(bytes: Uint8Array): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  copy.set(bytes);
  return copy;
}
