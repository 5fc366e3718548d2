import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { Cabinet } from "../../../src/control/cabinet.js";
import { EventLog } from "../../../src/control/event-log.js";
import { metadataBytesFor } from "../../../src/control/file-system-keeper.js";
import { SystemClock } from "../../../src/lib/clock.js";
import { SILENT } from "../../../src/lib/log.js";
import { GIB, MIB } from "../../../src/lib/units.js";
import { settle } from "../../support/hand-clock.js";
import { FakeWorld, fakeLayers } from "./fake-layers.js";

const ROOT = { mode: 0o755, uid: 0, gid: 0 };

function setUp(
  t: TestContext,
  world: FakeWorld,
  patterns?: readonly string[],
  onGroupLost?: (uuid: string, why?: string) => void,
) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-cabinet-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const start = async () => {
    const events = new EventLog(new SystemClock(), SILENT);
    const cabinet = new Cabinet({
      ...{ node: "chn1", layers: fakeLayers(world), clock: world.clock, events, exports: world.exports },
      care: { spareDelaySeconds: 30, diskScanSeconds: 10 },
      ...{ diskPatterns: patterns ?? [...world.present], onGroupLost },
      knownDisksFile: path.join(folder, "known-disks.json"),
    });
    await cabinet.open();
    return { cabinet, events };
  };
  return start;
}

async function furnish(cabinet: Cabinet, paths: Iterable<string>): Promise<void> {
  const numbers: number[] = [];
  for (const place of paths) numbers.push((await cabinet.diskAdmin.add({ path: place })).number!);
  await cabinet.groupAdmin.create({ name: "g", disks: numbers });
  await cabinet.fileSystems.create({ name: "data", level: 5, sizeBytes: "max", root: ROOT });
}

const RULE = {
  ...{ path: "/data", client: "10.0.0.0/8", readOnly: false, squash: "root" as const },
  ...{ anonymousUid: 65534, anonymousGid: 65534, privilegedPort: true },
};

test("cabinet: from new disks to an export, and all of it again after a restart", async (t) => {
  const world = new FakeWorld(3);
  const start = setUp(t, world);
  const first = await start();
  assert.deepEqual(new Set(first.cabinet.disks().map(({ state }) => state)), new Set(["unlabelled"]));
  await furnish(first.cabinet, world.present);
  await first.cabinet.fileSystems.exports.add(RULE);
  const before = [first.cabinet.disks(), first.cabinet.groups(), first.cabinet.lus(), first.cabinet.fileSystems.rows()];
  await first.cabinet.close();
  await first.cabinet.close();
  assert.deepEqual(world.trace, ["stop tasks g", "close file system data", "close group g"]);
  assert.equal(world.open.size, 0);
  assert.equal(world.published.size, 0);

  const { cabinet } = await start();
  assert.deepEqual([cabinet.disks(), cabinet.groups(), cabinet.lus(), cabinet.fileSystems.rows()], before);
  assert.deepEqual(world.published.get("data"), [RULE]);
  assert.deepEqual(cabinet.warnings(), []);
  await cabinet.close();
});

test("cabinet: a missing disk is degraded, named in warnings and events; two missing do not stop the daemon", async (t) => {
  const world = new FakeWorld(3);
  const start = setUp(t, world, [...world.present]);
  const first = await start();
  await furnish(first.cabinet, world.present);
  await first.cabinet.close();

  world.present.delete("/disks/d2");
  const degraded = await start();
  assert.equal(degraded.cabinet.groups()[0]?.state, "degraded");
  assert.equal(degraded.cabinet.fileSystems.rows()[0]?.state, "mounted");
  assert.match(degraded.cabinet.warnings().join("\n"), /group g has lost its redundancy: disk #002 is missing/);
  const told = degraded.events.last(10).filter(({ kind }) => kind === "group-degraded");
  assert.equal(told.length, 1, "once, with what is missing");
  await degraded.cabinet.close();

  world.present.delete("/disks/d3");
  const { cabinet } = await start();
  assert.equal(cabinet.groups()[0]?.state, "failed");
  assert.equal(cabinet.fileSystems.rows()[0]?.reason, "its group has failed");
  assert.match(cabinet.warnings().join("\n"), /group g is not served: two of three members are missing/);
  assert.deepEqual(
    cabinet.disks().map(({ state, group }) => [state, group]),
    [
      ["online", "g"],
      ["missing", "g"],
      ["missing", "g"],
    ],
  );

  world.present.add("/disks/d2").add("/disks/d3");
  await cabinet.open();
  assert.equal(cabinet.groups()[0]?.state, "clean");
  assert.equal(cabinet.fileSystems.rows()[0]?.state, "mounted");
  await cabinet.close();
});

test("cabinet: a disk of ours that another process holds is refused by name of the holder; a stranger's is passed over", async (t) => {
  const world = new FakeWorld(3);
  const start = setUp(t, world);
  const first = await start();
  await furnish(first.cabinet, ["/disks/d1", "/disks/d2"]);
  await first.cabinet.close();
  world.heldBy.set("/disks/d3", 77);
  const second = await start();
  assert.match(second.cabinet.warnings().join(), /d3: .*in use by process 77/);
  await second.cabinet.close();
  world.heldBy.set("/disks/d1", 4711);
  await assert.rejects(start(), /\/disks\/d1 is in use by process 4711/);
});

test("cabinet: disks are refused with a reason: twice, foreign, used", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet } = await setUp(t, world)();
  world.foreign.set("/disks/d1", "an ext4 file system");
  await assert.rejects(
    cabinet.diskAdmin.add({ path: "/disks/d1" }),
    /\/disks\/d1 carries an ext4 file system; --force/,
  );
  await cabinet.diskAdmin.add({ path: "/disks/d1", force: true });
  await assert.rejects(cabinet.diskAdmin.add({ path: "/disks/d1" }), /already disk #001/);
  await cabinet.diskAdmin.add({ path: "/disks/d2" });
  await cabinet.groupAdmin.create({ name: "g", disks: [1, 2] });
  await assert.rejects(cabinet.groupAdmin.create({ name: "h", disks: [1, 2] }), /disk #001 is in group g/);
  await assert.rejects(cabinet.groupAdmin.create({ name: "h", disks: [9, 8] }), /there is no disk #009/);
  await assert.rejects(cabinet.diskAdmin.add({ path: "/disks/d2" }), /\/disks\/d2 is disk #002, in use/);
  await cabinet.close();
});

test("cabinet: a disk added from elsewhere is remembered", async (t) => {
  const world = new FakeWorld(2);
  const start = setUp(t, world, []);
  const first = await start();
  await first.cabinet.diskAdmin.add({ path: "/disks/d1" });
  await first.cabinet.close();
  const { cabinet } = await start();
  assert.deepEqual(
    cabinet.disks().map(({ number, state }) => [number, state]),
    [[1, "unused"]],
  );
  await cabinet.close();
});

test("cabinet: a file system that cannot be made leaves no LU behind, and an LU in use is not deleted", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet } = await setUp(t, world)();
  for (const place of world.present) await cabinet.diskAdmin.add({ path: place });
  await cabinet.groupAdmin.create({ name: "g", disks: [1, 2, 3] });
  const wanted = { name: "data", level: 5 as const, sizeBytes: "max" as const, root: ROOT };
  world.failNextFormat = true;
  await assert.rejects(cabinet.fileSystems.create(wanted), /made to fail/);
  assert.deepEqual(cabinet.lus(), []);
  world.failNextFormat = false;
  await cabinet.fileSystems.create(wanted);
  await assert.rejects(cabinet.fileSystems.create(wanted), /exists already/);
  await assert.rejects(cabinet.luAdmin.delete(undefined, "data.meta"), /carries file system data/);
  await assert.rejects(cabinet.luAdmin.delete(undefined, "7"), /there is no LU 7/);
  await cabinet.close();
});

test("cabinet: when a commit fails the exports go at once", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet } = await setUp(t, world)();
  await furnish(cabinet, world.present);
  await cabinet.fileSystems.exports.add(RULE);
  world.raise({ kind: "failed", detail: {} });
  assert.equal(world.published.has("data"), false);
  assert.equal(cabinet.fileSystems.rows()[0]?.state, "failed");
  assert.match(cabinet.warnings().join(), /data is not served: a commit could not be written/);
  await cabinet.close();
});

test("cabinet: a bad block is told with the file that owns it, where that is known", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet, events } = await setUp(t, world)();
  await furnish(cabinet, world.present);
  world.raise({ kind: "healed", detail: { file: "/a.txt (block 17)" } });
  world.raise({ kind: "unreadable", detail: {} });
  assert.deepEqual(
    events.last(2).map(({ severity, what }) => `${severity}: ${what}`),
    [
      "warning: file system data: /a.txt (block 17): a bad block was rebuilt from the other disks and rewritten",
      "error: file system data: a block is bad and could not be rebuilt",
    ],
  );
  await cabinet.close();
});

test("cabinet: a rule replaces the one for the same path and client; removing what is not there is an error", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet } = await setUp(t, world)();
  await furnish(cabinet, world.present);
  const { exports } = cabinet.fileSystems;
  await exports.add(RULE);
  await exports.add({ ...RULE, readOnly: true });
  await exports.add({ ...RULE, client: "192.168.1.1" });
  assert.deepEqual(
    exports.rows().map(({ client, readOnly }) => [client, readOnly]),
    [
      ["10.0.0.0/8", true],
      ["192.168.1.1", false],
    ],
  );
  await assert.rejects(exports.add({ ...RULE, path: "/none" }), /there is no file system none/);
  assert.equal((await exports.remove("/data", "10.0.0.0/8")).length, 1);
  await assert.rejects(exports.remove("/data", "10.0.0.0/8"), /\/data is not exported to 10/);
  await cabinet.close();
});

test("metadata LU: 6 % of the raw space, within 64 MiB and 32 GiB", () => {
  assert.equal(metadataBytesFor(100 * MIB), 64 * MIB);
  assert.equal(metadataBytesFor(100 * GIB), 6 * GIB);
  assert.equal(metadataBytesFor(10_000 * GIB), 32 * GIB);
});

test("cabinet: a file system that this node itself has stopped is mounted again by itself, as soon as that works", async (t) => {
  const world = new FakeWorld(3);
  const lost: string[] = [];
  const start = setUp(t, world, undefined, (_, why) => lost.push(why ?? ""));
  const { cabinet, events } = await start();
  await furnish(cabinet, world.present);
  await cabinet.fileSystems.exports.add(RULE);
  const said = (kind: string) => events.last(100).filter((event) => event.kind === kind).length;
  world.noRoom = true;
  world.raise({ kind: "failed", detail: { cause: "there is no room", scratch: true } });
  assert.deepEqual(lost, ["there is no room"], "a partner gets its group before anybody gets an error");
  assert.equal(cabinet.fileSystems.hindrance("g")?.startsWith("file system data: there is no room"), true);
  for (let i = 0; i < 10; i++) {
    await world.clock.advance(1000);
    await settle();
  }
  assert.match(cabinet.warnings().join(), /file system data is not served: there is no room for the copy/);
  assert.deepEqual([cabinet.fileSystems.isUseless("g"), world.unserved], [true, ["data"]]);
  assert.equal(said("file-system-failed"), 2, "that it stopped, and why it cannot be mounted, once");
  world.noRoom = false;
  await world.clock.advance(10_000);
  await settle();
  assert.equal(cabinet.fileSystems.rows()[0]?.state, "mounted");
  assert.deepEqual([world.published.has("data"), world.unserved, said("file-system-served")], [true, [], 1]);
  assert.equal(cabinet.fileSystems.hindrance("g"), null);
  await cabinet.close();
  world.noRoom = true;
  const again = (await start()).cabinet;
  assert.equal(again.fileSystems.rows()[0]?.state, "failed");
  world.noRoom = false;
  await world.clock.advance(1000);
  await settle();
  assert.equal(again.fileSystems.rows()[0]?.state, "mounted", "also one that had no room at the start");
  await again.close();
});

test("cabinet: a file system that could not commit is served for reading only by itself, and whole when a person mounts it anew", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet, events } = await setUp(t, world)();
  await furnish(cabinet, world.present);
  await cabinet.fileSystems.exports.add(RULE);
  const { fileSystems } = cabinet;
  world.raise({ kind: "failed", detail: { cause: "database or disk is full" } });
  await world.clock.advance(1000);
  await settle();
  const [row] = fileSystems.rows();
  assert.equal(row?.state, "read-only");
  assert.match(row?.reason ?? "", /^read-only: a commit could not be written: database or disk is full/);
  assert.equal(world.published.get("data")?.[0]?.readOnly, true, "whatever the rules say");
  assert.equal(fileSystems.exports.rows()[0]?.readOnly, false, "the rules are as they were");
  assert.match(events.last(1)[0]?.what ?? "", /served for reading only/);
  world.onlyReadable = true;
  assert.equal((await fileSystems.remount("data", { readOnly: false })).state, "read-only", "it cannot be written yet");
  world.onlyReadable = false;
  assert.equal((await fileSystems.remount("data", { readOnly: false })).state, "mounted");
  assert.equal(world.published.get("data")?.[0]?.readOnly, false);
  await assert.rejects(fileSystems.remount("data", { readOnly: false }), { code: "EEXIST" });
  assert.equal((await fileSystems.remount("data", { readOnly: true })).state, "read-only");
  await cabinet.close();
});
