import { assert } from "../../lib/assert.js";
import { crc32c } from "../../lib/crc32c.js";
import { BLOCK_BYTES, type LuByte } from "../../lib/units.js";
import type { LogicalUnit } from "../../lu/lu.js";
import type { FrameCache } from "./frame-cache.js";
import { CHUNKS_IN_FLIGHT, FLUSH_BEHIND_BYTES, WRITE_CHUNK_BLOCKS } from "./limits.js";

/** Frames and the places where they go, in file order. `crcs` is filled as the frames are written. */
export interface BlockWrites {
  readonly frames: Int32Array;
  /** Block on the data LU for each frame. */
  readonly addresses: Float64Array;
  readonly crcs: Uint32Array;
}

/** A flush of the data LU. */
interface Flush {
  /** It covers the first so many of `writtenBytes`. */
  readonly mark: number;
  readonly done: Promise<void>;
}

/**
 * Writes frames to the data LU, adjacent ones together, and knows what still has to be flushed. A chunk ends at the border of a
 * stripe where it can, so that RAID-5 sees whole stripes.
 */
export class DataWriter {
  readonly #lu: LogicalUnit;
  readonly #frames: FrameCache;
  #inFlight = 0;
  readonly #waiting: Array<() => void> = [];
  #writtenBytes = 0;
  /** Under way, in the order in which they began. */
  #flushes: readonly Flush[] = [];
  /** The first so many of `writtenBytes` are durable. */
  #flushedTo = 0;

  constructor(lu: LogicalUnit, frames: FrameCache) {
    this.#lu = lu;
    this.#frames = frames;
  }

  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  /** Write everything. When it rejects, nothing of it is in flight any more. */
  async write(writes: BlockWrites): Promise<void> {
    // Asked anew: a group that has grown has other stripes than the file system was made with.
    const stripeBlocks = Math.max(1, Math.floor(this.#lu.stripeBytes / BLOCK_BYTES));
    const pending: Promise<void>[] = [];
    let failure: { readonly error: unknown } | null = null;
    let start = 0;
    while (start < writes.addresses.length && failure === null) {
      const end = chunkEnd(writes.addresses, start, stripeBlocks);
      while (this.#inFlight >= CHUNKS_IN_FLIGHT) await new Promise<void>((resolve) => this.#waiting.push(resolve));
      pending.push(
        this.#writeChunk(writes, start, end).catch((error: unknown) => {
          failure ??= { error };
        }),
      );
      start = end;
    }
    await Promise.all(pending);
    const failed = failure as { readonly error: unknown } | null;
    if (failed !== null) throw failed.error;
  }

  /** The first `mark` of `writtenBytes` are durable when it resolves. Free when they are; a flush under way will do when it began late enough. */
  async settle(mark: number): Promise<void> {
    if (this.#flushedTo >= mark) return;
    const flush = this.#flushes.find((one) => one.mark >= mark) ?? this.#begin();
    await flush.done;
  }

  #begin(): Flush {
    const mark = this.#writtenBytes;
    const ended = (): void => {
      this.#flushes = this.#flushes.filter((one) => one !== flush);
    };
    const done = this.#lu.flush().then(() => {
      this.#flushedTo = Math.max(this.#flushedTo, mark);
    });
    const flush = { mark, done };
    this.#flushes = [...this.#flushes, flush];
    done.then(ended, ended);
    return flush;
  }

  async #writeChunk(writes: BlockWrites, start: number, end: number): Promise<void> {
    const views: Buffer[] = [];
    this.#inFlight++;
    try {
      for (let i = start; i < end; i++) {
        const frame = writes.frames[i]!;
        const view = this.#frames.view(frame);
        const known = this.#frames.checksumOf(frame);
        writes.crcs[i] = known >= 0 ? known : crc32c(view);
        views.push(view);
      }
      await this.#lu.writev(views, (writes.addresses[start]! * BLOCK_BYTES) as LuByte);
      this.#written((end - start) * BLOCK_BYTES);
    } finally {
      this.#inFlight--;
      assert(this.#inFlight >= 0, "every chunk ends once");
      this.#waiting.shift()?.();
    }
  }

  #written(byteCount: number): void {
    this.#writtenBytes += byteCount;
    if (this.#writtenBytes - (this.#flushes.at(-1)?.mark ?? this.#flushedTo) < FLUSH_BEHIND_BYTES) return;
    // Its failure shows to whoever settles up to here.
    this.settle(this.#writtenBytes).catch(() => {});
  }
}

/** @returns index after the last frame that goes into the chunk that begins at `start` */
function chunkEnd(addresses: Float64Array, start: number, stripeBlocks: number): number {
  const chunkBlocks = Math.max(1, Math.floor(WRITE_CHUNK_BLOCKS / stripeBlocks)) * stripeBlocks;
  const first = addresses[start]!;
  let end = start + 1;
  while (end < addresses.length && end - start < chunkBlocks && addresses[end] === first + (end - start)) end++;
  if (end === addresses.length || addresses[end] !== first + (end - start)) return end;
  const overhang = (first + (end - start)) % stripeBlocks;
  return overhang < end - start ? end - overhang : end;
}
