import assert from "node:assert/strict";
import { test } from "node:test";
import { LockBook, type LockRows } from "../../../../src/fs/locks/book.js";
import { isStorageError } from "../../../../src/lib/errors.js";

const NO_ROWS: LockRows = {
  ...{ putHeld: () => {}, dropHeld: () => {}, putWaiting: () => {}, markOffered: () => {}, dropWaiting: () => {} },
  ...{ putShare: () => {}, dropShare: () => {} },
};

const byte = (host: string, at: number, length = 1) => ({
  owner: { address: host === "a" ? "192.0.2.1" : "192.0.2.2", host, svid: 1, oh: Buffer.alloc(0) },
  ...{ first: BigInt(at), last: BigInt(at + length - 1), exclusive: true },
});
const full = (error: unknown) => isStorageError(error, "ENOSPC");

test("lock book: a host has its limit, and all of them together theirs", () => {
  const book = new LockBook(NO_ROWS, () => {}, { entriesMax: 5, addressEntriesMax: 3, ownerBytesMax: 1000 });
  for (const at of [0, 2, 4]) book.lock(1, byte("a", at), null);
  assert.throws(() => book.lock(1, byte("a", 6), null), full);
  assert.throws(() => book.lock(2, byte("a", 0), Buffer.alloc(0)), full);
  assert.equal(book.lock(1, byte("a", 1), null).status, "granted", "it joins two into one");
  book.lock(1, byte("b", 10, 3), null);
  book.lock(1, byte("c", 20), Buffer.alloc(0));
  book.lock(1, byte("c", 10), Buffer.alloc(0));
  assert.throws(() => book.unlock(1, byte("b", 11)), full, "a split would be one more");
  book.unlock(1, byte("b", 10, 3));
  assert.deepEqual([...book.list()].map(({ state, owner, first }) => `${state} ${owner.host} ${first}`).sort(), [
    "held a 0",
    "held a 4",
    "held c 10",
    "held c 20",
    "offered c 10",
  ]);
});

test("lock book: owners with long names have a limit of their own", () => {
  const book = new LockBook(NO_ROWS, () => {}, { entriesMax: 100, addressEntriesMax: 50, ownerBytesMax: 1000 });
  const long = "x".repeat(400);
  book.lock(1, byte(long, 0), null);
  book.lock(1, byte(long, 2), null);
  assert.throws(() => book.lock(1, byte(long, 4), null), full);
  book.lock(1, byte("short", 4), null);
  book.unlock(1, byte(long, 0));
  book.lock(1, byte(long, 6), null);
});
