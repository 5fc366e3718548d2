import { test } from "node:test";
import { SeededRandom } from "../../src/lib/prng.js";
import { type CrashCase, runCrash } from "./raid-crash.js";

/** Power cuts at random and at every device operation of a short workload. SEED and CRASHES widen or repeat a run. */

const SEED = Number(process.env.SEED ?? 4711);
const CRASHES = Number(process.env.CRASHES ?? 24);
const KEEPS = ["none", "all", "random", "random"] as const;

async function must(spec: CrashCase): Promise<number> {
  try {
    return await runCrash(spec);
  } catch (error) {
    console.log(`failing case: ${JSON.stringify(spec)}`);
    throw error;
  }
}

function randomCase(level: 1 | 5, members: number, seed: number): CrashCase {
  const random = new SeededRandom(seed);
  return {
    ...{ level, members, seed, steps: 60 },
    cutAt: 1 + random.below(level === 5 ? 260 : 160),
    keep: KEEPS[random.below(4)]!,
    lost: random.below(2) === 0 ? -1 : random.below(members),
  };
}

const GROUPS = [
  [1, 2],
  [1, 3],
  [5, 3],
  [5, 4],
  [5, 5],
] as const;

for (const [level, members] of GROUPS) {
  test(`crash: RAID-${level} on ${members}, a disk away all the time and back afterwards (seeds from ${SEED})`, async () => {
    for (let i = 0; i < CRASHES / 2; i++) {
      await must({ ...randomCase(level, members, SEED + i), lost: -1, away: i % members });
    }
  });
  test(`crash: RAID-${level} on ${members}, a disk fails on the way and is back afterwards (seeds from ${SEED})`, async () => {
    for (let i = 0; i < CRASHES / 2; i++) {
      await must({ ...randomCase(level, members, SEED + i), lost: -1, failing: i % members, failAt: 1 + 7 * i });
    }
  });
  test(`crash: RAID-${level} on ${members}, ${CRASHES} random power cuts (seeds from ${SEED})`, async () => {
    for (let i = 0; i < CRASHES; i++) await must(randomCase(level, members, SEED + i));
  });
}

for (const [level, members] of [
  [1, 2],
  [5, 3],
] as const) {
  test(`crash: RAID-${level} on ${members}, at every device operation of a short workload (seed ${SEED})`, async () => {
    const base: CrashCase = {
      level,
      members,
      seed: SEED,
      steps: 10,
      cutAt: Number.POSITIVE_INFINITY,
      keep: "random",
      lost: -1,
    };
    const operations = await must(base);
    for (let cutAt = 1; cutAt <= operations; cutAt++) await must({ ...base, cutAt, lost: (cutAt % (members + 1)) - 1 });
  });
}
