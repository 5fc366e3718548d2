import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { type NodeState, RecordKeeper } from "../../../src/control/record-keeper.js";
import type { ExportRow, FileSystemRow } from "../../../src/control/types.js";
import type { FileSystem } from "../../../src/fs/vfs.js";
import type { RecordKind } from "../../../src/ha/shared/records.js";
import { LIMITS } from "../../../src/limits.js";
import { settle } from "../../support/hand-clock.js";
import { SharedWorld } from "./shared-world.js";

const awake = setInterval(() => {}, 1000);
test.after(() => clearInterval(awake));

const DATA: FileSystemRow = {
  ...{ name: "data", group: "g", state: "mounted", level: 5, totalBytes: 1, freeBytes: 1, totalFiles: 1, freeFiles: 1 },
  reason: null,
};

function exported(client: string): ExportRow {
  return {
    ...{ path: "/data", client, readOnly: false, squash: "root", anonymousUid: 65534, anonymousGid: 65534 },
    privilegedPort: true,
  };
}

/** A node with nothing behind it, and a shared group with real bytes. */
async function node(
  t: TestContext,
  disks: { shared?: number[]; backup?: number[]; count?: number } = { shared: [1, 2], backup: [3] },
) {
  const world = new SharedWorld(disks.count ?? 4);
  const { cabinet, events } = await world.cabinet(t);
  await world.labelAll(cabinet);
  if (disks.shared !== undefined) await cabinet.shared.create({ disks: disks.shared, backup: false });
  if (disks.backup !== undefined) await cabinet.shared.create({ disks: disks.backup, backup: true });
  const now = {
    exports: [] as ExportRow[],
    fileSystems: [] as FileSystemRow[],
    mounts: [] as { host: string; path: string }[],
    connections: [] as { address: string; requests: number }[],
    lockOwners: [] as { address: string; host: string; files: number }[],
  };
  const state: NodeState = {
    exports: () => now.exports,
    fileSystems: () => now.fileSystems,
    groups: () => [],
    mounts: () => now.mounts,
    connections: () => now.connections,
    lockOwners: () => now.lockOwners,
    service: () => ({ host: "127.0.0.1", nfsPort: 2049 }),
  };
  const facts = { pid: 77, uid: 1000, hostName: "h", bootId: "b", version: "1.2.3", startedAt: "2026-01-01T00:00:00Z" };
  const keeper = new RecordKeeper({
    ...{ node: "chn1", clock: world.fake.clock, events, facts, state },
    open: (onRefused) => cabinet.shared.openRecords({ node: "chn1", writer: "chn1", onRefused }),
  });
  t.after(() => keeper.stop());
  const keys = async (kind: RecordKind) => (await cabinet.shared.records("chn1"))[kind].map(({ key }) => key);
  /** The clock moves by hand, the disks work by themselves. */
  const pass = async (ms: number) => {
    await world.fake.clock.advance(ms);
    await new Promise((resolve) => setTimeout(resolve, 60));
    await settle();
  };
  /** Until it has come about: on a busy machine the disks take their time. */
  const until = async (holds: () => Promise<boolean>) => {
    for (let i = 0; i < 100; i++) {
      if (await holds().catch(() => false)) return;
      await pass(1);
    }
    ok(await holds());
  };
  const has = (kind: RecordKind, key: string) => until(async () => (await keys(kind)).includes(key));
  const hasNot = (kind: RecordKind, key: string) => until(async () => !(await keys(kind)).includes(key));
  return { world, cabinet, events, keeper, now, keys, pass, until, has, hasNot };
}

test("record keeper: at the start all four kinds are there, at the end what ran has stopped", async (t) => {
  const { keeper, cabinet, now, keys } = await node(t);
  now.fileSystems = [DATA];
  now.exports = [exported("10.0.0.0/8")];
  now.mounts = [{ host: "10.0.0.1", path: "/data" }];
  now.lockOwners = [{ address: "10.0.0.1", host: "web", files: 3 }];
  await keeper.start();
  deepEqual(await keys("client"), ["lock-owner 10.0.0.1 web", "mount 10.0.0.1 /data"]);
  deepEqual(await keys("user"), ["administrator 0", "administrator 1000", "identity /data 10.0.0.0/8"]);
  const services = ["address nfs", "export /data 10.0.0.0/8", "file-system data", "service management", "service nfs"];
  deepEqual(await keys("service"), services);
  const { daemon } = await cabinet.shared.records("chn1");
  equal(daemon.find(({ key }) => key === "process")?.value.pid, 77);
  await keeper.stop();
  const after = await cabinet.shared.records("chn1");
  equal(after.service.find(({ key }) => key === "service nfs")?.value.state, "stopped");
  equal(after.daemon.find(({ key }) => key === "part daemon")?.value.state, "stopped");
});

test("record keeper: an event and an export write at once, a client's mount within seconds", async (t) => {
  const { keeper, now, pass, events, has, hasNot } = await node(t);
  const sink = keeper.watching({ publish: () => {}, withdraw: () => {}, setUnserved: () => {} });
  await keeper.start();
  now.fileSystems = [DATA];
  events.add({ severity: "info", kind: "file-system-created", what: "file system data created" });
  await pass(150);
  await has("service", "file-system data");
  now.exports = [exported("10.0.0.0/8")];
  sink.publish({} as FileSystem, []);
  await pass(150);
  await has("service", "export /data 10.0.0.0/8");
  now.exports = [];
  sink.withdraw({} as FileSystem);
  await pass(150);
  await hasNot("service", "export /data 10.0.0.0/8");
  now.mounts = [{ host: "10.0.0.9", path: "/data" }];
  await pass(2_000);
  await has("client", "mount 10.0.0.9 /data");
  now.mounts = [];
  await pass(2_000);
  await hasNot("client", "mount 10.0.0.9 /data");
});

test("record keeper: who asks is seen every ten seconds; nothing happens, nothing is written", async (t) => {
  const { keeper, world, cabinet, now, pass, has, until } = await node(t);
  await keeper.start();
  now.connections = [
    { address: "10.0.0.1", requests: 5 },
    { address: "10.0.0.1", requests: 2 },
  ];
  await pass(10_000);
  await has("client", "seen 10.0.0.1");
  const seen = async () => (await cabinet.shared.records("chn1")).client[0];
  const first = await seen();
  deepEqual([first?.key, first?.value.connections], ["seen 10.0.0.1", 2]);
  const writes = () => world.devices.get("/disks/d1")!.counters.writes;
  // After the last write the generation of the partition rises once.
  await pass(LIMITS.sharedTendMs);
  const before = writes();
  await pass(30_000);
  equal(writes(), before);
  deepEqual(await seen(), first);
  now.connections = [{ address: "10.0.0.1", requests: 9 }];
  await pass(10_000);
  await until(async () => String((await seen())?.value.lastSeen) > String(first?.value.lastSeen));
  // Gone, and remembered: also by the next life.
  now.connections = [];
  await pass(10_000);
  equal((await seen())?.key, "seen 10.0.0.1");
});

test("record keeper: without a shared group nothing happens, and a new one is used at once", async (t) => {
  const { keeper, cabinet, pass, has, until } = await node(t, {});
  await keeper.start();
  await pass(10_000);
  await cabinet.shared.create({ disks: [1], backup: false });
  await pass(200);
  await has("service", "service nfs");
  await cabinet.shared.create({ disks: [2], backup: true });
  await pass(200);
  await until(async () => (await cabinet.shared.rows()).every(({ partitions }) => partitions[0]!.writer === "chn1"));
  equal((await cabinet.shared.rows()).length, 2);
});

test("record keeper: when every disk is lost it says so once, and goes on when they are back", async (t) => {
  const { keeper, world, now, events, pass, has, until } = await node(t, { shared: [1] });
  await keeper.start();
  const device = world.devices.get("/disks/d1")!;
  device.fail("ENXIO");
  world.fake.present.delete("/disks/d1");
  now.mounts = [{ host: "10.0.0.9", path: "/data" }];
  for (let i = 0; i < 6; i++) await pass(10_000);
  await until(async () => events.last(1000).some(({ kind }) => kind.startsWith("records-")));
  const said = events.last(1000).filter(({ kind }) => kind.startsWith("records-"));
  equal(said.length <= 2, true, said.map(({ what }) => what).join("\n"));
  match(said[0]!.what, /the records of node chn1 cannot be written/);
  device.heal();
  world.fake.present.add("/disks/d1");
  for (let i = 0; i < 12; i++) await pass(10_000);
  await has("client", "mount 10.0.0.9 /data");
});

test("record keeper: when another node has taken the partition over nothing is written until it lets go", async (t) => {
  const { keeper, cabinet, world, now, events, pass, until, has } = await node(t, { shared: [1, 2], count: 2 });
  await keeper.start();
  const other = await world.cabinet(t);
  const taken = await other.cabinet.shared.openRecords({ node: "chn1", writer: "chn2", epoch: 5 });
  taken!.upsert("client", "theirs", { what: "mount", host: "10.1.1.1", path: "/data" });
  await taken!.durable();
  now.mounts = [{ host: "10.0.0.9", path: "/data" }];
  await pass(4_000);
  await until(async () => events.last(1000).some(({ kind }) => kind === "records-not-written"));
  match(
    events
      .last(1000)
      .map(({ what }) => what)
      .join("\n"),
    /are written by another node now: nothing is written here until it lets them go/,
  );
  // The generation of the partition rises once more after the other's last write.
  await pass(LIMITS.sharedTendMs);
  const writes = world.devices.get("/disks/d1")!.counters.writes;
  await pass(60_000);
  equal(world.devices.get("/disks/d1")!.counters.writes, writes);
  ok((await cabinet.shared.records("chn1")).client.some(({ key }) => key === "theirs"));
  equal(events.last(1000).filter(({ kind }) => kind === "records-not-written").length, 1, "said once");
  await taken!.close();
  for (let i = 0; i < 8; i++) await pass(60_000);
  await has("client", "mount 10.0.0.9 /data");
});
