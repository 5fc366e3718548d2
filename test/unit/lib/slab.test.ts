import { deepEqual, equal, notEqual } from "node:assert/strict";
import { test } from "node:test";
import { ownCopy, Slab } from "../../../src/lib/slab.js";

test("slab: small copies share memory that nobody else has, and keep their bytes", () => {
  const slab = new Slab();
  const copies = Array.from({ length: 1000 }, (_, i) => slab.copy(Buffer.alloc(200, i)));
  equal(
    copies.every((copy, i) => copy.equals(Buffer.alloc(200, i))),
    true,
  );
  const memories = new Set(copies.map(({ buffer }) => buffer));
  deepEqual([memories.size, [...memories].map(({ byteLength }) => byteLength)], [4, Array(4).fill(65_536)]);
  equal(memories.has(Buffer.from("anything").buffer), false);
});

test("slab: a large copy has memory of its own, and so has one that is kept for long", () => {
  const slab = new Slab();
  const [small, large] = [slab.copy(Buffer.alloc(8)), slab.copy(Buffer.alloc(9000, 7))];
  notEqual(large.buffer, small.buffer);
  deepEqual([large.buffer.byteLength, large.equals(Buffer.alloc(9000, 7))], [9000, true]);
  const own = ownCopy(Buffer.from("target"));
  deepEqual([own.toString(), own.buffer.byteLength], ["target", 6]);
  equal(slab.copy(Buffer.alloc(0)).length, 0);
});
