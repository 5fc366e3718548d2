import assert from "node:assert/strict";
import { test } from "node:test";
import type { FileId, LockOwner } from "../../../src/fs/vfs.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { MIB } from "../../../src/lib/units.js";
import { MemoryFileSystem } from "../../support/memory-file-system.js";
import { ALICE, bytes, makeFile, namesOf, refused } from "../../support/namespace-fixture.js";

/** As long as the protocol lets it be. */
function longOwner(svid: number): LockOwner {
  const address = `10.0.0.${1 + Math.floor(svid / 100)}`;
  return { address, host: "h".repeat(1024), svid, oh: Buffer.alloc(1020, svid & 255) };
}

const RANGE = { first: 0n, last: 0n };

/** A file on which so many requests with long names wait for a lock, and a metadata LU without room for anything more. */
async function full(waiters: number, options: { promise?: boolean } = {}) {
  const memory = await MemoryFileSystem.open({
    metadataBytes: 8 * MIB,
    ...(options.promise && { without: { promise: true } }),
  });
  const { fs } = memory;
  const file = await makeFile(fs, ALICE, fs.root, "locked");
  const holder = { owner: { address: "10.0.0.200", host: "h", svid: 1, oh: bytes("o") }, ...RANGE };
  await fs.locks.lock(file, { ...holder, exclusive: true }, null);
  const asked = Array.from({ length: waiters }, (_, i) =>
    fs.locks.lock(file, { owner: longOwner(i), ...RANGE, exclusive: false }, bytes("note")),
  );
  await Promise.all(asked);
  await fillWithLinks(fs);
  return { memory, fs, file, holder };
}

async function fillWithLinks(fs: MemoryFileSystem["fs"]): Promise<void> {
  for (const count of [64, 1]) {
    for (let i = 0, full = false; !full; i += count) {
      const batch = Array.from({ length: count }, (_, j) =>
        fs.symlink(ALICE, fs.root, bytes(`link ${count} ${i + j}`), Buffer.alloc(4000, 1), {}),
      );
      full = (await lackOf(batch)) > 0;
    }
  }
}

/** Of these, how many were refused for want of space; none for anything else. */
async function lackOf(batch: readonly (Promise<unknown> | unknown)[]): Promise<number> {
  const results = await Promise.allSettled(batch);
  const refusals = results.flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
  for (const reason of refusals) assert.equal((reason as { code?: string }).code, "ENOSPC", String(reason));
  return refusals.length;
}

const LONG_AGO = { seconds: 0, nanoseconds: 0 };
const LATELY = { seconds: 4_000_000_000, nanoseconds: 999_999_999 };

/** Inodes whose rows are as short as can be, and a metadata LU without room for anything more. */
async function fullOfShortRows(count: number) {
  const memory = await MemoryFileSystem.open({ metadataBytes: 8 * MIB });
  const { fs } = memory;
  const files: FileId[] = [];
  for (let i = 0; i < count; i += 100) {
    const batch = Array.from({ length: 100 }, (_, j) => {
      const attributes = { mode: 0o666, atime: LONG_AGO, mtime: LONG_AGO };
      return fs.create(ALICE, fs.root, bytes(`${i + j}`), { mode: "guarded", attributes });
    });
    for (const { attributes } of await Promise.all(batch)) files.push(attributes);
  }
  await fillWithLinks(fs);
  return { memory, fs, files };
}

async function stillSound(memory: MemoryFileSystem): Promise<void> {
  assert.equal(memory.fs.failed, null, String(memory.fs.failed?.detail.cause));
  assert.deepEqual((await memory.fs.check({ data: true })).faults, []);
  await memory.end();
}

test("promised space: attributes that make rows longer are refused on a full metadata LU before there is no room for them", async () => {
  const { memory, fs, files } = await fullOfShortRows(16_000);
  let refused = 0;
  for (let i = 0; i < files.length; i += 200) {
    const some = files.slice(i, i + 200);
    const sizeBytes = 2 ** 40;
    refused += await lackOf(some.map((file) => fs.setattr(ALICE, file, { atime: LATELY, mtime: LATELY, sizeBytes })));
  }
  assert.ok(refused > 0);
  await stillSound(memory);
});

async function granted(fs: MemoryFileSystem["fs"], count: number): Promise<void> {
  for (let turn = 0; turn < 10_000 && fs.failed === null; turn++) {
    if (fs.locks.list().filter(({ state }) => state === "offered").length === count) return;
    await nextTurn();
  }
  assert.equal(fs.failed, null);
  assert.fail("not all requests that waited were granted");
}

test("promised space: on a full metadata LU an unlock grants what waited, and removing makes room", async () => {
  const { memory, fs, file, holder } = await full(300);
  await fs.locks.unlock(file, holder);
  await granted(fs, 300);
  // A range that is split is a row more, and is taken.
  await fs.locks.unlock(file, { owner: longOwner(0), ...RANGE });
  const [link = ""] = namesOf(fs, fs.root).filter((name) => name.startsWith("link"));
  for (const name of namesOf(fs, fs.root)
    .filter((one) => one.startsWith("link"))
    .slice(0, 40))
    await fs.remove(ALICE, fs.root, bytes(name));
  assert.notEqual(link, "");
  await makeFile(fs, ALICE, fs.root, "one more");
  await memory.crash();
  assert.equal(memory.fs.locks.list().filter(({ state }) => state === "offered").length, 299);
  assert.deepEqual((await memory.fs.check({ data: true })).faults, []);
  await memory.end();
});

test("promised space: without it the same unlock finds none, and what can be read is served", async () => {
  const { memory, fs, file, holder } = await full(300, { promise: true });
  await fs.locks.unlock(file, holder).catch(() => {});
  for (let turn = 0; turn < 10_000 && fs.failed === null; turn++) await nextTurn();
  assert.match(String(fs.failed?.detail.cause), /database or disk is full/);
  await fs.close();
  await memory.mount({ readOnly: true });
  const { fs: readable } = memory;
  assert.equal(readable.readOnly, true);
  assert.ok(namesOf(readable, readable.root).includes("locked"));
  await refused("EROFS", () => makeFile(readable, ALICE, readable.root, "new"));
  await refused("EROFS", () => readable.write(ALICE, file, 0, bytes("x"), "stable"));
  await refused("EROFS", () => readable.locks.lock(file, { ...holder, exclusive: true }, null));
  assert.deepEqual((await readable.check({ data: true })).faults, []);
  await memory.end();
});

test("one commit never outgrows the log, however much waits for it", async () => {
  const memory = await MemoryFileSystem.open({ metadataBytes: 8 * MIB });
  const { fs } = memory;
  const made = Array.from({ length: 1200 }, (_, i) =>
    fs.symlink(ALICE, fs.root, bytes(`${i}`.padEnd(250, "n")), Buffer.alloc(4000, i & 255), {}),
  );
  const results = await Promise.allSettled(made);
  assert.equal(fs.failed, null);
  assert.ok(results.filter(({ status }) => status === "fulfilled").length > 400);
  await memory.end();
});
