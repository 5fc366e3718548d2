import { Mutex } from "../lib/mutex.js";
import { roundDown } from "../lib/units.js";
import type { Arena } from "../parity/arena.js";

/**
 * The memory of background work (rebuild, scrub, grow): one reservation in the arena, used by one step at a time, so that background
 * work never takes buffers from clients.
 */
export class Workspace {
  #memory: Buffer;
  readonly #using = new Mutex();
  readonly #bandBytes: number;

  constructor(
    private readonly arena: Arena,
    byteCount: number,
    bandBytes: number,
  ) {
    this.#memory = arena.take(byteCount, "raid: background work");
    this.#bandBytes = bandBytes;
  }

  /** Have `byteCount` at least, from the next step on. @throws StorageError ENOSPC when the arena has no memory for that */
  growTo(byteCount: number): void {
    if (byteCount > this.#memory.length) this.#memory = this.arena.take(byteCount, "raid: background work, grown");
  }

  /** The largest part, in whole bands, when the workspace is cut into `parts`. */
  partBytes(parts: number): number {
    return roundDown(this.#memory.length / parts, this.#bandBytes);
  }

  /** Cut into `parts` of `partBytes` (at most `partBytes(parts)`), for as long as `action` runs. */
  run<T>(parts: number, partBytes: number, action: (buffers: readonly Buffer[]) => Promise<T>): Promise<T> {
    return this.#using.run(() =>
      action(Array.from({ length: parts }, (_, i) => this.#memory.subarray(i * partBytes, (i + 1) * partBytes))),
    );
  }
}
