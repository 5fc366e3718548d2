import assert from "node:assert/strict";
import { test } from "node:test";
import { intentBlocksOf, ROWS_PER_PORTION } from "../../../../src/fs/contents/limits.js";
import type { Inode } from "../../../../src/fs/inode.js";
import { BLOCK_BYTES, MIB } from "../../../../src/lib/units.js";
import { bytes, Rig, type RigOptions } from "./fixture.js";

const GROUP_BYTES = 64 * BLOCK_BYTES;

/** Segments as many as a large LU has, and a small log: a commit of 256 pages, of which extents and segments may take 120. */
const OPTIONS: RigOptions = {
  ...{ dataBytes: 128 * MIB, stripeBytes: BLOCK_BYTES, segmentBlocks: 8 },
  ...{ logBytes: 4 * MIB, metadataBytes: 64 * MIB, cacheBytes: 64 * MIB },
};

/** How many rows one commit changed, at most, while `work` ran: each may lie on a page of its own. */
async function largestCommit(rig: Rig, work: () => Promise<void>): Promise<number> {
  const changes = rig.store.db.prepare<[], number>("SELECT total_changes()").pluck();
  const seal = rig.contents.seal.bind(rig.contents);
  let largest = 0;
  let last = changes.get() ?? 0;
  rig.contents.seal = () => {
    const sidecar = seal();
    const now = changes.get() ?? 0;
    largest = Math.max(largest, now - last);
    last = now;
    return sidecar;
  };
  await work();
  await rig.store.durable();
  rig.contents.seal = seal;
  return largest;
}

/** What this layer may change in a commit, with some rows of inodes. @param roomy  the log is, so that a commit may have twice as much */
function rowsMax(rig: Rig, roomy = false): number {
  const { recordBytesMax } = rig.store;
  const pages = (recordBytesMax / BLOCK_BYTES - intentBlocksOf(recordBytesMax)) / 2;
  return pages * (roomy ? 2 : 1) + 32;
}

async function dense(rig: Rig, ino: number, mebibytes: number): Promise<Inode> {
  const inode = rig.inodes.create(ino);
  for (let i = 0; i < mebibytes; i++) await rig.write(inode, i * MIB, bytes(MIB, i));
  await rig.contents.stabilize(inode);
  return inode;
}

/** Overwrite the first block of every segment that a dense file lies in. */
async function scatter(rig: Rig, inode: Inode): Promise<void> {
  const data = bytes(BLOCK_BYTES, 7);
  for (let at = 0; at < inode.sizeBytes; at += 8 * BLOCK_BYTES) await rig.write(inode, at, data);
}

test("commit size: scattered overwrites of one inode, more than a commit holds", async () => {
  const rig = await Rig.create(OPTIONS);
  const inode = await dense(rig, 2, 40);
  const largest = await largestCommit(rig, async () => {
    await scatter(rig, inode);
    await rig.contents.stabilize(inode);
  });
  assert.ok(largest <= rowsMax(rig), `${largest} rows, ${rowsMax(rig)} may be`);
  assert.deepEqual(await rig.faults(), []);
  await rig.close();
});

test("commit size: many inodes that are written back together", async () => {
  const rig = await Rig.create(OPTIONS);
  const inodes: Inode[] = [];
  for (let ino = 10; ino < 22; ino++) inodes.push(await dense(rig, ino, 3));
  const largest = await largestCommit(rig, async () => {
    for (const inode of inodes) await scatter(rig, inode);
    await Promise.all(inodes.map((inode) => rig.contents.stabilize(inode)));
  });
  assert.ok(largest > rowsMax(rig), "the log is roomy");
  assert.ok(largest <= rowsMax(rig, true), `${largest} rows, ${rowsMax(rig, true)} may be`);
  // What is kept for a release leaves no room beside it.
  rig.contents.releasePages = () => 1000;
  const next = await largestCommit(rig, async () => {
    for (const inode of inodes) await scatter(rig, inode);
    await Promise.all(inodes.map((inode) => rig.contents.stabilize(inode)));
  });
  assert.ok(next <= rowsMax(rig), `${next} rows, ${rowsMax(rig)} may be`);
  assert.deepEqual(await rig.faults(), []);
  await rig.close();
});

test("commit size: removals that come together, and a truncate of many scattered blocks", async () => {
  const rig = await Rig.create(OPTIONS);
  const free = rig.contents.space().freeBlocks;
  for (let ino = 10; ino < 30; ino++) {
    const inode = rig.inodes.create(ino);
    for (let i = 0; i < 40; i++) await rig.write(inode, i * GROUP_BYTES, bytes(100, i));
    await rig.contents.stabilize(inode);
  }
  const last = await dense(rig, 30, 40);
  await rig.store.checkpoint();
  const largest = await largestCommit(rig, async () => {
    for (let ino = 10; ino < 30; ino++) rig.discard(rig.inodes.load(ino)!);
    await rig.truncate(last, 0);
    while (rig.store.db.prepare("SELECT 1 FROM freeing").get() !== undefined) await rig.store.durable();
  });
  assert.ok(largest <= rowsMax(rig), `${largest} rows, ${rowsMax(rig)} may be`);
  assert.equal(rig.contents.space().freeBlocks, free);
  assert.deepEqual(await rig.faults(), []);
  await rig.close();
});

test("commit size: what a release needs counts whatever else is dirty of the inodes in records, and nothing once they are home", async () => {
  const rig = await Rig.create(OPTIONS);
  assert.equal(rig.contents.releasePages(), 0);
  const inodes = [rig.inodes.create(2), rig.inodes.create(3)];
  const data = bytes(BLOCK_BYTES, 7);
  for (const inode of inodes) {
    await rig.write(inode, 0, data);
    await rig.contents.stabilize(inode);
  }
  const logged = rig.contents.releasePages();
  assert.ok(logged >= 2, `${logged}`);
  for (let i = 1; i < 30; i++) await rig.write(inodes[0]!, i * GROUP_BYTES, data);
  assert.ok(rig.contents.releasePages() >= logged + 29, `${rig.contents.releasePages()}`);
  rig.discard(inodes[0]!);
  assert.equal(rig.contents.releasePages(), logged / 2);
  await rig.contents.settleAll();
  assert.equal(rig.contents.releasePages(), 0);
  await rig.close();
});

/** A file with a dirty block in each of 1200 groups, which one commit publishes. */
async function scattered(): Promise<{ rig: Rig; inode: Inode }> {
  const rig = await Rig.create({ logBytes: 64 * MIB, metadataBytes: 128 * MIB, cacheBytes: 64 * MIB });
  const inode = rig.inodes.create(2);
  await rig.store.durable();
  for (let i = 0; i < 1200; i++) await rig.write(inode, i * GROUP_BYTES, bytes(BLOCK_BYTES, i));
  return { rig, inode };
}

test("commit size: of thousands of rows the seal writes the last portion", async () => {
  const { rig, inode } = await scattered();
  const changes = rig.store.db.prepare<[], number>("SELECT total_changes()").pluck();
  const seal = rig.contents.seal.bind(rig.contents);
  let inSeal = 0;
  rig.contents.seal = () => {
    const before = changes.get()!;
    const sidecar = seal();
    inSeal = Math.max(inSeal, changes.get()! - before);
    return sidecar;
  };
  await rig.contents.stabilize(inode);
  // Besides: the segments, which are few.
  assert.ok(inSeal > 0 && inSeal <= ROWS_PER_PORTION + 32, `${inSeal} rows in the seal`);
  const after = await rig.crash("none");
  const again = after.inodes.load(2)!;
  for (let i = 0; i < 1200; i += 37)
    assert.deepEqual(await after.read(again, i * GROUP_BYTES, BLOCK_BYTES), bytes(BLOCK_BYTES, i));
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("commit size: a crash between the portions of a commit leaves nothing of it", async () => {
  const { rig, inode } = await scattered();
  const portion = rig.store.portion.bind(rig.store);
  const reached = new Promise<void>((resolve) => {
    rig.store.portion = () => {
      portion();
      resolve();
    };
  });
  const stable = rig.contents.stabilize(inode);
  stable.catch(() => {});
  await reached;
  assert.ok(rig.store.db.prepare<[], number>("SELECT count(*) FROM extent").pluck().get()! >= ROWS_PER_PORTION);
  const after = await rig.crash("all");
  await assert.rejects(stable);
  assert.equal(after.store.db.prepare("SELECT count(*) FROM extent").pluck().get(), 0);
  assert.deepEqual(await after.faults(), []);
  await after.close();
});
