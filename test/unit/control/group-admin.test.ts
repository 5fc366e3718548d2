import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeWorld } from "./fake-layers.js";
import { furnished } from "./furnished.js";

test("group assemble: a split group names both halves, and a person may choose", async (t) => {
  const world = new FakeWorld(3);
  const made = await furnished(t, world, { fileSystem: true });
  world.split.add(made.group().describe().uuid);
  const { cabinet } = await made.restart();
  const text = /\/disks\/d1 and \/disks\/d2 were each used without the other since they parted/;
  assert.match(cabinet.warnings().join("\n"), text);
  await assert.rejects(cabinet.groupAdmin.assemble("g", false), text);
  assert.equal(cabinet.groups()[0]?.state, "failed");
  assert.equal((await cabinet.groupAdmin.assemble("g", true)).state, "clean");
  assert.equal(cabinet.fileSystems.rows()[0]?.state, "mounted");
  await assert.rejects(cabinet.groupAdmin.assemble("g", true), /group g is assembled and clean/);
  await assert.rejects(cabinet.groupAdmin.assemble("h", false), /there is no group h/);
});

test("group assemble: the same disk twice is refused by the names of both, also with force", async (t) => {
  const world = new FakeWorld(3);
  const made = await furnished(t, world);
  await made.cabinet.close();
  world.labels.set("/disks/copy", world.labels.get("/disks/d1")!);
  world.present.add("/disks/copy");
  const { cabinet } = await made.restart();
  const text = /group g is not served: \/disks\/d1 and \/disks\/copy are copies of one disk: remove one/;
  assert.match(cabinet.warnings().join("\n"), text);
  await assert.rejects(cabinet.groupAdmin.assemble("g", true), /are copies of one disk/);
  world.present.delete("/disks/copy");
  assert.equal((await cabinet.groupAdmin.assemble("g", false)).state, "clean", "with one taken out it is put together");
});

test("group create: a disk of another group, one with an old label, or one named twice is refused", async (t) => {
  const world = new FakeWorld(5);
  const { cabinet, group } = await furnished(t, world);
  const create = (name: string, ...disks: number[]) => cabinet.groupAdmin.create({ name, disks });
  for (const n of [4, 5]) await cabinet.diskAdmin.add({ path: `/disks/d${n}` });
  await assert.rejects(create("h", 3, 5), /disk #003 is in group g/);
  await assert.rejects(create("h", 5, 5), /a disk is named twice/);
  await assert.rejects(create("g", 4, 5), /group g exists already/);
  await assert.rejects(create("h", 5, 9), /there is no disk #009/);
  await cabinet.diskAdmin.fail(2);
  await cabinet.diskAdmin.replace(2, { with: 4 });
  group().finish("rebuild");
  await cabinet.open();
  const old =
    /disk #002 still has the label of group g, where another disk has its place: disk add --force \/disks\/d2/;
  await assert.rejects(create("h", 2, 5), old);
});
