import { test } from "node:test";
import { SeededRandom } from "../../src/lib/prng.js";
import { type CrashCase, runCrash } from "./raid-crash.js";

const RUNS = Number(process.env.RUNS ?? 250);

async function runNamed(spec: CrashCase): Promise<void> {
  try {
    await runCrash(spec);
  } catch (error) {
    throw new Error(`${JSON.stringify(spec)}: ${String(error)}`, { cause: error });
  }
}

/** What the first recovery has begun must not depend on anything that one disk alone has. */
test(`recovery: the power fails again during ${RUNS} recoveries, and a disk is lost then`, async () => {
  const random = new SeededRandom(20);
  for (let seed = 1; seed <= RUNS; seed++) {
    const members = 3 + random.below(3);
    await runNamed({
      ...{ level: 5, members, seed, steps: 12, keep: seed % 3 === 0 ? "none" : "random" },
      cutAt: 10 + random.below(60),
      cutAgainAt: 1 + random.below(80),
      lost: random.below(members + 1) - 1,
    });
  }
});
