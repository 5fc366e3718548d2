import { assert } from "../lib/assert.js";
import type { ParityKernel } from "./kernel.js";

/**
 * The parity arithmetic in plain TypeScript, word by word: the oracle of the tests, and the way out should a machine's WebAssembly
 * lack SIMD. Words are u32, so that no BigInt is made.
 */
export class ScalarKernel implements ParityKernel {
  readonly name = "scalar";
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;

  constructor(memory: WebAssembly.Memory) {
    this.#bytes = new Uint8Array(memory.buffer);
    this.#words = new Uint32Array(memory.buffer);
  }

  xor(target: number, sources: readonly number[], byteCount: number): void {
    assert(sources.length > 0, "parity has a source");
    assert(sources.length <= 32, "parity has at most 32 sources");
    const words = this.#words;
    const at = wordOf(target);
    const count = wordOf(byteCount);
    for (let i = 0; i < count; i++) {
      let value = 0;
      for (const source of sources) value ^= words[source / 4 + i] as number;
      words[at + i] = value;
    }
  }

  xorInto(target: number, source: number, byteCount: number): void {
    const words = this.#words;
    const at = wordOf(target);
    const from = wordOf(source);
    const count = wordOf(byteCount);
    for (let i = 0; i < count; i++) words[at + i] = (words[at + i] as number) ^ (words[from + i] as number);
  }

  copy(target: number, source: number, byteCount: number): void {
    this.#bytes.copyWithin(target, source, source + byteCount);
  }

  fill(target: number, byte: number, byteCount: number): void {
    this.#bytes.fill(byte, target, target + byteCount);
  }

  isZero(at: number, byteCount: number): boolean {
    const end = wordOf(at) + wordOf(byteCount);
    for (let i = wordOf(at); i < end; i++) if (this.#words[i] !== 0) return false;
    return true;
  }
}

/** Division, not a shift: offsets pass 2^31. */
function wordOf(byteOffset: number): number {
  assert(byteOffset % 16 === 0, "the kernel works on multiples of 16 bytes");
  return byteOffset / 4;
}
