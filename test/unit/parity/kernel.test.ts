import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../../src/lib/prng.js";
import type { ParityKernel } from "../../../src/parity/kernel.js";
import { ScalarKernel } from "../../../src/parity/scalar-kernel.js";
import { WasmKernel } from "../../../src/parity/wasm-kernel.js";

const PAGE = 65536;
const SEED = 20_260_101;

interface Side {
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array;
  readonly kernel: ParityKernel;
}

/** The same random bytes twice, a kernel on each: whatever one does, the other must do to every byte of the memory. */
function twins(pages: number, random: SeededRandom): [Side, Side] {
  const memories = [0, 1].map(() => new WebAssembly.Memory({ initial: pages, maximum: pages }));
  const [a, b] = memories as [WebAssembly.Memory, WebAssembly.Memory];
  const words = new Uint32Array(a.buffer, PAGE);
  for (let i = 0; i < words.length; i++) words[i] = random.next();
  new Uint8Array(b.buffer).set(new Uint8Array(a.buffer));
  return [
    { memory: a, bytes: new Uint8Array(a.buffer), kernel: new WasmKernel(a) },
    { memory: b, bytes: new Uint8Array(b.buffer), kernel: new ScalarKernel(b) },
  ];
}

/** Everything but the kernel's own page. */
function same(a: Side, b: Side): boolean {
  return Buffer.compare(a.bytes.subarray(PAGE), b.bytes.subarray(PAGE)) === 0;
}

/** The definition, byte by byte. */
function expected(side: Side, sources: readonly number[], byteCount: number): Uint8Array {
  const out = new Uint8Array(byteCount);
  for (const source of sources)
    for (let i = 0; i < byteCount; i++) out[i] = (out[i] ?? 0) ^ (side.bytes[source + i] ?? 0);
  return out;
}

test("kernels: every length to 512, every offset within a cache line, 1 to 32 sources, target apart", () => {
  const random = new SeededRandom(SEED);
  const [wasm, scalar] = twins(3, random);
  for (let byteCount = 0; byteCount <= 512; byteCount += 16) {
    for (let count = 1; count <= 32; count++) {
      const sources = Array.from({ length: count }, (_, i) => PAGE + 1024 + i * 1024 + 16 * random.below(8));
      const target = PAGE + 512 + 16 * random.below(4);
      const want = expected(wasm, sources, byteCount);
      wasm.kernel.xor(target, sources, byteCount);
      scalar.kernel.xor(target, sources, byteCount);
      assert.equal(Buffer.compare(wasm.bytes.subarray(target, target + byteCount), want), 0);
      assert.ok(same(wasm, scalar), `length ${byteCount}, ${count} sources`);
    }
  }
});

test("kernels: the target may be any one of the sources", () => {
  const random = new SeededRandom(SEED + 1);
  const [wasm, scalar] = twins(3, random);
  for (let count = 1; count <= 32; count++) {
    const sources = Array.from({ length: count }, (_, i) => PAGE + i * 2048);
    for (let which = 0; which < count; which++) {
      const target = sources[which] as number;
      const want = expected(wasm, sources, 400);
      wasm.kernel.xor(target, sources, 400);
      scalar.kernel.xor(target, sources, 400);
      assert.equal(Buffer.compare(wasm.bytes.subarray(target, target + 400), want), 0);
      assert.ok(same(wasm, scalar), `${count} sources, target is number ${which}`);
    }
  }
});

test("kernels: random lengths to 256 KiB, offsets and source counts", () => {
  const random = new SeededRandom(SEED + 2);
  const [wasm, scalar] = twins(1 + 33 * 5, random);
  for (let round = 0; round < 40; round++) {
    const byteCount = 16 * random.below(16385);
    const count = 1 + random.below(32);
    const place = (slot: number): number => PAGE + slot * 5 * PAGE + 16 * random.below(4096);
    const sources = Array.from({ length: count }, (_, i) => place(i + 1));
    const target = place(0);
    for (const { kernel } of [wasm, scalar]) kernel.xor(target, sources, byteCount);
    assert.ok(same(wasm, scalar), `seed ${SEED + 2} round ${round}: length ${byteCount}, ${count} sources`);
  }
});

test("kernels: xorInto, copy, fill", () => {
  const random = new SeededRandom(SEED + 3);
  const [wasm, scalar] = twins(11, random);
  for (let round = 0; round < 200; round++) {
    const byteCount = round <= 64 ? 16 * round : 16 * random.below(16385);
    const target = PAGE + 16 * random.below(4096);
    const source = 6 * PAGE + 16 * random.below(4096);
    const byte = random.below(256);
    for (const { kernel } of [wasm, scalar]) {
      kernel.xorInto(target, source, byteCount);
      kernel.copy(source, target, byteCount / 2);
      kernel.fill(target + byteCount, byte, 48);
    }
    assert.ok(same(wasm, scalar), `round ${round}`);
  }
  wasm.kernel.xorInto(PAGE, PAGE, 4096);
  assert.ok(wasm.kernel.isZero(PAGE, 4096), "x ^ x is zero");
});

test("kernels: isZero sees a single bit at every place, and nothing beyond the range", () => {
  const [wasm, scalar] = twins(2, new SeededRandom(SEED + 4));
  for (const { kernel, bytes } of [wasm, scalar]) {
    for (let byteCount = 0; byteCount <= 512; byteCount += 16) {
      const at = PAGE + 64;
      bytes.fill(0xff, PAGE, PAGE + 1024);
      bytes.fill(0, at, at + byteCount);
      assert.equal(kernel.isZero(at, byteCount), true);
      for (let i = 0; i < byteCount; i++) {
        bytes[at + i] = 1 << (i % 8);
        assert.equal(kernel.isZero(at, byteCount), false);
        bytes[at + i] = 0;
      }
    }
  }
});

test("kernels: offsets above 2 GiB are u32", () => {
  const pages = 40_000;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const bytes = Buffer.from(memory.buffer);
  const high = 39_000 * PAGE;
  for (const kernel of [new WasmKernel(memory), new ScalarKernel(memory)]) {
    const sources = [1, 2, 3, 4, 5, 6].map((i) => high + i * 4096);
    for (const [i, source] of sources.entries()) bytes.fill(1 << i, source, source + 4096);
    kernel.xor(high, sources, 4096);
    assert.ok(bytes.subarray(high, high + 4096).every((byte) => byte === 0b111111));
    kernel.xor(high, sources.slice(0, 3), 4096);
    assert.ok(bytes.subarray(high, high + 4096).every((byte) => byte === 0b111));
    kernel.fill(high, 0, 4096);
    assert.ok(kernel.isZero(high, 4096));
    kernel.copy(high, high + 4096, 4096);
    assert.ok(!kernel.isZero(high, 4096));
  }
});

test("kernels: lengths that are no multiple of 16 and empty source lists are our own mistakes", () => {
  const [wasm, scalar] = twins(2, new SeededRandom(SEED + 5));
  for (const { kernel } of [wasm, scalar]) {
    assert.throws(() => kernel.xor(PAGE, [PAGE], 8), { name: "AssertionError" });
    assert.throws(() => kernel.xor(PAGE, [], 16), { name: "AssertionError" });
    assert.throws(() => kernel.xor(PAGE, new Array<number>(33).fill(PAGE), 16), { name: "AssertionError" });
  }
});
