import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import type { MemoryDevice } from "../../../src/device/memory-device.js";
import { isStorageError } from "../../../src/lib/errors.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { type LuByte, MIB } from "../../../src/lib/units.js";
import { readLabel } from "../../../src/lu/group.js";
import type { LogicalUnit } from "../../../src/lu/lu.js";
import type { Group } from "../../../src/raid/contract.js";
import { RaidRig } from "../../model/raid-rig.js";

const BLOCK = 4096;
const LENGTH = 8 * 65536;

interface Fixture {
  readonly rig: RaidRig;
  readonly group: Group;
  readonly lu: LogicalUnit;
  readonly content: Buffer;
}

async function fixture(level: 1 | 5, members: number, errorsMax = 32): Promise<Fixture> {
  const rig = new RaidRig({ members, seed: 77, errorsMax });
  const group = await rig.create();
  await group.createLu("data", level, 4 * MIB);
  const lu = group.openLu(1);
  const content = Buffer.alloc(LENGTH);
  for (let i = 0; i < LENGTH; i += 4) content.writeUInt32LE((i * 2654435761) % 2 ** 32, i);
  await lu.write(content, 0 as LuByte);
  await lu.flush();
  return { rig, group, lu, content };
}

function everyRow(device: MemoryDevice, on: "read" | "write"): void {
  const start = 6 * MIB;
  device.failRange({ position: start, byteCount: device.sizeBytes - start - 2 * 65536, on });
}

async function same({ lu, content }: Fixture): Promise<void> {
  const found = Buffer.alloc(LENGTH);
  await lu.read(found, 0 as LuByte);
  ok(found.equals(content));
}

for (const [level, members] of [
  [1, 2],
  [1, 3],
  [5, 3],
  [5, 5],
] as const) {
  test(`faults: RAID-${level} on ${members}: blocks that one member cannot read come from the others, and the member stays`, async () => {
    const all = await fixture(level, members, 1000);
    for (const device of all.rig.devices) {
      everyRow(device!, "read");
      await same(all);
      device!.heal();
    }
    equal(all.group.describe().state, "clean");
    ok(all.group.counters().degradedReads > 0);
    await all.group.close();
  });

  test(`faults: RAID-${level} on ${members}: a member that cannot be written is failed, and its generation is left behind`, async () => {
    const all = await fixture(level, members);
    const { rig, group, lu, content } = all;
    const generation = group.describe().generation;
    everyRow(rig.devices[1]!, "write");
    content.fill(9, 0, 5 * 65536);
    await lu.write(content.subarray(0, 5 * 65536), 0 as LuByte);
    await lu.flush();
    await rig.clock.pass();
    await lu.write(content.subarray(0, BLOCK), 0 as LuByte);
    await lu.flush();
    await same(all);
    await group.close();
    equal(group.describe().state, "degraded");
    ok(group.describe().generation > generation);
    deepEqual(rig.events.map((event) => event.kind).slice(0, 2), ["member-failed", "degraded"]);
    rig.reopen();
    equal((await readLabel(rig.devices[1]!))?.group?.generation, generation);
    equal((await readLabel(rig.devices[0]!))?.group?.generation, group.describe().generation);
    const again = await rig.assemble();
    equal(again.describe().disks[1]!.state, "failed");
    await same({ ...all, lu: again.openLu(1) });
    await again.close();
  });

  test(`faults: RAID-${level} on ${members}: a second loss fails the group, and nothing is made up (I-3)`, async () => {
    const all = await fixture(level, members);
    all.rig.devices[0]!.fail("ENXIO");
    await same(all);
    equal(all.group.describe().state, "degraded");
    all.rig.devices[1]!.fail("ENXIO");
    await rejects(same(all), (error) => isStorageError(error, "EIO"));
    await rejects(all.lu.flush(), (error) => isStorageError(error, "EIO"));
    await rejects(all.lu.write(Buffer.alloc(BLOCK), 0 as LuByte), (error) => isStorageError(error, "EIO"));
    equal(all.group.describe().state, "failed");
    ok(all.rig.events.some((event) => event.kind === "failed"));
    await all.group.close();
  });

  test(`faults: RAID-${level} on ${members}: a rotten block is found by its alternatives and healed for good`, async () => {
    const all = await fixture(level, members);
    const { rig, group, lu, content } = all;
    await group.close();
    rig.reopen();
    const again = await rig.assemble();
    const fresh = again.openLu(1);
    const rotten = Buffer.alloc(BLOCK, 0xee);
    for (const block of [0, 17, 40, 63]) {
      const good = content.subarray(block * BLOCK, (block + 1) * BLOCK);
      const places = await placesOf(rig, good);
      rig.devices[places[0]!.disk]!.poke(rotten, places[0]!.position);
      const target = Buffer.alloc(BLOCK);
      let ways = 0;
      for await (const _ of fresh.readAlternatives(target, (block * BLOCK) as LuByte)) {
        ways++;
        if (target.equals(good)) break;
      }
      ok(ways > 0 && target.equals(good), `block ${block}`);
      await fresh.heal(target, (block * BLOCK) as LuByte);
      equal((await placesOf(rig, good)).length, places.length, "every place is good again");
    }
    equal(again.counters().healedBlocks, 4);
    await same({ ...all, lu: fresh });
    equal(lu.sizeBytes, fresh.sizeBytes);
    await again.close();
  });
}

test("faults: no flush is acknowledged before a member's failure is on the labels of the others (I-2)", async () => {
  for (const level of [1, 5] as const) {
    const { rig, lu, group } = await fixture(level, 3);
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    rig.before = (operation, _disk, position) =>
      operation === "writeThrough" && position < 2 * 65536 ? gate : undefined;
    everyRow(rig.devices[1]!, "write");
    await lu.write(Buffer.alloc(5 * 65536, 3), 0 as LuByte);
    let acknowledged = false;
    const flush = lu.flush().then(() => {
      acknowledged = true;
    });
    for (let i = 0; i < 10; i++) await nextTurn();
    equal(group.describe().disks[1]!.state, "failed");
    equal(acknowledged, false);
    release();
    await flush;
    await group.close();
  }
});

/** Where on the disks' rows a block lies, by its content. */
async function placesOf(rig: RaidRig, block: Buffer): Promise<Array<{ disk: number; position: number }>> {
  const places: Array<{ disk: number; position: number }> = [];
  for (const [disk, device] of rig.devices.entries()) {
    const all = Buffer.alloc(4 * MIB);
    await device!.read(all, 6 * MIB);
    for (let at = 0; at < all.length; at += BLOCK) {
      if (all.subarray(at, at + BLOCK).equals(block)) places.push({ disk, position: 6 * MIB + at });
    }
  }
  return places;
}

test("faults: a journal copy that is damaged is replayed from the other member", async () => {
  const rig = new RaidRig({ members: 3, seed: 78 });
  const group = await rig.create();
  await group.createLu("data", 5, 4 * MIB);
  for (let i = 0; i < 4; i++) {
    await group.openLu(1).write(Buffer.alloc(BLOCK, i + 1), (i * BLOCK) as LuByte);
    await group.openLu(1).flush();
  }
  rig.crash("none");
  rig.devices[0]!.poke(Buffer.alloc(MIB, 0x55), 2 * MIB + 2 * BLOCK);
  const again = await rig.assemble();
  equal(rig.events.find((event) => event.kind === "replayed")?.detail.records, 4);
  for (let i = 0; i < 4; i++) {
    const target = Buffer.alloc(BLOCK);
    await again.openLu(1).read(target, (i * BLOCK) as LuByte);
    equal(target[0], i + 1);
  }
  await again.close();
});

test("faults: a block that cannot be read does not keep a RAID-5 group from coming up after a crash, and is written again", async () => {
  const all = await fixture(5, 3);
  all.rig.crash("all");
  for (const device of all.rig.devices) {
    // The first rows, whose region is marked: one block of each chunk kind on each member in turn.
    const position = 6 * MIB + 8192 * all.rig.devices.indexOf(device);
    device!.failRange({ position, byteCount: BLOCK, on: "read" });
  }
  const group = await all.rig.assemble();
  await same({ ...all, group, lu: group.openLu(1) });
  equal(group.describe().state, "clean");
  await group.close();
  all.rig.reopen();
  all.rig.devices[0] = null;
  const degraded = await all.rig.assemble();
  await same({ ...all, group: degraded, lu: degraded.openLu(1) });
  await degraded.close();
});

test("faults: a RAID-1 block that was healed stays healed when the power fails at once", async () => {
  const all = await fixture(1, 2);
  all.rig.devices[0]!.poke(Buffer.alloc(BLOCK, 0xbd), 6 * MIB);
  await all.lu.heal(all.content.subarray(0, BLOCK), 0 as LuByte);
  all.rig.crash("none");
  const group = await all.rig.assemble();
  await same({ ...all, group, lu: group.openLu(1) });
  await group.close();
});

test("faults: a member that was pulled out while nobody used it is noticed when it is asked, and its path is free", async () => {
  const { rig, group } = await fixture(5, 3);
  const states = () => group.describe().disks.map(({ state }) => state);
  const gone = rig.devices[1]!;
  const close = gone.close.bind(gone);
  gone.close = () => new Promise((resolve) => setImmediate(() => resolve(close())));
  gone.fail("ENXIO");
  await group.probe(3);
  deepEqual(states(), ["online", "online", "online"]);
  await group.probe();
  deepEqual(states(), ["online", "missing", "online"]);
  deepEqual(
    rig.events.filter(({ kind }) => kind === "member-released").map(({ disk }) => disk),
    [2],
  );
  await group.close();
});
