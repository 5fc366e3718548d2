import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { LOCK_LIMITS } from "../../../src/fs/locks/limits.js";
import { SystemClock } from "../../../src/lib/clock.js";
import { StorageError } from "../../../src/lib/errors.js";
import { RpcClient, SystemDialer } from "../../../src/protocol/rpc/client.js";
import type { NfsServerOptions } from "../../../src/protocol/server.js";
import { FakeLockManager } from "../../support/lock-manager.js";
import { MemoryFileSystem } from "../../support/memory-fs.js";
import { encode, encodeCall } from "../../support/nfs-client.js";
import {
  cancelArgs,
  lockArgs,
  NLM,
  NlmClient,
  NlmProc,
  NlmStat,
  readResult,
  testArgs,
  unlockArgs,
} from "../../support/nlm-client.js";
import { openRig, RW } from "./fixture.js";

const A = { host: "alpha" };
const B = { host: "beta" };

async function open(t: TestContext, options: Partial<NfsServerOptions> = {}) {
  const rig = await openRig(t, options);
  const { handle } = await rig.client.create(rig.root, "file");
  return { ...rig, handle: Buffer.from(handle!), nlm: new NlmClient(rig.client) };
}

/** With a client's lock manager beside it, which the server finds by its port mapper. */
async function openWithManager(t: TestContext, serve: "tcp" | "udp" = "tcp") {
  const manager = await FakeLockManager.start(t, serve);
  const callback = new RpcClient({ clock: new SystemClock(), portmapPort: manager.port, callMsMax: 500 });
  return { ...(await open(t, { callback, hostName: "server" })), manager };
}

test("NLM: LOCK, TEST and UNLOCK, the cookie comes back, a holder is named", async (t) => {
  const { nlm, handle } = await open(t);
  const answer = readResult(
    await nlm.call(NlmProc.lock, lockArgs({ handle, ...A, offset: 5n, length: 10n, cookie: "c1" })),
  );
  assert.deepEqual(answer, { cookie: "c1", status: NlmStat.granted });
  assert.equal(await nlm.lock({ handle, ...B, offset: 14n, length: 1n }), NlmStat.denied);
  const { status, holder } = await nlm.test({ handle, ...B, exclusive: false });
  assert.equal(status, NlmStat.denied);
  assert.deepEqual(holder, { exclusive: true, svid: 1, oh: "1@alpha", offset: 5n, length: 10n });
  assert.equal((await nlm.test({ handle, ...A })).status, NlmStat.granted, "its own lock is in nobody's way");
  assert.equal(await nlm.unlock({ handle, ...A }), NlmStat.granted);
  assert.equal(await nlm.lock({ handle, ...B }), NlmStat.granted);
  assert.equal((await nlm.test({ handle, ...A, offset: 7n })).holder?.length, 0n, "to the end of the file");
});

test("NLM: offsets of 64 bits, and what passes them", async (t) => {
  const { nlm, handle } = await open(t);
  const offset = 2n ** 63n + 1n;
  assert.equal(await nlm.lock({ handle, ...A, offset, length: 1n }), NlmStat.granted);
  assert.equal(await nlm.lock({ handle, ...B, offset: offset + 1n, length: 1n }), NlmStat.granted);
  assert.equal((await nlm.test({ handle, ...B, offset: 0n })).holder?.offset, offset);
  assert.equal(await nlm.lock({ handle, ...A, offset: 2n ** 64n - 1n, length: 2n }), NlmStat.fbig);
});

test("NLM: who may not lock, and what cannot be locked", async (t) => {
  const { nlm, handle, client, root, exports, fs } = await open(t);
  assert.equal(await nlm.lock({ handle: root }), NlmStat.failed, "a directory");
  assert.equal(await nlm.lock({ handle: Buffer.alloc(0) }), NlmStat.stale);
  assert.equal(await nlm.lock({ handle: Buffer.alloc(100, 1) }), NlmStat.stale);
  await client.setattr(handle, { mode: 0o600, uid: 1000 });
  client.auth = { uid: 1001, gid: 1001, groups: [] };
  assert.equal(await nlm.lock({ handle }), NlmStat.failed);
  client.auth = { uid: 1000, gid: 1000, groups: [] };
  assert.equal(await nlm.lock({ handle }), NlmStat.granted);
  exports.add({ path: "/data", fileSystem: fs, rules: [{ ...RW, access: "ro" }] });
  assert.equal(await nlm.lock({ handle, svid: 2, exclusive: true }), NlmStat.rofs);
  assert.equal(await nlm.unlock({ handle }), NlmStat.granted);
  assert.equal(await nlm.lock({ handle, svid: 2, exclusive: false }), NlmStat.granted);
  exports.add({ path: "/data", fileSystem: fs, rules: [{ ...RW, clients: "10.0.0.0/8" }] });
  assert.equal(await nlm.lock({ handle, svid: 2, exclusive: false }), NlmStat.failed);
  exports.add({ path: "/data", fileSystem: fs, rules: [RW] });
  client.auth = { uid: 0, gid: 0, groups: [] };
  await client.remove(root, "file");
  assert.equal(await nlm.lock({ handle }), NlmStat.stale);
});

test("NLM: a client that locks without end gets DENIED_NOLOCKS, others go on, and it may unlock", async (t) => {
  const { nlm, handle, fs, connect } = await open(t);
  const other = new NlmClient(await connect("127.0.0.2"));
  const limit = LOCK_LIMITS.addressEntriesMax;
  for (let at = 0; at < limit; at++) {
    const range = { first: BigInt(2 * at), last: BigInt(2 * at) };
    const owner = { address: "127.0.0.1", host: "alpha", svid: at, oh: Buffer.alloc(0) };
    await fs.locks.lock({ ino: 2, generation: 1 }, { owner, ...range, exclusive: true }, null);
  }
  assert.equal(fs.locks.list().length, limit);
  assert.equal(await nlm.lock({ handle, ...A, offset: 1n, length: 1n }), NlmStat.noLocks);
  assert.equal(await nlm.lock({ handle, ...A, block: true }), NlmStat.noLocks);
  assert.equal(await nlm.lock({ handle, ...B, offset: 1n, length: 1n }), NlmStat.noLocks, "under another name too");
  assert.equal(await other.lock({ handle, ...A, offset: 1n, length: 1n }), NlmStat.granted);
  assert.equal(await nlm.unlock({ handle, ...A, svid: 0, oh: "" }), NlmStat.granted);
  assert.equal(await nlm.lock({ handle, ...A, offset: 3n, length: 1n }), NlmStat.granted);
});

test("NLM: arguments that do not decode are garbage, procedures that are not there are unavailable", async (t) => {
  const { client, handle } = await open(t);
  const nlm = { program: NLM, version: 4 };
  const whole = lockArgs({ handle });
  for (const cut of [0, 3, 8, 20, whole.length - 4])
    assert.equal((await client.call(NlmProc.lock, whole.subarray(0, cut), nlm)).status, 4, `${cut} bytes`);
  assert.equal((await client.call(16, Buffer.alloc(0), nlm)).status, 3);
  assert.equal((await client.call(24, Buffer.alloc(0), nlm)).status, 3);
  assert.equal((await client.call(0, Buffer.alloc(0), nlm)).status, 0);
  assert.equal((await client.call(0, Buffer.alloc(0), { program: NLM, version: 1 })).status, 2);
});

test("NLM: a repeated call is answered as the first time, and not done again", async (t) => {
  const { client, nlm, handle, fs } = await open(t);
  await nlm.lock({ handle, ...A });
  const lock = { program: NLM, version: 4, xid: 4711 };
  const args = lockArgs({ handle, ...B });
  assert.equal(readResult((await client.call(NlmProc.lock, args, lock)).body).status, NlmStat.denied);
  await nlm.unlock({ handle, ...A });
  assert.equal(readResult((await client.call(NlmProc.lock, args, lock)).body).status, NlmStat.denied);
  assert.equal(fs.locks.list().length, 0);
  assert.equal(
    readResult((await client.call(NlmProc.lock, args, { ...lock, xid: 4712 })).body).status,
    NlmStat.granted,
  );
});

test("NLM: a lock that could not be made durable is not granted, and a repetition is tried anew", async (t) => {
  const { client, handle, fs } = await open(t);
  const lock = { program: NLM, version: 4, xid: 4711 };
  const args = lockArgs({ handle, ...A });
  const status = async () => readResult((await client.call(NlmProc.lock, args, lock)).body).status;
  for (const [code, expected] of [
    ["EIO", NlmStat.failed],
    ["EBUSY", NlmStat.gracePeriod],
    ["EROFS", NlmStat.rofs],
    ["ESTALE", NlmStat.stale],
  ] as const) {
    fs.hold = () => Promise.reject(new StorageError(code, "the file system has stopped"));
    assert.equal(await status(), expected, code);
    await fs.locks.free({ host: "alpha", address: null }).catch(() => {});
  }
  fs.hold = null;
  assert.equal(await status(), NlmStat.granted);
});

test("NLM: SHARE, UNSHARE, NM_LOCK and FREE_ALL", async (t) => {
  const { nlm, handle, fs } = await open(t);
  assert.equal(await nlm.share({ handle, ...A }, 2, 1), NlmStat.granted);
  assert.equal(await nlm.share({ handle, ...B }, 0, 2), NlmStat.denied);
  assert.equal(await nlm.unshare({ handle, ...A }), NlmStat.granted);
  assert.equal(await nlm.share({ handle, ...B }, 0, 2), NlmStat.granted);
  const nm = async (args: Parameters<typeof lockArgs>[0]) =>
    readResult(await nlm.call(NlmProc.nmLock, lockArgs(args))).status;
  assert.equal(await nm({ handle, ...A }), NlmStat.granted);
  assert.equal(await nm({ handle, ...B, block: true }), NlmStat.denied, "it never waits");
  await nlm.freeAll("alpha");
  assert.deepEqual(
    fs.locks.list().map(({ state, owner }) => `${state} ${owner.host}`),
    ["share beta"],
  );
});

test("NLM: a request that waits is granted by a call to the client, once the client says so it is settled", async (t) => {
  const { nlm, handle, fs, manager } = await openWithManager(t);
  await nlm.lock({ handle, ...A, offset: 10n, length: 10n });
  assert.equal(await nlm.lock({ handle, ...B, svid: 9, offset: 15n, length: 10n, block: true }), NlmStat.blocked);
  assert.deepEqual(manager.received, []);
  await nlm.unlock({ handle, ...A });
  const { granted } = await manager.next(NlmProc.granted);
  const { cookie: _, ...rest } = granted!;
  assert.deepEqual(rest, {
    ...{ exclusive: true, server: "server", handle, oh: "9@beta", svid: 9, offset: 15n, length: 10n },
  });
  await settled(fs);
  assert.deepEqual(statesOf(fs), ["held beta"]);
});

test("NLM: a client that wants a granted lock no more gives it to the next", async (t) => {
  const { nlm, handle, fs, manager } = await openWithManager(t);
  manager.answer = NlmStat.denied;
  await nlm.lock({ handle, ...A });
  await nlm.lock({ handle, ...B, block: true });
  await nlm.lock({ handle, host: "gamma", block: true });
  await nlm.unlock({ handle, ...A });
  await manager.next(NlmProc.granted, 1);
  await settled(fs);
  assert.deepEqual(statesOf(fs), []);
});

test("NLM: a client that does not answer is told again; asking again confirms the grant", async (t) => {
  const { nlm, handle, fs, manager } = await openWithManager(t);
  manager.answer = null;
  await nlm.lock({ handle, ...A });
  await nlm.lock({ handle, ...B, block: true });
  await nlm.unlock({ handle, ...A });
  await manager.next(NlmProc.granted);
  await manager.next(NlmProc.granted, 1);
  assert.deepEqual(statesOf(fs), ["held beta", "offered beta"]);
  assert.equal(await nlm.lock({ handle, ...B, block: true }), NlmStat.granted);
  assert.deepEqual(statesOf(fs), ["held beta"]);
});

test("NLM: messages are answered with calls to the client, over UDP when it has no TCP", async (t) => {
  for (const serve of ["tcp", "udp"] as const) {
    const { nlm, handle, fs, manager } = await openWithManager(t, serve);
    const send = async (procedure: number, args: Buffer) =>
      assert.equal((await nlm.call(procedure, args)).remaining, 0);
    await send(NlmProc.lockMsg, lockArgs({ handle, ...A, cookie: "1" }));
    assert.deepEqual((await manager.next(NlmProc.lockRes)).result, { cookie: "1", status: 0, holder: null });
    await send(NlmProc.testMsg, testArgs({ handle, ...B, cookie: "2" }));
    const tested = (await manager.next(NlmProc.testRes)).result;
    assert.deepEqual([tested?.cookie, tested?.status, tested?.holder?.oh], ["2", NlmStat.denied, "1@alpha"]);
    await send(NlmProc.lockMsg, lockArgs({ handle, ...B, block: true, cookie: "3" }));
    assert.equal((await manager.next(NlmProc.lockRes, 2)).result?.status, NlmStat.blocked);
    await send(NlmProc.unlockMsg, unlockArgs({ handle, ...A, cookie: "4" }));
    const { granted } = await manager.next(NlmProc.grantedMsg);
    const answer = encode((w) => {
      w.opaque(Buffer.from(granted!.cookie, "latin1"));
      w.u32(NlmStat.granted);
    });
    assert.deepEqual(statesOf(fs), ["held beta", "offered beta"]);
    await send(NlmProc.grantedRes, answer);
    await settled(fs);
    assert.deepEqual(statesOf(fs), ["held beta"]);
    await send(NlmProc.cancelMsg, cancelArgs({ handle, ...A, cookie: "5" }));
    assert.equal((await manager.next(NlmProc.cancelRes)).result?.status, NlmStat.denied);
  }
});

test("NLM: GRANTED_RES counts only from where the request came", async (t) => {
  const { nlm, handle, fs, manager, port } = await openWithManager(t);
  manager.answer = null;
  await nlm.lock({ handle, ...A });
  await nlm.call(NlmProc.lockMsg, lockArgs({ handle, ...B, block: true }));
  await nlm.unlock({ handle, ...A });
  const { granted } = await manager.next(NlmProc.grantedMsg);
  const answer = encode((w) => {
    w.opaque(Buffer.from(granted!.cookie, "latin1"));
    w.u32(NlmStat.denied);
  });
  const call = encodeCall(1, NlmProc.grantedRes, answer, { program: NLM, version: 4 });
  const dialer = new SystemDialer();
  await dialer.exchange("tcp", { host: "127.0.0.1", port, from: "127.0.0.2" }, call, 1, 2000);
  assert.deepEqual(statesOf(fs), ["held beta", "offered beta"]);
  await dialer.exchange("tcp", { host: "127.0.0.1", port, from: "127.0.0.1" }, call, 1, 2000);
  await settled(fs);
  assert.deepEqual(statesOf(fs), []);
});

test("NLM: clients are called back also for a file system that was exported later, and not for one that is not any more", async (t) => {
  const { nlm, client, exports, manager } = await openWithManager(t);
  const later = new MemoryFileSystem({ id: 9 });
  exports.add({ path: "/later", fileSystem: later, rules: [RW] });
  const { handle: root } = await client.mount("/later");
  const { handle: file } = await client.create(root, "file");
  const handle = Buffer.from(file!);
  await nlm.lock({ handle, ...A });
  await nlm.lock({ handle, ...B, block: true });
  await nlm.unlock({ handle, ...A });
  await manager.next(NlmProc.granted);
  await settled(later);
  await nlm.lock({ handle, host: "gamma", block: true });
  exports.remove("/later");
  await later.locks.free({ host: "beta", address: null });
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(manager.received.length, 1);
  exports.add({ path: "/later", fileSystem: later, rules: [RW] });
  await manager.next(NlmProc.granted, 1);
});

test("NLM: who takes the server for a client is told that nobody waits", async (t) => {
  const { nlm, handle } = await open(t);
  assert.equal(readResult(await nlm.call(NlmProc.granted, testArgs({ handle }))).status, NlmStat.denied);
});

test("NLM: a request that is cancelled is not granted", async (t) => {
  const { nlm, handle, fs } = await open(t);
  await nlm.lock({ handle, ...A });
  await nlm.lock({ handle, ...B, block: true });
  assert.equal(await nlm.cancel({ handle, ...B, offset: 1n }), NlmStat.denied);
  assert.equal(await nlm.cancel({ handle, ...B }), NlmStat.granted);
  await nlm.unlock({ handle, ...A });
  assert.deepEqual(statesOf(fs), []);
});

interface WithLocks {
  readonly locks: { list(): readonly { state: string; owner: { host: string } }[] };
}

function statesOf({ locks }: WithLocks): string[] {
  return locks
    .list()
    .map(({ state, owner }) => `${state} ${owner.host}`)
    .sort();
}

/** Until nothing is offered and not confirmed. */
async function settled(fs: WithLocks): Promise<void> {
  for (let i = 0; i < 500 && statesOf(fs).some((state) => state.startsWith("offered")); i++)
    await new Promise((resolve) => setTimeout(resolve, 10));
}
