import assert from "node:assert/strict";
import { test } from "node:test";
import { RangeIndex, type RoughRange } from "../../../../src/fs/locks/range-index.js";
import { SeededRandom } from "../../../../src/lib/prng.js";

test("range index: finds what overlaps, as a walk over all does, while ranges come and go", () => {
  const random = new SeededRandom(5);
  const index = new RangeIndex<RoughRange>();
  const plain = new Set<RoughRange>();
  for (let step = 0; step < 4000; step++) {
    const low = random.below(300);
    const range = { low, high: low + (random.below(8) === 0 ? random.below(200) : random.below(4)) };
    if (plain.size < 60 || random.below(2) === 0) {
      index.add(range);
      plain.add(range);
    } else {
      const gone = [...plain][random.below(plain.size)]!;
      index.remove(gone);
      plain.delete(gone);
    }
    if (plain.size > 120)
      for (const old of [...plain].slice(0, 60)) {
        index.remove(old);
        plain.delete(old);
      }
    const expected = [...plain].filter((other) => other.low <= range.high && range.low <= other.high);
    assert.deepEqual(new Set(index.near(range)), new Set(expected), `step ${step}`);
    assert.equal(index.size, plain.size);
  }
});
