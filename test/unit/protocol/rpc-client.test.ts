import assert from "node:assert/strict";
import { createServer } from "node:net";
import { type TestContext, test } from "node:test";
import { SystemClock } from "../../../src/lib/clock.js";
import { type Dialer, type Place, RpcClient } from "../../../src/protocol/rpc/client.js";
import { gate } from "../../support/gate.js";
import { settle } from "../../support/hand-clock.js";
import { encode, frame } from "../../support/nfs-client.js";

const CALL = { host: "192.0.2.1", from: "", program: 100021, version: 4, procedure: 5, args: Buffer.alloc(8, 1) };
const reply = (xid: number, ...words: number[]) =>
  encode((w) => {
    for (const word of [xid, 1, 0, 0, 0, 0, ...words]) w.u32(word);
  });

/** Answers as told; keeps where calls went. */
class ScriptedDialer implements Dialer {
  readonly asked: string[] = [];
  answer: (place: Place, xid: number, transport: string) => Buffer | Promise<Buffer> = (place, xid) =>
    reply(xid, place.port === 111 ? 4045 : 7);

  async exchange(transport: "tcp" | "udp", place: Place, _message: Buffer, xid: number): Promise<Buffer> {
    this.asked.push(`${transport} ${place.port}`);
    return await this.answer(place, xid, transport);
  }
}

function open() {
  const dialer = new ScriptedDialer();
  return { dialer, client: new RpcClient({ clock: new SystemClock(), dialer }) };
}

test("RPC client: asks the port mapper once, and again when the port is no good any more", async () => {
  const { dialer, client } = open();
  for (let i = 0; i < 2; i++) {
    const result = await client.call(CALL);
    assert.ok(result.ok);
    assert.equal(result.results.u32(), 7);
  }
  assert.deepEqual(dialer.asked, ["tcp 111", "tcp 4045", "tcp 4045"]);
  const { answer } = dialer;
  dialer.answer = () => Promise.reject(new Error("refused"));
  assert.deepEqual(await client.call(CALL), { ok: false, why: "refused", mayHaveArrived: true });
  dialer.answer = answer;
  dialer.asked.length = 0;
  assert.ok((await client.call(CALL)).ok);
  assert.deepEqual(dialer.asked, ["tcp 111", "tcp 4045"]);
});

test("RPC client: UDP when there is no TCP, at the port mapper and for the program", async () => {
  const { dialer, client } = open();
  let gets = 0;
  dialer.answer = (place, xid, transport) => {
    if (place.port !== 111) return reply(xid);
    if (transport === "tcp") throw new Error("no port mapper over TCP");
    return reply(xid, gets++ === 0 ? 0 : 5000);
  };
  assert.ok((await client.call(CALL)).ok);
  assert.deepEqual(dialer.asked, ["tcp 111", "udp 111", "tcp 111", "udp 111", "udp 5000"]);
});

test("RPC client: what is no good answer is told, never thrown", async () => {
  const { dialer, client } = open();
  const answers: [string, (xid: number) => Buffer][] = [
    ["nothing", () => Buffer.alloc(0)],
    [
      "a call",
      (xid) =>
        encode((w) =>
          [xid, 0, 2].forEach((word) => {
            w.u32(word);
          }),
        ),
    ],
    [
      "denied",
      (xid) =>
        encode((w) =>
          [xid, 1, 1, 1, 5].forEach((word) => {
            w.u32(word);
          }),
        ),
    ],
    [
      "not accepted",
      (xid) =>
        encode((w) =>
          [xid, 1, 0, 0, 0, 3].forEach((word) => {
            w.u32(word);
          }),
        ),
    ],
    ["not registered", (xid) => reply(xid, 0)],
    ["an impossible port", (xid) => reply(xid, 70_000)],
  ];
  for (const [what, answer] of answers) {
    dialer.answer = (_place, xid) => answer(xid);
    assert.equal((await client.call(CALL)).ok, false, what);
  }
});

test("RPC client: so many answers at a time, of one host and of all, and no more", async () => {
  const { dialer, client } = open();
  const { opened, open: go } = gate();
  dialer.answer = async (_place, xid) => {
    await opened;
    return reply(xid, 4045);
  };
  const many = Array.from({ length: 70 }, (_, i) => client.call({ ...CALL, host: `192.0.2.${Math.floor(i / 10)}` }));
  await settle();
  go();
  const done = (await Promise.all(many)).map(({ ok }) => ok);
  const ofHost = (host: number) => done.slice(10 * host, 10 * host + 10).filter((ok) => ok).length;
  assert.deepEqual([0, 1, 2, 3, 4].map(ofHost), [8, 8, 8, 8, 0]);
  assert.ok((await client.call(CALL)).ok);
});

test("RPC client: news wait for their turn, beside answers, and what nobody wants any more is not sent", async () => {
  const { dialer, client } = open();
  const { opened, open: go } = gate();
  dialer.answer = async (_place, xid) => {
    await opened;
    return reply(xid, 4045);
  };
  const busy = Array.from({ length: 40 }, (_, i) => client.call({ ...CALL, host: `192.0.2.${i}` }));
  const news = Array.from({ length: 20 }, (_, i) => {
    const isWanted = () => i !== 15;
    return client.call({ ...CALL, host: "198.51.100.1", urgency: "news", isWanted });
  });
  await settle();
  assert.equal(dialer.asked.length, 32 + 8);
  go();
  const told = await Promise.all(news);
  assert.deepEqual(
    told.flatMap(({ ok }, i) => (ok ? [] : [i])),
    [15],
  );
  await Promise.all(busy);
});

/** A port on which every connection is answered with these bytes. */
async function answering(t: TestContext, bytes: Buffer | null): Promise<number> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => (bytes === null ? socket.destroy() : socket.write(bytes)));
    t.after(() => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  return (server.address() as { port: number }).port;
}

test("RPC client: real sockets that hang up, say too much, or nothing", { timeout: 20_000 }, async (t) => {
  const call = { ...CALL, host: "127.0.0.1" };
  const cases: [string, Buffer | null, RegExp][] = [
    ["hangs up", null, /port/],
    ["too much", Buffer.alloc(9000), /port/],
    ["somebody else's answer", frame(reply(1, 1)), /port/],
    ["half an answer", frame(reply(1, 1)).subarray(0, 10), /port/],
  ];
  for (const [what, bytes, why] of cases) {
    const portmapPort = await answering(t, bytes);
    const client = new RpcClient({ clock: new SystemClock(), portmapPort, callMsMax: 200 });
    const result = await client.call(call);
    assert.ok(!result.ok && why.test(result.why), what);
  }
  const nobody = new RpcClient({ clock: new SystemClock(), portmapPort: 1, callMsMax: 200 });
  assert.equal((await nobody.call(call)).ok, false);
  assert.equal((await nobody.call({ ...call, from: "203.0.113.7" })).ok, false, "not an address of this machine");
});
