import { BLOCK_BYTES, MIB } from "../lib/units.js";
import { CHECKPOINT_BYTES } from "./checkpoint.js";

/** Where I/O buffers come from: the arena (parity/arena.ts), so that the layers below use them in place. */
export interface BufferSource {
  take(byteCount: number, owner: string): Buffer;
}

/** For tests and tools: ordinary memory, which the layers below may have to copy. */
export const ORDINARY_MEMORY: BufferSource = { take: (byteCount) => Buffer.allocUnsafeSlow(byteCount) };

/** A record of 250 pages; a larger one gets memory of its own while it is written. */
const RECORD_BYTES = MIB;

/** What one page store takes from its buffer source. */
export const PAGE_STORE_BUFFER_BYTES = RECORD_BYTES + CHECKPOINT_BYTES + BLOCK_BYTES;

export interface StoreBuffers {
  readonly record: Buffer;
  readonly checkpoint: Buffer;
  readonly superblock: Buffer;
}

export function takeBuffers(source: BufferSource): StoreBuffers {
  const whole = source.take(PAGE_STORE_BUFFER_BYTES, "page store");
  return {
    record: whole.subarray(0, RECORD_BYTES),
    checkpoint: whole.subarray(RECORD_BYTES, RECORD_BYTES + CHECKPOINT_BYTES),
    superblock: whole.subarray(RECORD_BYTES + CHECKPOINT_BYTES),
  };
}
