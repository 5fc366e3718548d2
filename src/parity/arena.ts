import { assert } from "../lib/assert.js";
import { StorageError } from "../lib/errors.js";
import { formatSize } from "../lib/size.js";
import { BLOCK_BYTES, KIB, roundUp } from "../lib/units.js";
import type { ParityKernel } from "./kernel.js";
import { ScalarKernel } from "./scalar-kernel.js";
import { SOURCES_MAX, WasmKernel } from "./wasm-kernel.js";
import { xorBytes } from "./xor-bytes.js";

/** A page of WebAssembly memory; the first one belongs to the kernel (its table of sources). */
const WASM_PAGE_BYTES = 64 * KIB;
/** Offsets are u32: 65536 pages, less the reserved one. */
export const ARENA_BYTES_MAX = 65535 * WASM_PAGE_BYTES;

/** Parts of the arena whose views are kept. A prime, so that parts of any usual size spread over all of the table. */
const PARTS_KEPT = 2039;

export type KernelChoice = "wasm" | "scalar";

export interface ArenaOptions {
  /** What can be taken, rounded up to 64 KiB. At most {@link ARENA_BYTES_MAX}. */
  readonly byteCount: number;
  /** By default STRIPEWARD_PARITY, else "wasm". */
  readonly kernel?: KernelChoice | undefined;
}

/** One line of the arena's budget. */
export interface ArenaShare {
  readonly owner: string;
  readonly byteCount: number;
}

/**
 * All I/O buffers of the process: one WebAssembly memory with `initial === maximum`, so that no view ever detaches. The address of
 * every reservation is a multiple of 4096 (direct I/O takes it as it is), and the kernel works on it in place.
 *
 * Reservations are for ever and made at start-up: the budget is a visible sum, and memory has a ceiling. The operating system
 * hands out the pages when they are first touched.
 */
export class Arena {
  readonly kernel: ParityKernel;
  readonly byteCount: number;
  readonly #bytes: ArrayBuffer;
  readonly #shares: ArenaShare[] = [];
  /** By place: the last part asked for that falls there. */
  readonly #parts: Array<Buffer | undefined> = new Array(PARTS_KEPT).fill(undefined);
  /** The next free byte. */
  #at = WASM_PAGE_BYTES;
  /** Overwritten by every xorBuffers: the hot path allocates nothing. */
  readonly #offsets: number[] = [];

  /** @throws StorageError EINVAL (size or kernel name), ENOSPC (the machine does not give the memory) */
  constructor(options: ArenaOptions) {
    this.byteCount = roundUp(options.byteCount, WASM_PAGE_BYTES);
    const memory = reserve(this.byteCount + WASM_PAGE_BYTES);
    this.#bytes = memory.buffer;
    this.kernel = chosen(options.kernel) === "wasm" ? new WasmKernel(memory) : new ScalarKernel(memory);
  }

  get freeBytes(): number {
    return WASM_PAGE_BYTES + this.byteCount - this.#at;
  }

  /**
   * A permanent reservation, zeroed, at a multiple of 4096.
   * @throws StorageError ENOSPC with the whole budget when it does not fit
   */
  take(byteCount: number, owner: string): Buffer {
    assert(Number.isSafeInteger(byteCount), "a reservation is a whole number of bytes");
    assert(byteCount > 0, "a reservation is not empty");
    const rounded = roundUp(byteCount, BLOCK_BYTES);
    if (rounded > this.freeBytes) {
      const text = `the buffer arena has ${formatSize(this.freeBytes)} left, ${owner} wants ${formatSize(rounded)}`;
      throw new StorageError("ENOSPC", `${text} (${this.#listing()})`, { owner, byteCount, budget: this.budget() });
    }
    const buffer = Buffer.from(this.#bytes, this.#at, byteCount);
    this.#shares.push({ owner, byteCount: rounded });
    this.#at += rounded;
    return buffer;
  }

  /** The kernel's name for the first byte of a buffer; -1 when it is not in the arena. */
  offsetOf(buffer: Uint8Array): number {
    return buffer.buffer === this.#bytes ? buffer.byteOffset : -1;
  }

  contains(buffer: Uint8Array): boolean {
    return buffer.buffer === this.#bytes;
  }

  /**
   * `byteCount` bytes of a buffer from `from` on, as `subarray` has them. Views of the arena are kept and handed out again: who cuts the same few
   * buffers into chunks with every request leaves the garbage collector nothing to do. Views of other memory are not, they would keep it alive.
   */
  part(buffer: Buffer, from: number, byteCount: number): Buffer {
    if (buffer.buffer !== this.#bytes) return buffer.subarray(from, from + byteCount);
    const offset = buffer.byteOffset + from;
    const place = Math.floor(offset / BLOCK_BYTES) % PARTS_KEPT;
    const kept = this.#parts[place];
    if (kept !== undefined && kept.byteOffset === offset && kept.length === byteCount) return kept;
    const part = buffer.subarray(from, from + byteCount);
    this.#parts[place] = part;
    return part;
  }

  budget(): ArenaShare[] {
    return [...this.#shares];
  }

  /**
   * target = sources[0] ^ sources[1] ^ …: in place by the kernel when all of them are in the arena at multiples of 16, otherwise
   * word by word. `target` may be one of the sources; ranges otherwise do not overlap.
   * @param sources  1 to 32, each exactly as long as `target`
   */
  xorBuffers(target: Buffer, sources: readonly Buffer[]): void {
    assert(sources.length <= SOURCES_MAX, "parity has at most 32 sources");
    const offsets = this.#offsets;
    offsets.length = 0;
    let suitable = this.#suits(target);
    for (let i = 0; suitable && i < sources.length; i++) {
      const source = sources[i] as Buffer;
      assert(source.length === target.length, "sources are as long as the target");
      offsets.push(source.byteOffset);
      suitable = this.#suits(source);
    }
    if (suitable) this.kernel.xor(target.byteOffset, offsets, target.length);
    else xorBytes(target, sources);
  }

  #suits(buffer: Buffer): boolean {
    return buffer.buffer === this.#bytes && buffer.byteOffset % 16 === 0 && buffer.length % 16 === 0;
  }

  #listing(): string {
    if (this.#shares.length === 0) return "nothing is taken";
    return this.#shares.map(({ owner, byteCount }) => `${owner} ${formatSize(byteCount)}`).join(", ");
  }
}

function reserve(byteCount: number): WebAssembly.Memory {
  if (!Number.isSafeInteger(byteCount) || byteCount <= 0 || byteCount > ARENA_BYTES_MAX + WASM_PAGE_BYTES) {
    throw new StorageError("EINVAL", `the buffer arena cannot be ${byteCount} bytes (at most ${ARENA_BYTES_MAX})`);
  }
  const pages = byteCount / WASM_PAGE_BYTES;
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages });
  } catch (error) {
    throw new StorageError("ENOSPC", `cannot reserve ${formatSize(byteCount)} for I/O buffers`, { byteCount }, error);
  }
}

function chosen(option: KernelChoice | undefined): KernelChoice {
  const name = option ?? process.env.STRIPEWARD_PARITY ?? "wasm";
  if (name === "wasm" || name === "scalar") return name;
  throw new StorageError("EINVAL", `STRIPEWARD_PARITY is wasm or scalar, not "${name}"`);
}
