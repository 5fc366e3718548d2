import assert from "node:assert/strict";
import { test } from "node:test";
import { StorageError } from "../../../src/lib/errors.js";
import { settle } from "../../support/hand-clock.js";
import { FakeWorld } from "./fake-layers.js";
import { furnished, orders } from "./furnished.js";

const DAY_MS = 86_400_000;

test("scheduled scrub: begins when it is due, healing, and again after the time that was set", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet, group, said } = await furnished(t, world, { fileSystem: true });
  await cabinet.taskAdmin.scrub({ everySeconds: 7 * 86_400 });
  assert.deepEqual(orders(world, "scrub"), [], "setting it begins none");
  assert.deepEqual(said("scrub-scheduled"), ["group g: scrubbed by itself every 604800 s from now on"]);
  await world.clock.advance(60_000);
  assert.deepEqual(orders(world, "scrub"), ["scrub true"]);
  assert.deepEqual([...group().inspectors.keys()], [2], "the file system's data LU is asked about its blocks");
  group().finish("scrub");
  await world.clock.advance(6 * DAY_MS);
  assert.equal(orders(world, "scrub").length, 1);
  await world.clock.advance(DAY_MS);
  assert.equal(orders(world, "scrub").length, 2);
  await world.clock.advance(8 * DAY_MS);
  assert.equal(orders(world, "scrub").length, 2, "not while one is under way");
});

test("scheduled scrub: never without a schedule", async (t) => {
  const world = new FakeWorld(3);
  await furnished(t, world);
  await world.clock.advance(30 * DAY_MS);
  assert.deepEqual(orders(world, "scrub"), []);
});

test("scheduled scrub: waits while the group is degraded or rebuilding, and begins after", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, group } = await furnished(t, world);
  await cabinet.diskAdmin.add({ path: "/disks/d4", spare: true });
  await group().lose(2, "failed");
  await settle();
  await cabinet.taskAdmin.scrub({ everySeconds: 3600 });
  await world.clock.advance(DAY_MS);
  assert.deepEqual(orders(world, "scrub"), []);
  group().finish("rebuild");
  await settle();
  assert.deepEqual(orders(world, "scrub"), ["scrub true"]);
});

test("scrub: one that was running goes on after a restart, one that was paused waits for a person", async (t) => {
  const world = new FakeWorld(3);
  const first = await furnished(t, world);
  await first.cabinet.taskAdmin.scrub({});
  const second = await first.restart();
  assert.deepEqual(orders(world, "scrub"), ["scrub true", "scrub true"]);
  await second.cabinet.taskAdmin.scrub({ action: "pause" });
  const third = await second.restart();
  await world.clock.advance(DAY_MS);
  assert.equal(orders(world, "scrub").length, 2);
  const report = await third.cabinet.taskAdmin.scrub({ action: "resume" });
  assert.equal(orders(world, "scrub").length, 3);
  assert.equal(report.task?.state, "running");
});

test("scheduled scrub: one that cannot begin is an event, and tried again", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet, said } = await furnished(t, world, { fileSystem: true });
  world.refuse.set("scrub true", new StorageError("EIO", "not now"));
  await cabinet.taskAdmin.scrub({ everySeconds: 3600 });
  await world.clock.advance(60_000);
  assert.deepEqual(said("scrub-not-started"), ["group g: the scrub that is due cannot begin: not now"]);
  assert.deepEqual(orders(world, "close"), ["close inspector"], "nothing keeps what was loaded for it");
  world.refuse.clear();
  await world.clock.advance(60_000);
  assert.equal(orders(world, "scrub").length, 2);
});

test("scheduled scrub: a moment ten years ahead neither begins one nor keeps one waiting, also over a restart", async (t) => {
  const world = new FakeWorld(3);
  const first = await furnished(t, world);
  await first.cabinet.taskAdmin.scrub({ everySeconds: 86_400 });
  await world.clock.advance(60_000);
  first.group().finish("scrub");
  world.clock.setWall(3650 * DAY_MS);
  await world.clock.advance(DAY_MS / 2);
  assert.equal(orders(world, "scrub").length, 1, "half a day has passed");
  await world.clock.advance(DAY_MS);
  assert.equal(orders(world, "scrub").length, 2);
  first.group().finish("scrub");
  world.clock.setWall(-3650 * DAY_MS);
  const second = await first.restart();
  await world.clock.advance(60_000);
  assert.equal(second.said("time-in-future").length, 1);
  assert.match(second.said("time-in-future")[0] ?? "", /^group g: its last scrub began in the future, at 203\d-/);
  assert.equal(orders(world, "scrub").length, 2);
  await world.clock.advance(DAY_MS);
  assert.equal(orders(world, "scrub").length, 3);
});
