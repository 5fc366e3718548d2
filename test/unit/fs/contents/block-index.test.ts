import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { BlockIndex, bucketBlocksOf } from "../../../../src/fs/contents/block-index.js";
import { BlockLog } from "../../../../src/fs/contents/block-log.js";
import { isStorageError } from "../../../../src/lib/errors.js";
import { SeededRandom } from "../../../../src/lib/prng.js";

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
const folder = mkdtempSync(path.join(tmpdir(), "block-index-test-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** As many buckets as there can be, so that pieces are small and most of them are in the file. */
const BLOCKS = 2 ** 28;
const BUCKET = bucketBlocksOf(BLOCKS);

test(`block index: the last word on each block, whatever the order, SEED=${SEED}`, async () => {
  const random = new SeededRandom(SEED);
  const index = new BlockIndex(folder, BLOCKS, 0);
  const model = new Map<number, { crc: number; ino: number; group: number }>();
  const places = () => 3 * BUCKET - 3000 + random.below(6000);
  for (let step = 0; step < 20_000; step++) {
    const [first, ino, group] = [places(), random.below(2 ** 40), random.below(2 ** 34)];
    const count = random.below(3) === 0 ? 1 + random.below(64) : 1;
    const gone = random.below(3) === 0;
    for (let block = first; block < first + count; block++) {
      const crc = random.next();
      if (gone) index.released(block);
      else index.mapped(ino, group, block, crc);
      if (gone) model.delete(block);
      else model.set(block, { crc, ino, group });
    }
  }
  assert.equal(index.checksumOf(3 * BUCKET), -1, "nothing is known before it is loaded");
  await index.load(2 * BUCKET, 4 * BUCKET);
  for (let block = 3 * BUCKET - 3000; block < 3 * BUCKET + 3100; block++) {
    assert.equal(index.checksumOf(block), model.get(block)?.crc ?? -1, `block ${block}`);
  }
  for (let i = 0; i < 20; i++) {
    const block = places();
    const { ino, group } = model.get(block) ?? {};
    assert.deepEqual(await index.ownerOf(block), ino === undefined ? null : { ino, group });
  }
  index.close();
});

test("block index: what happens while a bucket is read, and after it, is in it", async () => {
  const index = new BlockIndex(folder, BLOCKS, 0);
  // More than one turn of the event loop reads.
  for (let i = 0; i < 200_000; i++) index.note(i, 1, (i * 7) % BUCKET, i);
  let turns = 0;
  let loaded = false;
  const loading = index.load(0, BUCKET).then(() => {
    loaded = true;
  });
  const change = () => {
    index.mapped(9, 9, turns, 4_000_000_000 + turns);
    index.released(1000 + turns);
    turns++;
    if (!loaded) setImmediate(change);
  };
  setImmediate(change);
  await loading;
  assert.ok(turns > 1, "others had a turn");
  for (let i = 0; i < turns; i++) {
    assert.deepEqual([index.checksumOf(i), index.checksumOf(1000 + i)], [4_000_000_000 + i, -1], `turn ${i}`);
  }
  index.mapped(9, 9, 500, 77);
  assert.deepEqual([index.checksumOf(500), index.isFresh(500)], [77, true]);
  assert.equal(index.isFresh(0), false, "it was there when the load ended");
  await index.load(0, BUCKET);
  assert.equal(index.isFresh(500), false);
  await index.load(BUCKET, 2 * BUCKET);
  assert.equal(index.checksumOf(500), -1, "buckets before the slice go");
  index.close();
});

test("block index: what was unmapped before its row was noted keeps its checksum until it is released", async () => {
  const index = new BlockIndex(folder, 1000, 0);
  index.unmapped(2, 0, 10, 1234);
  index.filling = false;
  index.unmapped(2, 0, 11, 1234);
  await index.load(0, 1000);
  assert.deepEqual([index.checksumOf(10), index.checksumOf(11)], [1234, -1]);
  index.released(10);
  assert.equal(index.checksumOf(10), -1);
  index.close();
});

test("block index: blocks before its start, and behind the LU as it was, are nobody's", async () => {
  const index = new BlockIndex(folder, BLOCKS, 2 * BUCKET + 5);
  for (const block of [0, BUCKET, 2 * BUCKET, BLOCKS, BLOCKS + 9]) index.mapped(1, 1, block, 5);
  index.released(BLOCKS + 9);
  await index.load(2 * BUCKET, 3 * BUCKET);
  assert.deepEqual([index.from, index.checksumOf(2 * BUCKET)], [2 * BUCKET, 5]);
  assert.deepEqual([await index.ownerOf(0), await index.ownerOf(BLOCKS)], [null, null]);
  index.close();
});

test("block log: a run that goes on costs four bytes a block; the file has no name", async () => {
  const log = new BlockLog(folder, 1);
  for (let block = 0; block < 64; block++) log.owned(0, block, 5, 6, block);
  log.owned(0, 64, 5, 7, 64);
  const runs: number[][] = [];
  await log.read(0, {
    owned: (first, count, ino, group, crcAt) => runs.push([first, count, ino, group, crcAt(count - 1)]),
    released: () => {},
  });
  assert.deepEqual(runs, [
    [0, 64, 5, 6, 63],
    [64, 1, 5, 7, 64],
  ]);
  assert.deepEqual(readdirSync(folder), []);
  log.close();
  log.close();
});

test("block log: when it cannot be written the reader learns it, and whoever notes does not", async () => {
  const log = new BlockLog(folder, 1024);
  log.owned(0, 0, 1, 1, 1);
  log.close();
  for (let block = 0; block < 10_000; block++) log.owned(0, 2 * block, 1, 1, 1);
  await assert.rejects(log.read(0, { owned: () => {}, released: () => {} }), (error) => isStorageError(error, "EIO"));
});
