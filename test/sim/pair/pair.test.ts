import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { test } from "node:test";
import { PAIR_BREAKS } from "./life.js";
import { PAIR_STEPS, runPair } from "./run-pair.js";
import { explainPair, figures, runPairsInWorkers } from "./run-pairs.js";

/** TAKEOVERS makes it a longer run, `npm run sim -- --pair --takeovers N` too. */
const TAKEOVERS = Number(process.env.TAKEOVERS ?? 1000);
/** A run has about three. */
const SEEDS_MAX = TAKEOVERS;
/** A part that is missing is found within so many seeds: some five times as many as it takes. */
const BROKEN_SEEDS_MAX = 200;

test(`pair: ${TAKEOVERS} takeovers by seed: never two that write, nothing acknowledged is lost, nothing is done twice`, async () => {
  const runs = { first: 1, count: SEEDS_MAX, takeovers: TAKEOVERS, broken: undefined };
  const { failed, ...total } = await runPairsInWorkers(runs, availableParallelism());
  console.log(figures(total));
  for (const { seed } of failed) await explainPair({ seed, steps: PAIR_STEPS });
  assert.deepEqual(failed, []);
  assert.ok(total.takeovers >= TAKEOVERS, `${total.takeovers} takeovers`);
});

for (const broken of PAIR_BREAKS) {
  test(`pair: without ${broken} a run fails within ${BROKEN_SEEDS_MAX} seeds, and the same seed passes with it`, async () => {
    const runs = { first: 1, count: BROKEN_SEEDS_MAX, takeovers: Number.MAX_SAFE_INTEGER, broken };
    const { failed } = await runPairsInWorkers(runs, availableParallelism());
    const seed = failed[0]?.seed;
    assert.ok(seed !== undefined, "nothing was found");
    console.log(`sim: without ${broken}: seed ${seed}: ${failed[0]?.what.slice(0, 160)}`);
    assert.equal((await runPair({ seed, steps: PAIR_STEPS })).failure, null);
  });
}

// One of each way in which the partner is kept from writing: one host, a fence command, time alone.
for (const seed of [3, 4, 5]) {
  test(`pair: seed ${seed} is the same run twice`, async () => {
    const first = await runPair({ seed, steps: PAIR_STEPS });
    const second = await runPair({ seed, steps: PAIR_STEPS });
    assert.equal(first.failure, null);
    assert.equal(first.digest, second.digest);
    assert.equal(first.answered, second.answered);
  });
}
