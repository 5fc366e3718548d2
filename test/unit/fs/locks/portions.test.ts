import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { LockRows } from "../../../../src/fs/locks/book.js";
import { keyOf } from "../../../../src/fs/locks/entries.js";
import { FileLockTable } from "../../../../src/fs/locks/file-locks.js";
import type { StoredHeld, StoredLocks, StoredShare, StoredWaiting } from "../../../../src/fs/locks/load.js";
import { LAST_BYTE } from "../../../../src/fs/locks/range.js";
import type { FileId, LockGrant, LockOwner, LockRequest } from "../../../../src/fs/vfs.js";
import { nextTurn } from "../../../../src/lib/next-turn.js";
import { MemoryFileSystem } from "../../../support/memory-file-system.js";
import { bytes, makeFile, openNamespace, ROOT, refused } from "../../../support/namespace-fixture.js";

/** Much work is done a part at a time; whoever else has something to do gets it done meanwhile. */

const NOTE = Buffer.from("note");
const owner = (host: string, svid = 1): LockOwner => ({ address: "192.0.2.1", host, svid, oh: Buffer.from(host) });
const at = (host: string, first: number, exclusive = true, svid = 1): LockRequest => {
  return { owner: owner(host, svid), first: BigInt(first), last: BigInt(first), exclusive };
};
const whole = (host: string, exclusive = true, svid = 1): LockRequest => {
  return { owner: owner(host, svid), first: 0n, last: LAST_BYTE, exclusive };
};
const MANY = 3000;

async function lockMany(locks: MemoryFileSystem["fs"]["locks"], file: FileId, host: string): Promise<void> {
  await Promise.all(Array.from({ length: MANY }, (_, i) => locks.lock(file, at(host, 2 * i, false), null)));
}

/** How many turns of the event loop pass until it is done. */
async function turnsOf(work: Promise<unknown>): Promise<number> {
  let turns = 0;
  let ended = false;
  const end = work.finally(() => {
    ended = true;
  });
  for (; !ended; turns++) await nextTurn();
  await end;
  return turns;
}

const counts = ({ locks }: MemoryFileSystem["fs"]) => locks.list().length;

test("locks in portions: unlocking thousands takes many turns, and a bystander's lock only one", async () => {
  const { fs } = openNamespace();
  const [file, other] = [await makeFile(fs, ROOT, fs.root, "f"), await makeFile(fs, ROOT, fs.root, "g")];
  await lockMany(fs.locks, file, "a");
  const unlocking = fs.locks.unlock(file, whole("a"));
  let bystander = -1;
  const turns = turnsOf(unlocking);
  const mine = turnsOf(fs.locks.lock(other, whole("b"), null)).then((n) => {
    bystander = n;
  });
  assert.ok((await turns) > 10, `${await turns} turns`);
  await mine;
  assert.ok(bystander >= 0 && bystander <= 4, `${bystander} turns`);
  assert.equal(counts(fs), 1);
});

test("locks in portions: operations on one file keep their order: the lock that follows an UNLOCK of all stays", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  await lockMany(fs.locks, file, "a");
  const all = [
    fs.locks.unlock(file, whole("a")),
    fs.locks.lock(file, at("a", 4), null),
    fs.locks.lock(file, at("b", 4), null),
    fs.locks.lock(file, at("b", 2), null),
  ] as const;
  const [, mine, denied, granted] = await Promise.all(all);
  assert.deepEqual([mine.status, denied.status, granted.status], ["granted", "denied", "granted"]);
  assert.equal(counts(fs), 2);
});

test("locks in portions: a TEST does not see what is half done: those who wait have their locks before it looks", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  await lockMany(fs.locks, file, "a");
  assert.equal((await fs.locks.lock(file, whole("w"), NOTE)).status, "blocked");
  const unlocked = fs.locks.unlock(file, whole("a"));
  assert.equal((await fs.locks.test(file, whole("b")))?.owner.host, "w");
  await unlocked;
});

test("locks in portions: what is asked of a file that goes meanwhile is stale, and nothing of it stays", async () => {
  const { fs, store } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  await lockMany(fs.locks, file, "a");
  const unlocking = fs.locks.unlock(file, whole("a"));
  const late = fs.locks.lock(file, at("b", 4), NOTE);
  const removed = fs.remove(ROOT, fs.root, bytes("f"));
  assert.equal(counts(fs), 0, "at once");
  await refused("ESTALE", () => late);
  await Promise.all([unlocking, removed]);
  // A lock that is made later is cleared behind it, so that its removal says when all before has gone.
  for (let i = 0; i < 200 && rowsOf(store) > 0; i++) await nextTurn();
  assert.equal(rowsOf(store), 0);
  assert.deepEqual((await fs.check()).faults, []);
});

const rowsOf = (store: { db: { prepare(sql: string): { get(): unknown } } }) =>
  (store.db.prepare("SELECT count(*) AS n FROM lock").get() as { n: number }).n;

test("locks in portions: removing a locked file is one small piece, and fs check finds nothing while its rows go", async () => {
  const { fs, store } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  await lockMany(fs.locks, file, "a");
  await fs.remove(ROOT, fs.root, bytes("f"));
  assert.ok(rowsOf(store) > MANY / 2, "most are still there");
  assert.deepEqual((await fs.check()).faults, []);
});

async function open(t: TestContext): Promise<{ disk: MemoryFileSystem; file: FileId }> {
  const disk = await MemoryFileSystem.open();
  t.after(() => disk.end());
  return { disk, file: await makeFile(disk.fs, ROOT, disk.fs.root, "file") };
}

test("locks in portions: rows that a crash leaves of a file that went are gone after the next mount", async (t) => {
  const { disk, file } = await open(t);
  await lockMany(disk.fs.locks, file, "a");
  await disk.fs.locks.lock(file, whole("b"), NOTE);
  await disk.fs.remove(ROOT, disk.fs.root, bytes("file"));
  await disk.crash();
  assert.equal(counts(disk.fs), 0);
  assert.deepEqual((await disk.fs.check()).faults, []);
  assert.equal((await disk.fs.locks.free({ address: "192.0.2.1", host: null })).held, 0);
});

test("locks in portions: a client that is being freed gets new locks after that, and they stay", async () => {
  const { fs } = openNamespace();
  const files: FileId[] = [];
  for (const name of ["f", "g"]) files.push(await makeFile(fs, ROOT, fs.root, name));
  for (const file of files) await lockMany(fs.locks, file, "a");
  const freeing = fs.locks.free({ address: "192.0.2.1", host: "a" });
  const again = fs.locks.lock(files[1]!, at("a", 1), null);
  const other = fs.locks.lock(files[1]!, at("b", 1, false), null);
  assert.equal((await freeing).held, 2 * MANY);
  await Promise.all([again, other]);
  assert.deepEqual(
    fs.locks.list().map(({ owner: { host } }) => host),
    ["b"],
    "b came first",
  );
});

test("locks in portions: thousands who wait are all served, in the order of arrival, and told a few in a turn", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  await fs.locks.lock(file, whole("h"), null);
  for (let i = 0; i < MANY; i++) await fs.locks.lock(file, whole("w", false, i), NOTE);
  const told: number[] = [];
  const perTurn: number[] = [];
  fs.locks.onGranted(({ owner: { svid } }: LockGrant) => {
    told.push(svid);
    perTurn.push(turn);
  });
  let turn = 0;
  const unlocked = fs.locks.unlock(file, whole("h"));
  for (; told.length < MANY && turn < 10_000; turn++) await nextTurn();
  await unlocked;
  assert.deepEqual(
    told,
    Array.from({ length: MANY }, (_, i) => i),
  );
  const most = Math.max(...perTurn.map((n) => perTurn.filter((other) => other === n).length));
  assert.ok(most <= 64, `${most} in one turn`);
});

/** Rows as a life before has left them. */
function stored(held: Partial<StoredHeld>[], waiting: Partial<StoredWaiting>[] = []): StoredLocks {
  const common = { ino: 7, owner: owner("a"), lost: false, exclusive: true };
  return {
    *held() {
      yield held.map((row) => ({ ...common, ...row }) as StoredHeld);
    },
    *waiting() {
      yield waiting.map((row) => ({ ...common, note: NOTE, offered: 0, ...row }) as StoredWaiting);
    },
    *shares(): Generator<StoredShare[]> {},
  };
}

async function restored(source: StoredLocks) {
  const dropped: string[] = [];
  const rows: LockRows = {
    ...{ putHeld: () => {}, putWaiting: () => {}, markOffered: () => {}, putShare: () => {} },
    dropHeld: (id) => dropped.push(`held ${id}`),
    dropWaiting: (id) => dropped.push(`waiting ${id}`),
    dropShare: (id) => dropped.push(`share ${id}`),
  };
  const ground = {
    rows,
    requireFile: () => {},
    exists: () => true,
    requireAlive: () => {},
    requireSpace: () => {},
    keepReply: () => {},
    roomInCommit: () => null,
  };
  const locks = new FileLockTable({ ...ground, durable: async () => {} });
  const grants: LockGrant[] = [];
  await locks.restore(source);
  locks.onGranted((grant) => grants.push(grant));
  await nextTurn();
  const states = locks.list().map(({ id, state, first, last }) => `${id} ${state} ${first}-${last}`);
  return { locks, dropped, grants, states };
}

test("locks at a mount: of rows of one owner that overlap, the newer is what was asked for last", async () => {
  const { states, dropped } = await restored(
    stored(
      [
        { id: 1, first: 0n, last: 0n },
        { id: 2, first: 2n, last: 2n },
        { id: 3, first: 4n, last: 4n },
        { id: 9, first: 0n, last: 9n },
        { id: 4, first: 20n, last: 30n, owner: owner("b") },
      ].sort((a, b) => a.id - b.id),
    ),
  );
  assert.deepEqual(states, ["4 held 20-30", "9 held 0-9"]);
  assert.deepEqual(dropped.sort(), ["held 1", "held 2", "held 3"]);
});

test("locks at a mount: who waited for what a crash did not give any more is served", async () => {
  const { states, grants } = await restored(
    stored(
      [{ id: 1, first: 0n, last: 9n }],
      [
        { id: 2, first: 5n, last: 15n, owner: owner("b") },
        { id: 3, first: 20n, last: 25n, owner: owner("c") },
      ],
    ),
  );
  assert.deepEqual(states, ["1 held 0-9", "2 waiting 5-15", "3 offered 20-25", "4 held 20-25"]);
  assert.deepEqual(
    grants.map(({ id }) => id),
    [3],
  );
});

test("locks at a mount: an offer knows its lock, and is refused without what its owner held before; also one of an earlier version", async () => {
  for (const offered of [5, 1]) {
    const { locks, states, grants } = await restored(
      stored(
        [
          { id: 3, first: 0n, last: 9n, exclusive: false },
          { id: 5, first: 0n, last: 99n },
        ],
        [{ id: 4, first: 0n, last: 99n, offered }],
      ),
    );
    assert.deepEqual(states, ["3 held 0-9", "4 offered 0-99", "5 held 0-99"]);
    await locks.settle(grants[0]!, false);
    assert.deepEqual(
      locks.list().map(({ id }) => id),
      [3],
    );
  }
});

test("locks at a mount: an offer of an earlier version that became part of a larger lock is a confirmed one", async () => {
  const { states, dropped } = await restored(
    stored([{ id: 5, first: 0n, last: 99n }], [{ id: 4, first: 10n, last: 20n, offered: 1 }]),
  );
  assert.deepEqual(states, ["5 held 0-99"]);
  assert.deepEqual(dropped, ["waiting 4"]);
});

test("locks at a mount: one name at two addresses, as earlier versions have stored it, is two owners", async () => {
  const cloned = { ...owner("a"), address: "192.0.2.2" };
  assert.notEqual(keyOf(cloned), keyOf(owner("a")));
  const { locks } = await restored(
    stored([
      { id: 1, first: 0n, last: 9n },
      { id: 2, first: 20n, last: 29n, owner: cloned },
    ]),
  );
  const file = { ino: 7, generation: 1 };
  assert.equal((await locks.lock(file, { ...at("a", 5), owner: cloned }, null)).status, "denied");
  await locks.unlock(file, { ...whole("a"), owner: cloned });
  assert.deepEqual(
    locks.list().map(({ id }) => id),
    [1],
  );
});
