import { assert } from "../lib/assert.js";
import { allSettledOrThrow, Mutex } from "../lib/mutex.js";
import { MIB, roundDown } from "../lib/units.js";
import type { Arena } from "../parity/arena.js";

/** Of one member in one piece: larger ones are no faster and hold clients up longer. A multiple of every chunk size. */
const PIECE_BYTES_MAX = 2 * MIB;

/**
 * The memory of background work (rebuild, scrub, grow): one reservation in the arena, used by one step at a time, so that background
 * work never takes buffers from clients.
 */
export class Workspace {
  readonly #memory: Buffer;
  readonly #using = new Mutex();
  readonly #bandBytes: number;

  constructor(arena: Arena, byteCount: number, bandBytes: number) {
    this.#memory = arena.take(byteCount, "raid: background work");
    this.#bandBytes = bandBytes;
  }

  /** The largest part, in whole bands, when the workspace is cut into `parts`. */
  partBytes(parts: number): number {
    return roundDown(this.#memory.length / parts, this.#bandBytes);
  }

  /**
   * Go through [from, to) in pieces, two at a time as far as the memory allows, so that one is read while the other is written.
   * @param unit   pieces are multiples of it
   * @param parts  buffers that a piece needs, each as long as the piece
   */
  async inLanes(
    { from, to, unit, parts }: { from: number; to: number; unit: number; parts: number },
    action: (from: number, to: number, buffers: readonly Buffer[]) => Promise<void>,
  ): Promise<void> {
    const lanes = this.partBytes(2 * parts) >= unit ? 2 : 1;
    const pieceBytes = Math.min(roundDown(this.partBytes(lanes * parts), unit), PIECE_BYTES_MAX);
    assert(pieceBytes > 0, "the workspace holds one piece of every member");
    await this.run(lanes * parts, pieceBytes, async (buffers) => {
      let next = from;
      const lane = async (own: readonly Buffer[]): Promise<void> => {
        while (next < to) {
          const at = next;
          next = Math.min(at + pieceBytes, to);
          const byteCount = next - at;
          await action(
            at,
            next,
            own.map((buffer) => buffer.subarray(0, byteCount)),
          );
        }
      };
      await allSettledOrThrow(Array.from({ length: lanes }, (_, i) => lane(buffers.slice(i * parts, (i + 1) * parts))));
    });
  }

  /** Cut into `parts` of `partBytes` (at most `partBytes(parts)`), for as long as `action` runs. */
  run<T>(parts: number, partBytes: number, action: (buffers: readonly Buffer[]) => Promise<T>): Promise<T> {
    return this.#using.run(() =>
      action(Array.from({ length: parts }, (_, i) => this.#memory.subarray(i * partBytes, (i + 1) * partBytes))),
    );
  }
}
