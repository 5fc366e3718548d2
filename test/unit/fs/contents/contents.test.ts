import assert from "node:assert/strict";
import { test } from "node:test";
import { isStorageError } from "../../../../src/lib/errors.js";
import { nextTurn } from "../../../../src/lib/next-turn.js";
import { BLOCK_BYTES, KIB, MIB } from "../../../../src/lib/units.js";
import { bytes, checksumsOf, ManualClock, NOBODY, Rig } from "./fixture.js";

async function settled(ms = 20): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

test("write, read: a cached write is seen at once, without a promise", async () => {
  const rig = await Rig.create();
  const inode = rig.inodes.create(2);
  const data = bytes(10_000, 1);
  assert.equal(rig.contents.write(inode, 100, data, NOBODY), undefined);
  const target = Buffer.alloc(20_000, 0xee);
  assert.equal(rig.contents.read(inode, 0, target), 10_100);
  assert.deepEqual(target.subarray(100, 10_100), data);
  assert.deepEqual(target.subarray(0, 100), Buffer.alloc(100));
  assert.equal(inode.usedBlocks, 3);
  await rig.close();
});

test("stabilize: a small write survives a crash in the log, before anything is on the data LU", async () => {
  const rig = await Rig.create();
  const inode = rig.inodes.create(2);
  const data = bytes(5000, 2);
  await rig.stableWrite(inode, 0, data);
  assert.equal(rig.data.counters.writes, 0);
  const after = await rig.crash("none");
  assert.equal(after.replayedBlocks, 2);
  const found = after.inodes.load(2)!;
  assert.deepEqual(await after.content(found), data);
  assert.equal(found.usedBlocks, 2);
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("stabilize: a large write goes to the data LU in whole stripes, and survives", async () => {
  const rig = await Rig.create();
  const inode = rig.inodes.create(2);
  const data = bytes(MIB, 3);
  await rig.stableWrite(inode, 0, data);
  assert.equal(rig.data.counters.bytesWritten, MIB);
  assert.equal(rig.data.counters.writes, 1);
  const after = await rig.crash("none");
  assert.deepEqual(await after.content(after.inodes.load(2)!), data);
  assert.equal(after.contents.headAddress(2) % (256 * KIB), 0);
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("crash: an unstable write is not there at all, and its blocks are not counted", async () => {
  const rig = await Rig.create();
  const inode = rig.inodes.create(2);
  await rig.stableWrite(inode, 0, bytes(BLOCK_BYTES, 4));
  await rig.write(inode, BLOCK_BYTES, bytes(3 * BLOCK_BYTES, 5));
  await rig.store.durable();
  const after = await rig.crash("random");
  const found = after.inodes.load(2)!;
  assert.equal(found.sizeBytes, BLOCK_BYTES);
  assert.equal(found.usedBlocks, 1);
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("truncate: the cut tail reads as zeros after growing, cached or not, and after a crash", async () => {
  const rig = await Rig.create();
  const inode = rig.inodes.create(2);
  const data = bytes(200 * KIB, 6);
  await rig.stableWrite(inode, 0, data);
  await rig.store.checkpoint();
  const fresh = await rig.remount();
  const reopened = fresh.inodes.load(2)!;
  await fresh.truncate(reopened, 100_001);
  await fresh.truncate(reopened, 150_000);
  const wanted = Buffer.alloc(150_000);
  data.copy(wanted, 0, 0, 100_001);
  assert.deepEqual(await fresh.content(reopened), wanted);
  await fresh.store.durable();
  const after = await fresh.crash("random");
  assert.deepEqual(await after.content(after.inodes.load(2)!), wanted);
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("truncate: a logged block that is cut comes back cut", async () => {
  const rig = await Rig.create();
  const inode = rig.inodes.create(2);
  await rig.stableWrite(inode, 0, bytes(BLOCK_BYTES, 7));
  await rig.truncate(inode, 1000);
  await rig.truncate(inode, 3000);
  await rig.store.durable();
  const after = await rig.crash("none");
  const wanted = Buffer.alloc(3000);
  bytes(BLOCK_BYTES, 7).copy(wanted, 0, 0, 1000);
  assert.deepEqual(await after.content(after.inodes.load(2)!), wanted);
  await after.close();
});

test("truncate while the tail is being written back: nothing of it comes back", async () => {
  const rig = await Rig.create();
  const inode = rig.inodes.create(2);
  await rig.write(inode, 0, bytes(100 * BLOCK_BYTES, 8));
  const stable = rig.contents.stabilize(inode);
  assert.ok(rig.contents.statistics().dirtyBlocks === 100);
  await rig.truncate(inode, 50 * BLOCK_BYTES + 10);
  await rig.truncate(inode, 60 * BLOCK_BYTES);
  await stable;
  await rig.contents.stabilize(inode);
  const wanted = Buffer.alloc(60 * BLOCK_BYTES);
  bytes(100 * BLOCK_BYTES, 8).copy(wanted, 0, 0, 50 * BLOCK_BYTES + 10);
  assert.deepEqual(await rig.content(inode), wanted);
  assert.equal(inode.usedBlocks, 51);
  const after = await rig.crash("random");
  assert.deepEqual(await after.content(after.inodes.load(2)!), wanted);
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("truncate while the tail is being written back: what is published is cut, even when nothing newer survives", async () => {
  const clock = new ManualClock();
  const rig = await Rig.create({ clock });
  const inode = rig.inodes.create(2);
  await rig.write(inode, 0, bytes(10 * BLOCK_BYTES, 19));
  rig.data.latencyMs = 30;
  clock.advance(2500);
  clock.advance(2500);
  await rig.truncate(inode, 5 * BLOCK_BYTES + 10);
  await rig.truncate(inode, 8 * BLOCK_BYTES);
  await settled(80);
  await rig.store.durable();
  const after = await rig.crash("none");
  const wanted = Buffer.alloc(8 * BLOCK_BYTES);
  bytes(10 * BLOCK_BYTES, 19).copy(wanted, 0, 0, 5 * BLOCK_BYTES + 10);
  assert.deepEqual(await after.content(after.inodes.load(2)!), wanted);
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("overwrite during write-back: the newer version wins, and both are published in order", async () => {
  const rig = await Rig.create();
  const inode = rig.inodes.create(2);
  await rig.write(inode, 0, bytes(80 * BLOCK_BYTES, 9));
  const stable = rig.contents.stabilize(inode);
  await rig.write(inode, 10, bytes(3 * BLOCK_BYTES, 10));
  const wanted = bytes(80 * BLOCK_BYTES, 9);
  bytes(3 * BLOCK_BYTES, 10).copy(wanted, 10);
  assert.deepEqual(await rig.content(inode), wanted);
  await stable;
  await rig.contents.stabilize(inode);
  const after = await rig.crash("none");
  assert.deepEqual(await after.content(after.inodes.load(2)!), wanted);
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("partial overwrite of a block that is not cached: merged, and later writes do not overtake it", async () => {
  const rig = await Rig.create();
  await rig.stableWrite(rig.inodes.create(2), 0, bytes(300 * KIB, 11));
  const fresh = await rig.remount();
  const inode = fresh.inodes.load(2)!;
  const first = fresh.contents.write(inode, 5, Buffer.from("first write"), NOBODY);
  const second = fresh.contents.write(inode, 0, Buffer.alloc(BLOCK_BYTES, 0x42), NOBODY);
  assert.ok(first instanceof Promise);
  await Promise.all([first, second]);
  const wanted = bytes(300 * KIB, 11);
  wanted.fill(0x42, 0, BLOCK_BYTES);
  assert.deepEqual(await fresh.content(inode), wanted);
  await fresh.close();
});

test("discard: space is free again after the commit; a large file is freed in steps that survive a crash", async () => {
  const rig = await Rig.create({ dataBytes: 128 * MIB });
  const inode = rig.inodes.create(2);
  const free = rig.contents.space().freeBlocks;
  for (let i = 0; i < 80; i++) await rig.write(inode, i * MIB, Buffer.alloc(MIB, i + 1));
  await rig.contents.stabilize(inode);
  assert.equal(rig.contents.space().freeBlocks, free - 80 * 256);
  rig.discard(inode);
  await rig.store.durable();
  const after = await rig.crash("none");
  await after.store.durable();
  for (let i = 0; i < 100 && after.contents.space().freeBlocks < free; i++) await settled(5);
  assert.equal(after.contents.space().freeBlocks, free);
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("full: ENOSPC changes nothing, overwrites and removals go on, freed space is usable", async () => {
  const rig = await Rig.create({ dataBytes: 16 * MIB });
  const inode = rig.inodes.create(2);
  let written = 0;
  const full = async () => {
    for (; ; written += 64 * KIB) await rig.write(inode, written, bytes(64 * KIB, written));
  };
  await assert.rejects(full, (error) => isStorageError(error, "ENOSPC"));
  assert.equal(inode.sizeBytes, written);
  assert.ok(written > 13 * MIB);
  for (let i = 0; i < 300; i++) await rig.write(inode, (i * 37 * 4096) % (written - 4096), bytes(4096, i));
  await rig.contents.stabilize(inode);
  await rig.truncate(inode, 5 * MIB);
  await rig.store.durable();
  const other = rig.inodes.create(3);
  await rig.write(other, 0, bytes(MIB, 1));
  await rig.contents.stabilize(other);
  assert.deepEqual(await rig.content(other), bytes(MIB, 1));
  assert.deepEqual(await rig.faults(), []);
  await rig.close();
});

test("bit rot: healed from the other copy and told; EIO when there is none", async () => {
  const rig = await Rig.create({ redundant: true });
  await rig.stableWrite(rig.inodes.create(2), 0, bytes(MIB, 12));
  const fresh = await rig.remount();
  const inode = fresh.inodes.load(2)!;
  const head = fresh.contents.headAddress(2);
  for (const block of [0, 3, 200]) fresh.data.corrupt(head + block * BLOCK_BYTES);
  assert.deepEqual(await fresh.read(inode, 0, 100), bytes(MIB, 12).subarray(0, 100));
  assert.deepEqual(await fresh.content(inode), bytes(MIB, 12));
  assert.equal(fresh.data.counters.heals, 3);
  assert.deepEqual(
    fresh.events.map((event) => event.kind),
    ["healed", "healed", "healed"],
  );
  await fresh.close();
  const bare = await Rig.create();
  await bare.stableWrite(bare.inodes.create(2), 0, bytes(MIB, 13));
  const spoiled = await bare.remount();
  spoiled.data.corrupt(spoiled.contents.headAddress(2) + 5 * BLOCK_BYTES);
  await assert.rejects(spoiled.content(spoiled.inodes.load(2)!), (error) => isStorageError(error, "EIO"));
  assert.equal((await spoiled.faults()).length, 1);
  await spoiled.close();
});

test("a read in flight keeps its blocks from being used again", async () => {
  const rig = await Rig.create({ dataBytes: 16 * MIB });
  await rig.stableWrite(rig.inodes.create(2), 0, bytes(MIB, 14));
  const fresh = await rig.remount();
  const inode = fresh.inodes.load(2)!;
  const other = fresh.inodes.create(3);
  fresh.data.latencyMs = 60;
  const reading = fresh.read(inode, 0, MIB);
  fresh.data.latencyMs = 0;
  await fresh.truncate(inode, 0);
  await fresh.store.durable();
  for (let i = 0; i < 12; i++) await fresh.write(other, i * MIB, Buffer.alloc(MIB, 0x55));
  await fresh.contents.stabilize(other);
  assert.deepEqual(await reading, bytes(MIB, 14));
  await fresh.close();
});

test("a failed write of the data LU: stabilize rejects, the data stays and goes out at the next attempt", async () => {
  const clock = new ManualClock();
  const rig = await Rig.create({ clock });
  const inode = rig.inodes.create(2);
  rig.data.failWrites = true;
  await rig.write(inode, 0, bytes(MIB, 15));
  await assert.rejects(rig.contents.stabilize(inode), (error) => isStorageError(error, "EIO"));
  assert.equal(rig.events[0]?.kind, "write-failed");
  assert.deepEqual(await rig.content(inode), bytes(MIB, 15));
  rig.data.failWrites = false;
  clock.advance(1001);
  await settled();
  await rig.contents.stabilize(inode);
  const after = await rig.crash("none");
  assert.deepEqual(await after.content(after.inodes.load(2)!), bytes(MIB, 15));
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("close: a write that still has to wait is refused, and none waits for ever", async () => {
  const rig = await Rig.create();
  await rig.stableWrite(rig.inodes.create(2), 0, bytes(MIB, 20));
  const fresh = await rig.remount();
  const inode = fresh.inodes.load(2)!;
  const first = fresh.write(inode, 5, Buffer.from("waits for the old block"));
  const second = fresh.write(inode, 9, Buffer.from("waits for the first"));
  const closed = fresh.contents.close();
  await Promise.allSettled([first, second, closed]);
  await assert.rejects(second, (error) => isStorageError(error, "EIO"));
  await closed;
  await fresh.store.close();
});

test("age: what is dirty for five seconds is written back by itself", async () => {
  const clock = new ManualClock();
  const rig = await Rig.create({ clock });
  const inode = rig.inodes.create(2);
  await rig.write(inode, 0, bytes(10 * BLOCK_BYTES, 16));
  clock.advance(2500);
  await settled();
  assert.equal(rig.data.counters.writes, 0);
  clock.advance(2500);
  await settled();
  assert.equal(rig.contents.statistics().dirtyBlocks, 0);
  assert.equal(rig.data.counters.bytesWritten, 10 * BLOCK_BYTES);
  await rig.close();
});

test("a block that is logged again during its write-back: the record outlives the publication", async () => {
  const clock = new ManualClock();
  const rig = await Rig.create({ clock });
  const inode = rig.inodes.create(2);
  await rig.stableWrite(inode, 0, bytes(10 * BLOCK_BYTES, 17));
  rig.data.latencyMs = 40;
  clock.advance(2500);
  clock.advance(2500);
  await rig.stableWrite(inode, 0, bytes(BLOCK_BYTES, 18));
  assert.equal(rig.data.counters.writes, 0);
  await settled(80);
  assert.equal(rig.data.counters.writes, 1);
  await rig.store.durable();
  const after = await rig.crash("none");
  const wanted = bytes(10 * BLOCK_BYTES, 17);
  bytes(BLOCK_BYTES, 18).copy(wanted);
  assert.deepEqual(await after.content(after.inodes.load(2)!), wanted);
  assert.equal(after.replayedBlocks, 1);
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("a block that was written home: its record is needed until the commit that maps it is durable", async () => {
  const clock = new ManualClock();
  const rig = await Rig.create({ clock });
  const inode = rig.inodes.create(2);
  await rig.stableWrite(inode, 0, bytes(BLOCK_BYTES, 24));
  const record = rig.store.durableSeq;
  assert.equal(rig.contents.oldestSidecar(), record);
  clock.advance(2500);
  clock.advance(2500);
  while (rig.contents.statistics().dirtyBlocks > 0) await nextTurn();
  // The commit that maps it is sealed when the log record is written, and durable when that has been flushed.
  const seen: number[] = [];
  rig.metadata.beforeOperation = () => {
    seen.push(rig.contents.oldestSidecar());
    return undefined;
  };
  await rig.store.durable();
  assert.ok(seen.length > 0 && seen.every((seq) => seq === record), `${seen} while ${record} was needed`);
  assert.equal(rig.contents.oldestSidecar(), Number.POSITIVE_INFINITY);
  rig.metadata.beforeOperation = null;
  await rig.close();
});

test("quarantine: a block that no durable commit has freed is not written again", async () => {
  const rig = await Rig.create({ dataBytes: 16 * MIB });
  const inode = rig.inodes.create(2);
  for (let i = 0; i < 6; i++) await rig.write(inode, i * MIB, bytes(MIB, i));
  await rig.contents.stabilize(inode);
  rig.metadata.beforeOperation = () => "halt";
  const overwritten = async () => {
    for (let i = 0; i < 24; i++) await rig.write(inode, (i % 6) * MIB, bytes(MIB, 100 + i));
  };
  await assert.rejects(overwritten, (error) => isStorageError(error, "EIO"));
  const after = await rig.crash("all", "none");
  const found = after.inodes.load(2)!;
  for (let i = 0; i < 6; i++) assert.ok((await after.read(found, i * MIB, MIB)).equals(bytes(MIB, i)));
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("releaseSidecars: a checkpoint writes logged blocks home and the log's tail moves", async () => {
  const rig = await Rig.create();
  for (let i = 0; i < 40; i++) await rig.stableWrite(rig.inodes.create(10 + i), 0, bytes(3000, i));
  assert.ok(rig.contents.oldestSidecar() < Number.POSITIVE_INFINITY);
  await rig.store.checkpoint();
  assert.equal(rig.contents.oldestSidecar(), Number.POSITIVE_INFINITY);
  const after = await rig.crash("none");
  assert.equal(after.replayedBlocks, 0);
  for (let i = 0; i < 40; i++) assert.deepEqual(await after.content(after.inodes.load(10 + i)!), bytes(3000, i));
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("memory: an inode is let go when its groups have left the cache", async () => {
  const rig = await Rig.create();
  for (let i = 0; i < 3000; i++) {
    const inode = rig.inodes.create(100 + i);
    await rig.write(inode, 0, bytes(100, i));
  }
  await rig.contents.close();
  const held = rig.inodes.numbers().filter((ino) => rig.inodes.load(ino)!.contents !== null);
  assert.ok(held.length <= 1024 + 64, `${held.length} inodes are held`);
  assert.deepEqual(await rig.content(rig.inodes.load(100)!), bytes(100, 0));
  await rig.store.close();
});

test("memory: the groups of a file that is removed leave at once, not when the table is full", async () => {
  const rig = await Rig.create();
  const files = Array.from({ length: 20 }, (_, i) => rig.inodes.create(100 + i));
  for (const inode of files) {
    await rig.write(inode, 0, bytes(100, 1));
    await rig.stableWrite(inode, 64 * BLOCK_BYTES, bytes(100, 2));
  }
  assert.equal(rig.contents.statistics().groups, 40);
  for (const inode of files.splice(5, 10)) rig.discard(inode);
  await rig.store.durable();
  assert.equal(rig.contents.statistics().groups, 20);
  for (const inode of files) assert.deepEqual(await rig.read(inode, 0, 100), bytes(100, 1));
  assert.deepEqual(await rig.faults(), []);
  await rig.close();
});

test("checksums that came with a write are stored beside its blocks; what was changed on its way is found out", async () => {
  const rig = await Rig.create({ clock: new ManualClock() });
  const inode = rig.inodes.create(2);
  const data = bytes(40 * KIB, 7);
  await rig.write(inode, 100, data);
  // Not written out yet: blocks are changed in whole, in part, and by cutting the file, and are checked anew.
  const part = bytes(5000, 8);
  await rig.stableWrite(inode, 9_000, part);
  await rig.write(inode, 16 * KIB, bytes(BLOCK_BYTES, 9));
  await rig.truncate(inode, 30_000);
  await rig.truncate(inode, 36_000);
  await rig.contents.stabilize(inode);
  const other = rig.inodes.create(3);
  const sent = bytes(8 * BLOCK_BYTES, 10);
  const checksums = checksumsOf(sent, 0);
  sent[5 * BLOCK_BYTES + 77]! ^= 0x10;
  await rig.contents.write(other, 0, sent, NOBODY, checksums);
  await rig.contents.stabilize(other);
  const after = await rig.remount();
  const wanted = Buffer.alloc(36_000);
  data.copy(wanted, 100);
  part.copy(wanted, 9_000);
  bytes(BLOCK_BYTES, 9).copy(wanted, 16 * KIB);
  wanted.fill(0, 30_000);
  assert.deepEqual(await after.content(after.inodes.load(2)!), wanted);
  const found = after.inodes.load(3)!;
  assert.deepEqual(await after.read(found, 0, 5 * BLOCK_BYTES), sent.subarray(0, 5 * BLOCK_BYTES));
  await assert.rejects(after.read(found, 5 * BLOCK_BYTES, 10), (error) => isStorageError(error, "EIO"));
  assert.equal((await after.faults()).length, 1);
  await after.close();
});
