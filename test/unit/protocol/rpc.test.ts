import assert from "node:assert/strict";
import { test } from "node:test";
import { authSysBody, encode, encodeCall, frame, MOUNT, PORTMAP, Proc } from "../../support/nfs-client.js";
import { openRig } from "./fixture.js";

const NOTHING = Buffer.alloc(0);

/** Credential and verifier as they are. */
function auth(flavor: number, body: Buffer, verifierFlavor = 0, verifier: Buffer = NOTHING): Buffer {
  return encode((w) => {
    w.u32(flavor);
    w.opaque(body);
    w.u32(verifierFlavor);
    w.opaque(verifier);
  });
}

test("rpc: unknown program, version and procedure, each with its answer", async (t) => {
  const { client } = await openRig(t);
  const unavailable = await client.call(0, NOTHING, { program: 100099 });
  assert.deepEqual([unavailable.denied, unavailable.status], [false, 1]);
  for (const version of [0, 1, 2, 4, 0xffffffff]) {
    for (const program of [100003, MOUNT]) {
      const { status, body } = await client.call(0, NOTHING, { program, version });
      assert.deepEqual([status, body.u32(), body.u32()], [2, 3, 3], `program ${program} version ${version}`);
    }
  }
  const portmap = await client.call(0, NOTHING, { program: PORTMAP, version: 5 });
  assert.deepEqual([portmap.status, portmap.body.u32(), portmap.body.u32()], [2, 2, 4]);
  for (const procedure of [22, 23, 0xffffffff]) assert.equal((await client.call(procedure, NOTHING)).status, 3);
});

test("rpc: another RPC version is denied with our version", async (t) => {
  const { client } = await openRig(t);
  const { denied, status, body } = await client.call(0, NOTHING, { rpcVersion: 3 });
  assert.deepEqual([denied, status, body.u32(), body.u32()], [true, 0, 2, 2]);
});

test("rpc: bad credentials and verifiers are denied with their auth_stat", async (t) => {
  const { client } = await openRig(t);
  const groups = (n: number) => Array.from({ length: n }, (_, i) => i);
  const sys = (n: number, machine = "m") => authSysBody({ uid: 1, gid: 1, groups: groups(n) }, machine);
  const cases: [string, Buffer, number][] = [
    ["unknown flavor", auth(6, Buffer.alloc(8)), 2],
    ["AUTH_NONE with a body", auth(0, Buffer.alloc(4)), 1],
    ["17 groups", auth(1, sys(17)), 1],
    ["machine name of 256 bytes", auth(1, sys(1, "x".repeat(256))), 1],
    ["truncated AUTH_SYS", auth(1, sys(3).subarray(0, 20)), 1],
    ["AUTH_SYS with more behind it", auth(1, Buffer.concat([sys(3), Buffer.alloc(4)])), 1],
    ["body of 401 bytes", auth(1, Buffer.alloc(401)), 1],
    ["AUTH_SYS with a verifier", auth(1, sys(1), 1, sys(1)), 3],
  ];
  for (const [what, credential, expected] of cases) {
    const { denied, status, body } = await client.call(0, NOTHING, { auth: credential });
    assert.deepEqual([denied, status, body.u32()], [true, 1, expected], what);
  }
});

test("rpc: AUTH_NONE, 16 groups and a machine name of 255 bytes are taken", async (t) => {
  const { client } = await openRig(t);
  const sixteen = authSysBody({ uid: 1, gid: 1, groups: Array.from({ length: 16 }, (_, i) => i) }, "x".repeat(255));
  for (const credential of [null, auth(1, sixteen)]) {
    const { denied, status } = await client.call(0, NOTHING, { auth: credential });
    assert.deepEqual([denied, status], [false, 0]);
  }
});

test("rpc: a call cut at every byte is answered GARBAGE_ARGS or closes the connection, never hangs", async (t) => {
  const { connect, root, client } = await openRig(t);
  const name = Buffer.from("name");
  const args = encode((w) => {
    w.opaque(root);
    w.opaque(name);
  });
  const whole = encodeCall(77, Proc.lookup, args);
  for (let n = 0; n < whole.length; n++) {
    const other = await connect();
    const answer = other.reply(77);
    other.send(frame(whole.subarray(0, n)));
    const outcome = await answer.then(
      (reply) => (reply.denied ? "denied" : reply.status),
      (error: Error) => error.message,
    );
    assert.equal(outcome, n < 8 ? "connection closed" : 4, `${n} bytes`);
    await other.close();
  }
  assert.equal((await client.getattr(root)).status, 0);
});

test("rpc: a reply instead of a call closes the connection", async (t) => {
  const { connect } = await openRig(t);
  const other = await connect();
  const bytes = encode((w) => {
    for (const value of [5, 1, 0, 0, 0, 0]) w.u32(value);
  });
  other.send(frame(bytes));
  await other.closed;
});

test("rpc: a record mark of 2 GiB closes the connection and memory stays", async (t) => {
  const { connect, client, root } = await openRig(t);
  const before = process.memoryUsage();
  for (let i = 0; i < 20; i++) {
    const other = await connect();
    other.send(Buffer.concat([Buffer.from([0xff, 0xff, 0xff, 0xff]), Buffer.alloc(1000)]));
    await other.closed;
  }
  const after = process.memoryUsage();
  assert.ok(after.arrayBuffers - before.arrayBuffers < 8 * 1024 * 1024);
  assert.equal((await client.getattr(root)).status, 0);
});

test("rpc: statistics count calls, errors and latency of each procedure", async (t) => {
  const { client, root, server } = await openRig(t);
  for (let i = 0; i < 5; i++) await client.getattr(root);
  await client.lookup(root, "absent");
  const { procedures } = server.statistics();
  const getattr = procedures.find(({ procedure }) => procedure === "GETATTR");
  const lookup = procedures.find(({ procedure }) => procedure === "LOOKUP");
  assert.equal(getattr?.calls, 5);
  assert.equal(
    getattr?.latencyBuckets.reduce((sum, n) => sum + n, 0),
    5,
  );
  assert.deepEqual([lookup?.calls, lookup?.errors], [1, 1]);
});
