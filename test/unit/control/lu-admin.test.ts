import assert from "node:assert/strict";
import { test } from "node:test";
import { MIB } from "../../../src/lib/units.js";
import { FakeWorld } from "./fake-layers.js";
import { furnished, orders } from "./furnished.js";

test("lu resize: a file system grows with its LU, and its LU never becomes smaller", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet } = await furnished(t, world, { fileSystem: true });
  const row = await cabinet.luAdmin.resize("data", { sizeBytes: 480 * MIB });
  assert.equal(row.sizeBytes, 480 * MIB);
  assert.deepEqual(orders(world, "grow"), ["grow file system data"]);
  await assert.rejects(
    cabinet.luAdmin.resize("data", { sizeBytes: 320 * MIB, force: true }),
    /LU data carries file system data, which cannot become smaller/,
  );
  await assert.rejects(
    cabinet.luAdmin.resize("data.meta", { sizeBytes: "max" }),
    /LU data.meta holds the metadata of file system data: its size cannot change/,
  );
  assert.equal((await cabinet.luAdmin.resize("#2", { sizeBytes: "max" })).sizeBytes, 56 * 16 * MIB);
});

test("lu resize: smaller loses the end of the data, so a person must insist", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet } = await furnished(t, world);
  await cabinet.luAdmin.create({ name: "raw", level: 5, sizeBytes: 320 * MIB });
  await assert.rejects(
    cabinet.luAdmin.resize("raw", { sizeBytes: 160 * MIB }),
    /LU raw has 320 MiB: what stands beyond the new end would be lost; --force insists/,
  );
  assert.deepEqual(orders(world, "resize"), []);
  assert.equal((await cabinet.luAdmin.resize("raw", { sizeBytes: 160 * MIB, force: true })).sizeBytes, 160 * MIB);
  await assert.rejects(cabinet.luAdmin.resize("none", { sizeBytes: "max" }), /there is no LU none in group g/);
});

test("lu resize: a size that takes as many rows as the LU has is not smaller", async (t) => {
  const world = new FakeWorld(3);
  const { cabinet } = await furnished(t, world);
  await cabinet.luAdmin.create({ name: "raw", level: 5, sizeBytes: 320 * MIB });
  // A row of RAID-5 over three disks holds 32 MiB.
  await cabinet.luAdmin.resize("raw", { sizeBytes: 289 * MIB });
  await assert.rejects(cabinet.luAdmin.resize("raw", { sizeBytes: 256 * MIB }), /would be lost/);
});
