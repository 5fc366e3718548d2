import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { XdrReader } from "../../../src/protocol/xdr/reader.js";
import { encodeCall } from "../../support/nfs-client.js";
import {
  type LockArgs,
  lockArgs,
  NLM,
  NlmClient,
  NlmProc,
  NlmStat,
  NSM,
  notifyArgs,
  readResult,
  sendDatagram,
  shareArgs,
  unlockArgs,
} from "../../support/nlm-client.js";
import { openRig } from "./fixture.js";

/** One name at two addresses: a client, and another that says it is the first (or was cloned from it). */
async function open(t: TestContext) {
  const rig = await openRig(t);
  const { handle } = await rig.client.create(rig.root, "file");
  const [victim, attacker] = [
    new NlmClient(await rig.connect("127.0.0.2")),
    new NlmClient(await rig.connect("127.0.0.9")),
  ];
  const lock: LockArgs = { handle: Buffer.from(handle!), host: "victim", svid: 4242 };
  assert.equal(await victim.lock(lock), NlmStat.granted);
  const states = () => rig.fs.locks.list().map(({ state, owner }) => `${state} ${owner.host} ${owner.address}`);
  return { ...rig, victim, attacker, lock, states };
}

const HELD = ["held victim 127.0.0.2"];

test("lock forgery: UNLOCK, CANCEL, FREE_ALL and SM_NOTIFY from another address have no effect", async (t) => {
  const { attacker, lock, states } = await open(t);
  assert.equal(await attacker.unlock(lock), NlmStat.granted, "what is not locked stays so");
  assert.deepEqual(states(), HELD);
  await attacker.freeAll("victim");
  assert.deepEqual(states(), HELD);
  await attacker.notify("victim", 7);
  assert.deepEqual(states(), HELD);
  assert.equal(await attacker.cancel(lock), NlmStat.denied);
});

test("lock forgery: SM_NOTIFY, UNLOCK_MSG and FREE_ALL in a datagram without credentials have no effect", async (t) => {
  const { port, lock, states } = await open(t);
  const forged: [number, number, Buffer][] = [
    [NSM, 6, notifyArgs("victim", 9)],
    [NLM, NlmProc.unlock, unlockArgs(lock)],
    [NLM, NlmProc.unlockMsg, unlockArgs(lock)],
    [NLM, NlmProc.freeAll, notifyArgs("victim", 9)],
  ];
  for (const [program, procedure, args] of forged) {
    const call = encodeCall(procedure, procedure, args, { program, version: program === NSM ? 1 : 4 });
    // From 127.0.0.1, which is not the victim.
    assert.notEqual(await sendDatagram(port, call), null);
    assert.deepEqual(states(), HELD);
  }
});

test("lock forgery: a waiting request is cancelled, and a share reservation given back, from its own address only", async (t) => {
  const { victim, attacker, lock, states, fs } = await open(t);
  assert.equal(await attacker.lock({ ...lock, host: "attacker", block: true }), NlmStat.blocked);
  assert.equal(await victim.cancel({ ...lock, host: "attacker", block: true }), NlmStat.denied);
  assert.equal(await attacker.cancel({ ...lock, host: "attacker", block: true }), NlmStat.granted);
  assert.deepEqual(states(), HELD);
  assert.equal(await victim.share(lock, 3, 3), NlmStat.granted);
  assert.equal(await attacker.unshare(lock), NlmStat.granted);
  assert.equal(await attacker.share(lock, 0, 1), NlmStat.denied, "one name at another address is another owner");
  assert.equal(fs.locks.list().length, 2);
  assert.equal(await victim.unshare(lock), NlmStat.granted);
});

test("lock forgery: two clients with one host name do not share locks", async (t) => {
  const { victim, attacker, lock, states } = await open(t);
  assert.equal(await attacker.lock(lock), NlmStat.denied);
  assert.equal((await attacker.test(lock)).status, NlmStat.denied);
  const beside = { ...lock, offset: 100n, length: 1n, exclusive: false };
  assert.equal(await victim.unlock({ ...lock, offset: 100n, length: 0n }), NlmStat.granted);
  assert.equal(await victim.lock(beside), NlmStat.granted);
  assert.equal(await attacker.lock(beside), NlmStat.granted);
  assert.equal(await attacker.unlock({ ...lock, offset: 0n, length: 0n }), NlmStat.granted);
  assert.deepEqual(states(), [...HELD, ...HELD]);
  // Its locks go with the one that has started again, and with no other.
  assert.equal(await attacker.lock(beside), NlmStat.granted);
  await attacker.notify("victim", 3);
  assert.deepEqual(states(), [...HELD, ...HELD]);
});

test("lock forgery: the same call with another name, over AUTH_NONE, does what it says for its own address only", async (t) => {
  const { port, lock, states } = await open(t);
  const call = (procedure: number, args: Buffer) =>
    encodeCall(procedure, procedure, args, { program: NLM, version: 4 });
  const answer = await sendDatagram(port, call(NlmProc.lock, lockArgs(lock)));
  const reader = new XdrReader(answer!);
  for (let word = 0; word < 6; word++) reader.u32();
  assert.equal(readResult(reader).status, NlmStat.denied);
  await sendDatagram(port, call(NlmProc.unshare, shareArgs(lock, 0, 0)));
  assert.deepEqual(states(), HELD);
});
