import assert from "node:assert/strict";
import { test } from "node:test";
import { BLOCK_BYTES, MIB } from "../../../../src/lib/units.js";
import { bytes, Rig } from "./fixture.js";

/** Segments of one block: every block that a commit maps or frees changes a row, and a full bitmap page holds few of them. */
const SCATTERED = { dataBytes: 128 * MIB, stripeBytes: BLOCK_BYTES, logBytes: 4 * MIB, metadataBytes: 64 * MIB };

/** The pages that commits took, at most, while `work` ran. */
async function largestCommit(rig: Rig, work: () => Promise<void>): Promise<number> {
  let largest = 0;
  let last = rig.store.statistics().pagesLogged;
  const { durable } = rig.store;
  assert.equal(typeof durable, "function");
  const contents = rig.contents;
  const seal = contents.durable.bind(contents);
  contents.durable = (seq: number) => {
    const { pagesLogged } = rig.store.statistics();
    largest = Math.max(largest, pagesLogged - last);
    last = pagesLogged;
    seal(seq);
  };
  await work();
  await rig.store.durable();
  return largest;
}

test("commit size: scattered blocks of one inode, far more than a record holds, are written and cut off", async () => {
  const rig = await Rig.create({ ...SCATTERED, cacheBytes: 64 * MIB });
  const recordPages = rig.store.recordBytesMax / BLOCK_BYTES;
  const inode = rig.inodes.create(2);
  const other = rig.inodes.create(3);
  const largest = await largestCommit(rig, async () => {
    // One block in each group: as many rows as blocks.
    for (let i = 0; i < 3 * recordPages; i++) await rig.write(inode, i * 64 * BLOCK_BYTES, bytes(100, i));
    await rig.contents.stabilize(inode);
    for (let i = 0; i < 3 * recordPages; i += 2) await rig.write(inode, i * 64 * BLOCK_BYTES, bytes(100, i + 1));
    for (let i = 0; i < 40; i++) await rig.write(other, i * MIB, bytes(MIB, i));
    await rig.contents.stabilize(inode);
    await rig.contents.stabilize(other);
    await rig.truncate(inode, 64 * BLOCK_BYTES);
    await rig.truncate(other, MIB);
    await rig.contents.stabilize(other);
  });
  assert.ok(largest < recordPages, `${largest} pages of ${recordPages}`);
  assert.ok((await rig.content(other)).equals(bytes(MIB, 0)));
  assert.deepEqual(await rig.faults(), []);
  await rig.close();
});

test("commit size: many removals at once are not one commit", async () => {
  const rig = await Rig.create({ ...SCATTERED, cacheBytes: 16 * MIB });
  const recordPages = rig.store.recordBytesMax / BLOCK_BYTES;
  const free = rig.contents.space().freeBlocks;
  for (let ino = 10; ino < 20; ino++) {
    const inode = rig.inodes.create(ino);
    for (let i = 0; i < 200; i++) await rig.write(inode, i * 64 * BLOCK_BYTES, bytes(100, i));
    await rig.contents.stabilize(inode);
  }
  await rig.store.checkpoint();
  const largest = await largestCommit(rig, async () => {
    for (let ino = 10; ino < 20; ino++) rig.discard(rig.inodes.load(ino)!);
    for (let i = 0; i < 100; i++) await rig.store.durable();
  });
  assert.ok(largest < recordPages / 2, `${largest} pages of ${recordPages}`);
  assert.equal(rig.contents.space().freeBlocks, free);
  assert.deepEqual(await rig.faults(), []);
  await rig.close();
});
