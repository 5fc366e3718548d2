import assert from "node:assert/strict";
import { test } from "node:test";
import { type Break, runSeed } from "./run.js";
import { runRange } from "./run-many.js";
import { shrink } from "./shrink.js";

/**
 * A simulator that finds nothing proves nothing: with a part switched off a run must fail within so many seeds, about five times as many as
 * it takes. The first one that fails must pass with everything on; random.test.ts runs all of them so.
 */
const WITHIN: ReadonlyArray<readonly [Break, number]> = [
  ["parity", 20],
  ["journal", 200],
  ["bitmap", 20],
  ["stale", 20],
  ["generation", 20],
  ["checksum", 200],
  ["transient", 50],
  ["source", 100],
  ["room", 200],
  ["promise", 50],
  ["clock", 100],
  ["lanes", 20],
  ["slow-disk", 20],
];
const STEPS = 40;

for (const [broken, count] of WITHIN) {
  test(`breaks: without ${broken} a run fails within ${count} seeds, and the same seed passes with it`, async () => {
    const { failed } = await runRange({ first: 1, count, steps: STEPS, broken });
    assert.notEqual(failed, null);
    const whole = await runSeed({ seed: failed?.seed ?? 0, steps: STEPS });
    assert.equal(whole.failure, null);
  });
}

test("shrinking: a shorter schedule fails as well, and none of its steps can be spared", async () => {
  const { failed } = await runRange({ first: 1, count: 20, steps: STEPS, broken: "generation" });
  const options = { seed: failed?.seed ?? 0, steps: STEPS, broken: "generation" } as const;
  const { failure } = await runSeed(options);
  assert.ok(failure !== null);
  const { only } = await shrink(options, failure);
  assert.ok(only.length > 0 && only.length <= 10, `${only.length} steps`);
  assert.notEqual((await runSeed({ ...options, only })).failure, null);
  for (const spared of only) {
    const fewer = only.filter((step) => step !== spared);
    assert.equal((await runSeed({ ...options, only: fewer })).failure, null, `step ${spared} can be spared`);
  }
});
