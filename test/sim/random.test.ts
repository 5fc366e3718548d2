import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { test } from "node:test";
import { runInWorkers } from "./run-many.js";
import { explain } from "./run-one.js";

/** Every run is its seed: a failure says how to repeat it. SEEDS makes it a longer run, `npm run sim -- --seeds N` too. */
const SEEDS = Number(process.env.SEEDS ?? 1000);
const STEPS = 40;

test(`random: ${SEEDS} runs of ${STEPS} steps hold what was promised`, async () => {
  const runs = { first: 1, count: SEEDS, steps: STEPS, broken: undefined };
  const { failed, ...total } = await runInWorkers(runs, availableParallelism());
  console.log(`simulator: ${total.runs} seeds, ${total.events} events, ${total.seconds.toFixed(0)} s`);
  for (const { seed } of failed) await explain({ seed, steps: STEPS });
  assert.deepEqual(failed, []);
  assert.equal(total.runs, SEEDS);
});
