import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeWorld } from "./fake-layers.js";
import { furnished, orders } from "./furnished.js";

test("group scrub: begun once; asked for again it is shown; paused, resumed, given up", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet, group } = await furnished(t, world);
  const { taskAdmin } = cabinet;
  await assert.rejects(taskAdmin.scrub({ action: "pause" }), /no scrub is under way/);
  const first = await taskAdmin.scrub({ heal: false });
  assert.deepEqual([first.begun, first.group, first.task?.state], [true, "g", "running"]);
  group().change("scrub", { doneBytes: 300 });
  const again = await taskAdmin.scrub({ heal: true });
  assert.deepEqual([again.begun, again.task?.doneBytes], [false, 300]);
  assert.deepEqual(orders(world, "scrub"), ["scrub false"]);
  assert.equal((await taskAdmin.scrub({ action: "pause" })).task?.state, "paused");
  assert.equal((await taskAdmin.scrub({ action: "resume" })).task?.state, "running");
  assert.equal((await taskAdmin.scrub({ action: "cancel" })).task?.state, "cancelled");
  await assert.rejects(taskAdmin.scrub({ group: "h" }), /there is no group h/);
});

test("group rebuild: nothing to do is no error and shows the last one", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, group } = await furnished(t, world);
  const idle = await cabinet.taskAdmin.rebuild({});
  assert.deepEqual([idle.begun, idle.task], [false, null]);
  await assert.rejects(cabinet.taskAdmin.rebuild({ disk: 2 }), /disk #002 is online: there is nothing to rebuild/);
  await assert.rejects(cabinet.taskAdmin.rebuild({ disk: 9 }), /disk #009 is not in group g/);
  await cabinet.diskAdmin.add({ path: "/disks/d4", spare: true });
  await cabinet.diskAdmin.fail(2);
  const running = await cabinet.taskAdmin.rebuild({});
  assert.deepEqual([running.begun, running.task?.disk, orders(world, "replace")], [false, 4, ["replace 2 4"]]);
  group().finish("rebuild");
  assert.equal((await cabinet.taskAdmin.rebuild({})).task?.state, "done");
});

test("group rebuild: a member that is here is taken back, one that failed only when a person insists", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, row } = await furnished(t, world);
  await cabinet.diskAdmin.fail(2);
  await cabinet.diskAdmin.add({ path: "/disks/d4" });
  await assert.rejects(
    cabinet.taskAdmin.rebuild({}),
    /it failed; --force takes it back, disk replace puts another in its place/,
  );
  assert.equal(row(4).state, "unused", "no other disk is taken behind a person's back");
  const report = await cabinet.taskAdmin.rebuild({ disk: 2, force: true });
  assert.deepEqual([report.begun, report.task?.disk], [true, 2]);
  assert.deepEqual(orders(world, "return").at(-1), "return 2 force");
});

test("group rebuild: for a member that is gone a spare or unused disk, else a refusal", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, group } = await furnished(t, world);
  world.present.delete("/disks/d3");
  await group().lose(3, "missing");
  await assert.rejects(cabinet.taskAdmin.rebuild({}), /no spare or unused disk of at least 1 GiB/);
  await cabinet.diskAdmin.add({ path: "/disks/d4" });
  assert.equal((await cabinet.taskAdmin.rebuild({})).task?.disk, 4);
});

test("group grow: with an unused disk; without one it tells how far it is", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, row } = await furnished(t, world);
  await cabinet.luAdmin.create({ name: "raw", level: 5, sizeBytes: 1 });
  await assert.rejects(cabinet.taskAdmin.grow({}), /group g is not growing: say which disk it gets \(--disk\)/);
  await assert.rejects(cabinet.taskAdmin.grow({ disk: 1 }), /disk #001 is in group g/);
  await cabinet.diskAdmin.add({ path: "/disks/d4" });
  assert.equal((await cabinet.taskAdmin.grow({ disk: 4 })).begun, true);
  assert.equal(row(4).group, "g");
  assert.deepEqual([row(1).levels, row(4).levels], [[5], []], "what was there is not on the new disk yet");
  assert.deepEqual(cabinet.lus()[0]?.disks, [1, 2, 3]);
  assert.equal((await cabinet.taskAdmin.grow({})).task?.kind, "grow");
  assert.equal(cabinet.groups()[0]?.tasks[0]?.kind, "grow");
});

test("close: work in the background ends before the file systems that it asks", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet } = await furnished(t, world, { fileSystem: true });
  await cabinet.taskAdmin.scrub({});
  world.trace.length = 0;
  await cabinet.close();
  assert.deepEqual(world.trace, ["stop tasks g", "close file system data", "close group g"]);
  await world.clock.advance(1_000_000);
  assert.equal(world.clock.timerCount, 0, "nothing is waited for any more");
  await assert.rejects(cabinet.taskAdmin.scrub({}), /the daemon is shutting down/);
});
