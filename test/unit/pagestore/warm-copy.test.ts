import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { SeededRandom } from "../../../src/lib/prng.js";
import { KIB, type LuByte, MIB } from "../../../src/lib/units.js";
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
  const store = await open(lu, { warm: () => copy.take(), quickCheck: true, log });
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
    const opened = await openWarm(lu.crash({ keep: "all" }), copy);
    assert.deepEqual(opened.rows, expected, `seed ${seed}`);
    if (opened.warm) used++;
    assert.equal(used, 1, `seed ${seed}: the copy was of use`);
  }
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
