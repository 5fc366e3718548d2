import assert from "node:assert/strict";
import { test } from "node:test";
import { isStorageError } from "../../../src/lib/errors.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { MIB } from "../../../src/lib/units.js";
import { Arena } from "../../../src/parity/arena.js";

test("arena: reservations are aligned, zeroed, apart, and listed", () => {
  const arena = new Arena({ byteCount: MIB });
  const a = arena.take(100, "small");
  const b = arena.take(8192, "large");
  assert.equal(a.length, 100);
  assert.equal(arena.offsetOf(a) % 4096, 0);
  assert.equal(arena.offsetOf(b), arena.offsetOf(a) + 4096);
  assert.ok(arena.offsetOf(a) >= 65536, "the first 64 KiB belong to the kernel");
  assert.ok(b.every((byte) => byte === 0));
  assert.deepEqual(arena.budget(), [
    { owner: "small", byteCount: 4096 },
    { owner: "large", byteCount: 8192 },
  ]);
});

test("arena: a part is the bytes that were asked for, and the same view the next time", () => {
  const arena = new Arena({ byteCount: 20 * MIB });
  const all = arena.take(18 * MIB, "all");
  const part = arena.part(all, 4096, 65536);
  assert.equal(part.byteOffset, all.byteOffset + 4096);
  assert.equal(part.length, 65536);
  assert.equal(arena.part(all.subarray(4096), 0, 65536), part);
  assert.equal(arena.part(all, 4096, 4096).length, 4096);
  // Far more places than are kept: whichever gives way, nobody gets another's bytes.
  for (const turn of [0, 1])
    for (let at = turn * 512; at + 4096 <= all.length; at += 4096)
      assert.equal(arena.part(all, at, 4096).byteOffset, all.byteOffset + at);
});

test("arena: a part of other memory is a view that nobody keeps", () => {
  const arena = new Arena({ byteCount: MIB });
  const other = Buffer.alloc(8192, 7);
  const part = arena.part(other, 4096, 4096);
  assert.equal(part.byteOffset, other.byteOffset + 4096);
  assert.notEqual(arena.part(other, 4096, 4096), part);
});

test("arena: what does not fit is refused with the whole budget", () => {
  const arena = new Arena({ byteCount: MIB });
  arena.take(MIB - 4096, "data cache");
  const refused = (error: unknown): boolean =>
    isStorageError(error, "ENOSPC") &&
    /4 KiB left, stripe buffers wants 8 KiB .*data cache 1020 KiB/.test(error.message);
  assert.throws(() => arena.take(4097, "stripe buffers"), refused);
  arena.take(4096, "stripe buffers");
  assert.equal(arena.freeBytes, 0);
  assert.throws(
    () => arena.take(1, "late"),
    (error) => isStorageError(error, "ENOSPC"),
  );
});

test("arena: sizes that memory cannot have, and unknown kernels, are EINVAL", () => {
  assert.throws(
    () => new Arena({ byteCount: 2 ** 32 }),
    (error) => isStorageError(error, "EINVAL"),
  );
  assert.throws(
    () => new Arena({ byteCount: Number.NaN }),
    (error) => isStorageError(error, "EINVAL"),
  );
  const before = process.env.STRIPEWARD_PARITY;
  process.env.STRIPEWARD_PARITY = "abacus";
  try {
    assert.throws(
      () => new Arena({ byteCount: MIB }),
      (error) => isStorageError(error, "EINVAL"),
    );
    assert.equal(new Arena({ byteCount: MIB, kernel: "scalar" }).kernel.name, "scalar");
    process.env.STRIPEWARD_PARITY = "scalar";
    assert.equal(new Arena({ byteCount: MIB }).kernel.name, "scalar");
  } finally {
    if (before === undefined) delete process.env.STRIPEWARD_PARITY;
    else process.env.STRIPEWARD_PARITY = before;
  }
  assert.equal(new Arena({ byteCount: MIB, kernel: "wasm" }).kernel.name, "wasm-simd");
});

test("arena: knows its own buffers and their slices", () => {
  const arena = new Arena({ byteCount: MIB });
  const own = arena.take(8192, "test");
  assert.ok(arena.contains(own.subarray(5, 6)));
  assert.equal(arena.offsetOf(own.subarray(5)), arena.offsetOf(own) + 5);
  assert.ok(!arena.contains(Buffer.alloc(16)));
  assert.equal(arena.offsetOf(Buffer.alloc(16)), -1);
});

test("arena: xorBuffers gives the same wherever the buffers live and however they are aligned", () => {
  const random = new SeededRandom(7);
  for (const kernel of ["wasm", "scalar"] as const) {
    const arena = new Arena({ byteCount: MIB, kernel });
    for (const [shift, byteCount] of [
      [0, 4096],
      [16, 160],
      [4, 4096],
      [3, 1001],
      [0, 8],
    ] as const) {
      const inside = arena.take(6 * 8192, "inside");
      const outside = Buffer.allocUnsafeSlow(6 * 8192);
      random.fill(inside);
      outside.set(inside);
      const cut = (all: Buffer): Buffer[] =>
        Array.from({ length: 5 }, (_, i) => all.subarray(i * 8192 + shift, i * 8192 + shift + byteCount));
      const sources = cut(inside);
      const want = Buffer.alloc(byteCount);
      for (const source of sources) for (let i = 0; i < byteCount; i++) want[i] = (want[i] ?? 0) ^ (source[i] ?? 0);
      const targets = [inside.subarray(5 * 8192 + shift).subarray(0, byteCount), Buffer.alloc(byteCount)];
      for (const target of targets) {
        for (const from of [sources, cut(outside), [...sources.slice(0, 2), ...cut(outside).slice(2)]]) {
          target.fill(0xee);
          arena.xorBuffers(target, from);
          assert.deepEqual(target, want);
        }
      }
      arena.xorBuffers(sources[2] as Buffer, sources);
      assert.deepEqual(sources[2], want, "the target is one of the sources");
    }
  }
});
