import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { isStorageError } from "../../../src/lib/errors.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { type LuByte, MIB } from "../../../src/lib/units.js";
import type { LogicalUnit } from "../../../src/lu/lu.js";
import type { Group } from "../../../src/raid/contract.js";
import { readLabel } from "../../../src/raid/label-io.js";
import { fillBlock } from "../../model/raid-crash.js";
import { RaidRig } from "../../model/raid-rig.js";

const BLOCK = 4096;

/** Every block of an LU told apart. */
function content(byteCount: number, version: number): Buffer {
  const all = Buffer.alloc(byteCount);
  for (let at = 0; at < byteCount; at += BLOCK) fillBlock(all.subarray(at, at + BLOCK), at / BLOCK, version);
  return all;
}

async function fill(lu: LogicalUnit, version: number): Promise<Buffer> {
  const all = content(lu.sizeBytes, version);
  for (let at = 0; at < all.length; at += MIB) await lu.write(all.subarray(at, at + MIB), at as LuByte);
  await lu.flush();
  return all;
}

async function expectAll(lu: LogicalUnit, wanted: Buffer): Promise<void> {
  const found = Buffer.alloc(wanted.length);
  for (let at = 0; at < found.length; at += MIB) await lu.read(found.subarray(at, at + MIB), at as LuByte);
  for (let at = 0; at < found.length; at += BLOCK) {
    if (!found.subarray(at, at + BLOCK).equals(wanted.subarray(at, at + BLOCK))) throw new Error(`block at ${at}`);
  }
}

/** What was written is there whichever member is missing. */
async function expectWithoutAny(rig: RaidRig, wanted: ReadonlyMap<number, Buffer>): Promise<void> {
  for (let missing = -1; missing < rig.devices.length; missing++) {
    rig.reopen();
    const all = [...rig.devices];
    if (missing >= 0) rig.devices[missing] = null;
    const group = await rig.assemble();
    for (const [number, bytes] of wanted) await expectAll(group.openLu(number), bytes);
    await rig.ended(group, "resync");
    await group.close();
    rig.devices = all;
  }
}

for (const [members, chunkBytes] of [
  [3, 16 * 1024],
  [3, 64 * 1024],
  [4, 64 * 1024],
  [5, 256 * 1024],
] as const) {
  test(`grow: RAID-5 on ${members}, chunk ${chunkBytes}, is spread over one more, larger then, and consistent`, async () => {
    const rig = new RaidRig({ members, seed: members, chunkBytes, arenaBytes: 48 * MIB });
    const group = await rig.create();
    await group.createLu("one", 5, 6 * MIB);
    await group.createLu("mirror", 1, 2 * MIB);
    await group.createLu("two", 5, 3 * MIB);
    const [one, mirror, two] = [group.openLu(1), group.openLu(2), group.openLu(3)];
    const wanted = new Map([
      [1, await fill(one, 1)],
      [2, await fill(mirror, 2)],
      [3, await fill(two, 3)],
    ]);
    const sizes = [one.sizeBytes, mirror.sizeBytes, two.sizeBytes];
    await group.growDisk(await rig.addDisk());
    equal(group.describe().disks.length, members + 1);
    const task = group.describe().tasks[0]!;
    deepEqual([task.kind, task.state, task.disk], ["grow", "running", members + 1]);
    const ended = await rig.ended(group, "grow");
    deepEqual([ended?.state, ended?.doneBytes], ["done", ended?.totalBytes]);
    deepEqual(
      group.describe().lus.map((lu) => lu.width),
      [members + 1, members, members + 1],
    );
    const wider = (size: number) => (size / (members - 1)) * members;
    deepEqual([one.sizeBytes, mirror.sizeBytes, two.sizeBytes], [wider(sizes[0]!), sizes[1], wider(sizes[2]!)]);
    equal(one.stripeBytes, members * chunkBytes);
    equal(one.description.sizeBytes, one.sizeBytes);
    await expectAll(one, Buffer.concat([wanted.get(1)!, Buffer.alloc(one.sizeBytes - sizes[0]!)]));
    await expectAll(mirror, wanted.get(2)!);
    await expectAll(two, wanted.get(3)!);
    await group.createLu("wide", 5, MIB);
    equal(group.describe().lus[3]!.width, members + 1);
    wanted.set(4, await fill(group.openLu(4), 4));
    wanted.set(1, await fill(one, 5));
    await group.close();
    await expectWithoutAny(rig, wanted);
  });
}

test("grow: a group without RAID-5 takes the disk and moves nothing; the next LU is spread over all", async () => {
  const rig = new RaidRig({ members: 2, seed: 9 });
  const group = await rig.create();
  await group.createLu("mirror", 1, 2 * MIB);
  const wanted = new Map([[1, await fill(group.openLu(1), 1)]]);
  await group.growDisk(await rig.addDisk());
  deepEqual(group.describe().tasks, []);
  await group.createLu("data", 5, 2 * MIB);
  wanted.set(2, await fill(group.openLu(2), 2));
  deepEqual(
    group.describe().lus.map((lu) => lu.width),
    [2, 3],
  );
  await group.close();
  await expectWithoutAny(rig, wanted);
});

test("grow: twice, with a restart in the middle of each", async () => {
  const rig = new RaidRig({ members: 3, seed: 10, chunkBytes: 16 * 1024 });
  let group = await rig.create();
  await group.createLu("data", 5, 3 * MIB);
  const wanted = await fill(group.openLu(1), 1);
  for (const members of [4, 5]) {
    await group.growDisk(await rig.addDisk());
    for (let i = 0; i < 3; i++) {
      await group.close();
      rig.reopen();
      group = await rig.assemble();
      await expectAll(group.openLu(1), wanted);
    }
    equal((await rig.ended(group, "grow"))?.state, "done");
    equal(group.openLu(1).description.width, members);
  }
  await group.close();
  await expectWithoutAny(rig, new Map([[1, wanted]]));
});

test("grow: work that was begun is not started anew from the beginning, and counts on from where it was", async () => {
  const rig = new RaidRig({ members: 3, seed: 11, chunkBytes: 16 * 1024 });
  const group = await rig.create();
  await group.createLu("data", 5, 20 * MIB);
  await fill(group.openLu(1), 1);
  const disk = await rig.addDisk();
  rig.before = nextTurn;
  await group.growDisk(disk);
  for (;;) {
    const { doneBytes, totalBytes } = group.describe().tasks[0]!;
    equal(totalBytes, 10 * MIB);
    if (doneBytes > MIB) break;
    // Beside a client that has just been there, work rests until a timer fires.
    rig.clock.pass();
    await nextTurn();
  }
  await group.close();
  rig.reopen();
  const again = await rig.assemble();
  const task = again.describe().tasks[0]!;
  ok(task.doneBytes > MIB && task.totalBytes === 10 * MIB, JSON.stringify(task));
  await again.close();
});

test("grow: a member is lost on the way: it goes on, and what was written is there", async () => {
  for (let lost = 0; lost < 4; lost++) {
    const rig = new RaidRig({ members: 3, seed: 12, chunkBytes: 16 * 1024 });
    const group = await rig.create();
    await group.createLu("data", 5, 4 * MIB);
    const lu = group.openLu(1);
    const wanted = await fill(lu, 1);
    await group.growDisk(await rig.addDisk());
    rig.devices[lost]!.fail("ENXIO");
    equal((await rig.ended(group, "grow"))?.state, "done");
    equal(group.describe().state, "degraded");
    await expectAll(lu, wanted);
    const later = await fill(lu, 2);
    rig.crash("none");
    const again = await rig.assemble();
    await expectAll(again.openLu(1), later);
    await again.close();
  }
});

test("grow: rows added to an LU while it is being spread are part of it, and it does not become smaller meanwhile", async () => {
  const rig = new RaidRig({ members: 3, seed: 13, chunkBytes: 16 * 1024 });
  const group = await rig.create();
  await group.createLu("data", 5, 4 * MIB);
  const lu = group.openLu(1);
  const wanted = await fill(lu, 1);
  await group.growDisk(await rig.addDisk());
  await rejects(group.resizeLu(1, MIB), (error) => isStorageError(error, "EBUSY"));
  await group.resizeLu(1, 6 * MIB);
  await lu.write(Buffer.alloc(MIB, 7), (5 * MIB) as LuByte);
  await rig.ended(group, "grow");
  equal(lu.sizeBytes, 9 * MIB);
  await expectAll(lu, wanted);
  const target = Buffer.alloc(MIB);
  await lu.read(target, (5 * MIB) as LuByte);
  ok(target.equals(Buffer.alloc(MIB, 7)));
  await group.close();
});

test("grow: no journal record of the old mapping comes back into rows that have been written over", async () => {
  const rig = new RaidRig({ members: 3, seed: 18, chunkBytes: 16 * 1024 });
  const group = await rig.create();
  await group.createLu("data", 5, 4 * MIB);
  const lu = group.openLu(1);
  const wanted = await fill(lu, 1);
  const disk = await rig.addDisk();
  // In chunk rows 5 to 20: by the time that they are written over, their bytes are long somewhere else.
  const blocks = Array.from({ length: 16 }, (_, i) => 8 * (5 + i) + 3);
  const chunkRow = (stripe: number) => stripe * 16 * 1024;
  let written = false;
  rig.before = (operation, at, position) => {
    const task = group.describe().tasks[0];
    if (written || at !== 0 || operation !== "writeThrough" || position >= 2 * 65536) return;
    if (task === undefined || task.doneBytes < chunkRow(3)) return;
    written = true;
    for (const block of blocks) {
      fillBlock(wanted.subarray(block * BLOCK, (block + 1) * BLOCK), block, 2);
      void lu.write(wanted.subarray(block * BLOCK, (block + 1) * BLOCK), (block * BLOCK) as LuByte);
    }
    void lu.flush();
    return pauseFor(20);
  };
  await group.growDisk(disk);
  await rig.ended(group, "grow");
  ok(written && group.counters().partialStripeWrites === blocks.length);
  rig.before = () => {};
  rig.crash("all");
  await pauseFor(20);
  const again = await rig.assemble();
  await expectAll(again.openLu(1), wanted);
  await again.close();
});

test("grow: a stripe that was moved through the journal and has been written as a whole since stays as it was written", async () => {
  const rig = new RaidRig({ members: 3, seed: 19, chunkBytes: 16 * 1024 });
  const group = await rig.create();
  await group.createLu("data", 5, 4 * MIB);
  const lu = group.openLu(1);
  const wanted = await fill(lu, 1);
  await group.growDisk(await rig.addDisk());
  await rig.ended(group, "grow");
  const stripes = wanted.subarray(0, 2 * lu.stripeBytes).fill(9);
  await lu.write(stripes, 0 as LuByte);
  await lu.flush();
  rig.crash("all");
  const again = await rig.assemble();
  equal(rig.events.find(({ kind }) => kind === "replayed")?.detail.records, 2);
  await expectAll(again.openLu(1), wanted);
  await again.close();
});

async function pauseFor(turns: number): Promise<void> {
  for (let i = 0; i < turns; i++) await nextTurn();
}

test("grow: an LU that is deleted on the way is no longer moved", async () => {
  const rig = new RaidRig({ members: 3, seed: 14, chunkBytes: 16 * 1024 });
  const group = await rig.create();
  await group.createLu("data", 5, 20 * MIB);
  await group.createLu("kept", 5, 2 * MIB);
  const wanted = await fill(group.openLu(2), 1);
  await group.growDisk(await rig.addDisk());
  await group.deleteLu(1);
  equal((await rig.ended(group, "grow"))?.state, "done");
  await group.createLu("next", 5, "max");
  const next = await fill(group.openLu(1), 2);
  await group.close();
  await expectWithoutAny(
    rig,
    new Map([
      [1, next],
      [2, wanted],
    ]),
  );
});

test("grow: what cannot be is refused with the reason", async () => {
  const rig = new RaidRig({ members: 3, seed: 15 });
  const group = await rig.create();
  await group.createLu("data", 5, 30 * MIB);
  const refused = async (disk: Parameters<Group["growDisk"]>[0], code: "EEXIST" | "ENOSPC" | "EBUSY", text: RegExp) =>
    rejects(group.growDisk(disk), (error) => isStorageError(error, code) && text.test(error.message));
  const [member] = await rig.found();
  await refused(member!, "EEXIST", /in group "g" already/);
  await refused(await rig.addDisk(36 * MIB), "ENOSPC", /36 MiB.*needs 39.1 MiB/);
  rig.devices.pop();
  const first = await rig.addDisk();
  await group.growDisk(first);
  await refused(first, "EEXIST", /in group "g" already/);
  await refused(await rig.addDisk(), "EBUSY", /grow is under way/);
  rig.devices[0]!.fail("ENXIO");
  await rig.ended(group, "grow");
  await refused(await rig.addDisk(), "EBUSY", /not online/);
  equal(group.describe().disks.length, 4);
  await group.close();
});

test("grow: a group whose journal is too small for one more member says so, and is as it was", async () => {
  const rig = new RaidRig({ members: 7, seed: 16 });
  const group = await rig.create();
  await rejects(
    group.growDisk(await rig.addDisk()),
    (error) => isStorageError(error, "ENOSPC") && /journal.*8 members need 4 MiB/.test(error.message),
  );
  equal(group.describe().disks.length, 7);
  await group.close();
});

test("grow: a label that only the new disk carries is not believed, and does not keep the disk from another try", async () => {
  const rig = new RaidRig({ members: 3, seed: 17 });
  const group = await rig.create();
  await group.createLu("data", 5, 4 * MIB);
  const wanted = await fill(group.openLu(1), 1);
  const disk = await rig.addDisk();
  let cut = false;
  rig.before = (operation, at) => {
    if (operation === "writeThrough" && at < 3) cut = true;
    if (cut) throw new Error("the power fails");
  };
  await rejects(group.growDisk(disk));
  rig.before = () => {};
  rig.crash("none");
  const label = await readLabel(rig.devices[3]!);
  deepEqual([label?.group?.generation, label?.group?.members.length], [0, 4]);
  const again = await rig.assemble();
  equal(again.describe().disks.length, 3);
  await expectAll(again.openLu(1), wanted);
  await again.growDisk({ device: rig.devices[3]!, uuid: disk.uuid, number: disk.number });
  await rig.ended(again, "grow");
  await expectAll(again.openLu(1), wanted);
  await again.close();
});
