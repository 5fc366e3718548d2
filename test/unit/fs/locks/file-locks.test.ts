import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { LAST_BYTE, rangeOf } from "../../../../src/fs/locks/range.js";
import type { FileId, LockGrant, LockOwner, LockRequest, LockResult } from "../../../../src/fs/vfs.js";
import { MemoryFileSystem } from "../../../support/memory-file-system.js";
import { bytes, makeDirectory, makeFile, openNamespace, ROOT, refused } from "../../../support/namespace-fixture.js";

const NOTE = Buffer.from("how to reach you");

function owner(host: string, svid = 1, address = "192.0.2.7"): LockOwner {
  return { address, host, svid, oh: Buffer.from(`${svid}@${host}`) };
}

function want(who: LockOwner, offset: bigint, length: bigint, exclusive = true): LockRequest {
  const range = rangeOf(offset, length);
  assert.ok(range !== null);
  return { owner: who, ...range, exclusive };
}

const named = (host: string) => ({ host, address: null });

const A = owner("alpha");
const B = owner("beta");
const C = owner("gamma");

function states(fs: { locks: MemoryFileSystem["fs"]["locks"] }): string[] {
  return fs.locks
    .list()
    .map(
      (row) =>
        `${row.state} ${row.owner.host} ${row.first}-${row.last === LAST_BYTE ? "$" : row.last} ${row.exclusive ? "w" : "r"}`,
    )
    .sort();
}

async function open(t: TestContext): Promise<{ disk: MemoryFileSystem; file: FileId }> {
  const disk = await MemoryFileSystem.open();
  t.after(() => disk.end());
  return { disk, file: await makeFile(disk.fs, ROOT, disk.fs.root, "file") };
}

test("locks: shared ones beside each other, an exclusive one alone; other processes of a host are other owners", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  assert.equal((await fs.locks.lock(file, want(A, 0n, 10n, false), null)).status, "granted");
  assert.equal((await fs.locks.lock(file, want(B, 0n, 10n, false), null)).status, "granted");
  const denied = await fs.locks.lock(file, want(owner("alpha", 2), 5n, 1n), null);
  assert.ok(denied.status === "denied");
  assert.ok(["alpha", "beta"].includes(denied.holder.owner.host));
  assert.equal(denied.holder.exclusive, false);
  assert.equal(fs.locks.test(file, want(C, 10n, 0n)), null);
  assert.equal((await fs.locks.test(file, want(C, 9n, 0n)))?.last, 9n);
});

test("locks: what waits is served in the order of arrival, each as soon as nothing is in its way", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  const granted: string[] = [];
  fs.locks.onGranted((grant) => granted.push(`${grant.owner.host} ${grant.note}`));
  await fs.locks.lock(file, want(A, 0n, 0n), null);
  assert.equal((await fs.locks.lock(file, want(B, 0n, 10n), NOTE)).status, "blocked");
  assert.equal((await fs.locks.lock(file, want(C, 5n, 10n), NOTE)).status, "blocked");
  assert.equal((await fs.locks.lock(file, want(B, 0n, 10n), NOTE)).status, "blocked", "asked again: still one request");
  assert.equal(states(fs).filter((row) => row.startsWith("waiting")).length, 2);
  await fs.locks.unlock(file, want(A, 0n, 0n));
  assert.deepEqual(granted, [`beta ${NOTE}`]);
  await fs.locks.unlock(file, want(B, 5n, 5n));
  assert.deepEqual(granted, [`beta ${NOTE}`, `gamma ${NOTE}`]);
});

test("locks: a grant is confirmed, by the client's answer or because it asks again", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  const grants: LockGrant[] = [];
  fs.locks.onGranted((grant) => grants.push(grant));
  await fs.locks.lock(file, want(A, 0n, 10n), null);
  await fs.locks.lock(file, want(B, 0n, 10n), NOTE);
  await fs.locks.unlock(file, want(A, 0n, 10n));
  assert.deepEqual(states(fs), ["held beta 0-9 w", "offered beta 0-9 w"]);
  assert.ok(fs.locks.pending(grants[0]!));
  assert.equal((await fs.locks.lock(file, want(B, 0n, 10n), NOTE)).status, "granted");
  assert.ok(!fs.locks.pending(grants[0]!));
  // The client refuses the old grant after that: it must not lose the lock.
  await fs.locks.settle(grants[0]!, false);
  assert.deepEqual(states(fs), ["held beta 0-9 w"]);
});

test("locks: a refused grant goes to the next, and leaves its owner what it held before", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  const grants: LockGrant[] = [];
  fs.locks.onGranted((grant) => grants.push(grant));
  await fs.locks.lock(file, want(A, 0n, 10n, false), null);
  await fs.locks.lock(file, want(B, 0n, 10n, false), null);
  await fs.locks.lock(file, want(B, 5n, 10n, true), NOTE);
  await fs.locks.lock(file, want(C, 8n, 1n, false), null);
  await fs.locks.unlock(file, want(C, 8n, 1n));
  await fs.locks.lock(file, want(C, 12n, 1n), NOTE);
  await fs.locks.unlock(file, want(A, 0n, 10n));
  assert.deepEqual(states(fs), ["held beta 0-9 r", "held gamma 12-12 w", "waiting beta 5-14 w"]);
  await fs.locks.unlock(file, want(C, 12n, 1n));
  await fs.locks.lock(file, want(A, 14n, 1n), NOTE);
  assert.deepEqual(states(fs), ["held beta 0-9 r", "held beta 5-14 w", "offered beta 5-14 w", "waiting alpha 14-14 w"]);
  await fs.locks.settle(grants.at(-1)!, false);
  assert.deepEqual(states(fs), ["held alpha 14-14 w", "held beta 0-9 r", "offered alpha 14-14 w"]);
});

test("locks: what an owner does with a range that it was offered ends the offer", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  const grants: LockGrant[] = [];
  fs.locks.onGranted((grant) => grants.push(grant));
  await fs.locks.lock(file, want(A, 0n, 10n), null);
  await fs.locks.lock(file, want(B, 0n, 10n), NOTE);
  await fs.locks.unlock(file, want(A, 0n, 10n));
  await fs.locks.lock(file, want(B, 2n, 4n, false), null);
  assert.ok(!fs.locks.pending(grants[0]!));
  await fs.locks.settle(grants[0]!, false);
  assert.deepEqual(states(fs), ["held beta 0-1 w", "held beta 2-5 r", "held beta 6-9 w"]);
  await fs.locks.unlock(file, want(B, 0n, 0n));
  await fs.locks.lock(file, want(A, 0n, 10n), null);
  await fs.locks.lock(file, want(B, 0n, 10n), NOTE);
  await fs.locks.unlock(file, want(A, 0n, 10n));
  await fs.locks.unlock(file, want(B, 9n, 0n));
  assert.ok(!fs.locks.pending(grants[1]!));
});

test("locks: a request is cancelled, waiting or just granted", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  await fs.locks.lock(file, want(A, 0n, 10n), null);
  await fs.locks.lock(file, want(B, 0n, 10n), NOTE);
  assert.equal(await fs.locks.cancel(file, want(B, 0n, 11n)), false);
  assert.equal(await fs.locks.cancel(file, want(B, 0n, 10n)), true);
  await fs.locks.lock(file, want(B, 0n, 10n), NOTE);
  await fs.locks.unlock(file, want(A, 0n, 10n));
  assert.equal(await fs.locks.cancel(file, want(B, 0n, 10n)), true);
  assert.deepEqual(states(fs), []);
});

test("locks: a restart and a crash keep locks, waiting requests and reservations, with offsets of 64 bits", async (t) => {
  const { disk, file } = await open(t);
  const far = 2n ** 63n + 5n;
  await disk.fs.locks.lock(file, want(A, far, 10n), null);
  await disk.fs.locks.lock(file, want(A, 2n ** 53n + 1n, 1n, false), null);
  await disk.fs.locks.lock(file, want(B, far + 9n, 0n), NOTE);
  await disk.fs.locks.share(file, { owner: owner("alpha", 0), access: 3, deny: 2 });
  const before = states(disk.fs);
  assert.equal(before.length, 4);
  await disk.remount();
  assert.deepEqual(states(disk.fs), before);
  await disk.crash();
  assert.deepEqual(states(disk.fs), before);
  // New rows go beside those of earlier lives.
  await disk.fs.locks.lock(file, want(C, 1n, 1n), null);
  await disk.fs.locks.unlock(file, want(C, 1n, 1n));
  const grants: LockGrant[] = [];
  disk.fs.locks.onGranted((grant) => grants.push(grant));
  await disk.fs.locks.unlock(file, want(A, 0n, 0n));
  assert.deepEqual([grants.length, grants[0]?.note, grants[0]?.first], [1, NOTE, far + 9n]);
  // Nobody confirmed it: whoever listens after the next crash is told again.
  await disk.crash();
  const again: LockGrant[] = [];
  disk.fs.locks.onGranted((grant) => again.push(grant));
  assert.deepEqual(
    again.map(({ owner: { host } }) => host),
    ["beta"],
  );
  await disk.fs.locks.settle(again[0]!, true);
  await disk.crash();
  assert.deepEqual(states(disk.fs), [`held beta ${far + 9n}-$ w`, "share alpha 0-0 r"]);
});

test("locks: they go with their inode, not with a name of it", async (t) => {
  const { disk, file } = await open(t);
  await disk.fs.link(ROOT, file, disk.fs.root, bytes("other"));
  await disk.fs.locks.lock(file, want(A, 0n, 10n), null);
  await disk.fs.locks.lock(file, want(B, 0n, 10n), NOTE);
  await disk.fs.remove(ROOT, disk.fs.root, bytes("file"));
  assert.equal(states(disk.fs).length, 2);
  await disk.fs.remove(ROOT, disk.fs.root, bytes("other"));
  assert.deepEqual(states(disk.fs), []);
  await disk.remount();
  assert.deepEqual(states(disk.fs), []);
  await refused("ESTALE", () => disk.fs.locks.lock(file, want(A, 0n, 10n), null));
});

test("locks: freeing a host frees all of it and nothing else, and serves who waited", async () => {
  const { fs } = openNamespace();
  const [one, two] = [await makeFile(fs, ROOT, fs.root, "one"), await makeFile(fs, ROOT, fs.root, "two")];
  await fs.locks.lock(one, want(A, 0n, 10n), null);
  await fs.locks.lock(one, want(B, 0n, 10n), NOTE);
  await fs.locks.lock(two, want(A, 0n, 1n), null);
  await fs.locks.lock(two, want(C, 5n, 1n), null);
  await fs.locks.lock(two, want(A, 5n, 1n), NOTE);
  await fs.locks.share(two, { owner: owner("alpha", 0), access: 1, deny: 0 });
  assert.deepEqual(await fs.locks.free(named("alpha")), { held: 2, waiting: 1, shares: 1 });
  assert.deepEqual(states(fs), ["held beta 0-9 w", "held gamma 5-5 w", "offered beta 0-9 w"]);
  assert.deepEqual(await fs.locks.free(named("nobody")), { held: 0, waiting: 0, shares: 0 });
});

test("locks: share reservations stand against each other by what they do and deny", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  const share = (who: LockOwner, access: number, deny: number) => fs.locks.share(file, { owner: who, access, deny });
  assert.equal(await share(A, 1, 2), true);
  assert.equal(await share(B, 2, 0), false);
  assert.equal(await share(B, 1, 1), false);
  assert.equal(await share(B, 1, 2), true);
  assert.equal(await share(A, 3, 0), false, "beta denies writing");
  await fs.locks.unshare(file, B);
  assert.equal(await share(A, 3, 0), true);
  assert.equal(fs.locks.list().length, 1, "a reservation replaces an earlier one of its owner");
});

test("locks: what is refused changes nothing: no file, a full metadata LU, a failed store", async () => {
  const { fs, store } = openNamespace();
  const directory = await makeDirectory(fs, ROOT, fs.root, "d");
  const file = await makeFile(fs, ROOT, fs.root, "f");
  await refused("EISDIR", () => fs.locks.lock(directory, want(A, 0n, 1n), null));
  await refused("ESTALE", () => fs.locks.test({ ino: file.ino, generation: file.generation + 1 }, want(A, 0n, 1n)));
  store.pagesFree = 0;
  for (let i = 0; i < 300; i++) await fs.locks.lock(file, want(A, BigInt(2 * i), 1n), null).catch(() => {});
  await refused("ENOSPC", () => fs.locks.lock(file, want(A, 1000n, 1n), null));
  await fs.locks.unlock(file, want(A, 0n, 0n));
  assert.deepEqual(states(fs), []);
  store.pagesFree = 1_000_000;
  store.failing = true;
  await refused("EIO", () => fs.locks.lock(file, want(A, 0n, 1n), null));
  await refused("EIO", () => fs.locks.free(named("alpha")));
});

test("locks: the result is told in the piece in which it is applied, before it is durable", async () => {
  const { fs, store } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  const { commits } = store;
  const told: string[] = [];
  const tell = ({ status }: LockResult) => {
    told.push(`${status} ${store.commits - commits}`);
    return null;
  };
  const locked = fs.locks.lock(file, want(A, 0n, 1n), null, tell);
  assert.deepEqual(told, ["granted 0"]);
  await locked;
  assert.equal(store.commits, commits + 1);
  await fs.locks.lock(file, want(B, 0n, 1n), null, tell);
  assert.deepEqual(told, ["granted 0", "denied 1"]);
  assert.equal(store.commits, commits + 1, "a refusal waits for no commit");
});

test("locks: fs check finds those of an inode that does not exist", async () => {
  const { fs, store } = openNamespace();
  const file = await makeFile(fs, ROOT, fs.root, "f");
  assert.deepEqual((await fs.check()).faults, []);
  await fs.locks.lock(file, want(A, 0n, 1n), null);
  assert.deepEqual((await fs.check()).faults, []);
  store.db.prepare("UPDATE lock SET ino = 999").run();
  assert.deepEqual((await fs.check()).faults, [{ ino: 999, what: "has locks, but does not exist" }]);
});
