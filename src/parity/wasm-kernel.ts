import { readFileSync } from "node:fs";
import { assert } from "../lib/assert.js";
import type { ParityKernel } from "./kernel.js";

/** What kernel/assembly/index.ts exports. Numbers are u32; a JavaScript number up to 2^32-1 converts as it is. */
interface KernelExports {
  xor2(target: number, a: number, b: number, byteCount: number): void;
  xor3(target: number, a: number, b: number, c: number, byteCount: number): void;
  xor4(target: number, a: number, b: number, c: number, d: number, byteCount: number): void;
  xor5(target: number, a: number, b: number, c: number, d: number, e: number, byteCount: number): void;
  xorTable(target: number, table: number, sourceCount: number, byteCount: number): void;
  copy(target: number, source: number, byteCount: number): void;
  fill(target: number, byte: number, byteCount: number): void;
  isZero(at: number, byteCount: number): number;
}

/** A kernel takes at most this many sources: as many as a group has members. */
export const SOURCES_MAX = 32;

/** Instantiate the module that the build put beside this file. Synchronous: 3 KB compile in well under a millisecond. */
function load(memory: WebAssembly.Memory): KernelExports {
  const module = new WebAssembly.Module(readFileSync(new URL("./kernel/kernel.wasm", import.meta.url)));
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  return instance.exports as unknown as KernelExports;
}

/** WebAssembly SIMD, 16 bytes an instruction. The table of sources for `xorTable` stands at offset 0, in the reserved part. */
export class WasmKernel implements ParityKernel {
  readonly name = "wasm-simd";
  readonly #exports: KernelExports;
  readonly #table: Uint32Array;

  /** @param memory its first 4 * SOURCES_MAX bytes belong to the kernel */
  constructor(memory: WebAssembly.Memory) {
    this.#exports = load(memory);
    this.#table = new Uint32Array(memory.buffer, 0, SOURCES_MAX);
  }

  xor(target: number, sources: readonly number[], byteCount: number): void {
    assert(byteCount % 16 === 0, "the kernel works on multiples of 16 bytes");
    // Only as many as `sources` has are looked at: each case has just checked the length.
    const [a, b, c, d, e] = sources as readonly [number, number, number, number, number];
    switch (sources.length) {
      case 1:
        this.#exports.copy(target, a, byteCount);
        break;
      case 2:
        this.#exports.xor2(target, a, b, byteCount);
        break;
      case 3:
        this.#exports.xor3(target, a, b, c, byteCount);
        break;
      case 4:
        this.#exports.xor4(target, a, b, c, d, byteCount);
        break;
      case 5:
        this.#exports.xor5(target, a, b, c, d, e, byteCount);
        break;
      default:
        this.#xorMany(target, sources, byteCount);
        break;
    }
  }

  xorInto(target: number, source: number, byteCount: number): void {
    assert(byteCount % 16 === 0, "the kernel works on multiples of 16 bytes");
    this.#exports.xor2(target, target, source, byteCount);
  }

  copy(target: number, source: number, byteCount: number): void {
    this.#exports.copy(target, source, byteCount);
  }

  fill(target: number, byte: number, byteCount: number): void {
    this.#exports.fill(target, byte, byteCount);
  }

  isZero(at: number, byteCount: number): boolean {
    assert(byteCount % 16 === 0, "the kernel works on multiples of 16 bytes");
    return this.#exports.isZero(at, byteCount) === 1;
  }

  #xorMany(target: number, sources: readonly number[], byteCount: number): void {
    assert(sources.length > 0, "parity has a source");
    assert(sources.length <= SOURCES_MAX, "parity has at most 32 sources");
    for (let i = 0; i < sources.length; i++) this.#table[i] = sources[i] as number;
    this.#exports.xorTable(target, 0, sources.length, byteCount);
  }
}
