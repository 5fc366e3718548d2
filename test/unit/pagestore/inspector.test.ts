import assert from "node:assert/strict";
import { test } from "node:test";
import { BLOCK_BYTES, KIB, type LuByte, MIB } from "../../../src/lib/units.js";
import type { BlockInspector } from "../../../src/lu/lu.js";
import { NO_PARTICIPANT } from "../../../src/pagestore/contract.js";
import { homeOf, planGeometry } from "../../../src/pagestore/layout.js";
import type { LogPageStore } from "../../../src/pagestore/store.js";
import type { MemoryLu } from "../../support/memory-lu.js";
import { scan } from "../../support/scan.js";
import { createTable, formattedLu, open, put } from "./rig.js";

const geometry = planGeometry(4 * 1024 * KIB, 512 * KIB);

async function filled(): Promise<{ lu: MemoryLu; store: LogPageStore }> {
  const lu = await formattedLu({ redundant: true, logBytes: 512 * KIB });
  const store = await open(lu);
  createTable(store);
  for (let k = 0; k < 200; k++) put(store, k, "h".repeat(200));
  await store.durable();
  await store.checkpoint();
  return { lu, store };
}

async function judged(lu: MemoryLu, inspector: BlockInspector, at: number): Promise<string> {
  return await inspector.judge(lu.peek(at, BLOCK_BYTES), at as LuByte);
}

async function prepare(lu: MemoryLu, inspector: BlockInspector): Promise<void> {
  await inspector.prepare(0 as LuByte, lu.sizeBytes as LuByte);
}

/** The slot of the first table block that is in use. */
async function tableSlot(lu: MemoryLu, inspector: BlockInspector): Promise<number> {
  for (const slot of [0, 1]) {
    const at = geometry.tableStart + slot * BLOCK_BYTES;
    if ((await judged(lu, inspector, at)) === "good") return at;
  }
  throw new Error("no slot is good");
}

test("page inspector: rot in superblock, log, table and pages is found and named; nothing else is judged", async () => {
  const { lu, store } = await filled();
  put(store, 1000, "in the log only");
  await store.durable();
  const inspector = store.inspector();
  assert.deepEqual(await scan(lu, inspector), []);
  const superblock = lu.peek(0, 8)[0] === 0 ? BLOCK_BYTES : 0;
  const table = await tableSlot(lu, inspector);
  const logUsed = store.logUsedBytes;
  assert.ok(logUsed >= 2 * BLOCK_BYTES);
  for (let at = 0; at < lu.sizeBytes; at += BLOCK_BYTES) lu.corrupt(at);
  const found = await scan(lu, inspector);
  assert.ok(found.every(({ verdict }) => verdict === "bad"));
  const names = new Map<string, number>();
  for (const { name } of found) {
    const kind = String(name).replace(/ \(page \d+\)$/, "");
    names.set(kind, (names.get(kind) ?? 0) + 1);
  }
  assert.equal(names.get('superblock of "unit"'), 1);
  assert.equal(names.get('log of "unit"'), logUsed / BLOCK_BYTES);
  assert.equal(names.get('checksums of the metadata of "unit"'), 1);
  assert.ok((names.get('metadata of "unit"') ?? 0) >= 8);
  assert.equal(names.size, 4);
  assert.ok(found.some(({ at }) => at === table));
  assert.ok(found.some(({ at }) => at === superblock || at === BLOCK_BYTES - superblock));
  const page5 = found.find(({ at }) => at === homeOf(geometry, 5));
  assert.equal(page5?.name, 'metadata of "unit" (page 5)');
  inspector.close();
});

test("page inspector: the log is known again after a restart, over its end too", async () => {
  const { lu, store } = await filled();
  let parts: Buffer[] = [];
  let oldest = Number.POSITIVE_INFINITY;
  store.join({ ...NO_PARTICIPANT, seal: () => parts.splice(0), oldestSidecar: () => oldest });
  // Past the end of the log.
  for (let k = 0; k < 40; k++) {
    put(store, k, "x");
    parts = [Buffer.alloc(20_000, k)];
    await store.durable();
    if (k === 30) await store.checkpoint();
    if (k === 30) oldest = store.durableSeq + 1;
  }
  const logUsed = store.logUsedBytes;
  const survivor = lu.crash({ keep: "none" });
  const again = await open(survivor);
  assert.equal(again.logUsedBytes, logUsed);
  const inspector = again.inspector();
  await prepare(survivor, inspector);
  let [good, other] = [0, 0];
  for (let at = geometry.logStart; at < geometry.logStart + geometry.logBytes; at += BLOCK_BYTES) {
    const verdict = await judged(survivor, inspector, at);
    if (verdict === "good") good++;
    else if (verdict === "unknown") other++;
    else assert.fail(`${verdict} at ${at}`);
  }
  assert.deepEqual([good, other], [logUsed / BLOCK_BYTES, (geometry.logBytes - logUsed) / BLOCK_BYTES]);
  await again.close();
});

test("page inspector: a record with lists of entries is known in all its blocks, before and after a restart", async () => {
  const lu = await formattedLu({ sizeBytes: 32 * MIB });
  const store = await open(lu);
  let parts = [Buffer.alloc(3 * MIB, 5)];
  store.join({ ...NO_PARTICIPANT, seal: () => parts.splice(0), oldestSidecar: () => 1 });
  createTable(store);
  await store.durable();
  parts = [];
  const { logStart } = planGeometry(lu.sizeBytes);
  const survivor = lu.crash({ keep: "none" });
  const again = await open(survivor);
  for (const [which, its] of [[lu, store] as const, [survivor, again] as const]) {
    const inspector = its.inspector();
    for (let at = 0; at < its.logUsedBytes; at += BLOCK_BYTES) {
      assert.equal(await judged(which, inspector, logStart + at), "good", `block at ${at}`);
    }
    assert.equal(its.logUsedBytes > 3 * MIB, true);
    assert.equal(await judged(which, inspector, logStart + its.logUsedBytes), "unknown");
  }
  await again.close();
});

test("page inspector: a page that is newer in the log is not bad at home, whatever stands there", async () => {
  const { lu, store } = await filled();
  const inspector = store.inspector();
  await prepare(lu, inspector);
  const homes = Array.from({ length: 8 }, (_, i) => homeOf(geometry, i + 1));
  const before = await Promise.all(homes.map((at) => judged(lu, inspector, at)));
  assert.deepEqual(before, new Array(8).fill("good"));
  for (let k = 0; k < 200; k++) put(store, k, "n".repeat(200));
  await store.durable();
  const spoiled = homes.filter((at) => at !== homes[0]);
  for (const at of spoiled) lu.corrupt(at);
  const verdicts = await Promise.all(spoiled.map((at) => judged(lu, inspector, at)));
  assert.ok(verdicts.filter((verdict) => verdict === "unknown").length >= 6, verdicts.join());
  assert.equal(await inspector.nameOf(homes[4] as LuByte), 'metadata of "unit" (page 5)');
  await store.checkpoint();
  await prepare(lu, inspector);
  const after = await Promise.all(homes.map((at) => judged(lu, inspector, at)));
  assert.ok(after.every((verdict) => verdict !== "unknown"));
  inspector.close();
  await store.close();
});

test("page inspector: what was written since prepare is never bad, and what is being written neither", async () => {
  const { lu, store } = await filled();
  const inspector = store.inspector();
  await prepare(lu, inspector);
  const before = lu.peek(0, lu.sizeBytes);
  const stale = async (at: number) => await inspector.judge(before.subarray(at, at + BLOCK_BYTES), at as LuByte);
  const verdicts = new Set<string>();
  // At every single write of a commit and a checkpoint: what the LU holds, and what a scrub has read before.
  lu.beforeOperation = () => {
    pending.push(judgeAll());
    return undefined;
  };
  const pending: Promise<void>[] = [];
  const judgeAll = async (): Promise<void> => {
    for (let at = 0; at < lu.sizeBytes; at += BLOCK_BYTES) {
      verdicts.add(await judged(lu, inspector, at));
      verdicts.add(await stale(at));
    }
  };
  for (let k = 0; k < 200; k++) put(store, k, "n".repeat(200));
  await store.durable();
  await store.checkpoint();
  put(store, 0, "again");
  await store.durable();
  lu.beforeOperation = null;
  await Promise.all(pending);
  await judgeAll();
  assert.ok(pending.length >= 6, `${pending.length} writes and flushes`);
  assert.deepEqual([...verdicts].sort(), ["good", "unknown"]);
  inspector.close();
  await store.close();
});

test("page inspector: prepared in the middle of a write, what was read before it took effect is not bad", async () => {
  const { lu, store } = await filled();
  const snapshots: { inspector: BlockInspector; content: Buffer }[] = [];
  lu.beforeOperation = () => {
    const inspector = store.inspector();
    // Its work is done when it returns.
    void prepare(lu, inspector);
    snapshots.push({ inspector, content: lu.peek(0, lu.sizeBytes) });
    return undefined;
  };
  for (let k = 0; k < 200; k++) put(store, k, "n".repeat(200));
  await store.durable();
  await store.checkpoint();
  put(store, 0, "again");
  await store.durable();
  lu.beforeOperation = null;
  for (const { inspector, content } of snapshots) {
    for (let at = 0; at < lu.sizeBytes; at += BLOCK_BYTES) {
      assert.notEqual(await inspector.judge(content.subarray(at, at + BLOCK_BYTES), at as LuByte), "bad", `at ${at}`);
    }
    inspector.close();
  }
  await store.close();
});

test("page inspector: a page that is on its way home is not bad there", async () => {
  const { lu, store } = await filled();
  const inspector = store.inspector();
  for (let k = 0; k < 200; k++) put(store, k, "n".repeat(200));
  await store.durable();
  const verdicts: Promise<string>[] = [];
  lu.beforeOperation = ({ kind, at }) => {
    if (kind !== "write" || at < geometry.pagesStart) return undefined;
    lu.corrupt(at);
    void prepare(lu, inspector);
    verdicts.push(judged(lu, inspector, at));
    return undefined;
  };
  await store.checkpoint();
  lu.beforeOperation = null;
  assert.deepEqual(new Set(await Promise.all(verdicts)), new Set(["unknown"]));
  assert.equal(await judged(lu, inspector, homeOf(geometry, 4)), "good");
  inspector.close();
  await store.close();
});

test("page inspector: a write that got lost is bad, though what stands there is a sound older one", async () => {
  const { lu, store } = await filled();
  const inspector = store.inspector();
  const old = lu.peek(0, lu.sizeBytes);
  // Twice: the same slots again.
  for (const text of ["a", "b"]) {
    for (let k = 0; k < 200; k++) put(store, k, text.repeat(200));
    await store.durable();
    await store.checkpoint();
  }
  await prepare(lu, inspector);
  const changed = [0, BLOCK_BYTES, await tableSlot(lu, inspector), homeOf(geometry, 4)];
  const verdicts = [];
  for (const at of changed) verdicts.push(await inspector.judge(old.subarray(at, at + BLOCK_BYTES), at as LuByte));
  assert.deepEqual(verdicts.sort(), ["bad", "bad", "bad", "unknown"], "the other superblock does not count");
  inspector.close();
  await store.close();
});

test("page inspector: of a closed store nothing is known", async () => {
  const { lu, store } = await filled();
  const inspector = store.inspector();
  await prepare(lu, inspector);
  await store.close();
  assert.equal(await judged(lu, inspector, homeOf(geometry, 2)), "unknown");
  assert.equal(await inspector.nameOf(homeOf(geometry, 2) as LuByte), null);
  assert.deepEqual(await scan(lu, inspector), []);
  inspector.close();
});
