import assert from "node:assert/strict";
import { test } from "node:test";
import { StorageError } from "../../../src/lib/errors.js";
import { MIB } from "../../../src/lib/units.js";
import { settle } from "../../support/hand-clock.js";
import { FakeWorld } from "./fake-layers.js";
import { furnished, orders } from "./furnished.js";

test("spare: taken at once when a member fails, the smallest that fits, and once", async (t) => {
  const world = new FakeWorld(6);
  world.sizes
    .set("/disks/d4", 4096 * MIB)
    .set("/disks/d5", 2048 * MIB)
    .set("/disks/d6", 512 * MIB);
  const { cabinet, group, said, row } = await furnished(t, world);
  for (const n of [4, 5, 6]) await cabinet.diskAdmin.add({ path: `/disks/d${n}`, spare: true });
  await group().lose(2, "failed");
  await settle();
  assert.deepEqual(orders(world, "replace"), ["replace 2 5"]);
  assert.deepEqual(said("spare-taken"), ["group g: spare disk #005 takes the place of disk #002"]);
  assert.equal(row(5).state, "rebuilding");
  await world.clock.advance(120_000);
  assert.deepEqual(orders(world, "replace"), ["replace 2 5"]);
});

test("spare: an unused disk that is no spare is left alone", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, group } = await furnished(t, world);
  await cabinet.diskAdmin.add({ path: "/disks/d4" });
  await group().lose(2, "failed");
  await world.clock.advance(60_000);
  assert.deepEqual(orders(world, "replace"), []);
  await cabinet.diskAdmin.setSpare(4, true);
  await settle();
  assert.deepEqual(orders(world, "replace"), ["replace 2 4"], "made a spare later, it is taken then");
});

test("spare: when a replace is refused, the next spare; the refused one is not offered again", async (t) => {
  const world = new FakeWorld(5);
  const { cabinet, group, said } = await furnished(t, world);
  for (const n of [4, 5]) await cabinet.diskAdmin.add({ path: `/disks/d${n}`, spare: true });
  world.refuse.set("replace 3 4", new StorageError("EIO", "cannot be written"));
  await group().lose(3, "failed");
  await settle();
  assert.deepEqual(orders(world, "replace"), ["replace 3 4", "replace 3 5"]);
  assert.deepEqual(said("spare-refused"), [
    "group g: spare disk #004 cannot take the place of disk #003: cannot be written",
  ]);
  await group().lose(5, "failed");
  await settle();
  assert.deepEqual(orders(world, "replace"), ["replace 3 4", "replace 3 5"]);
  assert.equal(cabinet.disks().find(({ number }) => number === 4)?.state, "spare");
});

test("spare: one that fails while it is being rebuilt is followed by the next", async (t) => {
  const world = new FakeWorld(5);
  const { cabinet, group } = await furnished(t, world);
  for (const n of [4, 5]) await cabinet.diskAdmin.add({ path: `/disks/d${n}`, spare: true });
  await group().lose(1, "failed");
  await settle();
  await group().lose(4, "failed");
  await settle();
  assert.deepEqual(orders(world, "replace"), ["replace 1 4", "replace 4 5"]);
});

test("spare: a missing member gets one only after the delay, and none when it is back before", async (t) => {
  const world = new FakeWorld(4);
  const made = await furnished(t, world);
  await made.cabinet.diskAdmin.add({ path: "/disks/d4", spare: true });
  world.present.delete("/disks/d2");
  const { group } = await made.restart();
  assert.equal(group().describe().state, "degraded");
  await world.clock.advance(29_000);
  assert.deepEqual(orders(world, "replace"), []);
  await world.clock.advance(2_000);
  assert.deepEqual(orders(world, "replace"), ["replace 2 4"]);
  group().finish("rebuild");

  world.trace.length = 0;
  world.present.delete("/disks/d1");
  await group().lose(1, "missing");
  await world.clock.advance(15_000);
  world.present.add("/disks/d1");
  await world.clock.advance(60_000);
  assert.deepEqual(orders(world, "replace"), []);
  assert.deepEqual(orders(world, "return"), ["return 1"]);
});

test("spare: a group that is assembled with a failed member gets one at the start", async (t) => {
  const world = new FakeWorld(4);
  const made = await furnished(t, world);
  await made.group().lose(2, "failed");
  await made.cabinet.diskAdmin.add({ path: "/disks/d4", spare: true });
  await settle();
  assert.deepEqual(orders(world, "replace"), ["replace 2 4"], "also when it is added after the loss");
  world.trace.length = 0;
  await made.restart();
  assert.deepEqual(orders(world, "replace"), [], "a disk that is merely being rebuilt needs none");
});

test("spare: while another disk is being rebuilt it waits for the end of that", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, group, said } = await furnished(t, world);
  await cabinet.diskAdmin.add({ path: "/disks/d4", spare: true });
  world.refuse.set("replace 2 4", new StorageError("EBUSY", "another disk is being rebuilt"));
  await group().lose(2, "failed");
  await settle();
  world.refuse.clear();
  world.trace.length = 0;
  group().emit("task-ended", { kind: "grow", state: "done" });
  await settle();
  assert.deepEqual(orders(world, "replace"), ["replace 2 4"]);
  assert.deepEqual(said("spare-refused"), []);
});
