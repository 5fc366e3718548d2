import assert from "node:assert/strict";
import { test } from "node:test";
import { GroupTable } from "../../../../src/fs/contents/group-table.js";
import { GROUPS_LEAVING_PER_TURN } from "../../../../src/fs/contents/limits.js";
import type { Inode } from "../../../../src/fs/inode.js";
import { isStorageError } from "../../../../src/lib/errors.js";
import { nextTurn } from "../../../../src/lib/next-turn.js";
import { BLOCK_BYTES, KIB, MIB } from "../../../../src/lib/units.js";
import { bytes, NOBODY, Rig, type RigOptions } from "./fixture.js";

const GROUP_BYTES = 64 * BLOCK_BYTES;
/** 16 MiB of file are 64 groups: 16 steps. */
const OPTIONS: RigOptions = { dataBytes: 64 * MIB, freedGroupsPerStep: 4 };

async function large(
  options: RigOptions = OPTIONS,
): Promise<{ rig: Rig; inode: Inode; content: Buffer; free: number }> {
  const rig = await Rig.create(options);
  const inode = rig.inodes.create(2);
  await rig.store.durable();
  const free = rig.contents.space().freeBlocks;
  const content = bytes(16 * MIB, 5);
  for (let at = 0; at < content.length; at += MIB) await rig.write(inode, at, content.subarray(at, at + MIB));
  await rig.contents.stabilize(inode);
  return { rig, inode, content, free };
}

function pendingRows(rig: Rig): Array<[number, number]> {
  return rig.store.db.prepare<[], [number, number]>("SELECT ino, grp FROM freeing").raw().all();
}

async function freed(rig: Rig): Promise<void> {
  for (let i = 0; pendingRows(rig).length > 0; i++) {
    assert.ok(i < 1000, "the steps end");
    await rig.store.durable();
  }
  await rig.store.durable();
}

test("large truncate: in steps of a few groups, each a commit; the count of blocks falls with them", async () => {
  const { rig, inode, content, free } = await large();
  const sizeBytes = 5 * GROUP_BYTES + 10_001;
  assert.equal(rig.contents.truncate(inode, sizeBytes, NOBODY), undefined);
  assert.deepEqual(pendingRows(rig), [[2, 6]]);
  const blocksBefore = inode.usedBlocks;
  const { commits } = rig.contents.statistics();
  for (let i = 0; i < 1000 && pendingRows(rig).length > 0; i++) {
    assert.deepEqual(await rig.faults(false), []);
    const steps = rig.contents.statistics().commits - commits + 1;
    assert.ok(blocksBefore - inode.usedBlocks <= steps * 4 * 64 + 64, "a commit holds one step");
    await rig.store.durable();
  }
  await rig.store.durable();
  assert.equal(inode.usedBlocks, 5 * 64 + 3);
  assert.equal(rig.contents.space().freeBlocks, free - inode.usedBlocks);
  assert.ok((await rig.content(inode)).equals(content.subarray(0, sizeBytes)));
  assert.deepEqual(await rig.faults(), []);
  await rig.close();
});

test("large truncate: the size and the note of what is to be freed are one commit, and a restart goes on", async () => {
  const { rig, inode, content, free } = await large();
  await rig.truncate(inode, 3 * GROUP_BYTES);
  await rig.store.durable();
  const after = await rig.crash("none");
  const found = after.inodes.load(2)!;
  assert.equal(found.sizeBytes, 3 * GROUP_BYTES);
  assert.deepEqual(pendingRows(after), [[2, 3]]);
  assert.deepEqual(await after.faults(false), []);
  await freed(after);
  assert.equal(found.usedBlocks, 3 * 64);
  assert.equal(after.contents.space().freeBlocks, free - 3 * 64);
  assert.ok((await after.content(found)).equals(content.subarray(0, 3 * GROUP_BYTES)));
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("large truncate: what wants to grow into the freed groups waits and keeps its order, what does not goes on", async () => {
  const { rig, inode, content } = await large();
  await rig.truncate(inode, GROUP_BYTES);
  const order: string[] = [];
  const note = (name: string) => ({ before: () => void order.push(name), after: () => {} });
  assert.equal(rig.contents.write(inode, 0, Buffer.alloc(BLOCK_BYTES, 0x69), note("inside")), undefined);
  const grown = rig.contents.truncate(inode, 10 * MIB, note("grown"));
  const later = rig.contents.write(inode, 50, Buffer.from("later"), note("later"));
  const far = rig.contents.write(inode, 9 * MIB, bytes(5000, 9), note("far"));
  assert.ok(grown instanceof Promise && later instanceof Promise && far instanceof Promise);
  assert.equal(inode.sizeBytes, GROUP_BYTES);
  await Promise.all([grown, later, far]);
  assert.deepEqual(order, ["inside", "grown", "later", "far"]);
  assert.deepEqual(pendingRows(rig), []);
  const wanted = Buffer.alloc(10 * MIB);
  content.copy(wanted, 0, 0, GROUP_BYTES);
  wanted.fill(0x69, 0, BLOCK_BYTES);
  wanted.write("later", 50);
  bytes(5000, 9).copy(wanted, 9 * MIB);
  assert.ok((await rig.content(inode)).equals(wanted));
  await rig.contents.stabilize(inode);
  const after = await rig.crash("random");
  assert.ok((await after.content(after.inodes.load(2)!)).equals(wanted));
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("large truncate: with unstable writes pending and being written back, nothing of them comes back", async () => {
  const { rig, inode } = await large({ ...OPTIONS, cacheBytes: 16 * MIB });
  await rig.write(inode, 2 * MIB, bytes(MIB, 21));
  const stable = rig.contents.stabilize(inode);
  await rig.write(inode, 20 * MIB, bytes(MIB, 22));
  await rig.write(inode, 2 * MIB + 100, bytes(300 * KIB, 23));
  await rig.truncate(inode, BLOCK_BYTES + 5);
  assert.deepEqual(await rig.faults(false), []);
  await stable;
  assert.deepEqual(await rig.faults(false), []);
  await freed(rig);
  assert.equal(inode.usedBlocks, 2);
  await rig.truncate(inode, 21 * MIB);
  const wanted = Buffer.alloc(21 * MIB);
  bytes(16 * MIB, 5).copy(wanted, 0, 0, BLOCK_BYTES + 5);
  assert.ok((await rig.content(inode)).equals(wanted));
  await rig.contents.stabilize(inode);
  const after = await rig.crash("random");
  assert.ok((await after.content(after.inodes.load(2)!)).equals(wanted));
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("large truncate: another one further down, then removal; the space is free after a crash in the middle", async () => {
  const { rig, inode, free } = await large();
  await rig.truncate(inode, 40 * GROUP_BYTES);
  await rig.truncate(inode, 20 * GROUP_BYTES + 7);
  assert.deepEqual(pendingRows(rig), [[2, 21]]);
  await rig.store.durable();
  assert.deepEqual(await rig.faults(false), []);
  const waiting = rig.contents.write(inode, 12 * MIB, bytes(100, 1), NOBODY);
  rig.discard(inode);
  await assert.rejects(Promise.resolve(waiting), (error) => isStorageError(error, "ESTALE"));
  assert.deepEqual(pendingRows(rig), [[2, 0]]);
  assert.deepEqual(await rig.faults(false), []);
  await rig.store.durable();
  const after = await rig.crash("none");
  await freed(after);
  assert.equal(after.contents.space().freeBlocks, free);
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("close: what waits for the steps is refused, and they go on at the next start", async () => {
  const { rig, inode } = await large();
  await rig.truncate(inode, 0);
  const waiting = rig.contents.write(inode, MIB, bytes(100, 1), NOBODY);
  const closing = rig.close();
  await assert.rejects(Promise.resolve(waiting), (error) => isStorageError(error, "EIO"));
  await closing;
  const again = await Rig.mount(OPTIONS, rig.data, rig.metadata);
  assert.ok(pendingRows(again).length > 0);
  await freed(again);
  assert.equal(again.inodes.load(2)!.usedBlocks, 0);
  assert.deepEqual(await again.faults(), []);
  await again.close();
});

test("removal of a sparse file: rows count, not blocks", async () => {
  const rig = await Rig.create(OPTIONS);
  const inode = rig.inodes.create(2);
  for (let i = 0; i < 40; i++) await rig.write(inode, i * GROUP_BYTES, bytes(10, i));
  await rig.contents.stabilize(inode);
  await rig.store.checkpoint();
  rig.discard(inode);
  assert.deepEqual(pendingRows(rig), [[2, 0]]);
  await freed(rig);
  assert.deepEqual(await rig.faults(), []);
  await rig.close();
});

test("large truncate: what is cached of it leaves the cache by and by, a bounded part in one turn", async () => {
  const rig = await Rig.create({
    dataBytes: 96 * MIB,
    cacheBytes: 128 * MIB,
    logBytes: 64 * MIB,
    metadataBytes: 160 * MIB,
  });
  const inode = rig.inodes.create(2);
  const groups = 3 * GROUPS_LEAVING_PER_TURN;
  for (let i = 0; i < groups; i++) await rig.write(inode, i * GROUP_BYTES, bytes(2 * BLOCK_BYTES, i));
  await rig.contents.stabilize(inode);
  const cached = () => rig.contents.statistics().cachedBlocks;
  const before = cached();
  assert.equal(before, 2 * groups);
  assert.equal(rig.contents.truncate(inode, 0, NOBODY), undefined);
  assert.equal(cached(), before, "none in the piece of the truncate");
  for (let left = before; left > 0; left = cached()) {
    await nextTurn();
    assert.ok(left - cached() <= 2 * GROUPS_LEAVING_PER_TURN, "a part in each turn");
    assert.ok(cached() < left);
  }
  assert.equal((await rig.read(inode, 0, BLOCK_BYTES)).length, 0);
  await freed(rig);
  assert.deepEqual(await rig.faults(), []);
  await rig.close();
});

test("truncate, removal: holes that were read cost nothing", async () => {
  const rig = await Rig.create(OPTIONS);
  const [one, other] = [rig.inodes.create(2), rig.inodes.create(3)];
  for (const inode of [one, other]) {
    await rig.write(inode, 0, bytes(BLOCK_BYTES, 1));
    await rig.truncate(inode, 1000 * GROUP_BYTES);
    await rig.contents.stabilize(inode);
    for (let i = 1; i < 400; i++) await rig.read(inode, i * GROUP_BYTES, BLOCK_BYTES);
  }
  const { drop } = GroupTable.prototype;
  let count = 0;
  GroupTable.prototype.drop = function (...slot) {
    count++;
    drop.apply(this, slot);
  };
  try {
    await rig.truncate(one, 0);
    rig.discard(other);
  } finally {
    GroupTable.prototype.drop = drop;
  }
  assert.ok(count <= 2 * 64, `${count} blocks were looked at`);
  await rig.store.durable();
  assert.deepEqual(await rig.faults(), []);
  await rig.close();
});
