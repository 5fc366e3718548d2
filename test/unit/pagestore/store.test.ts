import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, KIB, MIB } from "../../../src/lib/units.js";
import type { CommitParticipant } from "../../../src/pagestore/contract.js";
import { NO_PARTICIPANT } from "../../../src/pagestore/contract.js";
import { formatPageStore, probePageStore } from "../../../src/pagestore/format.js";
import { MemoryLu } from "../../support/memory-lu.js";
import { createTable, formattedLu, open, put, rows, scratchDir } from "./rig.js";

const filesOf = (uuid: string): string[] => fs.readdirSync(scratchDir).filter((name) => name.includes(uuid));

test("store: what was durable is there after a crash, what was not is gone", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  createTable(store);
  put(store, 1, "one");
  await store.durable();
  put(store, 2, "two");
  const after = lu.crash({ keep: "none" });
  const again = await open(after);
  assert.deepEqual(rows(again), [{ k: 1, v: "one" }]);
  await again.close();
});

test("store: close leaves everything in the page area and no scratch copy", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  createTable(store);
  for (let k = 0; k < 500; k++) put(store, k, "x".repeat(100));
  assert.ok(filesOf(store.uuid).length > 0);
  assert.equal(fs.statSync(path.join(scratchDir, `pagestore-${store.uuid}.db`)).mode & 0o777, 0o600);
  await store.close();
  assert.deepEqual(filesOf(store.uuid), []);
  assert.equal(store.logUsedBytes, 0);
  const seqs: number[] = [];
  const again = await open(lu, { onReplay: (seq) => seqs.push(seq), quickCheck: true });
  assert.equal(rows(again).length, 500);
  assert.deepEqual(seqs, []);
  await again.close();
});

test("store: what was asked for while it closes is committed, or refused; a large commit then finds room in the log", async () => {
  const lu = await formattedLu({ logBytes: 512 * KIB });
  const store = await open(lu);
  let inCommit = () => {};
  store.join({ ...NO_PARTICIPANT, settle: async () => inCommit() });
  createTable(store);
  for (let k = 0; store.logUsedBytes < 150 * KIB; k++) {
    put(store, k, "x".repeat(20_000));
    await store.durable();
  }
  let late: Promise<void> | null = null;
  inCommit = () => {
    inCommit = () => {};
    // With what stands in the log it does not fit: it has to wait for a checkpoint.
    for (let k = 0; k < 90; k++) put(store, 1000 + k, "y".repeat(4000));
    late = store.durable();
  };
  await store.close();
  assert.ok(late !== null);
  await late;
  await assert.rejects(store.durable(), { code: "EIO" });
  const again = await open(lu, { quickCheck: true });
  assert.ok(again.wasClosed);
  assert.equal(rows(again).filter(({ k }) => k >= 1000).length, 90);
  await again.close();
});

test("store: a stale scratch copy is thrown away", async () => {
  const lu = await formattedLu();
  const uuid = (await probePageStore(lu))?.uuid;
  fs.writeFileSync(path.join(scratchDir, `pagestore-${uuid}.db`), "rubbish");
  fs.writeFileSync(path.join(scratchDir, `pagestore-${uuid}.db-wal`), "rubbish");
  const store = await open(lu);
  createTable(store);
  await store.close();
});

test("store: waiters of one turn share a commit, and those that come meanwhile share the next", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  createTable(store);
  await store.durable();
  const before = store.statistics().commits;
  const waits: Promise<void>[] = [];
  for (let k = 0; k < 64; k++) {
    put(store, k, "v");
    waits.push(store.durable());
  }
  lu.beforeOperation = () => {
    for (let k = 100; k < 110; k++) waits.push(store.durable());
    lu.beforeOperation = null;
    return undefined;
  };
  await waits[0];
  await Promise.all(waits);
  assert.equal(store.statistics().commits - before, 2);
  assert.equal(store.statistics().waiters, 1 + 64 + 10);
  await store.close();
});

test("store: a commit without changes writes no record, and its participant settles all the same", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  const calls: string[] = [];
  const participant: CommitParticipant = {
    ...NO_PARTICIPANT,
    prepare: async () => void calls.push("prepare"),
    seal: () => {
      calls.push("seal");
      return [];
    },
    settle: async () => void calls.push("settle"),
    durable: (seq) => void calls.push(`durable ${seq}`),
  };
  store.join(participant);
  createTable(store);
  await store.durable();
  const { writes } = lu.counters;
  await store.durable();
  assert.equal(lu.counters.writes, writes);
  assert.deepEqual(calls, ["prepare", "seal", "settle", "durable 1", "prepare", "seal", "settle", "durable 1"]);
  await store.close();
});

test("store: sidecars come back in order from the tail on, and hold the tail", async () => {
  const lu = await formattedLu({ logBytes: 512 * KIB });
  const store = await open(lu);
  const state = { oldest: Number.POSITIVE_INFINITY, parts: [] as Buffer[] };
  store.join({ ...NO_PARTICIPANT, seal: () => state.parts.splice(0), oldestSidecar: () => state.oldest });
  createTable(store);
  await store.durable();
  for (let i = 2; i <= 6; i++) {
    put(store, i, "v");
    state.parts = [Buffer.alloc(i * 1000, i), Buffer.from("end")];
    await store.durable();
  }
  state.oldest = 4;
  await store.checkpoint();
  const seen: [number, Buffer][] = [];
  const again = await open(lu.crash({ keep: "none" }), { onReplay: (seq, sidecar) => seen.push([seq, sidecar]) });
  const expected = [4, 5, 6].map((i) => [i, Buffer.concat([Buffer.alloc(i * 1000, i), Buffer.from("end")])]);
  assert.deepEqual(seen, expected);
  assert.equal(rows(again).length, 5);
  await again.close();
});

test("store: the log wraps many times, and the checkpoint keeps up", async () => {
  const lu = await formattedLu({ logBytes: 512 * KIB, sizeBytes: 8 * MIB });
  let store = await open(lu);
  createTable(store);
  for (let k = 0; k < 1500; k++) {
    put(store, (k * 37) % 700, `${k}${"y".repeat(300)}`);
    if (k % 3 === 0) await store.durable();
  }
  await store.durable();
  assert.ok(store.statistics().bytesLogged > 10 * 512 * KIB);
  assert.ok(store.statistics().checkpoints > 5);
  const expected = rows(store);
  store = await open(lu.crash({ keep: "none" }));
  assert.deepEqual(rows(store), expected);
  assert.equal(store.db.pragma("integrity_check", { simple: true }), "ok");
  await store.close();
});

test("store: a record larger than its buffer takes several writes and several list blocks", async () => {
  const lu = await formattedLu({ logBytes: 16 * MIB, sizeBytes: 64 * MIB });
  const store = await open(lu);
  createTable(store);
  for (let k = 0; k < 2000; k++) put(store, k, "z".repeat(3500));
  await store.durable();
  assert.equal(store.statistics().records, 1);
  assert.ok(lu.counters.writes >= 3);
  for (let k = 0; k < 2000; k += 2) put(store, k, "a".repeat(3400));
  await store.durable();
  const expected = rows(store);
  const again = await open(lu.crash({ keep: "none" }));
  assert.deepEqual(rows(again), expected);
  await again.close();
});

test("store: a transaction that the log could never hold fails the store with a clear error", async () => {
  const lu = await formattedLu({ logBytes: 256 * KIB });
  const store = await open(lu);
  createTable(store);
  for (let k = 0; k < 100; k++) put(store, k, "z".repeat(3500));
  await assert.rejects(store.durable(), { code: "EIO" });
  assert.ok(store.failed);
  assert.match(String(store.failure?.message), /larger than the log/);
  await store.close();
});

test("store: a write error fails the store for ever, and nothing more is written", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  createTable(store);
  put(store, 1, "kept");
  await store.durable();
  lu.failWrites = true;
  put(store, 2, "lost");
  await assert.rejects(Promise.all([store.durable(), store.durable()]), { code: "EIO" });
  lu.failWrites = false;
  const { writes, flushes } = lu.counters;
  await assert.rejects(store.durable(), { code: "EIO" });
  await assert.rejects(store.checkpoint(), { code: "EIO" });
  await store.close();
  assert.deepEqual([lu.counters.writes, lu.counters.flushes], [writes, flushes]);
  assert.deepEqual(filesOf(store.uuid), []);
  const again = await open(lu);
  assert.deepEqual(rows(again), [{ k: 1, v: "kept" }]);
  await again.close();
});

test("store: an error of the participant rejects the waiters of that commit", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  store.join({ ...NO_PARTICIPANT, settle: () => Promise.reject(new Error("data LU is gone")) });
  createTable(store);
  await assert.rejects(store.durable(), { code: "EIO" });
  assert.equal(store.failure?.message, "data LU is gone");
  await store.close();
});

test("store: freePages runs out before SQLite does", async () => {
  const lu = await formattedLu({ sizeBytes: 2 * MIB, logBytes: 512 * KIB });
  const store = await open(lu);
  createTable(store);
  let k = 0;
  while (store.freePages() > 0) {
    put(store, k++, "f".repeat(3000));
    if (k % 20 === 0) await store.durable();
  }
  assert.ok(k > 100);
  for (let extra = 0; extra < 20; extra++) put(store, k++, "f".repeat(3000));
  await store.durable();
  const free = store.freePages();
  for (let gone = 0; gone < 100; gone++) {
    store.db.prepare("DELETE FROM t WHERE k = ?").run(gone);
    if (gone % 20 === 0) await store.durable();
  }
  assert.ok(store.freePages() > free + 50);
  await store.close();
  const again = await open(lu);
  assert.equal(rows(again).length, k - 100);
  await again.close();
});

test("store: past the page area SQLite refuses, and the LU stays as it was", async () => {
  const lu = await formattedLu({ sizeBytes: 2 * MIB, logBytes: 768 * KIB });
  const store = await open(lu);
  createTable(store);
  put(store, 1, "kept");
  await store.durable();
  assert.throws(
    () => {
      for (let k = 2; k < 1000; k++) put(store, k, "f".repeat(3000));
    },
    { code: "SQLITE_FULL" },
  );
  await store.durable().catch(() => {});
  await store.close();
  const again = await open(lu);
  assert.equal(again.db.pragma("integrity_check", { simple: true }), "ok");
  await again.close();
});

test("store: the open commit may have up to twice as much while the log is roomy; the record on its way counts, and what a release needs", async () => {
  const lu = await formattedLu({ logBytes: 512 * KIB, sizeBytes: 8 * MIB });
  const store = await open(lu);
  let releasePages = 0;
  const onItsWay: number[] = [];
  const arrived: number[] = [];
  store.join({
    ...NO_PARTICIPANT,
    seal: () => [Buffer.alloc(40 * KIB)],
    settle: async () => void onItsWay.push(store.commitBytesMax),
    durable: () => void arrived.push(store.commitBytesMax),
    oldestSidecar: () => 1,
    releasePages: () => releasePages,
  });
  assert.equal(store.recordBytesMax, 128 * KIB);
  assert.equal(store.commitBytesMax, 256 * KIB);
  createTable(store);
  for (let k = 0; k < 4; k++) {
    put(store, k, "w");
    await store.durable();
  }
  assert.deepEqual(onItsWay, arrived);
  assert.equal(arrived[0], 256 * KIB);
  const last = arrived.at(-1)!;
  assert.ok(last > 128 * KIB && last < 192 * KIB, `${last}`);
  // One and a half times so many pages: less than the quarter that is kept anyway, then more.
  releasePages = 20;
  assert.equal(store.commitBytesMax, last);
  releasePages = 24;
  assert.equal(store.commitBytesMax, last - 4 * BLOCK_BYTES);
  releasePages = 1000;
  assert.equal(store.commitBytesMax, 128 * KIB);
  await store.abandon();
});

test("store: releaseSidecars commits into the reserve while other commits wait", { timeout: 20_000 }, async () => {
  const lu = await formattedLu({ logBytes: 512 * KIB, sizeBytes: 8 * MIB });
  const store = await open(lu);
  const live: number[] = [];
  let releases = 0;
  const parts: Buffer[] = [];
  store.join({
    ...NO_PARTICIPANT,
    seal: () => {
      // Every commit leaves a sidecar, as small stable writes do.
      if (parts.length > 0) live.push(store.durableSeq + 1);
      return parts.splice(0);
    },
    oldestSidecar: () => live[0] ?? Number.POSITIVE_INFINITY,
    releaseSidecars: async (seq) => {
      releases++;
      // Three commits, one after the other, before the sidecars may go.
      for (let i = 0; i < 3; i++) {
        put(store, 10_000 + i, `release ${releases}`);
        await store.durable(true);
      }
      while ((live[0] ?? Number.POSITIVE_INFINITY) <= seq) live.shift();
    },
  });
  createTable(store);
  await store.durable();
  const client = async (id: number): Promise<void> => {
    for (let k = 0; k < 40; k++) {
      put(store, id * 1000 + k, "w");
      parts.push(Buffer.alloc(BLOCK_BYTES, id));
      await store.durable();
    }
  };
  await Promise.all([1, 2, 3, 4, 5, 6].map(client));
  assert.ok(releases > 2);
  assert.equal(store.failed, false);
  await store.close();
});

test("store: what is committed while sidecars are released waits for it, however long it takes", {
  timeout: 20_000,
}, async () => {
  const lu = await formattedLu({ logBytes: 512 * KIB, sizeBytes: 8 * MIB });
  const store = await open(lu);
  const live: number[] = [];
  let releasing = (): void => {};
  const began = new Promise<void>((resolve) => {
    releasing = resolve;
  });
  store.join({
    ...NO_PARTICIPANT,
    seal: () => {
      live.push(store.durableSeq + 1);
      return [Buffer.alloc(8 * KIB)];
    },
    oldestSidecar: () => live[0] ?? Number.POSITIVE_INFINITY,
    releaseSidecars: async (seq) => {
      releasing();
      // As slow disks are.
      await new Promise((resolve) => setTimeout(resolve, 1500));
      put(store, 10_000, "released");
      await store.durable(true);
      while ((live[0] ?? Number.POSITIVE_INFINITY) <= seq) live.shift();
    },
  });
  createTable(store);
  let ended = false;
  const client = async (id: number): Promise<void> => {
    for (let k = 0; !ended; k++) {
      put(store, id * 1000 + k, "w");
      await store.durable();
    }
  };
  const clients = [1, 2, 3].map(client);
  await began;
  await new Promise((resolve) => setTimeout(resolve, 2000));
  ended = true;
  await Promise.all(clients);
  assert.equal(store.failed, false);
  await store.close();
});

test("store: sidecars that are never released fill the log and fail the store, not hang it", {
  timeout: 20_000,
}, async () => {
  const lu = await formattedLu({ logBytes: 256 * KIB });
  const store = await open(lu);
  store.join({ ...NO_PARTICIPANT, seal: () => [Buffer.alloc(8 * KIB)], oldestSidecar: () => 1 });
  const fill = async (): Promise<void> => {
    for (let i = 0; i < 100; i++) await store.durable();
  };
  await assert.rejects(fill(), { code: "EIO" });
  assert.match(String(store.failure?.message), /sidecars/);
  await store.close();
});

test("store: a lower epoch than the last owner's is refused", async () => {
  const lu = await formattedLu();
  const store = await open(lu, { epoch: () => 5 });
  createTable(store);
  await store.durable();
  const after = lu.crash({ keep: "none" });
  await assert.rejects(open(after, { epoch: () => 4 }), { code: "ESTALE" });
  const newer = await open(after, { epoch: () => 6 });
  await newer.close();
  await assert.rejects(open(after, { epoch: () => 5 }), { code: "ESTALE" });
});

test("format: probe names the store; an empty, too small or foreign LU has none", async () => {
  const lu = new MemoryLu({ sizeBytes: 4 * MIB });
  assert.equal(await probePageStore(lu), null);
  await assert.rejects(open(lu), { code: "ENXIO" });
  const options = { kind: "fs", name: "däta", random: new SeededRandom(1) };
  await formatPageStore({ lu, ...options });
  const found = await probePageStore(lu);
  assert.deepEqual([found?.kind, found?.name], ["fs", "däta"]);
  assert.match(found?.uuid ?? "", /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.ok((found?.createdSeconds ?? 0) > 1_700_000_000);
  const small = new MemoryLu({ sizeBytes: 64 * KIB });
  await assert.rejects(formatPageStore({ lu: small, ...options }), { code: "EINVAL" });
  await assert.rejects(formatPageStore({ lu, ...options, name: "n".repeat(65) }), { code: "EINVAL" });
});

test("format: formatting anew leaves nothing of the store before", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  createTable(store);
  await store.close();
  await formatPageStore({ lu, kind: "fs", name: "new", random: new SeededRandom(99) });
  const again = await open(lu);
  assert.throws(() => rows(again), /no such table/);
  await again.close();
});

test("store: portions of a commit are durable with its rest, not before, and a page that changed in several counts as it was last", async () => {
  const lu = await formattedLu();
  const store = await open(lu);
  createTable(store);
  put(store, 1, "before");
  await store.durable();
  const { pagesLogged } = store.statistics();
  const portions = (to: typeof store) => {
    for (const value of ["first", "second", "third"]) {
      put(to, 1, value);
      to.portion();
    }
  };
  portions(store);
  await store.durable();
  assert.equal(store.statistics().pagesLogged - pagesLogged, 3);
  const afterAll = lu.crash({ keep: "none" });
  const again = await open(afterAll, { quickCheck: true });
  assert.deepEqual(rows(again), [{ k: 1, v: "third" }]);
  await again.checkpoint();
  put(again, 2, "later");
  await again.durable();
  portions(again);
  const early = await open(afterAll.crash({ keep: "all" }), { quickCheck: true });
  const wanted = [
    { k: 1, v: "third" },
    { k: 2, v: "later" },
  ];
  assert.deepEqual(rows(early), wanted);
  await early.close();
});

test("store: where there is little room in the scratch folder a commit does it all, and folds", async () => {
  const lu = await formattedLu();
  let freeBytes = 64 * MIB;
  const hold = (_file: string, byteCount: number) => Math.min(byteCount, freeBytes);
  const folder = { freeBytes: () => freeBytes, hold, drop: () => {}, wrote: () => {}, released: () => {} };
  const store = await open(lu, { folder });
  const walBytes = () => fs.statSync(path.join(scratchDir, `pagestore-${store.uuid}.db-wal`)).size;
  createTable(store);
  await store.durable();
  const before = walBytes();
  put(store, 1, "x");
  store.portion();
  assert.ok(walBytes() > before);
  await store.durable();
  freeBytes = 0;
  const tight = walBytes();
  put(store, 2, "y");
  store.portion();
  assert.equal(walBytes(), tight);
  await store.durable();
  assert.equal(walBytes(), 0);
  assert.equal(rows(store).length, 2);
  await store.close();
});
