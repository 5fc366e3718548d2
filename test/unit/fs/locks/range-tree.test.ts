import assert from "node:assert/strict";
import { test } from "node:test";
import { overlaps } from "../../../../src/fs/locks/range.js";
import { type OwnedRange, RangeTree } from "../../../../src/fs/locks/range-tree.js";
import { SeededRandom } from "../../../../src/lib/prng.js";

const OWNERS = ["a", "b", "c"].map((name) => ({ name }));
/** Beyond what a double can tell apart. */
const FAR = 2n ** 63n;

test("range tree: finds what others have in the way exactly when a walk over all does, while ranges come and go", () => {
  const random = new SeededRandom(5);
  for (const base of [0n, FAR]) {
    const tree = new RangeTree<OwnedRange>();
    const plain = new Set<OwnedRange>();
    for (let step = 0; step < 6000; step++) {
      const first = base + BigInt(random.below(300));
      const length = random.below(8) === 0 ? random.below(200) : random.below(4);
      const range = { id: step, who: OWNERS[random.below(OWNERS.length)]!, first, last: first + BigInt(length) };
      if (plain.size < 40 || random.below(2) === 0) {
        tree.add(range);
        plain.add(range);
      } else {
        const gone = [...plain][random.below(plain.size)]!;
        tree.remove(gone);
        plain.delete(gone);
      }
      for (const who of OWNERS) {
        const expected = [...plain].filter((other) => other.who !== who && overlaps(other, range));
        const found = tree.findOthers(range, who);
        assert.equal(found === null, expected.length === 0, `step ${step}`);
        if (found !== null) assert.ok(expected.includes(found), `step ${step}`);
      }
      assert.equal(tree.size, plain.size);
    }
    const sorted = [...plain].sort((a, b) => (a.first === b.first ? a.id - b.id : a.first < b.first ? -1 : 1));
    assert.deepEqual([...tree.all()], sorted);
  }
});

test("range tree: a look costs its height, whoever has how much where", () => {
  const [mine, other, third] = OWNERS as [object, object, object];
  const tree = new RangeTree<OwnedRange>();
  const count = 20_000;
  let id = 0;
  for (let i = 0; i < count; i++) tree.add({ id: id++, who: mine, first: BigInt(i), last: BigInt(i) });
  tree.add({ id: id++, who: other, first: 0n, last: 0n });
  const before = tree.looks;
  assert.equal(tree.findOthers({ first: 1n, last: BigInt(count) }, mine), null);
  assert.equal(tree.findOthers({ first: 0n, last: BigInt(count) }, mine)?.who, other);
  assert.ok(tree.looks - before < 100, `${tree.looks - before} looks`);
  // Long ranges that reach over everything, in front of many short ones of one other.
  for (let i = 0; i < count; i++) tree.add({ id: id++, who: third, first: 0n, last: FAR + BigInt(i) });
  const again = tree.looks;
  assert.equal(tree.findOthers({ first: FAR * 2n, last: FAR * 2n }, mine), null);
  assert.equal(tree.findOthers({ first: FAR + 7n, last: FAR + 7n }, third), null);
  assert.equal(tree.findOthers({ first: FAR + 7n, last: FAR + 7n }, mine)?.who, third);
  assert.ok(tree.looks - again < 200, `${tree.looks - again} looks`);
});
