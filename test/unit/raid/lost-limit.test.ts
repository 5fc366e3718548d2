import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { isStorageError } from "../../../src/lib/errors.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../../src/lib/units.js";
import { planShape, rowsStart } from "../../../src/raid/layout.js";
import { LOST_BLOCKS_MAX } from "../../../src/raid/limits.js";
import { type FilledRig, RaidRig } from "../../model/raid-rig.js";

/** More is given up than the labels have room for (docs/decisions/0027): the rest is waited for, and nothing of it is made up. */
const DISK_BYTES = 36 * MIB;
const CHUNK_BYTES = 65536;

async function fixture(level: 1 | 5, members: number, luBytes: number): Promise<FilledRig> {
  const rig = new RaidRig({ members, seed: 7, diskBytes: DISK_BYTES });
  const group = await rig.create();
  const { sizeBytes } = await group.createLu("data", level, luBytes);
  const content = Buffer.alloc(sizeBytes);
  new SeededRandom(9).fill(content);
  await group.openLu(1).write(content, 0 as LuByte);
  await group.openLu(1).flush();
  return { rig, group, content };
}

async function turns({ rig }: FilledRig, count: number, until: () => boolean = () => false): Promise<void> {
  for (let i = 0; i < count && !until(); i++) {
    await nextTurn();
    rig.clock.pass();
  }
}

/**
 * One block of disk #2, and all from another one on. In RAID-5 a column takes one entry or two, by where its parity is: with these the entries before
 * the last one are odd when it comes to a column that takes two.
 */
function silence({ rig }: FilledRig): void {
  const rows = rowsStart(planShape(DISK_BYTES, rig.options.members, CHUNK_BYTES));
  const from = rows + 6 * CHUNK_BYTES + BLOCK_BYTES;
  rig.devices[1]!.failRange({ position: rows + 2 * CHUNK_BYTES, byteCount: BLOCK_BYTES, on: "read" });
  rig.devices[1]!.failRange({ position: from, byteCount: DISK_BYTES - MIB - from, on: "read" });
}

/** All that can be read is as it should be. @returns how many blocks cannot */
async function refused({ group, content }: FilledRig): Promise<number> {
  const block = Buffer.alloc(BLOCK_BYTES);
  let count = 0;
  for (let at = 0; at < content.length; at += BLOCK_BYTES) {
    try {
      await group.openLu(1).read(block, at as LuByte);
      ok(block.equals(content.subarray(at, at + BLOCK_BYTES)), `${at}: nothing is made up`);
    } catch (error) {
      if (!isStorageError(error, "EIO")) throw error;
      count++;
    }
  }
  return count;
}

for (const [level, members, luBytes] of [
  [1, 2, 5 * MIB],
  [5, 3, 8 * MIB],
] as const) {
  test(`lost blocks: RAID-${level}: with one more than the labels hold nothing is made up, and nothing forgotten`, async () => {
    const all = await fixture(level, members, luBytes);
    await all.group.failDisk(1);
    silence(all);
    await all.group.replaceDisk(1, await all.rig.spare());
    // Until the rebuild keeps no more in mind than it waits for now: earlier only what it had met would be given up.
    await turns(all, 400);
    await rejects(all.group.giveUp(), (error) => isStorageError(error, "EIO") && /room for 1024/.test(error.message));
    await turns(all, 10);
    const { disks, lostBlocks, unreadable, state } = all.group.describe();
    deepEqual([disks[0]!.state, state], ["rebuilding", "degraded"]);
    ok(lostBlocks <= LOST_BLOCKS_MAX && unreadable > 0, "the rest is told, and waited for");
    const count = await refused(all);
    ok(count >= lostBlocks);

    all.rig.devices[0] = null;
    all.rig.crash("random");
    silence(all);
    all.group = await all.rig.assemble();
    await turns(all, 10);
    equal(all.group.describe().disks[0]!.state, "rebuilding");
    equal(await refused(all), count);

    all.rig.devices[1]!.heal();
    await turns(all, 4000, () => all.group.describe().disks[0]!.state === "online");
    await turns(all, 200, () => all.group.describe().lostBlocks + all.group.describe().unreadable === 0);
    equal(all.group.describe().disks[0]!.state, "online");
    const left = all.group.describe();
    ok((await refused(all)) <= left.lostBlocks + left.unreadable);
    await all.group.close();
  });
}
