/** Clients that take without giving, on real sockets over the file system in memory: bounded by their address, and others are served. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Clock } from "../../../src/lib/clock.js";
import { SystemClock } from "../../../src/lib/clock.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { DEFAULT_LIMITS, type ProtocolLimits } from "../../../src/protocol/limits.js";
import type { Refusal } from "../../../src/protocol/streams/refusals.js";
import { gate } from "../../support/gate.js";
import { encode, encodeCall, frame, MOUNT, NfsClient, Proc, writeU64 } from "../../support/nfs-client.js";
import { clientLimits, openRig, pattern, RW, until } from "./fixture.js";

const MIB = 1024 * 1024;
const HOG = "127.0.0.2";
const STRANGER = "127.0.0.66";

/** Time that can be made to pass at once. */
function skipping(): { clock: Clock; skip: (ms: number) => void } {
  const real = new SystemClock();
  let skippedMs = 0;
  const clock: Clock = {
    monotonicMs: () => real.monotonicMs() + skippedMs,
    wallTime: () => real.wallTime(),
    after: (delayMs, action) => real.after(delayMs, action),
  };
  return {
    clock,
    skip: (ms) => {
      skippedMs += ms;
    },
  };
}

async function rigFor(t: TestContext, limits: Partial<ProtocolLimits> = {}) {
  const time = skipping();
  const told: Refusal[] = [];
  const options = {
    clock: time.clock,
    limits: { sweepMs: 10, ...limits },
    onRefused: (one: Refusal) => told.push(one),
  };
  const rig = await openRig(t, options as Parameters<typeof openRig>[1]);
  const from = async (address: string) => {
    const client = await NfsClient.connect(rig.port, "127.0.0.1", address);
    t.after(() => client.close());
    return client;
  };
  return { ...rig, ...time, told, from };
}

function strangersOut({ exports, fs }: Awaited<ReturnType<typeof rigFor>>): void {
  exports.remove("/data");
  exports.add({ path: "/data", fileSystem: fs, rules: ["127.0.0.1", HOG].map((clients) => ({ ...RW, clients })) });
}

function readCall(xid: number, handle: Buffer, count = MIB): Buffer {
  const args = encode((w) => {
    w.opaque(handle);
    writeU64(w, 0);
    w.u32(count);
  });
  return frame(encodeCall(xid, Proc.read, args));
}

function writeCall(xid: number, handle: Buffer, data: Buffer): Buffer {
  const args = encode((w) => {
    w.opaque(handle);
    writeU64(w, 0);
    w.u32(data.length);
    w.u32(2);
    w.opaque(data);
  });
  return frame(encodeCall(xid, Proc.write, args));
}

/** The beginning of a record of so many bytes. */
function partial(recordBytes: number, sentBytes: number): Buffer {
  const bytes = Buffer.alloc(4 + sentBytes);
  bytes.writeUInt32BE(0x80000000 + recordBytes);
  return bytes;
}

test("unread READs: the address fills its share, another one reads beside it", async (t) => {
  const replies = { bytesMax: 8 * MIB, shareBytesMin: 256 * 1024, overrunBytesMax: MIB };
  const rig = await rigFor(t, clientLimits({ replies }));
  const { client, root, from, fs, server } = rig;
  const { handle } = await client.create(root, "f");
  await client.write(handle, 0, pattern(MIB));
  for (let i = 0; i < 6; i++) {
    const hog = await from(HOG);
    hog.socket.pause();
    hog.send(Buffer.concat(Array.from({ length: 30 }, (_, xid) => readCall(xid, handle))));
  }
  await until(() => fs.readMemory.lentBytes >= 3 * MIB);
  for (let i = 0; i < 10; i++) assert.equal((await client.read(handle, 0, MIB)).count, MIB);
  assert.ok(fs.readMemory.lentBytes <= 4 * MIB, "half of all");
  assert.ok(server.statistics().clients.replyBytes <= 5 * MIB);
});

test("unread READs: whoever holds memory that others wait for is cut after a while, and all of it is there again", async (t) => {
  const replies = { bytesMax: 4 * MIB, shareBytesMin: 256 * 1024, overrunBytesMax: MIB };
  const rig = await rigFor(t, clientLimits({ replies }));
  const { client, root, from, fs, skip, told } = rig;
  const { handle } = await client.create(root, "f");
  await client.write(handle, 0, pattern(MIB));
  const hogs: NfsClient[] = [];
  for (let i = 0; i < 3; i++) {
    const hog = await from(HOG);
    hog.socket.pause();
    hog.send(Buffer.concat(Array.from({ length: 30 }, (_, xid) => readCall(xid, handle))));
    hogs.push(hog);
  }
  await until(() => fs.readMemory.lentBytes >= 2 * MIB);
  await new Promise((resolve) => setTimeout(resolve, 50));
  skip(DEFAULT_LIMITS.pressedMsMax + 1000);
  await until(() => told.some(({ kind, address }) => kind === "unread" && address === HOG));
  for (const hog of hogs) hog.socket.resume();
  await Promise.all(hogs.map((hog) => hog.close()));
  await until(() => fs.readMemory.lentBytes === 0);
  assert.equal((await client.read(handle, 0, MIB)).count, MIB);
});

test("very many connections of an address whose share is used up: none of them takes a buffer full before it sees that, and others are served", async (t) => {
  const requests = { bytesMax: 4 * MIB, shareBytesMin: 192 * 1024, overrunBytesMax: MIB };
  const rig = await rigFor(t, clientLimits({ requests }));
  const { client, from, server } = rig;
  const held = () => server.statistics().clients.requestBytes;
  const many = await Promise.all(Array.from({ length: 120 }, () => from(HOG)));
  const halves = await Promise.all(Array.from({ length: 8 }, () => from(HOG)));
  for (const half of halves) half.send(partial(320 * 1024, 1000));
  await until(() => held() >= 1.5 * MIB);
  const call = frame(encodeCall(1, Proc.null, Buffer.alloc(0)));
  const calls = Buffer.concat(Array.from({ length: 1400 }, () => call));
  // Twice, so that what is held is not what the socket reads into next.
  for (const one of many) one.send(calls);
  await new Promise((resolve) => setTimeout(resolve, 100));
  for (const one of many) one.send(calls);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.ok(held() <= 2.5 * MIB, `${held()} bytes of ${requests.bytesMax} are held for half of the clients`);
  assert.equal((await client.call(Proc.null, Buffer.alloc(0))).status, 0);
  await Promise.all([...many, ...halves].map((one) => one.close()));
  await until(() => held() === 0);
});

test("unread replies of some bytes: memory follows the bytes, not their number", async (t) => {
  const rig = await rigFor(t);
  const { from, server, client, root } = rig;
  const hog = await from(HOG);
  hog.socket.pause();
  const call = frame(encodeCall(1, Proc.null, Buffer.alloc(0)));
  let sent = 0;
  const held = () => server.connections().find(({ address }) => address === HOG)?.queuedBytes ?? 0;
  // One by one, so that each reply could leave by itself.
  while (held() < 20_000) {
    for (let i = 0; i < 20; i++) hog.send(call);
    sent += 20;
    if (sent % 2000 === 0) hog.send(Buffer.concat(Array.from({ length: 20_000 }, () => call)));
    await nextTurn();
  }
  const before = server.statistics().clients.replyBytes;
  for (let i = 0; i < 300; i++) {
    hog.send(call);
    await nextTurn();
  }
  const grown = server.statistics().clients.replyBytes - before;
  assert.ok(grown <= 2 * 65536, `${grown} bytes more for 300 replies of 28`);
  assert.equal((await client.getattr(root)).status, 0);
});

test("half records: an address has half of the room, another one's record passes beside them", async (t) => {
  const requests = { bytesMax: 8 * MIB, shareBytesMin: 256 * 1024, overrunBytesMax: MIB };
  const rig = await rigFor(t, clientLimits({ requests }));
  const { client, root, from, server, skip, told } = rig;
  const { handle } = await client.create(root, "f");
  for (let i = 0; i < 20; i++) (await from(HOG)).send(partial(MIB, 700_000));
  await until(() => server.statistics().receivedBytes > 3 * MIB);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const { receivedBytes } = server.statistics();
  assert.ok(receivedBytes <= 4 * MIB + DEFAULT_LIMITS.recordBytesMax, `${receivedBytes}`);
  for (let i = 0; i < 5; i++) assert.equal((await client.write(handle, 0, pattern(MIB))).status, 0);
  skip(DEFAULT_LIMITS.pressedMsMax + 1000);
  await until(() => told.some(({ kind, address }) => kind === "incomplete" && address === HOG));
});

test("writers that wait for a slow disk: not read any further, and what they sent is written in the end", async (t) => {
  const requests = { bytesMax: 8 * MIB, shareBytesMin: 256 * 1024, overrunBytesMax: MIB };
  const rig = await rigFor(t, clientLimits({ requests }));
  const { client, root, from, server, fs } = rig;
  const { handle } = await client.create(root, "f");
  const slow = gate();
  fs.hold = () => slow.opened;
  const answers: Promise<unknown>[] = [];
  for (let i = 2; i < 12; i++) {
    const writer = await from(`127.0.0.${i}`);
    for (let xid = 0; xid < 6; xid++) {
      answers.push(writer.reply(5000 + xid, 20_000));
      writer.send(writeCall(5000 + xid, handle, pattern(MIB, i)));
    }
  }
  await until(() => server.statistics().clients.requestBytes > 4 * MIB);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.ok(server.statistics().clients.requestBytes <= 9 * MIB);
  assert.equal((await client.getattr(handle)).status, 0);
  slow.open();
  await Promise.all(answers);
  await until(() => server.statistics().clients.requestBytes === 0);
});

test("small requests in flight: the buffers that they keep are counted", async (t) => {
  const rig = await rigFor(t);
  const { client, root, from, server, fs } = rig;
  const { handle } = await client.create(root, "f");
  const slow = gate();
  fs.hold = () => slow.opened;
  const writer = await from(HOG);
  const sent = 40;
  for (let xid = 0; xid < sent; xid++) {
    writer.send(writeCall(xid, handle, pattern(10)));
    await until(() => (server.connections().find(({ address }) => address === HOG)?.requests ?? 0) === xid + 1);
  }
  assert.ok(server.statistics().clients.requestBytes >= (sent - 1) * 65536, "a socket's chunk for each of them");
  slow.open();
  await until(() => server.statistics().clients.requestBytes === 0);
});

test("strangers: no large record, no slow one, no rest; an admitted client is not held to that", async (t) => {
  const rig = await rigFor(t);
  const { from, skip, told, client, root, server } = rig;
  strangersOut(rig);
  const large = await from(STRANGER);
  large.send(partial(64 * 1024, 10));
  await large.closed;
  const [slow, deaf, quiet, ours] = await Promise.all([from(STRANGER), from(STRANGER), from(STRANGER), from(HOG)]);
  for (const one of [slow, ours]) one.send(partial(200, 10));
  deaf.socket.pause();
  const call = frame(encodeCall(1, 0, Buffer.alloc(0), { program: MOUNT }));
  // More than the kernel takes for a peer that does not read.
  const many = Buffer.concat(Array.from({ length: 20_000 }, () => call));
  for (let i = 0; i < 40; i++) deaf.send(many);
  await until(() => server.connections().some(({ queuedBytes }) => queuedBytes > 1000));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(server.statistics().clients.replyBytes <= 4 * 65536);
  skip(DEFAULT_LIMITS.strangerStuckMsMax + 1000);
  await slow.closed;
  await until(() => told.some(({ kind }) => kind === "unread"));
  skip(DEFAULT_LIMITS.strangerIdleMsMax);
  await quiet.closed;
  assert.deepEqual([...new Set(told.map(({ kind, address }) => `${kind} ${address}`))].sort(), [
    `incomplete ${STRANGER}`,
    `record ${STRANGER}`,
    `unread ${STRANGER}`,
  ]);
  assert.equal((await client.getattr(root)).status, 0);
  const { admitted } = server.statistics().clients;
  assert.equal(admitted, 2, "the half record of an admitted client may take longer");
});

test("many requests in one chunk: others have their turn in between", async (t) => {
  const rig = await rigFor(t);
  const { from, client, root, fs } = rig;
  const hog = await from(HOG);
  const lookup = encode((w) => {
    w.opaque(root);
    w.text("f");
  });
  const real = fs.lookup.bind(fs);
  fs.lookup = (...args) => {
    const startedMs = performance.now();
    while (performance.now() - startedMs < 0.5);
    return real(...args);
  };
  const call = frame(encodeCall(9, Proc.lookup, lookup));
  hog.send(Buffer.concat(Array.from({ length: 600 }, () => call)));
  await until(() => rig.server.connections().some(({ address, requests }) => address === HOG && requests > 0));
  await client.getattr(root);
  const { requests } = rig.server.connections().find(({ address }) => address === HOG)!;
  assert.ok(requests < 400, `${requests} of 600 were answered before somebody else was`);
});
