import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { MemoryDevice } from "../../../../src/device/memory-device.js";
import { createSharedGroup, SharedGroup } from "../../../../src/ha/shared/group.js";
import { isStorageError, StorageError } from "../../../../src/lib/errors.js";
import { SILENT } from "../../../../src/lib/log.js";
import { SeededRandom } from "../../../../src/lib/prng.js";
import { type LuByte, MIB } from "../../../../src/lib/units.js";
import { SLOW_DISKS } from "../../../../src/raid/aside-watch.js";
import { planAssembly } from "../../../../src/raid/assemble.js";
import { initDisk, labelledDisk, readLabel } from "../../../../src/raid/label-io.js";
import { RaidRig } from "../../../model/raid-rig.js";
import { HandClock } from "../../../support/hand-clock.js";
import { SharedRig } from "../../../support/shared-rig.js";

const random = new SeededRandom(3);

async function freeDisk(number: number, sizeBytes = 32 * MIB) {
  return initDisk(new MemoryDevice({ name: `d${number}`, sizeBytes, random }), { number, random });
}

const PATIENCE = { clock: new HandClock(), settings: SLOW_DISKS };
const wanted = { role: "primary", random, mayChange: () => {} } as const;

test("shared group: its label says so, with name, nodes and members, and survives being read", async () => {
  const disks = [await freeDisk(1), await freeDisk(2, 40 * MIB)];
  await createSharedGroup(disks, { ...wanted, nodes: ["chn1", "chn5"] });
  const label = await readLabel(disks[1]!.device);
  deepEqual(
    [label?.group?.name, label?.group?.shared, label?.group?.nodes, label?.slot],
    ["shared", true, ["chn1", "chn5"], 1],
  );
  equal(labelledDisk(disks[1]!.device, label!).shared, true);
  const { group } = await SharedGroup.open([{ ...disks[1]!, groupUuid: label!.group!.uuid }], { log: SILENT });
  deepEqual(
    group.describe().members.map(({ number, state }) => [number, state]),
    [
      [1, "missing"],
      [2, "online"],
    ],
  );
});

test("shared group: ordinary assembly refuses it, and it refuses an ordinary group", async () => {
  const made = new SharedRig();
  await made.create();
  await rejects(
    planAssembly([await made.disk(0), await made.disk(1)], false, PATIENCE),
    /is a shared group of several nodes/,
  );
  const raid = new RaidRig({ members: 2, seed: 1, chunkBytes: 16 * 1024, diskBytes: 36 * MIB });
  await (await raid.create()).close();
  raid.reopen();
  const disks = await Promise.all(
    raid.devices.map(async (device) => labelledDisk(device!, (await readLabel(device!))!)),
  );
  await rejects(SharedGroup.open(disks, { log: SILENT }), /is a RAID group, not a shared group/);
});

test("shared group: what it cannot be made of", async () => {
  const one = await freeDisk(1);
  await rejects(createSharedGroup([], wanted), (error) => isStorageError(error, "EINVAL"));
  await rejects(createSharedGroup([one, one], wanted), (error) => isStorageError(error, "EEXIST"));
  const five = await Promise.all([1, 2, 3, 4, 5].map((number) => freeDisk(number)));
  await rejects(createSharedGroup(five, wanted), (error) => isStorageError(error, "EINVAL"));
  await createSharedGroup([one], wanted);
  await rejects(createSharedGroup([one], wanted), /is in group "shared" already/);
});

test("shared group: without the right to change labels nothing is written", async () => {
  const disk = await freeDisk(1);
  const { writes } = (disk.device as MemoryDevice).counters;
  const mayChange = () => {
    throw new StorageError("EACCES", "another node holds the lease");
  };
  await rejects(createSharedGroup([disk], { ...wanted, mayChange }), /another node holds the lease/);
  equal((disk.device as MemoryDevice).counters.writes, writes);
  await createSharedGroup([disk], wanted);
  const { group } = await SharedGroup.open([disk], { log: SILENT });
  await rejects(group.setNodes(["chn1"], mayChange), /another node holds the lease/);
  await group.setNodes(["chn1"], () => {});
  deepEqual((await readLabel(disk.device))?.group?.nodes, ["chn1"]);
});

test("shared group: a disk that has shrunk is no member, and stays the caller's", async () => {
  const disks = [await freeDisk(1), await freeDisk(2, 40 * MIB)];
  await createSharedGroup(disks, wanted);
  const small = new Proxy(disks[1]!.device, {
    get: (target, key) => {
      if (key === "sizeBytes") return 33 * MIB;
      const value = Reflect.get(target, key, target) as unknown;
      return typeof value === "function" ? (value as () => unknown).bind(target) : value;
    },
  });
  const { group, unused } = await SharedGroup.open([disks[0]!, { ...disks[1]!, device: small }], { log: SILENT });
  equal(group.describe().members[1]!.reason, `the device shrank to ${33 * MIB} bytes`);
  deepEqual(
    unused.map(({ number }) => number),
    [2],
  );
});

test("shared group: a node without a path is refused, and a partition has one writer in a process", async () => {
  const made = new SharedRig();
  await made.create();
  const group = await made.open();
  await group.setNodes(["chn1", "chn5"], () => {});
  await rejects(made.writer(group, { node: "chn2" }), (error) => isStorageError(error, "EACCES"));
  await rejects(made.writer(group, { writer: "chn2" }), /node chn2 has no path/);
  const lu = await made.writer(group);
  await rejects(made.writer(group), (error) => isStorageError(error, "EBUSY"));
  await made.writer(group, { node: "chn5" });
  await lu.close();
  await made.writer(group);
  await group.close();
});

test("shared group: a member that is pulled out is noticed while nobody writes, and taken back under another path", async () => {
  const made = new SharedRig({ members: 2 });
  await made.create();
  const group = await made.open();
  const lu = await made.writer(group);
  await lu.settled();
  made.devices[0]!.fail("ENXIO");
  await group.tend();
  await lu.flush();
  deepEqual(lu.copies, ["out", "current"]);
  equal(group.describe().members[0]!.state, "missing");
  deepEqual(
    group.devices().map((device) => device?.name),
    [undefined, "disk2"],
  );
  await rejects(group.returnMember(await made.disk(1)), (error) => isStorageError(error, "EBUSY"));
  made.devices[0]!.heal();
  await group.returnMember(await made.disk(0));
  await lu.settled();
  deepEqual(lu.copies, ["current", "current"]);
  deepEqual(
    made.events.map(({ kind }) => kind),
    ["member-lost", "member-returned"],
  );
  await group.close();
});

test("shared group: another disk takes the place of a lost one, and both nodes go on with it", async () => {
  const made = new SharedRig({ members: 2, diskBytes: 40 * MIB });
  await made.create();
  const [first, second] = [await made.open(), await made.open()];
  const mine = await made.writer(first);
  const theirs = await made.writer(second, { node: "chn2" });
  await mine.writeThrough([Buffer.alloc(4096, 1)], 0 as LuByte);
  await theirs.writeThrough([Buffer.alloc(4096, 2)], 0 as LuByte);
  const fresh = await freeDisk(7, 48 * MIB);
  const replace = (mayChange = () => {}) => first.replaceMember(2, fresh, mayChange);
  await rejects(replace(), (error) => isStorageError(error, "EBUSY"));
  made.devices[1]!.fail("ENXIO");
  await Promise.all([first.tend(), second.tend()]);
  const refuse = () => {
    throw new StorageError("EACCES", "another node holds the lease");
  };
  await rejects(replace(refuse), /another node holds the lease/);
  await rejects(
    first.replaceMember(2, await freeDisk(8), () => {}),
    (e) => isStorageError(e, "ENOSPC"),
  );
  await replace();
  const { partitionBytes } = first;
  const label = await readLabel(fresh.device);
  await first.returnMember(labelledDisk(fresh.device, label!));
  // The other node learns of it by the labels.
  await second.tend();
  equal(second.describe().members[1]!.number, 7);
  await second.returnMember(labelledDisk(fresh.device, label!));
  await Promise.all([mine.settled(), theirs.settled()]);
  deepEqual(
    [mine.copies, theirs.copies],
    [
      ["current", "current"],
      ["current", "current"],
    ],
  );
  await rejects(first.returnMember(await made.disk(0)), (error) => isStorageError(error, "EBUSY"));
  await mine.close();
  await theirs.close();
  // The new disk alone has everything, at the same place.
  const alone = (await SharedGroup.open([labelledDisk(fresh.device, label!)], { log: SILENT })).group;
  equal(alone.partitionBytes, partitionBytes);
  for (const [node, fill] of [
    ["chn1", 1],
    ["chn2", 2],
  ] as const) {
    const target = Buffer.alloc(4096);
    await (await alone.openForReading(node)).read(target, 0 as LuByte);
    equal(target.equals(Buffer.alloc(4096, fill)), true);
  }
  // The old one is known for what it is.
  made.devices[1]!.heal();
  const back = await made.disk(1);
  const later = await SharedGroup.open([await made.disk(0), labelledDisk(fresh.device, label!), back], { log: SILENT });
  deepEqual(later.unused, [back]);
});

test("shared group: before it is brought up to date a new disk is read by nobody", async () => {
  const made = new SharedRig({ members: 2 });
  await made.create();
  const group = await made.open([0]);
  const fresh = await freeDisk(7);
  await group.replaceMember(2, fresh, () => {});
  const label = await readLabel(fresh.device);
  const alone = (await SharedGroup.open([labelledDisk(fresh.device, label!)], { log: SILENT })).group;
  await rejects(alone.openForReading("chn1"), (error) => isStorageError(error, "EIO"));
  await rejects(made.writer(alone), (error) => isStorageError(error, "EIO"));
});

test("shared group: a new one on old disks shows nothing of the old partitions", async () => {
  const disk = await freeDisk(1);
  await createSharedGroup([disk], wanted);
  const first = await SharedGroup.open([disk], { log: SILENT });
  const lu = await first.group.openForWriting("chn3", { writer: "chn3", epoch: 9 });
  await lu.writeThrough([Buffer.alloc(8192, 1)], 0 as never);
  await lu.close();
  const fresh = await initDisk(disk.device, { number: 1, force: true, random });
  await createSharedGroup([fresh], wanted);
  const { group } = await SharedGroup.open([fresh], { log: SILENT });
  const [, , third] = await group.partitions();
  deepEqual([third!.epoch, third!.writer], [0, ""]);
  const target = Buffer.alloc(8192);
  await (await group.openForReading("chn3")).read(target, 0 as never);
  deepEqual(target, Buffer.alloc(8192));
});
