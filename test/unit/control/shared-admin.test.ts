import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { SharedGroup } from "../../../src/ha/shared/group.js";
import { isStorageError, StorageError } from "../../../src/lib/errors.js";
import { SILENT } from "../../../src/lib/log.js";
import { labelledDisk, readLabel } from "../../../src/raid/label-io.js";
import { SharedWorld } from "./shared-world.js";

// Reading another node's records may wait for a moment, and the clock's timers do not keep the process alive.
const awake = setInterval(() => {}, 1000);
test.after(() => clearInterval(awake));

/** The clock moves by hand, the disks work by themselves. */
function aMoment(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}

test("shared admin: free disks become the shared group and its backup, are shown as used, and found again", async (t) => {
  const world = new SharedWorld(5);
  const { cabinet } = await world.cabinet(t);
  await world.labelAll(cabinet);
  const made = await cabinet.shared.create({ disks: [1, 2], backup: false });
  deepEqual(
    [made.name, made.role, made.members.map(({ number, state }) => [number, state])],
    [
      "shared",
      "primary",
      [
        [1, "online"],
        [2, "online"],
      ],
    ],
  );
  await cabinet.shared.create({ disks: [3], backup: true });
  deepEqual(
    cabinet.disks().map(({ number, state, group }) => [number, state, group]),
    [
      [1, "online", "shared"],
      [2, "online", "shared"],
      [3, "online", "shared-backup"],
      [4, "unused", null],
      [5, "unused", null],
    ],
  );
  deepEqual([world.locks.get("/disks/d1"), world.locks.get("/disks/d4")], [["shared"], ["exclusive"]]);
  await rejects(cabinet.shared.create({ disks: [4], backup: false }), (error) => isStorageError(error, "EEXIST"));
  await rejects(cabinet.groupAdmin.create({ name: "g", disks: [1, 4] }), /disk #001 is in a shared group/);
  await cabinet.close();
  const again = (await world.cabinet(t)).cabinet;
  deepEqual(
    (await again.shared.rows()).map(({ name }) => name),
    ["shared", "shared-backup"],
  );
  deepEqual(again.groups(), []);
  deepEqual(again.warnings(), []);
});

test("shared admin: two nodes have it open at the same time; ordinary disks stay for one", async (t) => {
  const world = new SharedWorld(3);
  const first = await world.cabinet(t);
  await world.labelAll(first.cabinet);
  await first.cabinet.shared.create({ disks: [1, 2], backup: false });
  // The third would be refused, as it has to be: it is nobody's but the first node's.
  await first.cabinet.diskAdmin.remove(3, false);
  world.fake.present.delete("/disks/d3");
  const second = await world.cabinet(t);
  equal((await second.cabinet.shared.rows()).length, 1);
  deepEqual(world.locks.get("/disks/d1"), ["shared", "shared"]);
  const mine = await first.cabinet.shared.openRecords({ node: "chn1", writer: "chn1" });
  const theirs = await second.cabinet.shared.openRecords({ node: "chn2", writer: "chn2" });
  mine!.upsert("client", "a", { what: "mount", host: "10.0.0.1", path: "/data" });
  theirs!.upsert("client", "b", { what: "mount", host: "10.0.0.2", path: "/data" });
  await Promise.all([mine!.durable(), theirs!.durable()]);
  deepEqual(
    (await second.cabinet.shared.records("chn1")).client.map(({ key }) => key),
    ["a"],
  );
  deepEqual(
    (await first.cabinet.shared.records("chn2")).client.map(({ key }) => key),
    ["b"],
  );
  await rejects(first.cabinet.shared.records("chn3"), (error) => isStorageError(error, "ENOENT"));
  await mine!.close();
  await theirs!.close();
});

test("shared admin: without an epoch of its own a node does not take its partition back from the one that has it", async (t) => {
  const world = new SharedWorld(2);
  const { cabinet } = await world.cabinet(t);
  await world.labelAll(cabinet);
  await cabinet.shared.create({ disks: [1, 2], backup: false });
  const taken = await cabinet.shared.openRecords({ node: "chn1", writer: "chn5", epoch: 3 });
  const mine = () => cabinet.shared.openRecords({ node: "chn1", writer: "chn1" });
  await rejects(mine(), /the partition of chn1 is held by chn5/);
  await taken!.close();
  const again = await mine();
  equal((await cabinet.shared.rows())[0]!.partitions[0]!.epoch, 3);
  await again!.close();
});

test("shared admin: a second shared group of the same name is left alone, and not taken for an ordinary one", async (t) => {
  const world = new SharedWorld(2);
  const first = await world.cabinet(t);
  await world.labelAll(first.cabinet);
  await first.cabinet.shared.create({ disks: [1], backup: false });
  await first.cabinet.close();
  const device = await world.layers().openDevice("/disks/d2");
  const disk = await world.layers().readLabel(device);
  await world.layers().shared.create([disk!], { role: "primary", mayChange: () => {} });
  await device.close();
  const { cabinet, events } = await world.cabinet(t);
  deepEqual(
    (await cabinet.shared.rows()).map(({ members }) => members.map(({ number }) => number)),
    [[1]],
  );
  deepEqual(cabinet.groups(), []);
  equal(cabinet.disks()[1]!.state, "stale");
  match(
    events
      .last(100)
      .map(({ what }) => what)
      .join("\n"),
    /there is another group shared here/,
  );
});

test("shared admin: without the lease no label is written", async (t) => {
  const world = new SharedWorld(2);
  const { cabinet } = await world.cabinet(t, () => {
    throw new StorageError("EACCES", "another node holds the lease");
  });
  await world.labelAll(cabinet);
  await rejects(cabinet.shared.create({ disks: [1, 2], backup: false }), /another node holds the lease/);
  deepEqual(
    cabinet.disks().map(({ state }) => state),
    ["unused", "unused"],
  );
  await rejects(cabinet.shared.create({ disks: [1, 1], backup: false }), (error) => isStorageError(error, "EINVAL"));
  await rejects(cabinet.shared.create({ disks: [9], backup: false }), (error) => isStorageError(error, "ENOENT"));
});

test("shared admin: a disk that is pulled out is told, looked for, and brought up to date when it is back", async (t) => {
  const world = new SharedWorld(2);
  const { cabinet, events } = await world.cabinet(t);
  await world.labelAll(cabinet);
  await cabinet.shared.create({ disks: [1, 2], backup: false });
  const records = await cabinet.shared.openRecords({ node: "chn1", writer: "chn1" });
  world.fake.present.delete("/disks/d2");
  world.devices.get("/disks/d2")!.fail("ENXIO");
  await world.fake.clock.advance(10_000);
  for (let i = 0; i < 200 && cabinet.warnings().length === 0; i++) await aMoment();
  match(cabinet.warnings().join(), /group shared: disk #002 is missing/);
  equal(cabinet.disks()[1]!.state, "missing");
  records!.upsert("client", "a", { what: "mount", host: "10.0.0.1", path: "/data" });
  await records!.durable();
  const partition = async () => (await cabinet.shared.rows())[0]!.partitions[0]!;
  deepEqual([(await partition()).current, (await partition()).behind], [[1], [2]]);
  world.devices.get("/disks/d2")!.heal();
  world.fake.present.add("/disks/d2");
  await world.fake.clock.advance(10_000);
  for (let i = 0; i < 200 && (await partition()).behind.length > 0; i++) await aMoment();
  deepEqual((await partition()).current, [1, 2]);
  deepEqual(cabinet.warnings(), []);
  const said = events.last(100).map(({ kind }) => kind);
  ok(said.includes("shared-member-lost") && said.includes("shared-member-returned"));
  await records!.close();
});

test("shared admin: a disk that fails again and again is not taken back again and again", async (t) => {
  const world = new SharedWorld(2);
  const { cabinet, events } = await world.cabinet(t);
  await world.labelAll(cabinet);
  await cabinet.shared.create({ disks: [1, 2], backup: false });
  const records = await cabinet.shared.openRecords({ node: "chn1", writer: "chn1" });
  const device = world.devices.get("/disks/d2")!;
  device.failRange({ position: 2 * 2 ** 20, byteCount: 20 * 2 ** 20, on: "write" });
  for (let minute = 0; minute < 10; minute++) {
    records!.upsert("client", "a", { what: "mount", host: `10.0.0.${minute}`, path: "/data" });
    await records!.durable();
    await world.fake.clock.advance(60_000);
  }
  const returns = events.last(1000).filter(({ kind }) => kind === "shared-member-returned").length;
  ok(returns >= 2 && returns <= 7, `${returns} times in ten minutes`);
  await records!.close();
});

test("shared admin: a lost disk is replaced by another one", async (t) => {
  const world = new SharedWorld(3);
  const { cabinet } = await world.cabinet(t);
  await world.labelAll(cabinet);
  await cabinet.shared.create({ disks: [1, 2], backup: false });
  const records = await cabinet.shared.openRecords({ node: "chn1", writer: "chn1" });
  await rejects(cabinet.shared.replace(2, 3), (error) => isStorageError(error, "EBUSY"));
  await rejects(cabinet.shared.replace(3, 3), (error) => isStorageError(error, "ENOENT"));
  world.fake.present.delete("/disks/d2");
  world.devices.get("/disks/d2")!.fail("ENXIO");
  await world.fake.clock.advance(10_000);
  for (let i = 0; i < 200 && cabinet.warnings().length === 0; i++) await aMoment();
  await cabinet.shared.replace(2, 3);
  const whole = async () => (await cabinet.shared.rows())[0]!.partitions[0]!.behind.length === 0;
  for (let i = 0; i < 200 && !(await whole()); i++) await aMoment();
  const [row] = await cabinet.shared.rows();
  deepEqual(
    row!.members.map(({ number, state }) => [number, state]),
    [
      [1, "online"],
      [3, "online"],
    ],
  );
  deepEqual(row!.partitions[0]!.current, [1, 3]);
  deepEqual(world.locks.get("/disks/d3"), ["shared"]);
  await records!.close();
});

test("shared admin: what the partner makes is found within seconds, and is nobody's to take over", async (t) => {
  const world = new SharedWorld(3);
  const first = await world.cabinet(t);
  await world.labelAll(first.cabinet);
  // The partner holds everything now: nothing of it is ours, and that is no mistake.
  const sharing = { isOurs: () => false, isPartner: (pid: number) => pid === 1 };
  const { cabinet } = await world.cabinet(t, undefined, sharing);
  deepEqual(await cabinet.shared.rows(), []);
  const find = async (count: number) => {
    for (let i = 0; i < 3 && (await cabinet.shared.rows()).length < count; i++) {
      await world.fake.clock.advance(10_000);
      for (let k = 0; k < 20 && (await cabinet.shared.rows()).length < count; k++) await aMoment();
    }
    equal((await cabinet.shared.rows()).length, count);
  };
  await first.cabinet.shared.create({ disks: [1, 2], backup: false });
  await find(1);
  await first.cabinet.shared.create({ disks: [3], backup: true });
  await find(2);
  deepEqual((await cabinet.groupHands.survey()).groups, []);
  equal((await cabinet.groupHands.survey()).disks.length, 3);
});

test("shared admin: a node that the labels do not name is refused by name, writes nothing, and is let in when its path is defined", async (t) => {
  const world = new SharedWorld(3);
  const first = await world.cabinet(t);
  await world.labelAll(first.cabinet);
  await rejects(
    first.cabinet.shared.create({ disks: [1, 2], backup: false, nodes: ["chn5"] }),
    /node chn1 cannot make group shared without a path to it: name chn1, too/,
  );
  await first.cabinet.shared.create({ disks: [1, 2], backup: false, nodes: ["chn1"] });
  await first.cabinet.close();
  const places = ["/disks/d1", "/disks/d2"].map((place) => world.devices.get(place)!);
  const giveTo = async (...nodes: string[]) => {
    const disks = await Promise.all(places.map(async (device) => labelledDisk(device, (await readLabel(device))!)));
    await (await SharedGroup.open(disks, { log: SILENT })).group.setNodes(nodes, () => {});
  };
  await giveTo("chn5");
  const before = await Promise.all(places.map((device) => readLabel(device)));
  const refused = await world.cabinet(t);
  const sentence = 'node chn1 has no path to group "shared"';
  deepEqual(refused.cabinet.warnings(), [sentence]);
  await rejects(refused.cabinet.shared.rows(), { message: sentence });
  ok(refused.events.last(20).some(({ kind, what }) => kind === "shared-group-unusable" && what.endsWith(sentence)));
  await rejects(refused.cabinet.shared.claimPartitions({ role: "primary", nodes: ["chn1"] }), { message: sentence });
  await rejects(refused.cabinet.shared.records("chn5"), { message: sentence });
  equal(await refused.cabinet.shared.openRecords({ node: "chn1", writer: "chn1" }), null);
  await refused.cabinet.close();
  deepEqual(await Promise.all(places.map((device) => readLabel(device))), before);
  await giveTo("chn1", "chn5");
  const { cabinet } = await world.cabinet(t);
  deepEqual(cabinet.warnings(), []);
  deepEqual((await cabinet.shared.rows())[0]?.nodes, ["chn1", "chn5"]);
});

test("shared admin: partitions and page stores are made for every node, once, and only for nodes with a path", async (t) => {
  const world = new SharedWorld(3);
  const { cabinet } = await world.cabinet(t);
  await world.labelAll(cabinet);
  const { shared } = cabinet;
  await rejects(shared.makeStores({ role: "primary", nodes: ["chn1"] }), /there is no group shared here/);
  await shared.create({ disks: [1, 2], backup: false, nodes: ["chn1", "chn5"] });
  const wanted = { role: "primary", nodes: ["chn1", "chn5"] } as const;
  const claimed = await shared.claimPartitions(wanted);
  const five = (row: typeof claimed) => row.partitions.find(({ node }) => node === "chn5")!;
  deepEqual([five(claimed).writer, five(claimed).closed], ["chn5", true]);
  deepEqual(await shared.claimPartitions(wanted), claimed);
  await rejects(shared.records("chn5"), /node chn5 has not written anything about itself yet/);
  const made = await shared.makeStores(wanted);
  ok(five(made).closed);
  deepEqual((await shared.records("chn5")).daemon, []);
  deepEqual(await shared.makeStores(wanted), made);
  const other = { role: "primary", nodes: ["chn2"] } as const;
  await rejects(shared.claimPartitions(other), /^StorageError: node chn2 has no path to group "shared"$/);
  await rejects(shared.makeStores(other), /^StorageError: node chn2 has no path to group "shared"$/);
  // Its owner, who may be another process, goes on from there.
  const records = await shared.openRecords({ node: "chn5", writer: "chn5" });
  records!.upsert("client", "a", { what: "mount", host: "10.0.0.1", path: "/data" });
  await records!.durable();
  deepEqual((await shared.makeStores(wanted)).partitions.length, 8);
  await records!.close();
  deepEqual((await shared.records("chn5")).client.length, 1);
});
