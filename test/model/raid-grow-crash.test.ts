import { test } from "node:test";
import { SeededRandom } from "../../src/lib/prng.js";
import { type CrashCase, runCrash } from "./raid-crash.js";

/**
 * Power cuts while an LU is spread over one more disk, under a client: at every device operation of a short growth, and at random ones.
 * SEED and CRASHES widen or repeat a run; EVERY=1 takes every operation with each of {none, all, random} of the unflushed sectors kept.
 */

const SEED = Number(process.env.SEED ?? 1301);
const CRASHES = Number(process.env.CRASHES ?? 8);
const EVERY = Number(process.env.EVERY ?? 8);
const KEEPS = ["none", "all", "random"] as const;

async function must(spec: CrashCase): Promise<number> {
  try {
    return await runCrash(spec);
  } catch (error) {
    console.log(`failing case: ${JSON.stringify(spec)}`);
    throw error;
  }
}

function base(members: number, steps: number): CrashCase {
  return {
    ...{ level: 5, members, seed: SEED, steps, background: "grow" },
    ...{ cutAt: Number.POSITIVE_INFINITY, keep: "random", lost: -1 },
  };
}

/** Each third of the operations with another choice of what is kept, and each with another disk lost, or none. */
async function cutEvery(spec: CrashCase, step: number): Promise<void> {
  const operations = await must(spec);
  for (const [i, keep] of KEEPS.entries()) {
    for (let cutAt = 1 + (i % step); cutAt <= operations; cutAt += step) {
      await must({ ...spec, keep, cutAt, lost: (Math.floor(cutAt / step) % (spec.members + 2)) - 1 });
    }
  }
}

test(`grow crash: RAID-5 on 3, at every device operation of a short growth (seed ${SEED})`, () =>
  cutEvery(base(3, 6), EVERY));

test(`grow crash: RAID-5 on 4, on the way (seed ${SEED})`, () => cutEvery(base(4, 6), 5 * EVERY));

test(`grow crash: a group of mirrors takes a disk (seed ${SEED})`, () =>
  cutEvery({ ...base(2, 4), level: 1 }, 2 * EVERY));

for (const members of [3, 4]) {
  test(`grow crash: RAID-5 on ${members}, parts of stripes in flight at the boundary, ${2 * CRASHES} cuts (seeds from ${SEED})`, async () => {
    for (let i = 0; i < 2 * CRASHES; i++) {
      const random = new SeededRandom(SEED + i);
      await must({
        ...base(members, 80),
        ...{ seed: SEED + i, atBoundary: 7, cutAt: 60 + random.below(420) },
        ...{ keep: KEEPS[random.below(3)]!, lost: random.below(members + 2) - 1 },
      });
    }
  });
}

test(`grow crash: RAID-5 on 3, each disk lost at one and the same operation (seed ${SEED})`, async () => {
  const spec = base(3, 3);
  const operations = await must(spec);
  for (let cutAt = 1 + (SEED % 11); cutAt <= operations; cutAt += 11 * (EVERY - 1) + 1) {
    for (let lost = 0; lost < 4; lost++) await must({ ...spec, cutAt, lost, keep: KEEPS[(cutAt + lost) % 3]! });
  }
});
