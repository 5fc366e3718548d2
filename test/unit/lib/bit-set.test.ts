import assert from "node:assert/strict";
import { test } from "node:test";
import { BitSet } from "../../../src/lib/bit-set.js";
import { SeededRandom } from "../../../src/lib/prng.js";

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);

test(`bit set: the same as a set of numbers, SEED=${SEED}`, () => {
  const random = new SeededRandom(SEED);
  const bits = new BitSet(200);
  const model = new Set<number>();
  for (let step = 0; step < 2000; step++) {
    const from = random.below(200);
    const to = from + random.below(200 - from);
    const choice = random.below(4);
    if (choice === 0) bits.addRange(from, to);
    if (choice === 1) bits.deleteRange(from, to);
    if (choice === 2) bits.add(from);
    if (choice === 3) bits.delete(from);
    const end = choice < 2 ? to : from + 1;
    for (let i = from; i < end; i++) choice % 2 === 0 ? model.add(i) : model.delete(i);
    assert.deepEqual(
      Array.from({ length: 200 }, (_, i) => bits.has(i)),
      Array.from({ length: 200 }, (_, i) => model.has(i)),
    );
  }
});

test("bit set: nothing is behind its end", () => {
  const bits = new BitSet(8);
  bits.add(9);
  bits.deleteRange(0, 100);
  assert.equal(bits.has(9), false);
});
