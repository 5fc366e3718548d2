import assert from "node:assert/strict";
import { test } from "node:test";
import { StorageError } from "../../../src/lib/errors.js";
import { MIB } from "../../../src/lib/units.js";
import { FakeWorld } from "./fake-layers.js";
import { furnished, furnishedByHand, orders } from "./furnished.js";

test("disk fail: passed on; a group that would not bear it refuses, and so does a disk in no group", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet } = await furnished(t, world);
  assert.equal((await cabinet.diskAdmin.fail(2)).state, "failed");
  await assert.rejects(cabinet.diskAdmin.fail(3), /would not bear that/);
  await cabinet.diskAdmin.add({ path: "/disks/d4" });
  await assert.rejects(cabinet.diskAdmin.fail(4), /disk #004 is in no group/);
  await assert.rejects(cabinet.diskAdmin.fail(9), /there is no disk #009/);
});

test("disk replace: a spare, else an unused disk that is large enough, else a clear refusal", async (t) => {
  const world = new FakeWorld(6);
  world.sizes.set("/disks/d4", 512 * MIB);
  const { cabinet } = await furnished(t, world);
  const { diskAdmin } = cabinet;
  await diskAdmin.fail(2);
  await diskAdmin.add({ path: "/disks/d4" });
  await assert.rejects(diskAdmin.replace(2, {}), /no spare or unused disk of at least 1 GiB: add one, or name one/);
  await diskAdmin.add({ path: "/disks/d5" });
  assert.deepEqual([(await diskAdmin.replace(2, {})).number, orders(world, "replace")], [5, ["replace 2 5"]]);
});

test("disk replace --with: a number, or a path that is added first", async (t) => {
  const world = new FakeWorld(5);
  const { cabinet, group } = await furnished(t, world);
  const { diskAdmin } = cabinet;
  await diskAdmin.fail(2);
  await assert.rejects(
    diskAdmin.replace(2, { with: 2 }),
    /cannot take its own place; group rebuild --disk 2 takes it back/,
  );
  await assert.rejects(diskAdmin.replace(2, { with: 3 }), /disk #003 is in group g/);
  await assert.rejects(diskAdmin.replace(2, { with: 8 }), /there is no disk #008/);
  await assert.rejects(diskAdmin.replace(2, { with: "/disks/d9" }), /\/disks\/d9 is not there/);
  world.foreign.set("/disks/d4", "an ext4 file system");
  await assert.rejects(diskAdmin.replace(2, { with: "/disks/d4" }), /carries an ext4 file system; --force/);
  assert.equal((await diskAdmin.replace(2, { with: "/disks/d4", force: true })).number, 4);
  group().finish("rebuild");
  await diskAdmin.fail(3);
  await diskAdmin.add({ path: "/disks/d5" });
  assert.equal(
    (await diskAdmin.replace(3, { with: "/disks/d5" })).number,
    5,
    "one that was added before is found by its path",
  );
});

test("disk replace: a disk that the group refuses is on the shelf again", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, row } = await furnished(t, world);
  await cabinet.diskAdmin.add({ path: "/disks/d4" });
  await cabinet.diskAdmin.fail(1);
  world.refuse.set("replace 1 4", new StorageError("ENOSPC", "too small"));
  await assert.rejects(cabinet.diskAdmin.replace(1, { with: 4 }), /too small/);
  assert.deepEqual([row(4).state, row(4).group], ["unused", null]);
  world.refuse.clear();
  await cabinet.diskAdmin.replace(1, { with: 4 });
});

test("disk remove: only what no group needs", async (t) => {
  const world = new FakeWorld(5);
  const { cabinet, group } = await furnished(t, world);
  const { diskAdmin } = cabinet;
  await assert.rejects(diskAdmin.remove(2, true), /disk #002 is in use by group g: fail or replace it first/);
  await diskAdmin.fail(2);
  await assert.rejects(
    diskAdmin.remove(2, true),
    /disk #002 has its place in group g: replace it first \(disk replace 2\)/,
  );
  await assert.rejects(diskAdmin.remove(7, false), /there is no disk #007/);
  await diskAdmin.add({ path: "/disks/d4", spare: true });
  group().finish("rebuild");
  await world.clock.advance(10_000);
  await diskAdmin.remove(2, false);
  assert.equal(world.labels.has("/disks/d2"), false, "a disk that was replaced can go");
  await diskAdmin.add({ path: "/disks/d5", spare: true });
  assert.equal((await diskAdmin.remove(2, false)).number, 2, "numbers are used again");
  assert.equal(cabinet.disks().find(({ path }) => path === "/disks/d5")?.state, "unlabelled");
  assert.equal(world.open.size, 5);
});

test("disk remove: a disk added by hand is forgotten with its path", async (t) => {
  const world = new FakeWorld(3);
  const made = await furnished(t, world);
  world.present.add("/elsewhere/x");
  await made.cabinet.diskAdmin.add({ path: "/elsewhere/x" });
  assert.equal((await made.restart()).cabinet.disks().length, 4);
  const { cabinet } = await made.restart();
  await cabinet.diskAdmin.remove(4, false);
  assert.equal(cabinet.disks().length, 3);
  assert.equal((await made.restart()).cabinet.disks().length, 3);
});

test("disk remove: a disk of a group that is not served only when a person insists", async (t) => {
  const world = new FakeWorld(3);
  const made = await furnished(t, world);
  world.present.delete("/disks/d2");
  world.present.delete("/disks/d3");
  const { cabinet } = await made.restart();
  await assert.rejects(
    cabinet.diskAdmin.remove(1, false),
    /disk #001 holds data of group g, which is not assembled; --force gives it up/,
  );
  await assert.rejects(cabinet.diskAdmin.remove(2, true), /there is no disk #002/, "it is not here");
  await assert.rejects(cabinet.diskAdmin.setSpare(1, true), /disk #001 belongs to group g, which is not assembled/);
  await assert.rejects(
    cabinet.diskAdmin.add({ path: "/disks/d1" }),
    /\/disks\/d1 is disk #001 of group g, which is not assembled; --force would overwrite it/,
  );
  const row = await cabinet.diskAdmin.add({ path: "/disks/d1", force: true });
  assert.equal(row.state, "unused");
  assert.deepEqual(cabinet.groups(), [], "with its last disk the group is gone");
  await cabinet.diskAdmin.remove(row.number!, false);
  world.present.add("/disks/d3");
  await cabinet.open();
  await cabinet.diskAdmin.remove(3, true);
  assert.deepEqual([world.labels.has("/disks/d3"), cabinet.groups()], [false, []]);
});

test("disk add: a member, a copy of one and a replaced disk are each refused with what they are", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, group } = await furnished(t, world);
  const { diskAdmin } = cabinet;
  await assert.rejects(diskAdmin.add({ path: "/disks/d1", force: true }), /\/disks\/d1 is disk #001, in use/);
  world.labels.set("/disks/copy", world.labels.get("/disks/d1")!);
  world.present.add("/disks/copy");
  await assert.rejects(diskAdmin.add({ path: "/disks/copy" }), /a copy of disk #001, which is in use; --force/);
  assert.equal((await diskAdmin.add({ path: "/disks/copy", force: true })).number, 4);
  await diskAdmin.fail(2);
  await world.clock.advance(10_000);
  await assert.rejects(
    diskAdmin.add({ path: "/disks/d2", force: true }),
    /\/disks\/d2 is disk #002 of group g, where its place waits for it/,
  );
  await diskAdmin.replace(2, { with: 4 });
  group().finish("rebuild");
  await assert.rejects(diskAdmin.add({ path: "/disks/d2" }), /an old disk of group g; --force would overwrite it/);
  assert.equal((await diskAdmin.add({ path: "/disks/d2", force: true })).state, "unused");
});

test("disk add: an unused disk of another cabinet gets a number of ours", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet } = await furnished(t, world);
  world.labels.set("/elsewhere/x", { uuid: "elsewhere", number: 1 });
  world.present.add("/elsewhere/x");
  assert.equal((await cabinet.diskAdmin.add({ path: "/elsewhere/x" })).number, 4);
});

test("disk spare: told by the label, so also after a restart; refused for a member", async (t) => {
  const world = new FakeWorld(4);
  const made = await furnished(t, world);
  await made.cabinet.diskAdmin.add({ path: "/disks/d4" });
  assert.equal((await made.cabinet.diskAdmin.setSpare(4, true)).state, "spare");
  const { cabinet } = await made.restart();
  assert.equal(cabinet.disks()[3]?.state, "spare");
  assert.equal((await cabinet.diskAdmin.setSpare(4, false)).state, "unused");
  await assert.rejects(cabinet.diskAdmin.setSpare(1, true), /disk #001 is in group g/);
});

test("disks: two that came with one number are told apart by their paths", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet } = await furnished(t, world);
  await cabinet.diskAdmin.add({ path: "/disks/d4" });
  world.labels.set("/disks/moved", { uuid: "elsewhere", number: 4 });
  world.present.add("/disks/moved");
  await cabinet.open();
  await assert.rejects(
    cabinet.diskAdmin.remove(4, false),
    /\/disks\/d4 and \/disks\/moved are both disk #004: disk add --force PATH makes one a new disk/,
  );
  assert.equal((await cabinet.diskAdmin.add({ path: "/disks/moved", force: true })).number, 5);
});

test("disks: errors and slowness are in every row, zero where nothing counts", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, group, row } = await furnished(t, world);
  await cabinet.diskAdmin.add({ path: "/disks/d4" });
  group().errors.set(2, { read: 3, write: 0, checksum: 1, repaired: 4 });
  group().slow.add(3);
  assert.deepEqual(row(2).errors, { read: 3, write: 0, checksum: 1, repaired: 4 });
  assert.deepEqual([row(2).slow, row(3).slow, row(4).slow], [false, true, false]);
  assert.deepEqual(row(4).errors, { read: 0, write: 0, checksum: 0, repaired: 0 });
});

test("disk add: with the list of disks lost, members are taken in as they are, and their group is served when the last one is here", async (t) => {
  const world = new FakeWorld(0);
  for (const number of [1, 2, 3, 4]) world.present.add(`/by-hand/d${number}`);
  const made = await furnishedByHand(t, world);
  const labels = new Map(world.labels);
  const { cabinet, events } = await made.lostState();
  const { diskAdmin } = cabinet;
  assert.deepEqual(cabinet.disks(), []);
  assert.equal((await diskAdmin.add({ path: "/by-hand/d1" })).state, "stale");
  await diskAdmin.add({ path: "/by-hand/d2" });
  assert.deepEqual(cabinet.groups(), [], "one that would miss the third's writes is not made");
  assert.match(
    events.last(1)[0]!.what,
    /^disk #002 of group g taken in as it is, from .*: group g lacks #003: add them too, or .*group assemble g/,
  );
  assert.equal((await diskAdmin.add({ path: "/by-hand/d3" })).state, "online");
  assert.equal((await diskAdmin.add({ path: "/by-hand/d4", spare: true })).number, 4);
  assert.deepEqual(
    [cabinet.groups()[0]?.state, cabinet.fileSystems.rows()[0]?.state, world.labels],
    ["clean", "mounted", labels],
  );
  const again = (await made.restart()).cabinet;
  assert.equal(again.groups()[0]?.state, "clean", "their paths are remembered");
});

test("group assemble: with the list of disks lost, a group is put together without a member when a person says so, and that one returns", async (t) => {
  const world = new FakeWorld(0);
  for (const number of [1, 2, 3, 4]) world.present.add(`/by-hand/d${number}`);
  const { cabinet } = await (await furnishedByHand(t, world)).lostState();
  await assert.rejects(cabinet.groupAdmin.assemble("g", false), /there is no group g/);
  for (const number of [1, 2]) await cabinet.diskAdmin.add({ path: `/by-hand/d${number}` });
  assert.equal((await cabinet.groupAdmin.assemble("g", false)).state, "degraded");
  world.trace.length = 0;
  const row = await cabinet.diskAdmin.add({ path: "/by-hand/d3" });
  assert.deepEqual([row.state, orders(world, "return")], ["rebuilding", ["return 3"]]);
});
