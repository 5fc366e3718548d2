import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { isStorageError } from "../../../src/lib/errors.js";
import { type LuByte, MIB } from "../../../src/lib/units.js";
import type { LogicalUnit } from "../../../src/lu/lu.js";
import type { Group } from "../../../src/raid/contract.js";
import { appendRows, firstRows } from "../../../src/raid/rows.js";
import { RaidRig } from "../../model/raid-rig.js";

const BLOCK = 4096;

async function put(lu: LogicalUnit, at: number, fill: number): Promise<void> {
  await lu.write(Buffer.alloc(3 * BLOCK, fill), at as LuByte);
}

async function expect(lu: LogicalUnit, at: number, fill: number): Promise<void> {
  const target = Buffer.alloc(3 * BLOCK);
  await lu.read(target, at as LuByte);
  ok(target.equals(Buffer.alloc(3 * BLOCK, fill)), `bytes at ${at}`);
}

test("rows: what is appended joins the last run first, then goes where it fits", () => {
  const runs = [
    { first: 10, count: 2 },
    { first: 4, count: 3 },
  ];
  const free = [
    { first: 0, count: 4 },
    { first: 7, count: 2 },
    { first: 20, count: 5 },
  ];
  deepEqual(appendRows(runs, free, 2), [
    { first: 10, count: 2 },
    { first: 4, count: 5 },
  ]);
  deepEqual(appendRows(runs, free, 6), [
    { first: 10, count: 2 },
    { first: 4, count: 5 },
    { first: 0, count: 4 },
  ]);
  equal(appendRows(runs, free, 12), null);
  deepEqual(firstRows(appendRows(runs, free, 6)!, 3), [
    { first: 10, count: 2 },
    { first: 4, count: 1 },
  ]);
});

for (const [level, members] of [
  [1, 2],
  [1, 3],
  [5, 4],
] as const) {
  test(`resize: RAID-${level} on ${members} becomes larger while it is open, also where its rows are scattered`, async () => {
    const rig = new RaidRig({ members, seed: 3 });
    const group = await rig.create();
    await group.createLu("data", level, MIB);
    await group.createLu("wall", 1, MIB);
    const lu = group.openLu(1);
    const before = lu.sizeBytes;
    await put(lu, before - 3 * BLOCK, 1);
    const grown = await group.resizeLu(1, 3 * before);
    deepEqual([grown.sizeBytes, lu.sizeBytes, lu.description.sizeBytes], [3 * before, 3 * before, 3 * before]);
    await put(lu, before, 2);
    await put(lu, lu.sizeBytes - 3 * BLOCK, 3);
    await lu.write(Buffer.alloc(2 * lu.stripeBytes, 4), (2 * before) as LuByte);
    await lu.flush();
    const again = await crashed(rig);
    const found = again.openLu(1);
    equal(found.sizeBytes, 3 * before);
    await expect(found, before - 3 * BLOCK, 1);
    await expect(found, before, 2);
    await expect(found, 2 * before, 4);
    await expect(found, found.sizeBytes - 3 * BLOCK, 3);
    const { rowsFree } = again.describe();
    const all = await again.resizeLu(1, "max");
    equal(all.sizeBytes, found.sizeBytes);
    deepEqual([again.describe().rowsFree, rowsFree > 0], [0, true]);
    await rejects(
      again.resizeLu(1, 2 * all.sizeBytes),
      (error) => isStorageError(error, "ENOSPC") && /0 B? ?.*left/.test(error.message),
    );
    await again.close();
  });
}

async function crashed(rig: RaidRig): Promise<Group> {
  rig.crash("none");
  return rig.assemble();
}

test("resize: smaller only while nobody has it open; the rows go to another LU, and no old record comes back into them", async () => {
  const rig = new RaidRig({ members: 4, seed: 4 });
  const group = await rig.create();
  const { sizeBytes } = await group.createLu("data", 5, 6 * MIB);
  const rowsFree = group.describe().rowsFree;
  const lu = group.openLu(1);
  await put(lu, 0, 1);
  await put(lu, sizeBytes - 3 * BLOCK, 2);
  await lu.flush();
  await rejects(group.resizeLu(1, MIB), (error) => isStorageError(error, "EBUSY") && /in use/.test(error.message));
  await lu.close();
  equal((await group.resizeLu(1, MIB)).sizeBytes, 3 * MIB);
  equal(group.describe().rowsFree, rowsFree + 1);
  await rejects(group.resizeLu(1, 0), (error) => isStorageError(error, "EINVAL"));
  await group.createLu("next", 5, "max");
  const next = group.openLu(2);
  for (let at = 0; at < next.sizeBytes; at += MIB) {
    await next.write(Buffer.alloc(Math.min(MIB, next.sizeBytes - at), 9), at as LuByte);
  }
  await next.flush();
  const again = await crashed(rig);
  await expect(again.openLu(1), 0, 1);
  for (let at = 0; at + 3 * BLOCK <= next.sizeBytes; at += 3 * BLOCK) await expect(again.openLu(2), at, 9);
  await again.close();
});

test("resize: an LU is not deleted while it is open, and cannot be opened while it is deleted", async () => {
  const rig = new RaidRig({ members: 3, seed: 5 });
  const group = await rig.create();
  await group.createLu("data", 5, 2 * MIB);
  const [one, two] = [group.openLu(1), group.openLu(1)];
  equal(one, two);
  await one.close();
  await rejects(group.deleteLu(1), (error) => isStorageError(error, "EBUSY"));
  await two.close();
  const deleting = group.deleteLu(1);
  let refused: unknown;
  try {
    group.openLu(1);
  } catch (error) {
    refused = error;
  }
  ok(isStorageError(refused, "EBUSY"));
  await deleting;
  await rejects(group.deleteLu(1), (error) => isStorageError(error, "ENOENT"));
  await rejects(group.resizeLu(1, MIB), (error) => isStorageError(error, "ENOENT"));
  await group.close();
});
