import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { isStorageError, StorageError } from "../../../../src/lib/errors.js";
import type { LuByte } from "../../../../src/lib/units.js";
import { SharedRig } from "../../../support/shared-rig.js";

const AT = 8192 as LuByte;

function block(fill: number): Buffer {
  return Buffer.alloc(4096, fill);
}

async function read(lu: { read(target: Buffer, at: LuByte): Promise<void> }, at = AT): Promise<number> {
  const target = Buffer.alloc(4096);
  await lu.read(target, at);
  equal(target.equals(block(target[0]!)), true);
  return target[0]!;
}

async function rig(members = 2) {
  const made = new SharedRig({ members });
  await made.create();
  return made;
}

test("partition: what is written is on every member when it resolves, and nowhere in another node's partition", async () => {
  const made = await rig(3);
  const group = await made.open();
  const lu = await made.writer(group);
  const before = await made.raw(0, 1, 65536);
  await lu.writeThrough([block(1), block(2)], AT);
  for (const slot of [0, 1, 2]) {
    const raw = await made.raw(slot, 0, 4 * 4096);
    deepEqual([raw[AT], raw[AT + 4096]], [1, 2]);
    equal(made.devices[slot]!.unflushedSectors, 0);
  }
  deepEqual(await made.raw(0, 1, 65536), before);
  await group.close();
});

test("partition: whole blocks inside the LU, nothing else", async () => {
  const made = await rig();
  const group = await made.open();
  const lu = await made.writer(group);
  for (const [buffer, at] of [
    [Buffer.alloc(100), 0],
    [block(0), 100],
    [block(0), lu.sizeBytes],
    [block(0), -4096],
  ] as const) {
    await rejects(lu.write(buffer, at as LuByte), (error) => isStorageError(error, "EINVAL"));
  }
  await lu.write(block(9), (lu.sizeBytes - 4096) as LuByte);
  await group.close();
});

test("partition: a member that fails a write is excluded on the other before the write is acknowledged", async () => {
  const made = await rig();
  const group = await made.open();
  const lu = await made.writer(group);
  await lu.writeThrough([block(1)], AT);
  const { generation } = lu;
  made.devices[1]!.fail("EIO");
  await lu.writeThrough([block(2)], AT);
  equal(lu.generation, generation + 1);
  deepEqual(lu.copies, ["current", "out"]);
  deepEqual(
    made.events.map(({ kind, disk }) => [kind, disk]),
    [["member-lost", 2]],
  );
  // As after a crash: both are there again, and one has lower generation.
  made.devices[1]!.heal();
  made.crash("none");
  const next = await made.open();
  equal((await next.partitions())[0]!.current.join(), "1");
  equal(await read(await next.openForReading("chn1")), 2);
});

test("partition: a copy that missed writes is not read until it has them all", async () => {
  const made = await rig();
  const group = await made.open([0]);
  const lu = await made.writer(group);
  await lu.writeThrough([block(5)], AT);
  await group.returnMember(await made.disk(1));
  equal(lu.copies[1], "rebuilding");
  // Written meanwhile: on both.
  await lu.writeThrough([block(6)], (AT + 4096) as LuByte);
  await lu.settled();
  deepEqual(lu.copies, ["current", "current"]);
  const raw = await made.raw(1, 0, lu.sizeBytes);
  deepEqual([raw[AT], raw[AT + 4096]], [5, 6]);
  await group.close();
  const alone = await made.open([1]);
  equal(await read(await alone.openForReading("chn1")), 5);
});

for (const how of ["found at the start", "brought back later"]) {
  test(`partition: a copy that is being brought up to date is no current one, even when it is alone (${how})`, async () => {
    const made = await rig();
    let group = await made.open([0]);
    let lu = await made.writer(group);
    await lu.writeThrough([block(5)], AT);
    let writes = 0;
    made.before = (operation, disk) => {
      if (operation === "write" && disk === 1 && ++writes === 1) throw new StorageError("EIO", "stop in the middle");
    };
    if (how === "brought back later") await group.returnMember(await made.disk(1));
    else {
      await group.close();
      group = await made.open();
      lu = await made.writer(group);
    }
    await lu.settled();
    deepEqual(lu.copies, ["current", "out"]);
    equal(writes, 1);
    made.before = null;
    made.crash("all");
    const alone = await made.open([1]);
    await rejects(alone.openForReading("chn1"), (error) => isStorageError(error, "EIO"));
    await rejects(made.writer(alone), (error) => isStorageError(error, "EIO"));
  });
}

test("partition: a reader falls back to the other copy, and so does the writer", async () => {
  const made = await rig();
  const group = await made.open();
  const lu = await made.writer(group);
  await lu.writeThrough([block(3)], AT);
  made.devices[0]!.failRange({ position: 0, byteCount: 32 * 2 ** 20, on: "read" });
  equal(await read(lu), 3);
  const alternatives: number[] = [];
  const target = Buffer.alloc(4096);
  for await (const _ of lu.readAlternatives(target, AT)) alternatives.push(target[0]!);
  deepEqual(alternatives, [3]);
  made.devices[1]!.failRange({ position: 0, byteCount: 32 * 2 ** 20, on: "read" });
  await rejects(read(lu), (error) => isStorageError(error, "EIO"));
});

test("partition: heal writes on every copy; a reader writes nothing", async () => {
  const made = await rig();
  const group = await made.open();
  const lu = await made.writer(group);
  await lu.heal(block(8), AT);
  equal((await made.raw(1, 0, 16384))[AT], 8);
  const reader = await (await made.open()).openForReading("chn1");
  const writes = made.devices[0]!.counters.writes;
  await reader.heal(block(9), AT);
  await reader.flush();
  await reader.close();
  await rejects(reader.write(block(9), AT), (error) => isStorageError(error, "EROFS"));
  equal(made.devices[0]!.counters.writes, writes);
});

test("partition: who comes with a lower epoch than the header shows is refused, and who is overtaken writes nothing more", async () => {
  const made = await rig();
  const first = await made.open();
  const mine = await made.writer(first, { epoch: 4 });
  await mine.writeThrough([block(1)], AT);
  const second = await made.open();
  const taken = await made.writer(second, { epoch: 5, writer: "chn5" });
  await rejects(mine.writeThrough([block(2)], AT), (error) => isStorageError(error, "ESTALE"));
  await rejects(mine.write(block(2), AT), (error) => isStorageError(error, "ESTALE"));
  await rejects(mine.flush(), (error) => isStorageError(error, "ESTALE"));
  await mine.close();
  equal(await read(taken), 1);
  const [described] = await second.partitions();
  deepEqual([described!.writer, described!.epoch], ["chn5", 5]);
  await rejects(made.writer(await made.open(), { epoch: 4 }), (error) => isStorageError(error, "ESTALE"));
  await second.close();
});

test("partition: the guard is asked before each write", async () => {
  const made = await rig();
  let lost = false;
  const guard = () => {
    if (lost) throw new StorageError("ESTALE", "the lease has run out");
  };
  const lu = await made.writer(await made.open(), { guard });
  await lu.writeThrough([block(1)], AT);
  lost = true;
  const { writes } = made.devices[0]!.counters;
  for (const write of [() => lu.write(block(2), AT), () => lu.writeThrough([block(2)], AT), () => lu.flush()]) {
    await rejects(write(), (error) => isStorageError(error, "ESTALE"));
  }
  equal(made.devices[0]!.counters.writes, writes);
});

test("partition: copies that were each used without the other are refused until somebody says which counts", async () => {
  const made = await rig();
  for (const slot of [0, 1]) {
    const group = await made.open([slot]);
    const lu = await made.writer(group);
    await lu.writeThrough([block(10 + slot)], AT);
    if (slot === 1) await lu.writeThrough([block(20)], AT);
    await group.close();
  }
  const group = await made.open();
  await rejects(made.writer(group), /was written on disk\d and on disk\d, each without the other/);
  const lu = await made.writer(group, { force: true });
  await lu.settled();
  deepEqual(lu.copies, ["current", "current"]);
  await group.close();
  const again = await made.open();
  await made.writer(again);
  await again.close();
});

test("partition: after an unclean stop the copies are made equal in the background", async () => {
  const made = await rig();
  const lu = await made.writer(await made.open());
  await lu.settled();
  await lu.write(block(7), AT);
  made.devices[0]!.crash({ keep: "all" });
  made.devices[1]!.crash({ keep: "none" });
  made.devices = made.devices.map((device) => device.reopen());
  const group = await made.open();
  const after = await made.writer(group);
  equal(await read(after), 7);
  await after.settled();
  equal((await made.raw(1, 0, 16384))[AT], 7);
  await group.close();
  // Closed cleanly: nothing is read to compare.
  const { bytesRead } = made.devices[0]!.counters;
  const clean = await made.writer(await made.open());
  await clean.settled();
  equal(made.devices[0]!.counters.bytesRead - bytesRead < 2 ** 20, true);
});

test("partition: when every copy fails the LU has failed, and says nothing is durable", async () => {
  const made = await rig();
  const lu = await made.writer(await made.open());
  for (const device of made.devices) device.fail("EIO");
  await rejects(lu.writeThrough([block(1)], AT), (error) => isStorageError(error, "EIO"));
  for (const device of made.devices) device.heal();
  await rejects(lu.flush(), (error) => isStorageError(error, "EIO"));
  await lu.close();
  const next = await made.writer(await made.open());
  deepEqual(next.copies, ["current", "current"]);
});

test("partition: one member is a group, too", async () => {
  const made = await rig(1);
  const group = await made.open();
  const lu = await made.writer(group);
  await lu.writeThrough([block(1)], AT);
  await group.close();
  equal(await read(await (await made.open()).openForReading("chn1")), 1);
});

/** All of one disk, to be put back later. */
async function image(made: SharedRig, slot: number): Promise<Buffer> {
  const device = made.devices[slot]!;
  const all = Buffer.alloc(device.sizeBytes);
  await device.read(all, 0);
  return all;
}

for (const how of ["closed", "crashed"] as const) {
  for (const since of ["a write", "another open"] as const) {
    test(`partition: a copy that is put back as it was before ${since} is no current one (${how} since)`, async () => {
      const made = await rig();
      let group = await made.open();
      let lu = await made.writer(group);
      await lu.writeThrough([block(1)], AT);
      if (since === "another open") {
        await group.close();
        group = await made.open();
      } else await group.tend();
      const clone = await image(made, 0);
      if (since === "another open") lu = await made.writer(group);
      await lu.writeThrough([block(2)], AT);
      if (how === "closed") await group.close();
      else await group.tend();
      made.crash("none");
      made.devices[0]!.poke(clone, 0);
      const again = await made.open();
      deepEqual((await again.partitions())[0]!.current, [2]);
      equal(await read(await again.openForReading("chn1")), 2);
      const writer = await made.writer(again);
      equal(await read(writer), 2);
      await writer.settled();
      deepEqual(writer.copies, ["current", "current"]);
      deepEqual((await made.raw(0, 0, AT + 4096))[AT], 2);
      await again.close();
    });
  }
}

test("partition: while nothing is written the generation stays; who was overtaken raises none", async () => {
  const made = await rig();
  const group = await made.open();
  const lu = await made.writer(group);
  await lu.writeThrough([block(1)], AT);
  await group.tend();
  const { generation } = lu;
  await group.tend();
  equal(lu.generation, generation);
  await lu.writeThrough([block(2)], AT);
  const other = await made.open();
  const next = await made.writer(other, { epoch: 2 });
  await lu.tend();
  equal((await other.partitions())[0]!.generation, next.generation);
  equal((await other.partitions())[0]!.epoch, 2);
  await other.close();
});
