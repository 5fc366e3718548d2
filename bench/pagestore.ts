import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { SystemClock } from "../src/lib/clock.js";
import { SILENT } from "../src/lib/log.js";
import { SeededRandom } from "../src/lib/prng.js";
import { MIB } from "../src/lib/units.js";
import { formatPageStore } from "../src/pagestore/format.js";
import { openPageStore } from "../src/pagestore/open.js";
import type { LogPageStore } from "../src/pagestore/store.js";
import { MemoryLu } from "../test/support/memory-lu.js";

/**
 * Durable creates a second on an LU in memory: one directory entry and one inode each, 64 in a commit, then a mount of the result.
 *
 *   node dist/bench/pagestore.js [creates] [ordered|scattered]
 *
 * ordered: names arrive as files numbered in directories of 10,000. scattered: names are hashes, so every entry touches another page.
 *
 * 2026-11-22, 2 shared cores, Node 20.20, SQLite 3.53:
 *
 *   creates    names      machine     creates/s  log bytes/create  checkpoint ms (sum)  mount
 *     200,000  ordered    quiet         184,000               510                   60   86 ms
 *     200,000  ordered    load of 16    107,000               510                  191  124 ms
 *     200,000  scattered  load of 16     70,700             1,955                  290   87 ms
 *   1,500,000  scattered  load of 16     60,300             1,985                2,231  109 ms (23,189 pages)
 */
const BATCH = 64;
const creates = Number(process.argv[2] ?? 200_000);
const scattered = process.argv[3] === "scattered";

function nameOf(i: number): Buffer {
  // Knuth's multiplicative hash: a permutation of 32-bit numbers.
  return Buffer.from(scattered ? (Math.imul(i, 2654435761) >>> 0).toString(16) : `file-${i}`);
}

function createTables(store: LogPageStore): void {
  store.db.exec(`
    CREATE TABLE inode (ino INTEGER PRIMARY KEY, kind INTEGER, mode INTEGER, nlink INTEGER, uid INTEGER, gid INTEGER, size INTEGER,
      atime INTEGER, mtime INTEGER, ctime INTEGER, generation INTEGER);
    CREATE TABLE dirent (parent INTEGER, name BLOB, ino INTEGER, PRIMARY KEY (parent, name)) WITHOUT ROWID;`);
}

async function createAll(store: LogPageStore): Promise<void> {
  const inode = store.db.prepare("INSERT INTO inode VALUES (?, 1, 420, 1, 1000, 1000, 0, ?, ?, ?, 1)");
  const dirent = store.db.prepare("INSERT INTO dirent VALUES (?, ?, ?)");
  for (let i = 0; i < creates; ) {
    const waits: Promise<void>[] = [];
    for (let j = 0; j < BATCH && i < creates; j++, i++) {
      const now = 1_700_000_000_000 + i;
      if (store.freePages() === 0) throw new Error("the LU is full");
      inode.run(i, now, now, now);
      dirent.run(1 + Math.floor(i / 10_000), nameOf(i), i);
      waits.push(store.durable());
    }
    await Promise.all(waits);
  }
}

async function main(): Promise<void> {
  const scratchDir = mkdtempSync(path.join(tmpdir(), "stripeward-bench-"));
  const lu = new MemoryLu({ sizeBytes: 1024 * MIB });
  const options = { lu, scratchDir, clock: new SystemClock(), log: SILENT };
  try {
    await formatPageStore({ lu, kind: "bench", name: "bench", random: new SeededRandom(1) });
    const store = await openPageStore(options);
    createTables(store);
    await store.durable();
    const startedMs = performance.now();
    await createAll(store);
    const seconds = (performance.now() - startedMs) / 1000;
    const statistics = store.statistics();
    const survivor = lu.crash({ keep: "none" });
    const mountedAtMs = performance.now();
    const again = await openPageStore({ ...options, lu: survivor });
    const mountMs = Math.round(performance.now() - mountedAtMs);
    const pages = Number(again.db.pragma("page_count", { simple: true }));
    await again.close();
    console.log(
      JSON.stringify({ creates, createsPerSecond: Math.round(creates / seconds), mountMs, pages, ...statistics }),
    );
  } finally {
    rmSync(scratchDir, { recursive: true, force: true });
  }
}

await main();
