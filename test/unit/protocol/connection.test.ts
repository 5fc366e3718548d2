import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Clock } from "../../../src/lib/clock.js";
import { SystemClock } from "../../../src/lib/clock.js";
import { StorageError } from "../../../src/lib/errors.js";
import { XdrError } from "../../../src/protocol/xdr/reader.js";
import { gate } from "../../support/gate.js";
import { encode, encodeCall, frame, NfsClient, Proc, writeSattr } from "../../support/nfs-client.js";
import { clientLimits, openRig, pattern, until } from "./fixture.js";

const MIB = 1024 * 1024;

function getattrCall(xid: number, handle: Buffer): Buffer {
  return frame(
    encodeCall(
      xid,
      Proc.getattr,
      encode((w) => w.opaque(handle)),
    ),
  );
}

function readCall(xid: number, handle: Buffer, count: number): Buffer {
  const args = encode((w) => {
    w.opaque(handle);
    w.u64(0);
    w.u32(count);
  });
  return frame(encodeCall(xid, Proc.read, args));
}

function createArgs(directory: Buffer, name: string): Buffer {
  return encode((w) => {
    w.opaque(directory);
    w.text(name);
    w.u32(1);
    writeSattr(w, {});
  });
}

test("pipelining: requests that finish later are overtaken", async (t) => {
  const { client, root, fs } = await openRig(t);
  const { handle } = await client.create(root, "f");
  await client.write(handle, 0, pattern(100));
  const slow = gate();
  fs.hold = (operation) => (operation === "read" ? slow.opened : undefined);
  const before = client.replyOrder.length;
  const held = client.reply(1001);
  const quick = [client.reply(1002), client.reply(1003)];
  client.send(Buffer.concat([readCall(1001, handle, 50), getattrCall(1002, handle), getattrCall(1003, handle)]));
  await Promise.all(quick);
  slow.open();
  await held;
  assert.deepEqual(client.replyOrder.slice(before), [1002, 1003, 1001]);
});

test("in-flight limit: the socket is paused, later goes on, and nothing is lost", async (t) => {
  const { client, root, fs, server } = await openRig(t, { limits: { inFlightMax: 4 } });
  const { handle } = await client.create(root, "f");
  await client.write(handle, 0, pattern(100));
  const slow = gate();
  let waiting = 0;
  fs.hold = () => {
    waiting++;
    return slow.opened;
  };
  const xids = Array.from({ length: 40 }, (_, i) => 2000 + i);
  const answers = xids.map((xid) => client.reply(xid));
  client.send(Buffer.concat(xids.map((xid) => readCall(xid, handle, 10))));
  await sleep(50);
  assert.equal(waiting, 4);
  assert.equal(server.connections()[0]?.inFlight, 4);
  slow.open();
  for (const { status } of await Promise.all(answers)) assert.equal(status, 0);
  assert.equal(waiting, 40);
});

test("a slow reader: no more requests are read while its output waits, memory stays bounded", async (t) => {
  const { client, root, connect, server } = await openRig(t, { limits: { outputBytesMax: MIB } });
  const { handle } = await client.create(root, "f");
  await client.write(handle, 0, pattern(MIB));
  const slow = await connect();
  slow.socket.pause();
  const xids = Array.from({ length: 100 }, (_, i) => 1 + i);
  const answers = xids.map((xid) => slow.reply(xid, 20000));
  slow.send(Buffer.concat(xids.map((xid) => readCall(xid, handle, MIB))));
  await sleep(200);
  const state = server.connections().at(-1);
  assert.ok(state && state.queuedBytes < 3 * MIB, `${state?.queuedBytes} bytes wait`);
  assert.ok(state.requests < 50, `${state.requests} requests read`);
  assert.equal((await client.getattr(handle)).status, 0);
  slow.socket.resume();
  for (const { status } of await Promise.all(answers)) assert.equal(status, 0);
  assert.equal(server.connections().at(-1)?.queuedBytes, 0);
});

test("read memory: a client that goes away in the middle gives it all back", async (t) => {
  const { client, root, connect, fs, server } = await openRig(t);
  const { handle } = await client.create(root, "f");
  await client.write(handle, 0, pattern(MIB));
  for (const held of [false, true]) {
    const slow = gate();
    fs.hold = held ? () => slow.opened : null;
    const other = await connect();
    other.socket.pause();
    other.send(Buffer.concat(Array.from({ length: 30 }, (_, i) => readCall(i, handle, MIB))));
    await until(() => fs.readMemory.lentBytes > 0);
    await other.close();
    slow.open();
    await until(() => fs.readMemory.lentBytes === 0);
    await until(() => server.statistics().clients.replyBytes === 0);
  }
});

test("read memory: callers wait when their share is used up, and all are answered", async (t) => {
  const replies = { bytesMax: 2 * MIB, shareBytesMin: 65536, overrunBytesMax: 65536 };
  const { client, root, fs } = await openRig(t, { limits: clientLimits({ replies }) });
  const { handle } = await client.create(root, "f");
  await client.write(handle, 0, pattern(MIB));
  let most = 0;
  fs.hold = () => {
    most = Math.max(most, fs.readMemory.lentBytes);
    return undefined;
  };
  const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => client.read(handle, 0, i % 2 ? MIB : 20000)));
  answers.forEach(({ data }, i) => {
    assert.ok(data.equals(pattern(MIB).subarray(0, i % 2 ? MIB : 20000)));
  });
  assert.ok(most <= 2 * MIB, `${most} bytes were lent`);
});

test("duplicate requests: a repeated CREATE is answered as the first time and done once", async (t) => {
  const { client, root, fs, connect } = await openRig(t);
  const args = createArgs(root, "once");
  const first = await client.call(Proc.create, args, { xid: 500 });
  const again = await client.call(Proc.create, args, { xid: 500 });
  assert.deepEqual([first.body.u32(), again.body.u32()], [0, 0]);
  const other = await connect();
  assert.equal((await other.call(Proc.create, args, { xid: 500 })).body.u32(), 0);
  assert.equal(fs.applied.get("create"), 1);
  assert.equal((await client.call(Proc.create, args, { xid: 501 })).body.u32(), 17);
  assert.equal((await client.call(Proc.create, createArgs(root, "other"), { xid: 500 })).body.u32(), 0);
});

test("duplicate requests: one that is in progress is joined, also from a new connection", async (t) => {
  const { client, root, fs, connect } = await openRig(t);
  const slow = gate();
  fs.hold = () => slow.opened;
  const other = await connect();
  const args = createArgs(root, "once");
  const answers = [client.call(Proc.create, args, { xid: 7 }), other.call(Proc.create, args, { xid: 7 })];
  await sleep(30);
  assert.equal(fs.applied.get("create"), 1);
  slow.open();
  for (const reply of await Promise.all(answers)) assert.equal(reply.body.u32(), 0);
  assert.equal(fs.applied.get("create"), 1);
});

test("duplicate requests: the first connection dies, the repetition is answered", async (t) => {
  const { client, root, fs, connect } = await openRig(t);
  const slow = gate();
  fs.hold = () => slow.opened;
  const first = await connect();
  first.send(frame(encodeCall(7, Proc.create, createArgs(root, "once"))));
  await sleep(30);
  await first.close();
  slow.open();
  await sleep(10);
  assert.equal((await client.call(Proc.create, createArgs(root, "once"), { xid: 7 })).body.u32(), 0);
  assert.equal(fs.applied.get("create"), 1);
});

const EEXIST = 17;
// `later`: what a repetition is answered with; the name is there.
for (const { error, accepted, status, later } of [
  { error: new StorageError("EIO", "a disk is gone"), accepted: 0, status: 5, later: EEXIST },
  { error: new StorageError("EBUSY", "not served now"), accepted: 0, status: 10_008, later: EEXIST },
  { error: new StorageError("EROFS", "read only"), accepted: 0, status: 30, later: 30 },
  { error: new XdrError("garbage", 0), accepted: 4, status: null, later: EEXIST },
])
  test(`duplicate requests: who has asked again meanwhile is answered, too, when the call fails: ${error.message}`, async (t) => {
    const { client, root, fs, connect } = await openRig(t);
    const slow = gate();
    fs.hold = () =>
      slow.opened.then(() => {
        throw error;
      });
    const first = await connect();
    first.send(frame(encodeCall(7, Proc.create, createArgs(root, "once"))));
    await until(() => fs.applied.get("create") === 1);
    await first.close();
    // So many connections that end before the answer comes, and one that stands.
    for (let i = 0; i < 10; i++) {
      const next = await connect();
      next.send(frame(encodeCall(7, Proc.create, createArgs(root, "once"))));
      await next.call(Proc.null, Buffer.alloc(0), { xid: 8 });
      await next.close();
    }
    const again = client.call(Proc.create, createArgs(root, "once"), { xid: 7 });
    await client.call(Proc.null, Buffer.alloc(0), { xid: 8 });
    slow.open();
    const reply = await again;
    assert.deepEqual([reply.status, reply.status === 0 ? reply.body.u32() : null], [accepted, status]);
    fs.hold = null;
    assert.equal((await client.call(Proc.create, createArgs(root, "once"), { xid: 7 })).body.u32(), later);
  });

test("close: requests in flight are answered, new connections refused, everything ends", async (t) => {
  const { client, root, fs, server, port } = await openRig(t);
  const { handle } = await client.create(root, "f");
  const slow = gate();
  fs.hold = () => slow.opened;
  const pending = client.commit(handle);
  await sleep(20);
  const closed = server.close({ drainMs: 2000 });
  await assert.rejects(NfsClient.connect(port));
  slow.open();
  assert.equal((await pending).status, 0);
  await closed;
  await client.closed;
  assert.deepEqual(server.connections(), []);
});

test("close: a request that never finishes is cut off after drainMs", async (t) => {
  const { client, root, fs, server } = await openRig(t);
  const { handle } = await client.create(root, "f");
  fs.hold = () => new Promise(() => {});
  const pending = client.commit(handle);
  await sleep(20);
  const closed = server.close({ drainMs: 50 });
  await assert.rejects(pending, /closed/);
  await closed;
});

test("half-close: a client that has sent its last request still gets its answers", async (t) => {
  const { client, root, fs, connect } = await openRig(t);
  const { handle } = await client.create(root, "f");
  fs.hold = () => sleep(30);
  const other = await connect();
  const answer = other.commit(handle);
  other.socket.end();
  assert.equal((await answer).status, 0);
  await other.closed;
});

test("places: an address that has all it may loses what is idle, one that is busy is not cut", async (t) => {
  const { connect, server, client, root, fs } = await openRig(t, {
    limits: clientLimits({ connectionsPerAddressMax: 3 }),
  });
  const { handle } = await client.create(root, "f");
  const slow = gate();
  fs.hold = () => slow.opened;
  const pending = client.commit(handle);
  const idle = await connect();
  const third = await connect();
  await third.getattr(root);
  await until(() => server.connections().length === 3);
  const fourth = await connect();
  await idle.closed;
  assert.equal((await fourth.getattr(root)).status, 0);
  assert.equal(server.statistics().clients.refusals.idle, 1);
  slow.open();
  assert.equal((await pending).status, 0);
});

test("sweep: a partial record and an idle connection are closed in the end, a waiting request is not", async (t) => {
  const real = new SystemClock();
  let skippedMs = 0;
  const clock: Clock = {
    monotonicMs: () => real.monotonicMs() + skippedMs,
    wallTime: () => real.wallTime(),
    after: (delayMs, action) => real.after(delayMs, action),
  };
  const limits = { sweepMs: 10, stuckMsMax: 1000, idleMsMax: 100_000 };
  const { client, root, connect, fs } = await openRig(t, { clock, limits });
  const { handle } = await client.create(root, "f");
  const slow = gate();
  fs.hold = () => slow.opened;
  const pending = client.commit(handle);
  const partial = await connect();
  partial.send(Buffer.from([0x80, 0, 0, 100, 1, 2, 3]));
  const idle = await connect();
  await sleep(50);
  skippedMs = 5000;
  await partial.closed;
  skippedMs = 200_000;
  await idle.closed;
  slow.open();
  assert.equal((await pending).status, 0);
});
