import { equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { SystemClock } from "../../../src/lib/clock.js";
import { isStorageError } from "../../../src/lib/errors.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { type LuByte, MIB } from "../../../src/lib/units.js";
import { ArrayLu } from "../../../src/lu/logical-unit.js";
import type { LuDescription } from "../../../src/raid/contract.js";
import type { RaidArray } from "../../../src/raid/core.js";
import { LostBlocks } from "../../../src/raid/lost-blocks.js";
import { Pace } from "../../../src/raid/pace.js";
import { RaidRig } from "../../model/raid-rig.js";

test("lu: positions, lengths and ends that do not fit are EINVAL", async () => {
  const rig = new RaidRig({ members: 3, seed: 1 });
  const group = await rig.create();
  await group.createLu("data", 5, 4 * MIB);
  const lu = group.openLu(1);
  equal(lu, group.openLu(1));
  const block = Buffer.alloc(4096);
  const invalid = (error: unknown) => isStorageError(error, "EINVAL");
  await rejects(lu.read(block, 1 as LuByte), invalid);
  await rejects(lu.read(block, -4096 as LuByte), invalid);
  await rejects(lu.read(block, Number.NaN as LuByte), invalid);
  await rejects(lu.write(block, lu.sizeBytes as LuByte), invalid);
  await rejects(lu.write(Buffer.alloc(100), 0 as LuByte), invalid);
  await rejects(lu.writev([Buffer.alloc(2048), Buffer.alloc(2048)], 0 as LuByte), invalid);
  await rejects(lu.heal(Buffer.alloc(8192), 0 as LuByte), invalid);
  await lu.write(block, (lu.sizeBytes - 4096) as LuByte);
  await lu.writev([], 0 as LuByte);
  await group.close();
  await rejects(lu.read(block, 0 as LuByte), (error) => isStorageError(error, "ENXIO"));
});

test("lu: a node that learns of a higher epoch writes nothing more", async () => {
  let epoch = 3;
  const rig = new RaidRig({ members: 3, seed: 2 });
  await (await rig.create()).close();
  rig.reopen();
  const group = await rig.assemble({ epoch: () => epoch });
  await group.createLu("data", 5, 4 * MIB);
  const lu = group.openLu(1);
  await lu.write(Buffer.alloc(4096, 1), 0 as LuByte);
  await lu.flush();
  await lu.write(Buffer.alloc(4096, 2), 0 as LuByte);
  epoch = 4;
  const stale = (error: unknown) => isStorageError(error, "ESTALE");
  const writes = () => rig.devices.map((device) => device!.counters.writes).join();
  const before = writes();
  await rejects(lu.flush(), stale);
  await rejects(lu.write(Buffer.alloc(lu.stripeBytes), 0 as LuByte), stale);
  await rejects(group.createLu("more", 1, MIB), stale);
  await rejects(group.close(), stale);
  equal(writes(), before);
});

/** An LU on an array whose flushes end when the test says so. */
function luWithFlushes(): { lu: ArrayLu; started: Array<() => void> } {
  const started: Array<() => void> = [];
  const done = () => Promise.resolve();
  const array = {
    ...{ sizeBytes: MIB, stripeBytes: MIB, writev: done, writeThrough: done, heal: done },
    flush: () => new Promise<void>((resolve) => started.push(resolve)),
  } as unknown as RaidArray;
  const clock = new SystemClock();
  const group = { lost: new LostBlocks(), pace: new Pace(clock), clock, losses: { written: () => {} } };
  const description = { number: 1, name: "data" } as LuDescription;
  return {
    lu: new ArrayLu(
      () => description,
      () => array,
      () => {},
      group,
    ),
    started,
  };
}

const block = Buffer.alloc(4096);

for (const [what, write] of [
  ["write", (lu: ArrayLu) => lu.write(block, 0 as LuByte)],
  ["stable write", (lu: ArrayLu) => lu.writeThrough([block], 0 as LuByte)],
  ["healed block", (lu: ArrayLu) => lu.heal(block, 0 as LuByte)],
] as const) {
  test(`lu: a flush that began before a ${what} was done does not count for it; later ones share the next`, async () => {
    const { lu, started } = luWithFlushes();
    const first = [lu.flush(), lu.flush()];
    equal(started.length, 1);
    await write(lu);
    const later = [lu.flush(), lu.flush()];
    equal(started.length, 1);
    started[0]!();
    await Promise.all(first);
    await nextTurn();
    equal(started.length, 2);
    started[1]!();
    await Promise.all(later);
  });
}
