import { equal } from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../src/lib/prng.js";
import { type CrashCase, CrashRun } from "./raid-crash.js";

/** RUNS and SEED widen or repeat a run. */
const RUNS = Number(process.env.RUNS ?? 120);
const SEED = Number(process.env.SEED ?? 1);

interface ResyncCase extends CrashCase {
  /** In the second life, while copies and parity are being made consistent, the power fails at this device operation, reads included. */
  readonly cutLaterAt: number;
  /** In the second life, this disk stops taking requests at that device operation; -1: none does. */
  readonly failing: number;
  readonly failLaterAt: number;
}

/** A crash, a life in which what it left apart is being settled while a client reads and writes, and in which the power fails again or a disk is lost. */
async function run(spec: ResyncCase): Promise<void> {
  const { failing, failLaterAt, cutLaterAt } = spec;
  const life = new CrashRun({ ...spec, failing: undefined });
  await life.start();
  await life.work();
  await life.crash();
  await life.assemble();
  await life.nextLife({ cutAt: cutLaterAt, ...(failing < 0 ? {} : { failing, failAt: failLaterAt }) });
  const failed = failing >= 0 && life.operations >= failLaterAt;
  await life.crash();
  // One that failed works again, and the others know what it missed; or it stays away.
  const gone = failed ? failing : life.rig.random.below(spec.members + 1) - 1;
  if (gone >= 0 && !(failed && spec.seed % 2 === 0)) life.rig.devices[gone] = null;
  await life.assemble();
  const first = await life.readAll();
  life.check(first);
  life.checkSeen(first);
  await life.crashAgain();
  equal((await life.readAll()).equals(first), true, "what was read once stays, after another crash");
  await life.rig.ended(life.group, "resync");
  await life.group.close();
  life.rig.reopen();
  if (gone < 0) life.rig.devices[life.rig.random.below(spec.members)] = null;
  await life.assemble();
  equal((await life.readAll()).equals(first), true, "what was read once stays, without a member");
  await life.group.close();
}

for (const level of [1, 5] as const) {
  test(`resync crash: RAID-${level}: ${RUNS} second lives that end while the first crash is being made good, from seed ${SEED}`, async () => {
    for (let seed = SEED; seed < SEED + RUNS; seed++) {
      const random = new SeededRandom(7 * seed + level);
      const members = (level === 1 ? 2 : 3) + random.below(3);
      const spec: ResyncCase = {
        ...{ level, members, seed, steps: 14, lost: -1, cutAt: 10 + random.below(60) },
        ...{ keep: (["none", "random", "all"] as const)[random.below(3)]!, cutLaterAt: 1 + random.below(400) },
        ...{ failing: random.below(2) === 0 ? -1 : random.below(members), failLaterAt: 1 + random.below(200) },
      };
      await run(spec).catch((error: unknown) => {
        throw new Error(`${JSON.stringify(spec)}: ${String(error)}`, { cause: error });
      });
    }
  });
}
