import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { type LuByte, MIB } from "../../../src/lib/units.js";
import type { LogicalUnit } from "../../../src/lu/lu.js";
import type { Group } from "../../../src/raid/contract.js";
import { RaidRig, type RigOptions } from "../../model/raid-rig.js";

const LENGTH = 24 * MIB;

interface Fixture {
  readonly rig: RaidRig;
  readonly group: Group;
  readonly lu: LogicalUnit;
  readonly content: Buffer;
}

/** Three disks, RAID-1, so full that every row is in use. */
async function fixture(more: Partial<RigOptions> = {}): Promise<Fixture> {
  const rig = new RaidRig({ members: 3, seed: 5, diskBytes: 36 * MIB, ...more });
  const group = await rig.create();
  await group.createLu("data", 1, LENGTH);
  const lu = group.openLu(1);
  const content = Buffer.alloc(LENGTH, 1);
  await lu.write(content, 0 as LuByte);
  await lu.flush();
  // Everything is in place, and the marks of what was written are cleared: a disk that goes away now misses only what comes after.
  for (let i = 0; i < 16; i++) {
    rig.clock.pass();
    await nextTurn();
  }
  return { rig, group, lu, content };
}

async function lose({ rig, lu, content }: Fixture, slot: number, code: "EIO" | "ENXIO"): Promise<void> {
  rig.devices[slot]!.fail(code);
  content.fill(7 + slot, 0, MIB);
  await lu.write(content.subarray(0, MIB), 0 as LuByte);
  await lu.flush();
}

async function comesBack({ rig, group }: Fixture, slot: number): Promise<void> {
  const disk = (await rig.found()).find(({ number }) => number === slot + 1)!;
  await group.returnDisk(disk);
  equal((await rig.ended(group, "rebuild"))?.state, "done");
}

/** Whatever one of the others is asked for is there. */
async function sameWithout({ rig, group, lu, content }: Fixture, slot: number): Promise<void> {
  await group.failDisk(slot + 1);
  const found = Buffer.alloc(LENGTH);
  await lu.read(found, 0 as LuByte);
  ok(found.equals(content));
  await group.close();
  rig.reopen();
}

test("path lost: a disk that another node sees well is missing, not failed, and taken back by itself", async () => {
  const all = await fixture({ seenElsewhere: () => true });
  await lose(all, 0, "EIO");
  const lost = all.group.describe().disks[0]!;
  equal(lost.state, "missing");
  match(lost.reason ?? "", /^this node has lost the path to it, the partner has it \(/);
  all.rig.devices[0]!.heal();
  all.rig.devices[0] = all.rig.devices[0]!.reopen();
  await comesBack(all, 0);
  await sameWithout(all, 1);
  equal(all.group.describe().disks[1]!.state, "failed", "what an administrator takes out is no path");
});

test("path lost: without anybody who sees it, a disk that gives errors has failed", async () => {
  const all = await fixture({ seenElsewhere: () => false });
  await lose(all, 0, "EIO");
  equal(all.group.describe().disks[0]!.state, "failed");
});

for (const how of ["asked", "closed"] as const)
  test(`path lost: what was failed before the other node said that it sees it is missing all the same: ${how}`, async () => {
    let isSeen = false;
    const all = await fixture({ seenElsewhere: () => isSeen });
    await lose(all, 0, "EIO");
    await all.group.probe();
    equal(all.group.describe().disks[0]!.state, "failed");
    isSeen = true;
    if (how === "asked") await all.group.probe();
    else await all.group.close();
    isSeen = false;
    all.rig.devices[0]!.heal();
    all.rig.reopen();
    const group = await all.rig.assemble();
    equal(group.describe().disks[0]!.state, "stale", "its labels do not call it failed");
    await comesBack({ ...all, group }, 0);
    await sameWithout({ ...all, group, lu: group.openLu(1) }, 1);
  });

test("path lost: what an administrator took out stays out, whoever sees it", async () => {
  const all = await fixture({ seenElsewhere: () => true });
  await all.group.failDisk(1);
  await all.group.probe();
  equal(all.group.describe().disks[0]!.state, "failed");
});

test("path lost: a disk that comes back without the label at one end may have lost more, and is rebuilt as a whole", async () => {
  const all = await fixture();
  await lose(all, 0, "ENXIO");
  all.rig.devices[0]!.heal();
  all.rig.devices[0] = all.rig.devices[0]!.reopen();
  // It was cut off behind its first blocks, and is as long as before again.
  const device = all.rig.devices[0]!;
  await device.write(Buffer.alloc(device.sizeBytes - 2 * MIB), 2 * MIB);
  await comesBack(all, 0);
  await sameWithout(all, 1);
});

test("path lost: a disk that can be read and not written is not taken back, and nobody notices the attempt", async () => {
  const all = await fixture({ seenElsewhere: () => true });
  await lose(all, 0, "EIO");
  const device = all.rig.devices[0]!.reopen();
  all.rig.devices[0] = device;
  device.heal();
  device.failRange({ position: 0, byteCount: device.sizeBytes, on: "write" });
  const disk = (await all.rig.found()).find(({ number }) => number === 1)!;
  const before = all.group.describe();
  await rejects(all.group.returnDisk(disk), { code: "EIO", message: /^\S+ cannot be written: / });
  deepEqual(all.group.describe(), before);
  device.heal();
  await comesBack(all, 0);
  await sameWithout(all, 1);
});
