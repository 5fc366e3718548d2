import assert from "node:assert/strict";
import { test } from "node:test";
import { StorageError } from "../../../src/lib/errors.js";
import { FakeWorld, SHRUNK_BYTES } from "./fake-layers.js";
import { furnished, orders } from "./furnished.js";

/** The disk moves to another path with everything on it. */
function move(world: FakeWorld, from: string, to: string): void {
  world.labels.set(to, world.labels.get(from)!);
  world.labels.delete(from);
  world.present.delete(from);
  world.present.add(to);
}

test("return: a member that was pulled out is handed back under another path and keeps its number", async (t) => {
  const world = new FakeWorld(3);
  const { group, row } = await furnished(t, world);
  move(world, "/disks/d2", "/disks/moved");
  world.present.delete("/disks/moved");
  await group().lose(2, "missing");
  await world.clock.advance(20_000);
  assert.deepEqual(orders(world, "return"), []);
  world.present.add("/disks/moved");
  await world.clock.advance(10_000);
  assert.deepEqual(orders(world, "return"), ["return 2"]);
  assert.deepEqual([row(2).state, row(2).path], ["rebuilding", "/disks/moved"]);
});

test("return: nothing is looked for while all groups are complete, nor with a scan time of 0", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet } = await furnished(t, world, { care: { diskScanSeconds: 0 } });
  const opened = world.opened;
  await world.live.get("g")!.lose(2, "missing");
  await world.clock.advance(60_000);
  assert.deepEqual(orders(world, "return"), []);
  assert.equal(world.opened, opened);
  await cabinet.open();
  assert.deepEqual(orders(world, "return"), ["return 2"], "a reload looks");
});

test("return: a member that was pulled out while nobody used it is noticed by the next round", async (t) => {
  const world = new FakeWorld(3);
  const { row } = await furnished(t, world);
  world.present.delete("/disks/d2");
  assert.equal(row(2).state, "online");
  await world.clock.advance(10_000);
  assert.equal(row(2).state, "missing");
});

test("return: a group whose last answer is still out is not asked again, and nobody waits for it", async (t) => {
  const world = new FakeWorld(3);
  const { group } = await furnished(t, world);
  let asked = 0;
  let answer = () => {};
  group().probe = () => {
    asked++;
    return new Promise((resolve) => {
      answer = resolve;
    });
  };
  await group().lose(3, "missing");
  await world.clock.advance(30_000);
  assert.deepEqual([asked, orders(world, "return")], [1, ["return 3"]]);
  answer();
  await world.clock.advance(10_000);
  assert.equal(asked, 2);
});

test("return: a path that is absent is not even opened", async (t) => {
  const world = new FakeWorld(3);
  const { group } = await furnished(t, world);
  world.present.delete("/disks/d2");
  await group().lose(2, "missing");
  const opened = world.opened;
  await world.clock.advance(60_000);
  assert.equal(world.opened, opened);
});

test("return: what the group refuses stays on the shelf with the reason, and is asked once", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet, said, row } = await furnished(t, world);
  world.refuse.set("return 3", new StorageError("EACCES", "it failed: 20 errors"));
  await cabinet.diskAdmin.fail(3);
  await world.clock.advance(60_000);
  assert.deepEqual(orders(world, "return"), ["return 3"]);
  assert.deepEqual(said("disk-not-returned"), [
    "group g: disk #003 at /disks/d3 is not taken back: it failed: 20 errors",
  ]);
  assert.deepEqual([row(3).state, row(3).group, row(3).reason], ["failed", "g", "it failed: 20 errors"]);
  assert.equal(cabinet.disks().filter(({ number }) => number === 3).length, 1);
  await cabinet.open();
  assert.deepEqual(orders(world, "return"), ["return 3", "return 3"], "a reload asks again");
});

test("return: a disk that cannot be written is told once, asked again, and taken back when it can be", async (t) => {
  const world = new FakeWorld(3);
  const { group, said, row } = await furnished(t, world);
  const text = "/disks/d3 cannot be written: it is read-only";
  world.refuse.set("return 3", new StorageError("EIO", text));
  await group().lose(3, "missing");
  await world.clock.advance(30_000);
  assert.equal(orders(world, "return").length, 3);
  assert.deepEqual(said("disk-not-returned"), [`group g: disk #003 at /disks/d3 is not taken back: ${text}`]);
  assert.deepEqual([row(3).state, row(3).reason], ["missing", text]);
  world.refuse.delete("return 3");
  await world.clock.advance(10_000);
  assert.deepEqual([row(3).state, row(3).reason], ["rebuilding", null]);
});

test("return: a person's word ends a refusal", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet, group, row } = await furnished(t, world);
  await cabinet.diskAdmin.fail(3);
  await world.clock.advance(10_000);
  assert.equal(row(3).reason, "it failed");
  await cabinet.taskAdmin.rebuild({ force: true });
  assert.deepEqual([row(3).state, row(3).reason], ["rebuilding", null]);
  group().finish("rebuild");
  assert.deepEqual([row(3).state, row(3).reason], ["online", null]);
});

test("return: a disk whose place was given away is nobody's after a restart, too", async (t) => {
  const world = new FakeWorld(4);
  const made = await furnished(t, world);
  await made.cabinet.diskAdmin.fail(2);
  await made.cabinet.diskAdmin.add({ path: "/disks/d4" });
  await made.cabinet.diskAdmin.replace(2, { with: 4 });
  made.group().finish("rebuild");
  const { cabinet, row } = await made.restart();
  assert.equal(cabinet.groups()[0]?.state, "clean");
  assert.deepEqual([row(2).state, row(2).reason], ["stale", "its place in group g was given to another disk"]);
  assert.equal((await cabinet.diskAdmin.remove(2, false)).number, 2);
});

test("return: one that was left out when the group was put together, because it is slow, is the group's, and not handed back", async (t) => {
  const world = new FakeWorld(3);
  const made = await furnished(t, world);
  const member = made.group().record.members[1]!;
  member.state = "stale";
  member.slow = true;
  const { cabinet, row } = await made.restart();
  await world.clock.advance(60_000);
  assert.deepEqual(orders(world, "return"), []);
  assert.deepEqual([row(2).state, row(2).slow, row(2).path], ["stale", true, "/disks/d2"]);
  assert.equal(cabinet.disks().length, 3);
});

test("return: a group that failed while it was served is whole again when its disks are back", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet, group } = await furnished(t, world, { fileSystem: true, care: { diskScanSeconds: 0 } });
  await group().lose(2, "missing");
  await group().lose(3, "missing");
  assert.equal(cabinet.groups()[0]?.state, "failed");
  // The labels stay as they were before the second loss was noticed.
  for (const member of group().record.members) member.state = "online";
  await cabinet.open();
  assert.deepEqual([cabinet.groups()[0]?.state, cabinet.fileSystems.rows()[0]?.state], ["clean", "mounted"]);
});

test("return: a device that shrank is refused in a clear sentence", async (t) => {
  const world = new FakeWorld(3);
  const { group, row, said } = await furnished(t, world);
  await group().lose(2, "missing");
  world.refuse.set("return 2", new StorageError("EINVAL", "the device shrank to 4096 bytes"));
  await world.clock.advance(10_000);
  assert.match(
    said("disk-not-returned").join(),
    /disk #002 at \/disks\/d2 is not taken back: the device shrank to 4096/,
  );
  assert.equal(row(2).reason, "the device shrank to 4096 bytes");
});

test("return: a disk that was refused as failed is asked about again when it turns out that it has not", async (t) => {
  const world = new FakeWorld(3);
  const { group, row } = await furnished(t, world);
  await group().lose(2, "failed");
  await world.clock.advance(30_000);
  assert.deepEqual(orders(world, "return"), ["return 2"]);
  assert.equal(row(2).reason, "it failed");
  group().record.members[1]!.state = "missing";
  await world.clock.advance(10_000);
  assert.deepEqual(orders(world, "return"), ["return 2", "return 2"]);
  assert.equal(row(2).state, "rebuilding");
});

test("return: a place that is filled is no refusal: it is tried again", async (t) => {
  const world = new FakeWorld(3);
  const { group, said } = await furnished(t, world);
  world.refuse.set("return 2", new StorageError("EBUSY", "another disk is being rebuilt"));
  await group().lose(2, "missing");
  await world.clock.advance(20_000);
  world.refuse.clear();
  await world.clock.advance(10_000);
  assert.deepEqual(orders(world, "return"), ["return 2", "return 2", "return 2"]);
  assert.deepEqual(said("disk-not-returned"), []);
});

test("return: the same disk twice while one is in use names both, and neither number is mistaken", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet, said, row } = await furnished(t, world);
  world.labels.set("/disks/copy", world.labels.get("/disks/d1")!);
  world.present.add("/disks/copy");
  await cabinet.open();
  const text = "/disks/copy and /disks/d1 are copies of one disk, and /disks/d1 is in use";
  assert.deepEqual(said("disk-not-returned"), [`group g: disk #001 at /disks/copy is not taken back: ${text}`]);
  assert.deepEqual([row(1).state, row(1).reason], ["online", null]);
  assert.equal(cabinet.disks().find(({ path }) => path === "/disks/copy")?.reason, text);
  assert.deepEqual(orders(world, "return"), []);
});

test("return: a disk whose place was given away stays out and says why", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, group } = await furnished(t, world);
  await cabinet.diskAdmin.add({ path: "/disks/d4", spare: true });
  world.present.delete("/disks/d2");
  await group().lose(2, "failed");
  await world.clock.advance(1_000);
  world.present.add("/disks/d2");
  await world.clock.advance(20_000);
  assert.deepEqual(orders(world, "return"), []);
  const old = cabinet.disks().find(({ path }) => path === "/disks/d2");
  assert.deepEqual([old?.state, old?.reason], ["stale", "its place in group g was given to another disk"]);
});

test("return: a group that is not served is tried again when another of its disks turns up, not before", async (t) => {
  const world = new FakeWorld(3);
  const made = await furnished(t, world, { fileSystem: true });
  world.present.delete("/disks/d2");
  world.present.delete("/disks/d3");
  const { cabinet, said } = await made.restart();
  await world.clock.advance(60_000);
  assert.equal(said("group-failed").length, 1);
  world.present.add("/disks/d3");
  await world.clock.advance(10_000);
  assert.deepEqual([cabinet.groups()[0]?.state, cabinet.fileSystems.rows()[0]?.state], ["degraded", "mounted"]);
});

test("return: a member that missed writes while the daemon was down is brought back at the start", async (t) => {
  const world = new FakeWorld(4);
  const made = await furnished(t, world);
  await made.cabinet.diskAdmin.add({ path: "/disks/d4", spare: true });
  world.present.delete("/disks/d2");
  await made.group().lose(2, "missing");
  await made.cabinet.close();
  world.present.add("/disks/d2");
  const { cabinet, row } = await made.restart();
  assert.deepEqual([orders(world, "return"), row(2).state], [["return 2"], "rebuilding"]);
  await world.clock.advance(60_000);
  assert.deepEqual(orders(world, "replace"), [], "no spare is spent on it");
  await cabinet.close();

  world.groups.get(world.live.get("g")!.describe().uuid)!.members[1]!.state = "missing";
  world.refuse.set("return 2", new StorageError("EACCES", "it went on without the group"));
  const again = await made.restart();
  assert.equal(again.row(2).reason, "it went on without the group");
  world.refuse.clear();
  assert.equal((await again.cabinet.taskAdmin.rebuild({ force: true })).task?.disk, 2);
});

test("return: a disk pulled out while nobody used it is forgotten", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, group } = await furnished(t, world);
  await cabinet.diskAdmin.add({ path: "/disks/d4", spare: true });
  world.present.delete("/disks/d4");
  await cabinet.open();
  assert.equal(cabinet.disks().length, 3);
  await group().lose(1, "failed");
  await world.clock.advance(1_000);
  assert.deepEqual(orders(world, "replace"), []);
});

test("return: a path that shrank to nothing and grew back is looked at anew, and its disk handed back", async (t) => {
  const world = new FakeWorld(3);
  const { group, row } = await furnished(t, world);
  world.sizes.set("/disks/d2", SHRUNK_BYTES);
  await group().lose(2, "missing");
  await world.clock.advance(30_000);
  assert.deepEqual(orders(world, "return"), []);
  world.sizes.delete("/disks/d2");
  await world.clock.advance(10_000);
  assert.deepEqual(orders(world, "return"), ["return 2"]);
  assert.equal(row(2).state, "rebuilding");
});
