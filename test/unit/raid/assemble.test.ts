import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { test } from "node:test";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import { isStorageError } from "../../../src/lib/errors.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { type LuByte, MIB } from "../../../src/lib/units.js";
import { initDisk, labelledDisk, readLabel } from "../../../src/lu/group.js";
import type { Group } from "../../../src/raid/contract.js";
import { LABEL } from "../../../src/raid/label.js";
import { LABEL_END_BYTES, planShape, rowsStart } from "../../../src/raid/layout.js";
import { RaidRig } from "../../model/raid-rig.js";

const AT = 0 as LuByte;

async function rigWith(members: number, level: 1 | 5): Promise<{ rig: RaidRig; group: Group }> {
  const rig = new RaidRig({ members, seed: 31 });
  const group = await rig.create();
  await group.createLu("data", level, 4 * MIB);
  await write(group, 1);
  return { rig, group };
}

async function write(group: Group, byte: number): Promise<void> {
  const lu = group.openLu(1);
  await lu.write(Buffer.alloc(3 * 65536, byte), AT);
  await lu.write(Buffer.alloc(4096, byte), MIB as LuByte);
  await lu.flush();
}

async function expect(group: Group, byte: number): Promise<void> {
  for (const at of [0, 65536, 2 * 65536, MIB]) {
    const target = Buffer.alloc(4096);
    await group.openLu(1).read(target, at as LuByte);
    equal(target.equals(Buffer.alloc(4096, byte)), true, `block at ${at}`);
  }
}

async function stop(rig: RaidRig, group: Group): Promise<void> {
  await group.close();
  rig.reopen();
}

/** Another disk with the same content. */
async function copyOf(device: MemoryDevice, name: string): Promise<MemoryDevice> {
  const content = Buffer.alloc(device.sizeBytes);
  await device.read(content, 0);
  const copy = new MemoryDevice({ name, sizeBytes: device.sizeBytes, random: new SeededRandom(7) });
  await copy.write(content, 0);
  await copy.flush();
  return copy;
}

function states(group: Group): string[] {
  return group.describe().disks.map((disk) => disk.state);
}

test("assemble: a group of before there were parity runs is read as it was written, without any member too", async () => {
  const rig = new RaidRig({ members: 3, seed: 32, parityRun: 1 });
  const group = await rig.create();
  await group.createLu("data", 5, 4 * MIB);
  const chunks = Buffer.concat(Array.from({ length: 12 }, (_, i) => Buffer.alloc(65536, i + 1)));
  await group.openLu(1).write(chunks, AT);
  await stop(rig, group);
  const label = Buffer.alloc(LABEL.end);
  await rig.devices[0]!.read(label, 0);
  equal(label.readUInt32LE(LABEL.parityRun), 0);
  // Left-symmetric as md's: the second stripe's parity is on the middle one of three, its first chunk on the last.
  const third = Buffer.alloc(65536);
  await rig.devices[2]!.read(third, rowsStart(planShape(40 * MIB, 3, 65536)) + 65536);
  equal(third[0], 3);
  const devices = [...rig.devices];
  for (const missing of [-1, 0, 1, 2]) {
    rig.devices = devices.map((device, i) => (i === missing ? null : device!.reopen()));
    const again = await rig.assemble();
    const found = Buffer.alloc(chunks.length);
    await again.openLu(1).read(found, AT);
    equal(found.equals(chunks), true, `without ${missing}`);
    await again.close();
  }
});

test("assemble: order and paths of the disks do not matter", async () => {
  const { rig, group } = await rigWith(4, 5);
  const { uuid } = group.describe();
  await group.close();
  rig.devices = rig.devices.map((device, i) => device!.reopen({ name: `elsewhere${i}` })).reverse();
  const again = await rig.assemble();
  equal(again.describe().uuid, uuid);
  deepEqual(
    again.describe().disks.map((disk) => [disk.number, disk.path, disk.state]),
    [
      [1, "elsewhere0", "online"],
      [2, "elsewhere1", "online"],
      [3, "elsewhere2", "online"],
      [4, "elsewhere3", "online"],
    ],
  );
  await expect(again, 1);
  await again.close();
});

test("assemble: a member that missed writes stays out when it is back (I-2)", async () => {
  const { rig, group } = await rigWith(3, 5);
  await stop(rig, group);
  const away = rig.devices[1]!;
  rig.devices[1] = null;
  const degraded = await rig.assemble();
  const generation = degraded.describe().generation;
  await write(degraded, 2);
  equal(degraded.describe().generation, generation + 1);
  await stop(rig, degraded);
  rig.devices[1] = away;
  const again = await rig.assemble();
  deepEqual(states(again), ["online", "stale", "online"]);
  match(again.describe().disks[1]!.reason ?? "", /missed writes/);
  await expect(again, 2);
  await again.close();
});

test("assemble: a member that was away while nothing was written is whole again", async () => {
  const { rig, group } = await rigWith(3, 5);
  await stop(rig, group);
  const away = rig.devices[1]!;
  rig.devices[1] = null;
  const degraded = await rig.assemble();
  await expect(degraded, 1);
  await stop(rig, degraded);
  rig.devices[1] = away;
  const again = await rig.assemble();
  equal(again.describe().state, "clean");
  await expect(again, 1);
  await again.close();
});

test("assemble: too few members is an error that names them", async () => {
  const { rig, group } = await rigWith(4, 5);
  await stop(rig, group);
  rig.devices[0] = null;
  rig.devices[2] = null;
  await rejects(
    rig.assemble(),
    (error) => isStorageError(error, "EIO") && /#1 missing, #3 missing/.test(error.message),
  );
});

test("assemble: of one disk twice neither is used, and whatever has its place then is written anew", async () => {
  const { rig, group } = await rigWith(3, 5);
  await stop(rig, group);
  const copy = await copyOf(rig.devices[0]!, "copy");
  rig.devices.push(copy);
  const degraded = await rig.assemble();
  deepEqual(states(degraded), ["failed", "online", "online"]);
  match(degraded.describe().disks[0]!.reason ?? "", /and copy are copies of one disk \(#1\): remove one/);
  await expect(degraded, 1);
  await write(degraded, 2);
  await stop(rig, degraded);
  // The copy is what is left, and has nothing of what came since.
  rig.devices = [copy.reopen(), ...rig.devices.slice(1, 3)];
  const again = await rig.assemble();
  deepEqual(states(again), ["failed", "online", "online"]);
  const disk = (await rig.found()).find(({ number }) => number === 1)!;
  await rejects(again.returnDisk(disk), (error) => isStorageError(error, "EACCES"));
  await again.returnDisk(disk, true);
  const returned = rig.events.find(({ kind }) => kind === "member-returned");
  equal(returned?.detail.unbuiltBytes, planShape(40 * MIB, 3, 65536).rowBytes * planShape(40 * MIB, 3, 65536).rowCount);
  equal((await rig.ended(again, "rebuild"))?.state, "done");
  await expect(again, 2);
  await stop(rig, again);
  rig.devices[1] = null;
  const without = await rig.assemble();
  await expect(without, 2);
  await without.close();
});

test("assemble: the same disk twice is refused by both names when the group cannot do without it", async () => {
  const { rig, group } = await rigWith(3, 5);
  await stop(rig, group);
  const copy = await copyOf(rig.devices[0]!, "copy");
  rig.devices = [rig.devices[0]!, null, rig.devices[2]!, copy];
  await rejects(rig.assemble(), (error) => isStorageError(error, "EEXIST") && /copies of one disk/.test(error.message));
});

test("assemble: a copy of a disk as it was earlier is passed over, and told", async () => {
  const { rig, group } = await rigWith(3, 5);
  await stop(rig, group);
  const copy = await copyOf(rig.devices[0]!, "copy");
  const second = await rig.assemble();
  await write(second, 2);
  await stop(rig, second);
  for (const order of [0, 1]) {
    const devices = [...rig.devices];
    rig.devices = order === 0 ? [...devices, copy.reopen()] : [copy.reopen(), ...devices];
    const again = await rig.assemble();
    deepEqual(states(again), ["online", "online", "online"]);
    const told = rig.events.filter(({ kind }) => kind === "copy-passed-over");
    deepEqual(told.at(-1)?.detail, { path: "copy", used: again.describe().disks[0]!.path });
    await expect(again, 2);
    rig.devices = devices;
    await stop(rig, again);
  }
});

test("assemble: a copy that was used without the others is no earlier one", async () => {
  const { rig, group } = await rigWith(2, 1);
  await stop(rig, group);
  const copy = await copyOf(rig.devices[0]!, "copy");
  const both = [...rig.devices];
  rig.devices = [copy];
  const alone = await rig.assemble();
  await write(alone, 3);
  await alone.close();
  rig.devices = both.map((device) => device!.reopen());
  const others = await rig.assemble();
  await write(others, 2);
  await write(others, 4);
  await stop(rig, others);
  rig.devices.push(copy.reopen());
  await rejects(rig.assemble(), (error) => isStorageError(error, "EEXIST"));
});

test("assemble: a disk of another group is refused", async () => {
  const { rig, group } = await rigWith(3, 5);
  const other = new RaidRig({ members: 3, seed: 32 });
  await (await other.create()).close();
  other.reopen();
  await stop(rig, group);
  rig.devices.push(other.devices[0]!);
  await rejects(rig.assemble(), (error) => isStorageError(error, "EINVAL"));
});

test("assemble: a label that is bad on one end is read from the other, and mended with the next change", async () => {
  const { rig, group } = await rigWith(3, 5);
  await stop(rig, group);
  rig.devices[0]!.poke(Buffer.alloc(LABEL_END_BYTES, 3), 0);
  const size = rig.devices[1]!.sizeBytes;
  rig.devices[1]!.poke(Buffer.alloc(LABEL_END_BYTES, 3), size - LABEL_END_BYTES);
  const again = await rig.assemble();
  equal(again.describe().state, "clean");
  await write(again, 4);
  await stop(rig, again);
  for (const device of rig.devices) equal((await readLabel(device!))?.badEnd, undefined);
});

test("assemble: a member without any sound label counts as missing", async () => {
  const { rig, group } = await rigWith(3, 5);
  await stop(rig, group);
  const found = await rig.found();
  for (const at of [0, rig.devices[0]!.sizeBytes - LABEL_END_BYTES])
    rig.devices[0]!.poke(Buffer.alloc(LABEL_END_BYTES, 3), at);
  rig.found = async () => found;
  const again = await rig.assemble();
  deepEqual(states(again), ["missing", "online", "online"]);
  await expect(again, 1);
  await again.close();
});

test("assemble: a device that shrank is not used, and is brought up to date when it has its size again", async () => {
  const { rig, group } = await rigWith(3, 5);
  await stop(rig, group);
  const whole = rig.devices[2]!;
  const shrunk = new MemoryDevice({ name: "shrunk", sizeBytes: whole.sizeBytes - 4 * MIB, random: rig.random });
  const start = Buffer.alloc(32 * MIB);
  await whole.read(start, 0);
  await shrunk.write(start, 0);
  rig.devices[2] = shrunk;
  const again = await rig.assemble();
  deepEqual(states(again), ["online", "online", "missing"]);
  match(again.describe().disks[2]!.reason ?? "", /shrank/);
  await expect(again, 1);
  await write(again, 9);
  await again.close();
  rig.devices[2] = whole;
  rig.reopen();
  const later = await rig.assemble();
  deepEqual(states(later), ["online", "online", "stale"]);
  await later.returnDisk((await rig.found()).find(({ number }) => number === 3)!);
  await rig.ended(later, "rebuild");
  await expect(later, 9);
  await later.close();
});

/** A mirror whose halves were each used alone: the disks after that. */
async function split(secondHalfWrites: number): Promise<RaidRig> {
  const { rig, group } = await rigWith(2, 1);
  await stop(rig, group);
  const [first, second] = rig.devices as [MemoryDevice, MemoryDevice];
  rig.devices = [first, null];
  const a = await rig.assemble();
  await write(a, 5);
  await stop(rig, a);
  const firstAfter = rig.devices[0]!;
  rig.devices = [null, second];
  for (let i = 0; i < secondHalfWrites; i++) {
    const b = await rig.assemble();
    if (i > 0) await b.createLu(`more${i}`, 1, MIB);
    await write(b, 6);
    await stop(rig, b);
  }
  rig.devices = [firstAfter, rig.devices[1]!];
  return rig;
}

for (const lives of [1, 2, 5]) {
  test(`assemble: two halves used apart, one of them ${lives} times, are refused until somebody chooses the newer one`, async () => {
    const rig = await split(lives);
    await rejects(
      rig.assemble(),
      (error) => isStorageError(error, "EEXIST") && /without the other/.test(error.message),
    );
    const forced = await rig.assemble({ force: true });
    equal(forced.describe().disks.filter((disk) => disk.state === "stale").length, 1);
    if (lives > 1) await expect(forced, 6);
    await forced.close();
  });
}

test("assemble: a newer epoch on the disks than ours is ESTALE", async () => {
  const { rig, group } = await rigWith(3, 5);
  await stop(rig, group);
  const mine = await rig.assemble({ epoch: () => 9 });
  await write(mine, 7);
  await stop(rig, mine);
  await rejects(rig.assemble({ epoch: () => 8 }), (error) => isStorageError(error, "ESTALE"));
});

test("group: creation refuses bad names, counts, sizes and disks that are taken", async () => {
  const { rig, group } = await rigWith(3, 5);
  await rejects(group.createLu("data", 1, MIB), (error) => isStorageError(error, "EEXIST"));
  await rejects(group.createLu("no/slash", 1, MIB), (error) => isStorageError(error, "EINVAL"));
  await rejects(
    group.createLu("big", 5, 4096 * MIB),
    (error) => isStorageError(error, "ENOSPC") && /left/.test(error.message),
  );
  await rejects(group.deleteLu(9), (error) => isStorageError(error, "ENOENT"));
  await stop(rig, group);
  const device = rig.devices[0]!;
  await rejects(initDisk(device, { number: 9 }), (error) => isStorageError(error, "EEXIST"));
  const label = await readLabel(device);
  equal(labelledDisk(device, label!).groupUuid, group.describe().uuid);
  equal((await initDisk(device, { number: 9, force: true, random: new SeededRandom(1) })).groupUuid, undefined);
});

test("group: LUs of both levels share rows, give them back, and survive a restart", async () => {
  const rig = new RaidRig({ members: 3, seed: 33 });
  const group = await rig.create();
  const rowsFree = group.describe().rowsFree;
  const a = await group.createLu("a", 5, 3 * MIB);
  const b = await group.createLu("b", 1, 3 * MIB);
  deepEqual([a.number, a.sizeBytes, b.number, b.sizeBytes], [1, 4 * MIB, 2, 3 * MIB]);
  equal(group.describe().rowsFree, rowsFree - 4);
  await group.openLu(2).write(Buffer.alloc(4096, 8), AT);
  await group.deleteLu(1);
  const c = await group.createLu("c", 5, "max");
  equal(c.sizeBytes, (rowsFree - 2) * 2 * MIB);
  equal(group.describe().rowsFree, 0);
  await stop(rig, group);
  const again = await rig.assemble();
  deepEqual(
    again.describe().lus.map((lu) => lu.name),
    ["b", "c"],
  );
  const target = Buffer.alloc(4096);
  await again.openLu(2).read(target, AT);
  equal(target[5], 8);
  await again.close();
});
