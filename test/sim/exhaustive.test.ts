import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { test } from "node:test";
import { exhaust } from "./exhaustive.js";
import { runExhaustive } from "./run-exhaustive.js";

const OPERATIONS = 1000;
const STATES_MIN = 100_000;

test(`exhaustive: every write and flush of ${OPERATIONS} operations on RAID-5 as a crash point`, async (t) => {
  const run = { seed: 1, operations: OPERATIONS, broken: undefined };
  const { status, states } = await runExhaustive(run, availableParallelism());
  assert.equal(status, 0);
  assert.ok(states >= STATES_MIN, `${states} crash states, ${STATES_MIN} wanted`);
  t.diagnostic(`${states} crash states`);
});

// Within so many crash states of a workload of 200 operations.
for (const [broken, statesMax] of [
  ["parity", 2000],
  ["journal", 4000],
  ["bitmap", 2000],
] as const) {
  test(`exhaustive: without ${broken} it is found within ${statesMax} crash states`, async () => {
    const { failure } = await exhaust({ seed: 1, operations: 200, part: 0, of: 1, statesMax, broken });
    assert.notEqual(failure, null);
  });
}

test("exhaustive: a failing crash point is found again when it is asked for alone", async () => {
  const whole = { seed: 1, operations: 200, part: 0, of: 1, broken: "journal" } as const;
  const { failure } = await exhaust({ ...whole, statesMax: 4000 });
  assert.notEqual(failure, null);
  const again = await exhaust({ ...whole, point: failure?.point });
  assert.deepEqual(again.failure, failure);
});
