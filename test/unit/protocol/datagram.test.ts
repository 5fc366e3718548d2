import assert from "node:assert/strict";
import { test } from "node:test";
import { encode, encodeCall, MOUNT, NFS, PORTMAP } from "../../support/nfs-client.js";
import { callOverUdp, lockArgs, NLM, NlmProc, readResult, sendDatagram } from "../../support/nlm-client.js";
import { freePort } from "../../support/rig.js";
import { openRig } from "./fixture.js";

const NOTHING = Buffer.alloc(0);
const words = (...values: number[]) =>
  encode((w) => {
    for (const value of values) w.u32(value);
  });

test("UDP: the small programs answer, NFS does not", async (t) => {
  const { port, root } = await openRig(t);
  for (const [program, version] of [
    [MOUNT, 3],
    [PORTMAP, 2],
    [NLM, 4],
  ] as const)
    assert.equal((await callOverUdp(port, 0, NOTHING, { program, version }))?.status, 0, `program ${program}`);
  assert.equal((await callOverUdp(port, 0, NOTHING, { program: NFS, version: 3 }))?.status, 1);
  const mounted = await callOverUdp(
    port,
    1,
    encode((w) => w.text("/data")),
    { program: MOUNT },
  );
  assert.equal(mounted?.body.u32(), 0);
  assert.deepEqual(mounted?.body.opaque(64), root);
});

test("UDP: refusals as over TCP", async (t) => {
  const { port, log } = await openRig(t);
  const status = async (procedure: number, args: Buffer, options: object) => {
    const reply = await callOverUdp(port, procedure, args, { program: MOUNT, ...options });
    return [reply?.denied, reply?.status];
  };
  assert.deepEqual(await status(0, NOTHING, { version: 1 }), [false, 2]);
  assert.deepEqual(await status(99, NOTHING, {}), [false, 3]);
  assert.deepEqual(await status(1, words(5), {}), [false, 4]);
  assert.deepEqual(await status(0, NOTHING, { rpcVersion: 3 }), [true, 0]);
  assert.deepEqual(await status(0, NOTHING, { auth: words(77, 0, 0, 0) }), [true, 1]);
  assert.deepEqual(log.errors, []);
});

test("UDP: what is no call gets no answer, and the next call does", async (t) => {
  const { port, log } = await openRig(t);
  for (const message of [NOTHING, words(1), words(1, 1, 2, 3), words(1, 0, 2), Buffer.alloc(2000, 0xff)])
    assert.equal(await sendDatagram(port, message, 100), null);
  assert.equal((await callOverUdp(port, 0, NOTHING, { program: MOUNT }))?.status, 0);
  assert.deepEqual(log.errors, []);
});

test("UDP: a repeated call is answered as the first time", async (t) => {
  const { port, client, root, fs } = await openRig(t);
  const { handle } = await client.create(root, "file");
  const lock = encodeCall(99, NlmProc.lock, lockArgs({ handle: handle! }), { program: NLM, version: 4 });
  const first = await sendDatagram(port, lock);
  assert.ok(first !== null);
  await fs.locks.free({ host: "client", address: null });
  assert.deepEqual(await sendDatagram(port, lock), first);
  assert.deepEqual(fs.locks.list(), []);
  const other = await callOverUdp(port, NlmProc.lock, lockArgs({ handle: handle! }), { program: NLM, version: 4 });
  assert.equal(readResult(other!.body).status, 0);
  assert.equal(fs.locks.list().length, 1);
});

test("the port mapper knows what is served over UDP, and answers on a port of its own as long as something is served there", async (t) => {
  const portmapPort = await freePort();
  const { server, port } = await openRig(t, { portmapPort });
  const ask = async (program: number, version: number, protocol: number) => {
    const options = { program: PORTMAP, version: 2 };
    const reply = await callOverUdp(portmapPort, 3, words(program, version, protocol, 0), options);
    return reply?.body.u32();
  };
  assert.equal(await ask(NLM, 4, 6), port);
  assert.equal(await ask(NLM, 4, 17), port);
  assert.equal(await ask(NFS, 3, 6), port);
  assert.equal(await ask(NFS, 3, 17), 0);
  assert.equal((await callOverUdp(portmapPort, 0, NOTHING, { program: NLM, version: 4 }))?.status, 1);
  await assert.rejects(openRig(t, { portmapPort }), { code: "EADDRINUSE", port: portmapPort });
  await server.unlisten({ host: "127.0.0.1", port }, { drainMs: 0 });
  const again = await openRig(t, { portmapPort });
  assert.equal(await ask(NFS, 3, 6), again.port);
});
