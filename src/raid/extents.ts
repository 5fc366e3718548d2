import { assert } from "../lib/assert.js";
import type { Arena } from "../parity/arena.js";

/**
 * The buffers of one request as ranges of the arena, neighbours joined: a megabyte that came as 256 cache frames in a row is one range.
 */
export class Extents {
  /** Per range: byte in the request where it begins, and its offset in the arena. */
  readonly #starts: number[] = [];
  readonly #offsets: number[] = [];
  readonly #memory: ArrayBufferLike;
  readonly byteCount: number;

  private constructor(buffers: readonly Buffer[]) {
    let at = 0;
    let end = -1;
    for (const buffer of buffers) {
      if (buffer.byteOffset !== end) {
        this.#starts.push(at);
        this.#offsets.push(buffer.byteOffset);
      }
      end = buffer.byteOffset + buffer.length;
      at += buffer.length;
    }
    this.byteCount = at;
    this.#memory = buffers[0]!.buffer;
  }

  /** Null when some buffer is not in the arena, or lies where direct I/O could not take it. */
  static of(arena: Arena, buffers: readonly Buffer[], alignment: number): Extents | null {
    for (const buffer of buffers) {
      if (!arena.contains(buffer) || (buffer.byteOffset | buffer.length) % alignment !== 0) return null;
    }
    return new Extents(buffers);
  }

  /** The range that holds a byte of the request. Ranges are few; they are searched by halves. */
  #find(at: number): number {
    let low = 0;
    let high = this.#starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#starts[middle]! <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  offsetAt(at: number): number {
    const i = this.#find(at);
    return this.#offsets[i]! + at - this.#starts[i]!;
  }

  /** Bytes from `at` on that lie next to each other in memory. */
  runAt(at: number): number {
    return (this.#starts[this.#find(at) + 1] ?? this.byteCount) - at;
  }

  /** [at, at+byteCount) of the request as buffers. */
  forEach(at: number, byteCount: number, visit: (buffer: Buffer, at: number) => void): void {
    assert(at + byteCount <= this.byteCount, "the part lies inside the request");
    let from = at;
    while (from < at + byteCount) {
      const run = Math.min(this.runAt(from), at + byteCount - from);
      visit(Buffer.from(this.#memory, this.offsetAt(from), run), from);
      from += run;
    }
  }
}
