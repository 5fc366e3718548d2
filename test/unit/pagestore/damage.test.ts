import assert from "node:assert/strict";
import fs from "node:fs";
import { test } from "node:test";
import { BLOCK_BYTES, KIB } from "../../../src/lib/units.js";
import { NO_PARTICIPANT } from "../../../src/pagestore/contract.js";
import { probePageStore } from "../../../src/pagestore/format.js";
import { homeOf, planGeometry } from "../../../src/pagestore/layout.js";
import type { MemoryLu } from "../../support/memory-lu.js";
import { createTable, formattedLu, open, put, type Row, rows, scratchDir } from "./rig.js";

/** A store with 300 rows, 100 of them in the log only; closed by a crash. */
async function filled(redundant: boolean): Promise<{ lu: MemoryLu; expected: Row[]; logBlocks: number }> {
  const lu = await formattedLu({ redundant });
  const store = await open(lu);
  let parts: Buffer[] = [];
  store.join({ ...NO_PARTICIPANT, seal: () => parts.splice(0) });
  createTable(store);
  for (let k = 0; k < 200; k++) put(store, k, "h".repeat(200));
  await store.durable();
  await store.checkpoint();
  for (let k = 200; k < 300; k++) {
    put(store, k, "l".repeat(200));
    parts = [Buffer.alloc(5000, 3)];
    if (k % 20 === 0) await store.durable();
  }
  await store.durable();
  const expected = rows(store);
  const logBlocks = store.logUsedBytes / BLOCK_BYTES;
  return { lu: lu.crash({ keep: "none" }), expected, logBlocks };
}

const geometry = planGeometry(4 * 1024 * KIB);

test("damage: rot in superblock, log, checksum table and page area is found and mended from the other copy", async () => {
  const { lu, expected, logBlocks } = await filled(true);
  const spots = [BLOCK_BYTES * 0, BLOCK_BYTES * 1];
  for (let page = 1; page <= 12; page++) spots.push(homeOf(geometry, page));
  for (let i = 0; i < geometry.logBytes / BLOCK_BYTES; i++) spots.push(geometry.logStart + i * BLOCK_BYTES);
  for (let slot = 0; slot < 2; slot++) spots.push(geometry.tableStart + slot * BLOCK_BYTES);
  for (const at of spots) lu.corrupt(at);
  const store = await open(lu, { quickCheck: true });
  assert.deepEqual(rows(store), expected);
  assert.ok(store.statistics().healedBlocks > logBlocks + 8);
  await store.close();
  const { heals } = lu.counters;
  const again = await open(lu);
  assert.deepEqual(rows(again), expected);
  assert.equal(again.statistics().healedBlocks, 0);
  assert.equal(lu.counters.heals, heals);
  await again.close();
});

test("damage: a page at home that is bad in every copy is an error, never data", async () => {
  const { lu } = await filled(false);
  for (let page = 2; page <= 6; page++) lu.corrupt(homeOf(geometry, page));
  await assert.rejects(open(lu), { code: "EIO", message: /page of the database/ });
});

test("damage: a store that cannot be opened is left as it was, also where one of two copies was proven", async () => {
  for (const closed of [false, true]) {
    const { lu: crashed } = await filled(true);
    let lu = crashed;
    if (closed) {
      await (await open(lu)).close();
      lu = lu.crash({ keep: "none" });
    }
    const bad = homeOf(geometry, 3);
    for (const at of [0, BLOCK_BYTES, geometry.tableStart, geometry.logStart, homeOf(geometry, 2)]) lu.corrupt(at);
    const { failReads } = lu;
    lu.failReads = (at, byteCount) => at + byteCount > bad;
    const { heals, writes } = lu.counters;
    await assert.rejects(open(lu), { code: "EIO" });
    assert.deepEqual([lu.counters.heals, lu.counters.writes], [heals, writes]);
    // With the other member it is all there, and healed.
    lu.failReads = failReads;
    const store = await open(lu);
    assert.equal(rows(store).length, 300);
    assert.ok(lu.counters.heals > heals);
    await store.close();
  }
});

test("damage: a record that rots before a later one is an error, never a silent step back", async () => {
  const { lu, logBlocks } = await filled(false);
  const used = [...Array(geometry.logBytes / BLOCK_BYTES).keys()]
    .map((i) => geometry.logStart + i * BLOCK_BYTES)
    .filter((at) => lu.peek(at, 8).toString("latin1") === "SWRECORD");
  assert.ok(used.length >= 5 && logBlocks > 10);
  lu.corrupt(used[3]!);
  await assert.rejects(open(lu), { code: "EIO", message: /middle of the log/ });
});

test("damage: a store that was closed is opened without a search of its log; after a crash, also after the very first commit, it is searched", async () => {
  const searched = async (lu: MemoryLu): Promise<boolean> => {
    const before = lu.counters.bytesRead;
    const store = await open(lu);
    const bytesRead = lu.counters.bytesRead - before;
    await store.close();
    return bytesRead > geometry.logBytes;
  };
  const lu = await formattedLu();
  const first = await open(lu);
  createTable(first);
  for (let k = 0; k < 50; k++) {
    put(first, k, "first life");
    await first.durable();
  }
  await first.close();
  assert.equal(await searched(lu), false);
  const second = await open(lu);
  assert.equal(second.wasClosed, true);
  const opened = lu.crash({ keep: "none" });
  assert.equal(await searched(opened), true, "it was open, and had written nothing");
  const last = await open(opened);
  for (let k = 0; k < 3; k++) {
    put(last, k, "last life");
    await last.durable();
  }
  const crashed = opened.crash({ keep: "none" });
  const heads = [...Array(geometry.logBytes / BLOCK_BYTES).keys()]
    .map((i) => geometry.logStart + i * BLOCK_BYTES)
    .filter((at) => crashed.peek(at, 8).toString("latin1") === "SWRECORD")
    .slice(-3);
  crashed.corrupt(heads[0]!);
  await assert.rejects(open(crashed), { code: "EIO", message: /middle of the log/ });
});

test("damage: rot in the log while the store runs is mended by the checkpoint", async () => {
  const lu = await formattedLu({ redundant: true });
  const store = await open(lu);
  createTable(store);
  for (let k = 0; k < 100; k++) put(store, k, "r".repeat(100));
  await store.durable();
  for (let at = 0; at < store.logUsedBytes; at += BLOCK_BYTES) lu.corrupt(geometry.logStart + at);
  await store.checkpoint();
  assert.ok(store.statistics().healedBlocks > 2);
  const expected = rows(store);
  const again = await open(lu.crash({ keep: "none" }));
  assert.deepEqual(rows(again), expected);
  await again.close();
});

test("damage: rot in the log that no copy mends fails the store, and home pages stay as they were", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  createTable(store);
  put(store, 1, "home");
  await store.durable();
  await store.checkpoint();
  put(store, 2, "log");
  await store.durable();
  const from = geometry.logStart;
  for (let at = from; at < from + 64 * BLOCK_BYTES; at += BLOCK_BYTES) lu.corrupt(at);
  await assert.rejects(store.checkpoint(), { code: "EIO" });
  assert.ok(store.failed);
  await store.close();
});

test("damage: a read error of the LU while opening is passed on, and leaves no scratch copy", async () => {
  const { lu } = await filled(false);
  lu.failReads = (at) => at >= geometry.pagesStart;
  await assert.rejects(open(lu), { code: "EIO", message: /injected/ });
  const uuid = (await probePageStore(lu))?.uuid ?? "";
  assert.deepEqual(
    fs.readdirSync(scratchDir).filter((name) => name === `pagestore-${uuid}.db`),
    [],
  );
});
