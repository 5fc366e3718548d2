import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { SeededRandom } from "../../../src/lib/prng.js";
import { KIB, type LuByte, MIB } from "../../../src/lib/units.js";
import type { LogicalUnit } from "../../../src/lu/lu.js";
import { planGeometry } from "../../../src/pagestore/layout.js";
import { WarmCopy } from "../../../src/pagestore/warm-copy.js";
import { MemoryLu } from "../../support/memory-lu.js";
import { createTable, formattedLu, open, put, type Row, rows, scratchDir } from "./rig.js";

let files = 0;
const newFile = () => path.join(scratchDir, `warm-${++files}.db`);

/** The bytes of this moment on an LU of its own. */
async function snapshot(lu: MemoryLu): Promise<MemoryLu> {
  const bytes = Buffer.alloc(lu.sizeBytes);
  await lu.read(bytes, 0 as LuByte);
  const copy = new MemoryLu({ sizeBytes: lu.sizeBytes });
  await copy.write(bytes, 0 as LuByte);
  await copy.flush();
  return copy;
}

/** Opens what a crash leaves with the copy. @returns its rows, whether the copy was of use, and how much was read */
async function openWarm(lu: MemoryLu, copy: WarmCopy): Promise<{ rows: Row[]; warm: boolean; bytesRead: number }> {
  let warm = false;
  const log = {
    debug() {},
    warn() {},
    error() {},
    info: (fields: object) => {
      if ("warm" in fields) warm = fields.warm === true;
    },
  };
  const before = lu.counters.bytesRead;
  const store = await open(lu, { warm: (tailSeq) => copy.take(tailSeq), quickCheck: true, log });
  const found = rows(store);
  const bytesRead = lu.counters.bytesRead - before;
  await store.close();
  return { rows: found, warm, bytesRead };
}

test("warm copy: what was followed needs not be read again, and what came after is read", async () => {
  const lu = await formattedLu({ sizeBytes: 16 * MIB, logBytes: 512 * KIB });
  const store = await open(lu);
  createTable(store);
  for (let k = 0; k < 8000; k++) {
    put(store, k, "x".repeat(400));
    if (k % 100 === 99) await store.durable();
  }
  await store.checkpoint();
  const cold = await openWarm(await snapshot(lu), new WarmCopy(lu, newFile()));
  const copy = new WarmCopy(lu, newFile());
  assert.ok((await copy.follow()) > 0);
  put(store, 1, "followed");
  await store.durable();
  assert.equal(await copy.follow(), 1);
  assert.equal(await copy.follow(), 0, "nothing is new");
  put(store, 2, "not followed");
  await store.durable();
  const opened = await openWarm(lu.crash({ keep: "all" }), copy);
  assert.ok(opened.warm);
  assert.deepEqual([opened.rows[1]?.v, opened.rows[2]?.v], ["followed", "not followed"]);
  assert.ok(opened.bytesRead < cold.bytesRead / 2, `${opened.bytesRead} bytes, cold ${cold.bytesRead}`);
});

test("warm copy: what was written between its last look and an orderly end is read from the log, although the log's tail has passed it", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  createTable(store);
  put(store, 1, "before");
  await store.durable();
  const copy = new WarmCopy(lu, newFile());
  await copy.follow();
  for (let k = 0; k < 300; k++) put(store, k, `after ${k}`);
  await store.durable();
  const expected = rows(store);
  await store.close();
  const opened = await openWarm(lu, copy);
  assert.ok(opened.warm);
  assert.deepEqual(opened.rows, expected);
});

test("warm copy: a record that it has and the log has not makes it worthless", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  createTable(store);
  for (let k = 0; k < 100; k++) put(store, k, "before");
  await store.durable();
  // One disk holds this much; the other one, which is lost, also held the next record.
  const kept = await snapshot(lu);
  for (let k = 0; k < 100; k++) put(store, k, "lost");
  await store.durable();
  const copy = new WarmCopy(lu, newFile());
  await copy.follow();
  const opened = await openWarm(kept, copy);
  assert.equal(opened.warm, false);
  assert.ok(opened.rows.every(({ v }) => v === "before"));
});

test("warm copy: another record of the same number is not the one that it has", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  createTable(store);
  for (let k = 0; k < 100; k++) put(store, k, "before");
  await store.durable();
  const kept = await snapshot(lu);
  put(store, 1, "lost");
  await store.durable();
  const copy = new WarmCopy(lu, newFile());
  await copy.follow();
  const other = await open(kept);
  put(other, 2, "instead");
  await other.durable();
  const opened = await openWarm(kept.crash({ keep: "all" }), copy);
  assert.equal(opened.warm, false);
  assert.deepEqual([opened.rows[1]?.v, opened.rows[2]?.v], ["before", "instead"]);
});

test("warm copy: followed now and then through commits, checkpoints and laps of the log, it gives what a cold start gives", async () => {
  for (let seed = 1; seed <= 8; seed++) {
    const random = new SeededRandom(seed);
    const lu = await formattedLu({ logBytes: 512 * KIB });
    const store = await open(lu);
    createTable(store);
    const copy = new WarmCopy(lu, newFile());
    let used = 0;
    for (let step = 0; step < 120; step++) {
      for (let i = random.below(12); i >= 0; i--) put(store, random.below(600), "y".repeat(1 + random.below(400)));
      await store.durable();
      if (random.below(4) === 0) await copy.follow();
      if (random.below(15) === 0) await store.checkpoint();
    }
    await copy.follow();
    put(store, 5, "last");
    await store.durable();
    const expected = rows(store);
    if (seed % 2 === 0) await store.close();
    const opened = await openWarm(seed % 2 === 0 ? lu : lu.crash({ keep: "all" }), copy);
    assert.deepEqual(opened.rows, expected, `seed ${seed}`);
    if (opened.warm) used++;
    assert.equal(used, 1, `seed ${seed}: the copy was of use`);
  }
});

/**
 * What a follower sees when one of two disks has stopped taking writes: every other chunk is read as it was.
 * @param end  before this byte the true copy is the alternative
 */
function halfStale(lu: MemoryLu, old: MemoryLu, end: number): LogicalUnit {
  const chunkBytes = 16 * KIB;
  const view = Object.create(lu) as MemoryLu;
  view.read = async (target, at) => {
    for (let done = 0; done < target.length; ) {
      const here = at + done;
      const part = target.subarray(done, done + Math.min(target.length - done, chunkBytes - (here % chunkBytes)));
      await (Math.floor(here / chunkBytes) % 2 === 0 ? old : lu).read(part, here as LuByte);
      done += part.length;
    }
  };
  view.readAlternatives = async function* (target, at) {
    for (const side of at < end ? [old, lu] : [old]) {
      await side.read(target, at);
      yield;
    }
  };
  view.heal = async () => {};
  return view;
}

test("warm copy: pages that were read from a disk that is behind cost nothing that came later", async () => {
  for (let seed = 1; seed <= 16; seed++) {
    const random = new SeededRandom(seed);
    const lu = await formattedLu({ logBytes: 512 * KIB });
    const store = await open(lu);
    createTable(store);
    const { pagesStart } = planGeometry(lu.sizeBytes, 512 * KIB);
    const commit = async (): Promise<void> => {
      for (let i = random.below(12); i >= 0; i--) put(store, random.below(600), "y".repeat(1 + random.below(400)));
      await store.durable();
    };
    for (let step = 0; step < 20; step++) await commit();
    await store.checkpoint();
    const old = await snapshot(lu);
    for (let step = 0; step < 20; step++) await commit();
    await store.checkpoint();
    const copy = new WarmCopy(halfStale(lu, old, seed % 2 === 0 ? pagesStart : lu.sizeBytes), newFile());
    for (let step = 0; step < 20; step++) {
      await commit();
      await copy.follow();
    }
    const expected = rows(store);
    const opened = await openWarm(lu.crash({ keep: "all" }), copy);
    assert.deepEqual(opened.rows, expected, `seed ${seed}`);
    assert.ok(opened.warm, `seed ${seed}: the copy was of use`);
  }
});

test("warm copy: once it is taken, nothing touches it any more", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  createTable(store);
  for (let k = 0; k < 100; k++) put(store, k, "taken");
  await store.durable();
  const file = newFile();
  const copy = new WarmCopy(lu, file);
  await copy.follow();
  const taking = copy.take(0);
  // A round that was due just then, and one that comes later.
  const late = copy.follow();
  const warm = await taking;
  await late;
  const [bytes, marks] = [readFileSync(file), Uint32Array.from(warm!.marks)];
  put(store, 1, "later");
  await store.durable();
  assert.equal(await copy.follow(), 0);
  assert.deepEqual(readFileSync(file), bytes);
  assert.deepEqual(warm!.marks, marks);
  await store.close();
});

test("warm copy: closed, it leaves no file", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  createTable(store);
  await store.durable();
  const file = newFile();
  const copy = new WarmCopy(lu, file);
  await copy.follow();
  assert.ok(existsSync(file));
  await copy.close();
  assert.ok(!existsSync(file));
  await store.close();
});

test("warm copy: a scratch folder that is full is an error that says so, and leaves no copy; with room again it begins anew", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  createTable(store);
  put(store, 1, "one");
  await store.durable();
  const file = newFile();
  symlinkSync("/dev/full", file);
  const full = new WarmCopy(lu, file);
  await assert.rejects(full.follow(), { name: "StorageError", code: "ENOSPC", message: /metadata/ });
  assert.equal(await full.take(0), null);
  rmSync(file);
  const copy = new WarmCopy(lu, file);
  assert.ok((await copy.follow()) > 0);
  await copy.close();
  await store.close();
});
