import assert from "node:assert/strict";
import { test } from "node:test";
import type { FileSystem, LockRequest } from "../../../src/fs/vfs.js";
import type { Logger } from "../../../src/lib/log.js";
import { GrantSender } from "../../../src/protocol/nlm4/grant-sender.js";
import { encodeNote } from "../../../src/protocol/nlm4/note.js";
import { type Dialer, NotSent, type Place, RpcClient } from "../../../src/protocol/rpc/client.js";
import { XdrReader } from "../../../src/protocol/xdr/reader.js";
import { HandClock, settle } from "../../support/hand-clock.js";
import { memoryLocks } from "../../support/memory-locks.js";
import { encode } from "../../support/nfs-client.js";
import { NlmStat, readGranted } from "../../support/nlm-client.js";

const FILE = { ino: 7, generation: 1 };
const PORTMAP = 111;

type Behaviour = "granted" | "silent" | "gone" | "message";

/** The lock managers of clients, each at its address. */
class Clients implements Dialer {
  readonly behaviour = new Map<string, Behaviour>();
  readonly cookies: Buffer[] = [];
  calls = 0;

  async exchange(_transport: string, { host, port }: Place, message: Buffer, xid: number): Promise<Buffer> {
    const does = this.behaviour.get(host);
    if (does === "gone" || does === undefined) throw new NotSent("no route to host");
    const words = (...numbers: number[]) =>
      encode((w) => {
        for (const word of [xid, 1, 0, 0, 0, 0, ...numbers]) w.u32(word);
      });
    if (port === PORTMAP) return words(4045);
    this.calls++;
    const { cookie } = readGranted(new XdrReader(message.subarray(40)));
    this.cookies.push(Buffer.from(cookie, "latin1"));
    if (does === "silent") throw new Error("no answer");
    if (does === "message") return words();
    return encode((w) => {
      for (const word of [xid, 1, 0, 0, 0, 0]) w.u32(word);
      w.opaque(Buffer.from(cookie, "latin1"));
      w.u32(NlmStat.granted);
    });
  }
}

const A = "192.0.2.1";
const B = "192.0.2.2";
const C = "192.0.2.3";
const all = (address: string): LockRequest => ({
  owner: { address, host: "client", svid: 1, oh: Buffer.from("oh") },
  ...{ first: 0n, last: 99n, exclusive: true },
});

function open() {
  const clock = new HandClock();
  const clients = new Clients();
  const locks = memoryLocks(
    () => {},
    async () => {},
  );
  const said: string[] = [];
  const say = (_fields: object, what: string) => void said.push(what);
  const log: Logger = { error: say, warn: say, info: say, debug: () => {} };
  const client = new RpcClient({ clock, dialer: clients });
  const sender = new GrantSender({ client, clock, log, serverName: "server" });
  sender.watch({ locks } as unknown as FileSystem);
  const note = (asMessage: boolean) => encodeNote({ asMessage, localAddress: "", handle: Buffer.alloc(8) });
  const states = () => locks.list().map(({ state, owner }) => `${state} ${owner.address}`);
  /** The first holds it, the others wait in their order; then the first lets go. */
  const queue = async (waiting: readonly string[], asMessage = false) => {
    await locks.lock(FILE, all(A), null);
    for (const address of waiting) await locks.lock(FILE, all(address), note(asMessage));
    await locks.unlock(FILE, all(A));
    await settle();
  };
  return { clock, clients, locks, said, sender, states, queue };
}

const GAVE_UP = "nlm4: a client did not take the lock that it waited for";
const BOTH = "nlm4: a client confirms a lock minutes after it went to another: both believe that they have it";

test("grants: a client that cannot be reached loses its turn after a minute, and the lock goes to the next", async () => {
  const { clock, clients, states, said, queue } = open();
  clients.behaviour.set(B, "gone").set(C, "granted");
  await queue([B, C]);
  await clock.advance(59_000);
  assert.deepEqual(states(), [`offered ${B}`, `waiting ${C}`, `held ${B}`]);
  await clock.advance(2_000);
  assert.deepEqual(states(), [`held ${C}`]);
  assert.deepEqual(said, [GAVE_UP]);
  await clock.advance(600_000);
  assert.equal(clients.calls, 1, "nobody is called any more");
  assert.equal(clock.timerCount, 0);
});

test("grants: one that may have been told, and says nothing, is told again and again for five minutes", async () => {
  const { clock, clients, states, queue } = open();
  clients.behaviour.set(B, "silent").set(C, "granted");
  await queue([B, C]);
  await clock.advance(299_000);
  assert.deepEqual(states(), [`offered ${B}`, `waiting ${C}`, `held ${B}`]);
  assert.ok(clients.calls > 8, `${clients.calls} calls`);
  await clock.advance(2_000);
  assert.deepEqual(states(), [`held ${C}`]);
});

test("grants: one that comes back in time has its lock", async () => {
  const { clock, clients, states, said, queue } = open();
  clients.behaviour.set(B, "gone");
  await queue([B, C]);
  await clock.advance(20_000);
  clients.behaviour.set(B, "granted");
  await clock.advance(35_000);
  assert.deepEqual(states(), [`waiting ${C}`, `held ${B}`]);
  await clock.advance(600_000);
  assert.deepEqual(states(), [`waiting ${C}`, `held ${B}`]);
  assert.deepEqual(said, []);
});

test("grants: a client that confirms too late gets the lock when nobody has it; when somebody has, that is told", async () => {
  for (const isTaken of [false, true]) {
    const { clock, clients, locks, states, said, sender, queue } = open();
    clients.behaviour.set(B, "message").set(C, "granted");
    await queue(isTaken ? [B, C] : [B], true);
    await clock.advance(301_000);
    assert.equal(
      locks.list().some(({ owner }) => owner.address === B),
      false,
    );
    const [cookie] = clients.cookies as [Buffer];
    sender.answered(A, cookie, NlmStat.granted);
    await settle();
    assert.equal(said.includes(BOTH), false, "from elsewhere it says nothing");
    const before = states();
    sender.answered(B, cookie, NlmStat.granted);
    await settle();
    assert.deepEqual(states(), isTaken ? before : [`held ${B}`]);
    assert.equal(said.includes(BOTH), isTaken);
    sender.answered(B, cookie, NlmStat.granted);
    await settle();
    assert.equal(said.filter((what) => what === BOTH).length, isTaken ? 1 : 0, "once");
  }
});

test("grants: a client that refuses too late changes nothing", async () => {
  const { clock, clients, states, said, sender, queue } = open();
  clients.behaviour.set(B, "message").set(C, "message");
  await queue([B, C], true);
  await clock.advance(301_000);
  const before = states();
  sender.answered(B, clients.cookies[0]!, NlmStat.denied);
  await settle();
  assert.deepEqual(states(), before);
  assert.deepEqual(said, [GAVE_UP]);
});

test("grants: what another version has left, and nobody can be told of, goes to the next at once", async () => {
  const { clients, locks, states } = open();
  clients.behaviour.set(C, "granted");
  await locks.lock(FILE, all(A), null);
  await locks.lock(FILE, all(B), Buffer.from("of another version"));
  await locks.lock(FILE, all(C), encodeNote({ asMessage: false, localAddress: "", handle: Buffer.alloc(8) }));
  await locks.unlock(FILE, all(A));
  for (let i = 0; i < 3; i++) await settle();
  assert.deepEqual(states(), [`held ${C}`]);
});
