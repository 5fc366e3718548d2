import assert from "node:assert/strict";
import { test } from "node:test";
import { LockBook, type LockRows, type Steps } from "../../../../src/fs/locks/book.js";
import { LOCK_LIMITS } from "../../../../src/fs/locks/limits.js";
import { LAST_BYTE } from "../../../../src/fs/locks/range.js";
import { isStorageError } from "../../../../src/lib/errors.js";

const NO_ROWS: LockRows = {
  ...{ putHeld: () => {}, dropHeld: () => {}, putWaiting: () => {}, markOffered: () => {}, dropWaiting: () => {} },
  ...{ putShare: () => {}, dropShare: () => {} },
};
const NOTE = Buffer.alloc(0);
const INO = 1;

/** Each host has an address of its own. */
const addressOf = (host: string) => `192.0.2.${host.charCodeAt(0)}`;
const byte = (host: string, at: number, length = 1, exclusive = true, svid = 1) => ({
  owner: { address: addressOf(host), host, svid, oh: Buffer.alloc(0) },
  ...{ first: BigInt(at), last: BigInt(at + length - 1), exclusive },
});
const whole = (host: string, exclusive = true, svid = 1) => ({
  ...byte(host, 0, 1, exclusive, svid),
  last: LAST_BYTE,
});
const full = (error: unknown) => isStorageError(error, "ENOSPC");

/** All steps at once, then what was freed to who waits. @returns the result, and what it cost */
function run<T>(book: LockBook, steps: Steps<T>): { result: T; cost: number; longest: number } {
  let cost = 0;
  let longest = 0;
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return { result: value, cost, longest };
    cost += value;
    longest = Math.max(longest, value);
    void book;
  }
}

function apply<T>(book: LockBook, steps: Steps<T>): T {
  const { result } = run(book, steps);
  run(book, book.serve(INO));
  return result;
}

function open(limits: Partial<typeof LOCK_LIMITS | { [K in keyof typeof LOCK_LIMITS]: number }> = {}): LockBook {
  return new LockBook(NO_ROWS, () => {}, { ...LOCK_LIMITS, ...limits });
}

const shown = (book: LockBook) => book.list(0, 100).map(({ state, owner, first }) => `${state} ${owner.host} ${first}`);

test("lock book: an address has its limit, and all of them together theirs", () => {
  const book = open({ entriesMax: 8, addressEntriesMax: 3 });
  for (const at of [0, 2, 4]) apply(book, book.lock(INO, byte("a", at), null));
  assert.throws(() => apply(book, book.lock(INO, byte("a", 6), null)), full);
  assert.throws(() => apply(book, book.lock(2, byte("a", 0), NOTE)), full);
  assert.equal(apply(book, book.lock(INO, byte("a", 1), null)).status, "granted", "it joins two into one");
  apply(book, book.lock(INO, byte("b", 10, 3), null));
  apply(book, book.lock(INO, byte("b", 20), null));
  apply(book, book.lock(INO, byte("c", 10), NOTE));
  apply(book, book.lock(INO, byte("b", 30), null));
  assert.throws(() => apply(book, book.unlock(INO, byte("b", 11))), full, "a split would be one more");
  apply(book, book.unlock(INO, byte("b", 10, 3)));
  assert.deepEqual(shown(book).sort(), ["held a 0", "held a 4", "held b 20", "held b 30", "held c 10", "offered c 10"]);
});

test("lock book: however many come, an address has no more than is left for all others, so there is room for one more", () => {
  const book = open({ entriesMax: 100, addressEntriesMax: 90 });
  const had = [..."abcdefgh"].map((host) => {
    let count = 0;
    try {
      for (; ; count++) apply(book, book.lock(INO, byte(host, 1000 * host.charCodeAt(0) + 2 * count), null));
    } catch (error) {
      assert.ok(full(error));
    }
    return count;
  });
  assert.deepEqual(had, [50, 25, 13, 6, 3, 2, 1, 0]);
  const wide = open({ entriesMax: 100_000, addressEntriesMax: 100 });
  for (const host of "abcd")
    for (let i = 0; i < 100; i++) apply(wide, wide.lock(INO, byte(host, i * 10 + host.charCodeAt(0) * 1000), null));
  assert.equal(apply(wide, wide.lock(INO, byte("z", 0), null)).status, "granted");
});

test("lock book: the queue has limits of its own, per address and for all", () => {
  const book = open({ addressWaitingMax: 2, waitingMax: 5 });
  apply(book, book.lock(INO, whole("a"), null));
  for (const host of "bc") for (let at = 0; at < 2; at++) apply(book, book.lock(INO, byte(host, at), NOTE));
  assert.throws(() => apply(book, book.lock(INO, byte("b", 9), NOTE)), full);
  assert.equal(apply(book, book.lock(INO, byte("d", 9), NOTE)).status, "blocked");
  assert.throws(() => apply(book, book.lock(INO, byte("e", 9), NOTE)), full);
  assert.equal(apply(book, book.lock(2, byte("b", 9), null)).status, "granted", "what need not wait is given");
});

test("lock book: owners with long names have a limit of their own", () => {
  const book = open({ ownerBytesMax: 10_000, addressOwnerBytesMax: 1000 });
  const long = "x".repeat(400);
  apply(book, book.lock(INO, byte(long, 0), null));
  apply(book, book.lock(INO, byte(long, 2), null));
  assert.throws(() => apply(book, book.lock(INO, byte(long, 4), null)), full);
  apply(book, book.lock(INO, byte("short", 4), null));
  apply(book, book.unlock(INO, byte(long, 0)));
  apply(book, book.lock(INO, byte(long, 6), null));
});

test("lock book: a client with ten thousand shared locks of others in its way, and as many of its own, is answered with a few looks", () => {
  const book = open();
  const many = 10_000;
  for (let i = 0; i < many; i++) {
    run(book, book.lock(INO, whole("s", false, i), null));
    run(book, book.lock(INO, byte("o", 4 * i, 1, false), null));
  }
  const looked = book.looks(INO);
  assert.equal(run(book, book.lock(INO, whole("n", false), null)).result.status, "granted");
  assert.equal(book.test(INO, whole("o"))?.owner.host, "s");
  assert.equal(book.test(INO, byte("o", 7, 1, false)), null);
  assert.ok(book.looks(INO) - looked < 200, `${book.looks(INO) - looked} looks`);
});

test("lock book: serving a queue costs a few looks for each request, whether they are granted or not", () => {
  for (const exclusive of [false, true]) {
    const book = open();
    const many = 4_000;
    run(book, book.lock(INO, whole("h"), null));
    for (let i = 0; i < many; i++) run(book, book.lock(INO, whole("w", exclusive, i), NOTE));
    run(book, book.unlock(INO, whole("h")));
    const looked = book.looks(INO);
    const { cost, longest } = run(book, book.serve(INO));
    assert.equal(book.takeGrants().length, exclusive ? 1 : many);
    assert.ok(book.looks(INO) - looked < 40 * (exclusive ? 10 : many), `${book.looks(INO) - looked} looks`);
    assert.ok(cost < 20 * many, `cost ${cost}`);
    assert.ok(longest <= 32, "it can be interrupted after each of them");
  }
});

test("lock book: what frees ten thousand locks does it step by step: UNLOCK of all, an exclusive lock over all, a client, a file", () => {
  const many = 10_000;
  const filled = () => {
    const book = open();
    for (let i = 0; i < many; i++) run(book, book.lock(INO, byte("a", 2 * i, 1, false), null));
    return book;
  };
  const ways: [string, (book: LockBook) => Steps<unknown>][] = [
    ["unlock", (book) => book.unlock(INO, whole("a"))],
    ["lock", (book) => book.lock(INO, whole("a"), null)],
    ["client", (book) => book.freeIn(INO, { address: addressOf("a"), host: "a" })],
    ["file", (book) => book.forget(INO)!()],
  ];
  for (const [what, way] of ways) {
    const book = filled();
    const { cost, longest } = run(book, way(book));
    assert.ok(longest <= 40, `${what}: a step cost ${longest}`);
    assert.ok(cost >= many && cost < 20 * many, `${what}: ${cost}`);
    assert.equal(book.counts().entries, what === "lock" ? 1 : 0, what);
  }
});

test("lock book: a file that goes in the middle of an operation takes everything with it", () => {
  const book = open();
  for (let i = 0; i < 100; i++) run(book, book.lock(INO, byte("a", 2 * i, 1, false), null));
  const unlocking = book.unlock(INO, whole("a"));
  for (let i = 0; i < 10; i++) unlocking.next();
  const clearing = book.forget(INO)!;
  assert.deepEqual(shown(book), [], "nothing of it counts any more");
  run(book, unlocking);
  run(book, clearing());
  assert.deepEqual(book.counts(), { entries: 0, waiting: 0, addresses: 0 });
});

test("lock book: an address has a bounded number of names, so that news of it look at few", () => {
  const book = open({ addressClientsMax: 3 });
  const named = (host: string, at: number) => ({ ...byte("a", at), owner: { ...byte("a", at).owner, host } });
  for (let i = 0; i < 3; i++) apply(book, book.lock(INO, named(`n${i}`, i), null));
  assert.throws(() => apply(book, book.lock(INO, named("n3", 3), null)), full);
  apply(book, book.lock(INO, named("n2", 3), null));
  assert.deepEqual(book.hostsAt(addressOf("a")).sort(), ["n0", "n1", "n2"]);
  apply(book, book.unlock(INO, named("n0", 0)));
  apply(book, book.lock(INO, named("n3", 0), null));
  assert.deepEqual(book.hostsAt(addressOf("a")).sort(), ["n1", "n2", "n3"]);
  assert.equal(book.clients(2).length, 2);
});
