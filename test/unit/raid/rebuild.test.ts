import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import type { MemoryDevice } from "../../../src/device/memory-device.js";
import { isStorageError } from "../../../src/lib/errors.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../../src/lib/units.js";
import type { LogicalUnit } from "../../../src/lu/lu.js";
import type { Group, TaskDescription } from "../../../src/raid/contract.js";
import { readLabel, writeLabel } from "../../../src/raid/label-io.js";
import { planShape, rowsStart } from "../../../src/raid/layout.js";
import { type FilledRig, GROUPS, RaidRig } from "../../model/raid-rig.js";

const LENGTH = 12 * 65536;
function lu({ group }: FilledRig): LogicalUnit {
  return group.openLu(1);
}

async function fixture(level: 1 | 5, members: number, diskBytes = 36 * MIB): Promise<FilledRig> {
  const rig = new RaidRig({ members, seed: 5, diskBytes });
  const group = await rig.create();
  await group.createLu("data", level, 4 * MIB);
  const content = Buffer.alloc(LENGTH);
  new SeededRandom(9).fill(content);
  const all = { rig, group, content };
  await lu(all).write(content, 0 as LuByte);
  await lu(all).flush();
  return all;
}

async function put(all: FilledRig, at: number, source: Buffer): Promise<void> {
  source.copy(all.content, at);
  await lu(all).write(source, at as LuByte);
}

async function same(all: FilledRig, what: string): Promise<void> {
  const found = Buffer.alloc(LENGTH);
  await lu(all).read(found, 0 as LuByte);
  ok(found.equals(all.content), what);
}

/** Let what is under way go on, and time pass. */
async function turn({ rig }: FilledRig): Promise<void> {
  await nextTurn();
  rig.clock.pass();
}

async function ended(all: FilledRig): Promise<TaskDescription> {
  for (let i = 0; i < 2000; i++) {
    const task = all.group.describe().tasks.find(({ kind }) => kind === "rebuild");
    if (task?.endedMs !== undefined) return task;
    await turn(all);
  }
  throw new Error("the rebuild does not end");
}

/** Until the rebuild waits for disk #2. */
async function waits(all: FilledRig): Promise<void> {
  for (let i = 0; i < 2000; i++) {
    const task = all.group.describe().tasks.find(({ kind }) => kind === "rebuild");
    if (
      task?.reason?.startsWith("waits for disk #002: unreadable at byte") === true &&
      all.group.describe().unreadable > 0
    ) {
      if (task.doneBytes + 2 * 65536 >= task.totalBytes) return;
    }
    equal(task?.state, "running");
    await turn(all);
  }
  throw new Error("the rebuild does not wait");
}

/** Hold up the newest disk at its so-manieth plain write, and wait until that has come. @returns lets it go on */
async function heldAt(all: FilledRig, count: number, begin: () => Promise<void>): Promise<() => void> {
  const newest = all.rig.devices.length - 1;
  let release = (): void => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  let writes = 0;
  // What is written of rows: its journal is cleared first.
  const rows = rowsStart(planShape(all.rig.devices[newest]!.sizeBytes, 3, 65536));
  all.rig.before = (operation, disk, position) =>
    operation === "write" && disk === newest && position >= rows && ++writes >= count ? gate : undefined;
  await begin();
  while (writes < count) await turn(all);
  return release;
}

function stateOf(group: Group, slot: number): string {
  return group.describe().disks[slot]!.state;
}

/** Without any one of the members, everything is there. */
async function sameWithoutAny(all: FilledRig): Promise<void> {
  // Stopped earlier the next life would have to decide what the crash left: whoever is away then misses that.
  await all.rig.ended(all.group, "resync");
  await all.group.close();
  for (let missing = 0; missing < all.rig.devices.length; missing++) {
    all.rig.reopen();
    const device = all.rig.devices[missing]!;
    all.rig.devices[missing] = null;
    all.group = await all.rig.assemble();
    await same(all, `without disk${missing}`);
    await all.group.close();
    all.rig.devices[missing] = device;
  }
  all.rig.reopen();
}

for (const [level, members] of GROUPS) {
  const name = `RAID-${level} on ${members}`;

  test(`rebuild: ${name}: another disk takes the place of a failed one and has everything`, async () => {
    const all = await fixture(level, members);
    await all.group.failDisk(2);
    equal(stateOf(all.group, 1), "failed");
    await put(all, 5 * BLOCK_BYTES, Buffer.alloc(3 * BLOCK_BYTES, 7));
    await all.group.replaceDisk(2, await all.rig.spare());
    equal(stateOf(all.group, 1), "rebuilding");
    equal(all.group.describe().state, "degraded");
    const task = await ended(all);
    deepEqual([task.state, task.disk, task.found, task.doneBytes], ["done", members + 1, 0, task.totalBytes]);
    equal(all.group.describe().state, "clean");
    const kinds = all.rig.events.map(({ kind }) => kind);
    for (const kind of [
      "member-failed",
      "degraded",
      "member-released",
      "member-replaced",
      "task-started",
      "complete",
    ]) {
      ok(kinds.includes(kind as (typeof kinds)[number]), kind);
    }
    all.rig.devices[1] = all.rig.devices.pop()!;
    await sameWithoutAny(all);
  });

  test(`rebuild: ${name}: a disk that was away gets only what it missed`, async () => {
    const all = await fixture(level, members);
    const away = all.rig.devices[0]!;
    for (let i = 0; i < 4; i++) all.rig.clock.pass();
    await nextTurn();
    away.fail("ENXIO");
    await put(all, 3 * BLOCK_BYTES, Buffer.alloc(2 * BLOCK_BYTES, 8));
    await lu(all).flush();
    equal(stateOf(all.group, 0), "missing");
    await put(all, 65536, Buffer.alloc(65536, 9));
    // Long enough for everything to be in place, and for marks to be cleared if that were allowed.
    for (let i = 0; i < 12; i++) await turn(all);
    away.heal();
    const device = away.reopen();
    all.rig.devices[0] = device;
    const disk = (await all.rig.found()).find(({ number }) => number === 1)!;
    const before = device.counters.bytesWritten;
    await all.group.returnDisk(disk);
    equal((await ended(all)).state, "done");
    equal(all.group.describe().state, "clean");
    ok(device.counters.bytesWritten - before < 3 * MIB, `${device.counters.bytesWritten - before} bytes`);
    await sameWithoutAny(all);
  });

  test(`rebuild: ${name}: clients write and read meanwhile`, async () => {
    const all = await fixture(level, members);
    await all.group.failDisk(1);
    const random = new SeededRandom(3);
    await all.group.replaceDisk(1, await all.rig.spare());
    let rounds = 0;
    while (all.group.describe().tasks[0]!.endedMs === undefined) {
      const at = random.below(LENGTH / BLOCK_BYTES - 40) * BLOCK_BYTES;
      const source = Buffer.alloc((1 + random.below(40)) * BLOCK_BYTES);
      random.fill(source);
      await put(all, at, source);
      all.rig.clock.pass();
      if (++rounds % 4 === 0) await lu(all).flush();
      if (rounds % 8 === 0) await same(all, "while it is being rebuilt");
    }
    ok(rounds > 1, "some writes met the rebuild");
    equal(all.group.describe().state, "clean");
    all.rig.devices[0] = all.rig.devices.pop()!;
    await sameWithoutAny(all);
  });

  test(`rebuild: ${name}: a power cut at any moment, and it goes on from there`, async () => {
    let ends = false;
    for (let cutAt = 1; !ends; cutAt += 2) {
      const all = await fixture(level, members);
      await all.group.failDisk(2);
      const spare = await all.rig.spare();
      let operations = 0;
      all.rig.before = (operation) => {
        if (operation === "read") return;
        if (++operations >= cutAt) throw new Error("power cut");
      };
      await all.group.replaceDisk(2, spare).catch(() => {});
      for (let i = 0; i < 200 && operations < cutAt && !ends; i++) {
        await turn(all);
        ends = all.group.describe().tasks.some(({ state }) => state === "done");
      }
      for (let i = 0; i < 10; i++) await nextTurn();
      all.rig.before = () => {};
      all.rig.crash("random");
      const [old] = all.rig.devices.splice(1, 1, all.rig.devices.pop()!);
      all.group = await all.rig.assemble();
      await same(all, `after the cut at ${cutAt}`);
      const { number, state } = all.group.describe().disks[1]!;
      // The others had not heard of the new disk yet, or it did not know that it was taken.
      if (state === "missing" || state === "failed") await all.group.replaceDisk(number, await all.rig.blank(1));
      if (state !== "online") equal((await ended(all)).state, "done", `cut at ${cutAt}`);
      ok(old !== undefined);
      await sameWithoutAny(all);
    }
  });
}

test("rebuild: a restart goes on where it was, not from the start", async () => {
  const all = await fixture(5, 3, 100 * MIB);
  await all.group.createLu("more", 5, "max");
  await all.group.failDisk(2);
  const spare = await all.rig.spare();
  const release = await heldAt(all, 8, () => all.group.replaceDisk(2, spare));
  const closing = all.group.close();
  release();
  await closing;
  const { doneBytes, state, totalBytes } = all.group.describe().tasks[0]!;
  equal(state, "cancelled");
  all.rig.devices[1] = all.rig.devices.pop()!;
  all.rig.reopen();
  all.group = await all.rig.assemble();
  const again = all.group.describe().tasks[0]!;
  equal(again.state, "running");
  ok(again.totalBytes <= totalBytes - doneBytes + 2 * MIB, `${again.totalBytes} of ${totalBytes} are left`);
  equal((await ended(all)).state, "done");
  await sameWithoutAny(all);
});

for (const [level, members] of GROUPS) {
  const name = `RAID-${level} on ${members}`;

  /** A block in the second chunk row of the rows that disk #2 cannot read; what is written there is good again, so it shows. */
  const failBlock = (all: FilledRig): void => {
    const position = 6 * MIB + 65536 + 4 * BLOCK_BYTES;
    all.rig.devices[1]!.failRange({ position, byteCount: BLOCK_BYTES, on: "read", remaps: true });
  };

  test(`rebuild: ${name}: what cannot be read now is waited for, and not written (I-2a)`, async () => {
    const all = await fixture(level, members);
    await all.group.failDisk(1);
    failBlock(all);
    await all.group.replaceDisk(1, await all.rig.spare());
    await waits(all);
    const { state, unreadable, lostBlocks } = all.group.describe();
    deepEqual([state, unreadable, lostBlocks], ["degraded", 1, 0]);
    equal(all.rig.events.filter(({ kind }) => kind === "rebuild-waits").length, 1);
    for (let i = 0; i < 20; i++) await turn(all);
    all.rig.devices[1]!.heal();
    const task = await ended(all);
    deepEqual([task.state, task.found, all.group.describe().state], ["done", 0, "clean"]);
    ok(all.rig.events.some(({ kind }) => kind === "rebuild-goes-on"));
    await same(all, "nothing is lost");
    all.rig.devices[0] = all.rig.devices.pop()!;
    await sameWithoutAny(all);
  });

  test(`rebuild: ${name}: over a restart it waits still, and goes on`, async () => {
    const all = await fixture(level, members);
    await all.group.failDisk(1);
    failBlock(all);
    await all.group.replaceDisk(1, await all.rig.spare());
    await waits(all);
    await all.group.close();
    all.rig.devices[0] = all.rig.devices.pop()!;
    all.rig.reopen();
    failBlock(all);
    all.group = await all.rig.assemble();
    await waits(all);
    all.rig.devices[1]!.heal();
    equal((await ended(all)).state, "done");
    await same(all, "nothing is lost");
    await sameWithoutAny(all);
  });

  test(`rebuild: ${name}: what is given up is lost, said, never made up (I-3), and taken back when it can be read`, async () => {
    for (const back of [false, true]) {
      const all = await fixture(level, members);
      await all.group.failDisk(1);
      failBlock(all);
      await all.group.replaceDisk(1, await all.rig.spare());
      await waits(all);
      const given = await all.group.giveUp();
      ok(given <= 1, `${given} lost`);
      const task = await ended(all);
      deepEqual([task.state, task.found], ["done", given]);
      const lost = all.rig.events.filter(({ kind }) => kind === "lost-blocks").map(({ detail }) => Number(detail.at));
      equal(lost.length, given);
      equal(all.group.describe().lostBlocks, given);
      equal(all.group.describe().state, all.group.describe().unreadable + given > 0 ? "degraded" : "clean");
      all.rig.devices[0] = all.rig.devices.pop()!;
      await all.group.close();
      all.rig.reopen();
      failBlock(all);
      all.group = await all.rig.assemble();
      const block = Buffer.alloc(BLOCK_BYTES);
      let refused = 0;
      for (let at = 0; at < LENGTH; at += BLOCK_BYTES) {
        const reading = lu(all).read(block, at as LuByte);
        const found = await reading.then(
          () => block.equals(all.content.subarray(at, at + BLOCK_BYTES)),
          (error) => (isStorageError(error, "EIO") ? null : false),
        );
        ok(found !== false, `block at ${at}`);
        if (lost.includes(at)) equal(found, null);
        if (found === null) refused++;
      }
      ok(refused >= given && refused <= 2, `${refused} cannot be read`);
      if (back) {
        all.rig.devices[1]!.heal();
        for (let i = 0; i < 2000 && all.group.describe().state !== "clean"; i++) await turn(all);
        equal(all.group.describe().state, "clean");
        await same(all, "taken back");
      } else {
        for (let at = 0; at < LENGTH; at += 65536) await put(all, at, Buffer.alloc(65536, 3));
        await lu(all).flush();
        equal(all.group.describe().lostBlocks, 0);
      }
      await sameWithoutAny(all);
    }
  });

  test(`rebuild: ${name}: the old disk is a source where it is current, when it is lent`, async () => {
    const all = await fixture(level, members);
    for (let i = 0; i < 4; i++) await turn(all);
    await all.group.failDisk(1);
    failBlock(all);
    await all.group.replaceDisk(1, await all.rig.spare());
    await waits(all);
    all.rig.devices[0] = all.rig.devices[0]!.reopen();
    const old = (await all.rig.found()).find(({ number }) => number === 1)!;
    await all.group.lendDisk(old);
    const task = await ended(all);
    deepEqual([task.state, task.found, all.group.describe().state], ["done", 0, "clean"]);
    all.rig.devices[1]!.heal();
    await same(all, "nothing is lost");
    all.rig.devices[0] = all.rig.devices.pop()!;
    await sameWithoutAny(all);
  });

  test(`rebuild: ${name}: an old disk that is not as it was left is not believed`, async () => {
    const all = await fixture(level, members);
    const yesterday = all.rig.devices[0]!;
    await all.group.createLu("more", level, MIB);
    await all.group.failDisk(1);
    failBlock(all);
    const spare = await all.rig.spare();
    await all.group.replaceDisk(1, spare);
    await waits(all);
    all.rig.devices[0] = yesterday.reopen();
    const old = (await all.rig.found()).find(({ number }) => number === 1)!;
    // Another label was written on it since.
    const label = (await readLabel(old.device))!;
    await writeLabel(old.device, { ...label, sequence: label.sequence + 1 });
    await rejects(all.group.lendDisk(old), (error) => isStorageError(error, "EINVAL"));
    await rejects(all.group.lendDisk(spare), (error) => isStorageError(error, "EINVAL"));
    all.rig.devices[1]!.heal();
    equal((await ended(all)).state, "done");
    all.rig.devices[0] = all.rig.devices.pop()!;
    await sameWithoutAny(all);
  });

  test(`rebuild: ${name}: a disk in use is replaced, and is a source until that is done`, async () => {
    const all = await fixture(level, members, 100 * MIB);
    failBlock(all);
    await all.group.replaceDisk(1, await all.rig.spare());
    await put(all, 3 * 65536, Buffer.alloc(2 * BLOCK_BYTES, 5));
    const task = await ended(all);
    deepEqual([task.state, task.found], ["done", 0]);
    equal(all.group.describe().state, "clean");
    ok(all.rig.events.some(({ kind, disk }) => kind === "member-released" && disk === 1));
    ok(!all.rig.events.some(({ kind }) => kind === "rebuild-waits"), "the old one could tell");
    all.rig.devices[1]!.heal();
    await same(all, "without the old one");
    all.rig.devices[0] = all.rig.devices.pop()!;
    await sameWithoutAny(all);
  });

  test(`rebuild: ${name}: while a disk in use is replaced, another may be lost`, async () => {
    const all = await fixture(level, members, 100 * MIB);
    const spare = await all.rig.spare();
    const release = await heldAt(all, 1, () => all.group.replaceDisk(1, spare));
    all.rig.devices[1]!.fail("ENXIO");
    release();
    await put(all, 3 * 65536, Buffer.alloc(2 * BLOCK_BYTES, 5));
    await same(all, "what the new one has not yet comes from the old one");
    const task = await ended(all);
    deepEqual([task.state, task.found, all.group.describe().state], ["done", 0, "degraded"]);
    await same(all, "without the old one");
    await all.group.close();
  });

  test(`rebuild: ${name}: the old disk and another are lost while it is replaced: nothing is made up`, async () => {
    const all = await fixture(level, members, 100 * MIB);
    const spare = await all.rig.spare();
    const release = await heldAt(all, 1, () => all.group.replaceDisk(1, spare));
    all.rig.devices[1]!.fail("ENXIO");
    all.rig.devices[0]!.fail("ENXIO");
    release();
    // A mirror has copied all of the content with its first write.
    if (level === 1) return all.group.close().catch(() => {});
    await rejects(same(all, "it cannot be"), (error) => isStorageError(error, "EIO"));
    await rejects(put(all, 3 * 65536, Buffer.alloc(2 * BLOCK_BYTES, 5)), (error) => isStorageError(error, "EIO"));
    equal(all.group.describe().state, "failed");
    await all.group.close();
  });
}

test("rebuild: what cannot be is refused with the reason", async () => {
  const all = await fixture(5, 3);
  const refused = (code: string, text: RegExp) => (error: unknown) =>
    isStorageError(error) && error.code === code && text.test(error.message);
  const spare = await all.rig.spare();
  await rejects(all.group.failDisk(9), refused("ENOENT", /#9/));
  await all.group.failDisk(1);
  await rejects(all.group.failDisk(2), refused("EBUSY", /would lose data/));
  await rejects(all.group.replaceDisk(2, spare), refused("EBUSY", /#2 is in use, and disk #1 is failed/));
  await rejects(all.group.giveUp(), refused("ENOENT", /waits for nothing/));
  await rejects(all.group.failDisk(1), refused("EINVAL", /failed already/));
  await rejects(all.group.replaceDisk(1, await all.rig.spare(5, 33 * MIB)), refused("ENOSPC", /are needed/));
  all.rig.devices[0] = all.rig.devices[0]!.reopen();
  const member = (await all.rig.found()).find(({ number }) => number === 2)!;
  await rejects(all.group.replaceDisk(1, member), refused("EEXIST", /in a group/));
  await rejects(all.group.returnDisk(member), refused("EBUSY", /online/));
  await rejects(all.group.returnDisk(spare), refused("EINVAL", /not a member/));
  const failed = (await all.rig.found()).find(({ number }) => number === 1)!;
  await rejects(all.group.returnDisk(failed), refused("EACCES", /taken out of use/));
  await all.group.returnDisk(failed, true);
  equal((await ended(all)).state, "done");
  all.rig.devices.splice(3);
  await sameWithoutAny(all);
});

test("rebuild: a disk that went on alone comes back only by force, and then as an empty one", async () => {
  const all = await fixture(1, 2);
  await all.group.close();
  all.rig.reopen();
  const [first, second] = all.rig.devices;
  all.rig.devices = [null, second!];
  all.group = await all.rig.assemble();
  await lu(all).write(Buffer.alloc(BLOCK_BYTES, 1), 0 as LuByte);
  await all.group.close();
  all.rig.devices = [first!.reopen(), null];
  all.group = await all.rig.assemble();
  await put(all, 0, Buffer.alloc(BLOCK_BYTES, 2));
  await lu(all).flush();
  all.rig.devices[1] = second!.reopen();
  const disk = (await all.rig.found()).find(({ number }) => number === 2)!;
  await rejects(all.group.returnDisk(disk), (error) => isStorageError(error, "EACCES"));
  await all.group.returnDisk(disk, true);
  equal((await ended(all)).state, "done");
  await sameWithoutAny(all);
});

test("rebuild: the new disk fails on the way: the rebuild fails, the group stays, another disk can come", async () => {
  const all = await fixture(5, 3, 100 * MIB);
  await all.group.createLu("more", 5, "max");
  await all.group.failDisk(2);
  const spare = await all.rig.spare();
  const release = await heldAt(all, 3, () => all.group.replaceDisk(2, spare));
  all.rig.devices[3]!.fail("EIO");
  release();
  const task = await ended(all);
  equal(task.state, "failed");
  equal(stateOf(all.group, 1), "failed");
  await same(all, "degraded still");
  await all.group.replaceDisk(4, await all.rig.spare());
  equal((await ended(all)).state, "done");
  all.rig.devices.splice(3, 1);
  all.rig.devices[1] = all.rig.devices.pop()!;
  await sameWithoutAny(all);
});

test("errors: a block that cannot be read is written anew in its place, and counted", async () => {
  for (const [level, members] of GROUPS) {
    const all = await fixture(level, members);
    const bad = { position: 6 * MIB + 2 * BLOCK_BYTES, byteCount: 2 * BLOCK_BYTES, on: "read" as const, remaps: true };
    for (const device of all.rig.devices) {
      device!.failRange(bad);
      await same(all, "from the others");
      const back = Buffer.alloc(2 * BLOCK_BYTES);
      // Whoever serves reads of this place has it again.
      await device!.read(back, bad.position).catch(() => device!.heal());
    }
    const errors = all.group.describe().disks.map((disk) => disk.errors!);
    ok(errors.some(({ read, repaired }) => read === 2 && repaired === 2));
    equal(all.group.describe().state, "clean");
    ok(all.rig.events.some(({ kind, detail }) => kind === "read-error" && detail.repaired === true));
    await sameWithoutAny(all);
  }
});

test("errors: a disk with too many of them is failed, but never the last one that the data needs", async () => {
  const all = await fixture(5, 3);
  const bad = { position: 6 * MIB, byteCount: 4 * MIB, on: "read" as const };
  all.rig.devices[1]!.failRange(bad);
  await same(all, "from the others");
  equal(stateOf(all.group, 1), "failed");
  all.rig.devices[2]!.failRange({ ...bad, byteCount: BLOCK_BYTES });
  for (let i = 0; i < 100; i++)
    await lu(all)
      .read(Buffer.alloc(LENGTH), 0 as LuByte)
      .catch(() => {});
  equal(stateOf(all.group, 2), "online");
  await all.group.close();
});

/** A disk is pulled, a part of stripes with parity on every member is written and flushed: it is in the journal only, some of it without its parity. */
async function journalWithout(slot: number): Promise<FilledRig & { away: MemoryDevice }> {
  const all = await fixture(5, 3);
  const away = all.rig.devices[slot]!;
  for (let i = 0; i < 8; i++) await turn(all);
  away.fail("ENXIO");
  // Its absence shows with the first read; what comes then is journaled without it.
  await lu(all).read(Buffer.alloc(LENGTH), 0 as LuByte);
  for (const block of [0, 3]) {
    for (let run = 0; run < 3; run++) {
      const at = run * all.rig.parityRun * 2 * 65536 + block * BLOCK_BYTES;
      await put(all, at, Buffer.alloc(BLOCK_BYTES, 0x51 + run + block));
    }
    await lu(all).flush();
    equal(stateOf(all.group, slot), "missing");
  }
  return { ...all, away };
}

async function giveBack(all: FilledRig, away: MemoryDevice, slot: number): Promise<void> {
  away.heal();
  all.rig.devices[slot] = away.reopen();
  const disk = (await all.rig.found()).find(({ number }) => number === slot + 1)!;
  await all.group.returnDisk(disk);
  equal((await ended(all)).state, "done");
}

for (const slot of [0, 1, 2]) {
  test(`rebuild: what was only in the journal while disk${slot} was away is on it when it is back`, async () => {
    const { away, ...all } = await journalWithout(slot);
    await giveBack(all, away, slot);
    await sameWithoutAny(all);
  });

  test(`rebuild: what was replayed while disk${slot} was away is on it when it is back`, async () => {
    const { away, ...all } = await journalWithout(slot);
    away.heal();
    all.rig.devices[slot] = null;
    all.rig.crash("random");
    all.group = await all.rig.assemble();
    await giveBack(all, away, slot);
    await sameWithoutAny(all);
  });
}
