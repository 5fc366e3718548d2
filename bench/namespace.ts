import { DirentTable } from "../src/fs/dirent-table.js";
import { initializeNamespace } from "../src/fs/initialize.js";
import { InodeTable } from "../src/fs/inode-table.js";
import { MetaTable } from "../src/fs/meta.js";
import { Namespace } from "../src/fs/namespace.js";
import { FileSystemParticipant } from "../src/fs/participant.js";
import { ReplyLog } from "../src/fs/reply-log.js";
import type { FileId } from "../src/fs/vfs.js";
import { SystemClock } from "../src/lib/clock.js";
import { SILENT } from "../src/lib/log.js";
import { SeededRandom } from "../src/lib/prng.js";
import { FakeContents } from "../test/support/fake-contents.js";
import { FakePageStore } from "../test/support/fake-page-store.js";

/**
 * What the namespace itself costs: a database in memory, commits without an LU. `node dist/bench/namespace.js [files]` prints
 * microseconds of one thread and operations a second.
 */
const FILES = Number(process.argv[2] ?? 100_000);
const IN_FLIGHT = 64;
const CRED = { uid: 1000, gid: 100, groups: [4, 24, 27] };

function open(): Namespace {
  const clock = new SystemClock();
  const random = new SeededRandom(1);
  const store = new FakePageStore();
  initializeNamespace(store.db, { name: "bench", dataLuUuid: "-", clock, random, rootMode: 0o777 });
  const meta = new MetaTable(store.db);
  const inodes = new InodeTable({ db: store.db, meta, random });
  const contents = new FakeContents(store, inodes);
  const dirents = new DirentTable(store.db);
  const replies = new ReplyLog({ db: store.db, clock, freePages: () => store.freePages() });
  store.join(new FileSystemParticipant(contents, inodes, replies));
  const writeVerifier = Buffer.alloc(8);
  const parts = { store, contents, meta, inodes, dirents, replies, clock, random, log: SILENT };
  return new Namespace({ ...parts, writeVerifier, volume: "bench" });
}

async function measure(what: string, count: number, run: () => Promise<void> | void): Promise<void> {
  const start = process.cpuUsage();
  const startMs = performance.now();
  await run();
  const elapsedMs = performance.now() - startMs;
  const { user, system } = process.cpuUsage(start);
  const perOperation = ((user + system) / count).toFixed(2);
  console.log(`${what.padEnd(34)} ${perOperation.padStart(8)} us CPU  ${Math.round((count / elapsedMs) * 1000)}/s`);
}

async function inBatches(count: number, operation: (i: number) => Promise<unknown>): Promise<void> {
  for (let start = 0; start < count; start += IN_FLIGHT) {
    const batch: Promise<unknown>[] = [];
    for (let i = start; i < Math.min(count, start + IN_FLIGHT); i++) batch.push(operation(i));
    await Promise.all(batch);
  }
}

function list(fs: Namespace, withAttributes: boolean): void {
  for (let cookie = 0, ended = false; !ended; ) {
    const page = fs.readdir(CRED, fs.root, cookie, 256, withAttributes);
    cookie = page.entries.at(-1)?.cookie ?? cookie;
    ended = page.endOfDirectory;
  }
}

const fs = open();
const names = Array.from({ length: FILES }, (_, i) => Buffer.from(`file-${i}.txt`));
const ids: FileId[] = [];
const hot = Math.min(FILES, 10_000);
const attributes = { mode: 0o644 };
const lookupHot = () => {
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < hot; i++) fs.lookup(CRED, fs.root, names[i] ?? names[0]!);
  }
};

await measure("create, 64 in flight", FILES, () =>
  inBatches(FILES, async (i) => {
    ids[i] = (await fs.create(CRED, fs.root, names[i]!, { mode: "guarded", attributes })).attributes;
  }),
);
lookupHot();
await measure("lookup, cached", hot * 20, lookupHot);
await measure("getattr, cached", hot * 20, () => {
  for (let round = 0; round < 20; round++) for (let i = 0; i < hot; i++) fs.getattr(ids[FILES - 1 - i]!);
});
await measure("lookup, each name once", FILES, () => {
  for (const name of names) fs.lookup(CRED, fs.root, name);
});
await measure("setattr, 64 in flight", FILES, () =>
  inBatches(FILES, (i) => fs.setattr(CRED, ids[i]!, { mode: 0o600 })),
);
await measure("readdir, 256 a page", FILES, () => list(fs, false));
await measure("readdir with attributes", FILES, () => list(fs, true));
await measure("check", FILES, async () => {
  const report = await fs.check();
  if (!report.ok) console.log(report.faults);
});
await measure("rename, 64 in flight", FILES, () =>
  inBatches(FILES, (i) => fs.rename(CRED, fs.root, names[i]!, fs.root, Buffer.from(`other-${i}`))),
);
await measure("remove, 64 in flight", FILES, () =>
  inBatches(FILES, (i) => fs.remove(CRED, fs.root, Buffer.from(`other-${i}`))),
);
console.log(`resident ${Math.round(process.memoryUsage().rss / 2 ** 20)} MiB (the database among it)`);
