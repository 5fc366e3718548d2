import assert from "node:assert/strict";
import { createSocket, Socket } from "node:dgram";
import type { NetworkInterfaceInfo } from "node:os";
import { type TestContext, test } from "node:test";
import { freePort } from "../../../src/cli/rig/free-port.js";
import { StorageError } from "../../../src/lib/errors.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import type { RpcProgram } from "../../../src/protocol/rpc/program.js";
import { gate } from "../../support/gate.js";
import { HandClock } from "../../support/hand-clock.js";
import { encode, encodeCall, MOUNT, NFS, NfsClient, PORTMAP } from "../../support/nfs-client.js";
import { callOverUdp, lockArgs, NLM, NlmProc, readResult, sendDatagram } from "../../support/nlm-client.js";
import { openRig, RW, until } from "./fixture.js";

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

test("UDP: who has asked again meanwhile is answered, too, when the call fails", async (t) => {
  const { port, client, root, fs } = await openRig(t);
  const { handle } = await client.create(root, "file");
  const slow = gate();
  fs.hold = () =>
    slow.opened.then(() => {
      throw new StorageError("EIO", "the file system has stopped");
    });
  const lock = encodeCall(99, NlmProc.lock, lockArgs({ handle: handle! }), { program: NLM, version: 4 });
  const first = sendDatagram(port, lock);
  await until(() => fs.locks.list().length === 1);
  const again = sendDatagram(port, lock);
  // Behind it in the same socket.
  await callOverUdp(port, 0, NOTHING, { program: NLM, version: 4 });
  slow.open();
  assert.ok((await first) !== null);
  assert.deepEqual(await again, await first);
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

/** Sockets whose `send` does what it is told. */
function brokenNetwork(send: Socket["send"]) {
  const sockets: Socket[] = [];
  const openSocket = (type: "udp4" | "udp6") => {
    const socket = createSocket(type);
    socket.send = send;
    sockets.push(socket);
    return socket;
  };
  return { sockets, datagrams: { openSocket } };
}

const NULL_CALL = encodeCall(5, 0, NOTHING, { program: MOUNT, auth: null });

test("UDP: a datagram from port 0 cannot be answered, and is none of our mistakes", async (t) => {
  const unexpected: unknown[] = [];
  const sockets: Socket[] = [];
  const openSocket = (type: "udp4" | "udp6") => {
    const socket = createSocket(type);
    sockets.push(socket);
    return socket;
  };
  const { port, server, log } = await openRig(t, {
    onUnexpected: (error) => unexpected.push(error),
    datagrams: { openSocket },
  });
  for (const address of ["127.0.0.1", "255.255.255.255", "224.0.0.1"])
    sockets[0]!.emit("message", NULL_CALL, { address, port: 0, family: "IPv4", size: NULL_CALL.length });
  assert.equal((await callOverUdp(port, 0, NOTHING, { program: MOUNT }))?.status, 0);
  assert.deepEqual([unexpected, log.errors], [[], []]);
  assert.equal(server.statistics().datagrams.malformed, 3);
});

test("UDP: an answer that the system does not take is counted, and the change is answered again", async (t) => {
  const unexpected: unknown[] = [];
  let full = true;
  const real = Socket.prototype.send;
  const { datagrams } = brokenNetwork(function (this: Socket, ...given: unknown[]) {
    const told = given.at(-1) as (error: Error | null) => void;
    if (full)
      queueMicrotask(() => told(Object.assign(new Error("send ENOBUFS"), { code: "ENOBUFS", syscall: "send" })));
    else Reflect.apply(real, this, given);
  } as Socket["send"]);
  const onUnexpected = (error: unknown) => unexpected.push(error);
  const { port, client, root, server, fs } = await openRig(t, { onUnexpected, datagrams });
  const { handle } = await client.create(root, "file");
  const lock = encodeCall(9, NlmProc.lock, lockArgs({ handle: handle! }), { program: NLM, version: 4 });
  assert.equal(await sendDatagram(port, lock, 200), null);
  assert.equal(fs.locks.list().length, 1);
  full = false;
  assert.ok((await sendDatagram(port, lock)) !== null);
  assert.equal(fs.locks.list().length, 1);
  assert.deepEqual([unexpected, server.statistics().datagrams.unsent], [[], 1]);
});

test("UDP: a send that throws harms nobody, also not those who wait for the same answer", async (t) => {
  const unexpected: unknown[] = [];
  const throwing = () => {
    throw new RangeError("not a port");
  };
  const { datagrams } = brokenNetwork(throwing as Socket["send"]);
  const { port, client, root, server, fs } = await openRig(t, { onUnexpected: (e) => unexpected.push(e), datagrams });
  const { handle } = await client.create(root, "file");
  const { opened, open } = gate();
  const { locks } = fs;
  const { lock } = locks;
  locks.lock = async (...given: Parameters<typeof lock>) => {
    await opened;
    return await Reflect.apply(lock, locks, given);
  };
  const call = encodeCall(9, NlmProc.lock, lockArgs({ handle: handle! }), { program: NLM, version: 4 });
  const sent = [sendDatagram(port, call, 300), sendDatagram(port, call, 300)];
  while (server.statistics().datagrams.received < 2) await nextTurn();
  open();
  assert.deepEqual(await Promise.all(sent), [null, null]);
  assert.deepEqual([unexpected, server.statistics().datagrams.unsent], [[], 2]);
  assert.equal(fs.locks.list().length, 1);
});

const STRANGER = "127.0.0.66";

/** A rig whose one export is for 127.0.0.1. */
async function openForOne(t: TestContext, options: Parameters<typeof openRig>[1] = {}) {
  const rig = await openRig(t, options);
  rig.exports.add({ path: "/data", fileSystem: rig.fs, rules: [{ ...RW, clients: "127.0.0.1" }] });
  return rig;
}

/** Says more than it was asked. */
const TALKATIVE: RpcProgram = {
  ...{ name: "talkative", number: 200_001, versionLow: 1, versionHigh: 1, datagrams: true },
  procedures: () => [{ name: "NULL" }],
  invoke(call) {
    const w = call.begin(1000);
    for (let i = 0; i < 250; i++) w.u32(i);
    call.finish();
  },
};

test("UDP: a stranger gets no more bytes than he sends, whatever he asks", async (t) => {
  const { port, client, root, server } = await openForOne(t, { programs: [TALKATIVE] });
  for (let i = 0; i < 60; i++) {
    await client.mkdir(root, `${i}${"x".repeat(200)}`);
    await client.mount(`/data/${i}${"x".repeat(200)}`);
  }
  const services = server.services().filter(({ datagrams }) => datagrams === true);
  let answers = 0;
  const ask = async (program: number, version: number, procedure: number, args: Buffer) => {
    const call = encodeCall(11, procedure, args, { program, version, auth: null });
    const answer = await sendDatagram(port, call, 30, { from: STRANGER });
    if (answer === null) return;
    answers++;
    assert.ok(answer.length <= call.length, `program ${program} version ${version} procedure ${procedure}`);
  };
  for (const { program, version } of services)
    for (let procedure = 0; procedure < 24; procedure++)
      for (const args of [NOTHING, words(NFS, 3, 6, 0), words(0, 0, 0, 0, 0, 0)])
        await ask(program, version, procedure, args);
  await ask(NFS, 3, 0, NOTHING);
  assert.ok(answers > 50, `${answers} answers`);
  assert.equal(server.statistics().datagrams.withheld, 3, "of the talkative program's NULL");
  // Whom an export names is answered as ever.
  const long = encode((w) => w.text("/data/../../x"));
  const args = encode((w) => {
    for (const value of [NFS, 3]) w.u32(value);
    for (const text of ["tcp", "", ""]) w.text(text);
  });
  assert.equal((await callOverUdp(port, 1, long, { program: MOUNT }))?.body.u32(), 22);
  const told = await callOverUdp(port, 3, args, { program: PORTMAP, version: 4, auth: null });
  assert.equal(String(told?.body.opaque(64)), `127.0.0.1.${port >> 8}.${port & 255}`);
});

test("UDP: long lists are told over TCP only, also to whom an export names", async (t) => {
  const { port } = await openRig(t);
  for (const [program, version, procedure] of [
    [PORTMAP, 2, 4],
    [PORTMAP, 3, 4],
    [PORTMAP, 4, 4],
    [MOUNT, 3, 2],
    [MOUNT, 3, 5],
  ] as const)
    assert.equal((await callOverUdp(port, procedure, NOTHING, { program, version }))?.status, 3);
});

test("MOUNT: who has mounted what is told over TCP, and to no stranger", async (t) => {
  const { port, client } = await openForOne(t);
  for (const procedure of [2, 5]) {
    const { body } = await client.call(procedure, NOTHING, { program: MOUNT });
    assert.equal(body.bool(), true);
    const stranger = await NfsClient.connect(port, "127.0.0.1", STRANGER);
    const told = await stranger.call(procedure, NOTHING, { program: MOUNT });
    assert.equal(told.body.bool(), false);
    await stranger.close();
  }
});

function interfacesOf(...addresses: string[]): Record<string, NetworkInterfaceInfo[]> {
  const familyOf = (address: string) => (address.includes(":") ? "IPv6" : "IPv4");
  return { lo: addresses.map((address) => ({ address, family: familyOf(address) }) as NetworkInterfaceInfo) };
}

test("UDP on any address: the answer comes from where the question went, over both families", async (t) => {
  const datagrams = { interfaces: () => interfacesOf("127.0.0.1", "127.0.0.9", "::1") };
  const { server } = await openRig(t, { datagrams });
  for (const host of ["0.0.0.0", "::"]) {
    const { port } = await server.listen({ host, port: 0 });
    for (const to of host === "::" ? ["127.0.0.1", "127.0.0.9", "::1"] : ["127.0.0.1", "127.0.0.9"])
      assert.ok((await sendDatagram(port, NULL_CALL, 2000, { to })) !== null, `${host}, to ${to}`);
    const asked = encode((w) => {
      w.u32(MOUNT);
      w.u32(3);
      for (const text of ["udp", "", ""]) w.text(text);
    });
    const where = encodeCall(6, 3, asked, { program: PORTMAP, version: 4, auth: null });
    const answer = await sendDatagram(port, where, 2000, { to: "127.0.0.9" });
    assert.equal(answer?.subarray(28, 28 + 9).toString(), "127.0.0.9", "and it is the address that is told");
    await server.unlisten({ host, port }, { drainMs: 0 });
    assert.equal(await sendDatagram(port, NULL_CALL, 50), null);
  }
});

test("UDP on any address: addresses come and go, and a system that does not name them changes nothing", async (t) => {
  let addresses: string[] | Error = ["127.0.0.1"];
  const interfaces = () => {
    if (addresses instanceof Error) throw addresses;
    return interfacesOf(...addresses);
  };
  const clock = new HandClock();
  const { server } = await openRig(t, { clock, datagrams: { interfaces } });
  const { port } = await server.listen({ host: "0.0.0.0", port: 0 });
  const answers = async (to: string) => (await sendDatagram(port, NULL_CALL, 100, { to })) !== null;
  assert.deepEqual([await answers("127.0.0.1"), await answers("127.0.0.9")], [true, false]);
  addresses = ["127.0.0.9"];
  await clock.advance(2_000);
  while (!(await answers("127.0.0.9")));
  assert.equal(await answers("127.0.0.1"), false);
  const error = new Error("no descriptors");
  addresses = Object.assign(error, { code: "ERR_SYSTEM_ERROR", syscall: "uv_interface_addresses" });
  await clock.advance(4_000);
  assert.equal(await answers("127.0.0.9"), true);
});

test("UDP on any address: one that another program has is refused, and nothing stays open", async (t) => {
  const datagrams = { interfaces: () => interfacesOf("127.0.0.1", "127.0.0.9") };
  const { server } = await openRig(t, { datagrams });
  const other = createSocket("udp4");
  t.after(() => other.close());
  await new Promise<void>((resolve) => other.bind(0, "127.0.0.9", resolve));
  const { port } = other.address();
  await assert.rejects(server.listen({ host: "0.0.0.0", port }), { code: "EADDRINUSE" });
  assert.equal(await sendDatagram(port, NULL_CALL, 50), null);
});
