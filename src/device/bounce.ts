import { assert } from "../lib/assert.js";
import { Mutex } from "../lib/mutex.js";
import { BLOCK_BYTES, MIB } from "../lib/units.js";
import { totalBytes } from "./range.js";
import { readSome, skip, transferAll, writeSome } from "./transfer.js";

const WASM_PAGE_BYTES = 65536;
const BOUNCE_BYTES = MIB;

/** Whether the part of a buffer's address that JavaScript can see would do for direct I/O. */
export function looksAligned(buffers: readonly Buffer[]): boolean {
  for (const buffer of buffers) {
    if (buffer.byteOffset % BLOCK_BYTES !== 0 || buffer.length % BLOCK_BYTES !== 0) return false;
  }
  return true;
}

/**
 * Direct I/O for buffers whose address the kernel refuses: through one aligned buffer, a MiB at a time, one request at a time.
 * WebAssembly memory is mapped in whole pages; of Node's buffers only chance decides the address.
 */
export class Bounce {
  #buffer: Buffer | null = null;
  readonly #mutex = new Mutex();
  readonly #onBounce: () => void;

  /** @param onBounce  called for each transfer that goes this way */
  constructor(onBounce: () => void = () => {}) {
    this.#onBounce = onBounce;
  }

  /** `position` and the sum of the lengths are multiples of 4096. */
  read(fd: number, targets: readonly Buffer[], position: number): Promise<void> {
    return this.#pieces(targets, position, async (piece, rest, at) => {
      await transferAll(readSome, fd, [piece], at);
      let done = 0;
      for (const target of rest) {
        if (done >= piece.length) break;
        done += piece.copy(target, 0, done);
      }
    });
  }

  write(fd: number, sources: readonly Buffer[], position: number): Promise<void> {
    return this.#pieces(sources, position, async (piece, rest, at) => {
      let done = 0;
      for (const source of rest) {
        if (done >= piece.length) break;
        done += source.copy(piece, done);
      }
      await transferAll(writeSome, fd, [piece], at);
    });
  }

  #pieces(
    buffers: readonly Buffer[],
    position: number,
    move: (piece: Buffer, rest: readonly Buffer[], at: number) => Promise<void>,
  ): Promise<void> {
    this.#onBounce();
    return this.#mutex.run(async () => {
      const whole = this.#aligned();
      let rest = buffers;
      let left = totalBytes(buffers);
      assert(left % BLOCK_BYTES === 0, "direct I/O moves whole blocks");
      for (let at = position; left > 0; ) {
        const piece = whole.subarray(0, Math.min(left, whole.length));
        await move(piece, rest, at);
        rest = skip(rest, piece.length);
        at += piece.length;
        left -= piece.length;
      }
    });
  }

  #aligned(): Buffer {
    if (this.#buffer === null) {
      const pages = BOUNCE_BYTES / WASM_PAGE_BYTES;
      this.#buffer = Buffer.from(new WebAssembly.Memory({ initial: pages, maximum: pages }).buffer);
    }
    return this.#buffer;
  }
}
