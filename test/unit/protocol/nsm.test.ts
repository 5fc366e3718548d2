import assert from "node:assert/strict";
import { test } from "node:test";
import { StorageError } from "../../../src/lib/errors.js";
import { encode } from "../../support/nfs-client.js";
import { callOverUdp, NlmClient, NlmStat, NSM, notifyArgs } from "../../support/nlm-client.js";
import { openRig, RW } from "./fixture.js";

const HOSTS = ["alpha", "beta"];

async function open(t: Parameters<typeof openRig>[0]) {
  const rig = await openRig(t);
  const { handle } = await rig.client.create(rig.root, "file");
  const nlm = new NlmClient(rig.client);
  const lockAll = async () => {
    for (const [index, host] of HOSTS.entries())
      assert.equal(await nlm.lock({ handle: handle!, host, offset: BigInt(index), length: 1n }), NlmStat.granted);
  };
  const holders = () =>
    rig.fs.locks
      .list()
      .map(({ owner }) => owner.host)
      .sort();
  return { ...rig, nlm, handle: handle!, lockAll, holders };
}

test("NSM: a client that has started again loses its locks, by the name it locks with, and once for each state", async (t) => {
  const { nlm, lockAll, holders } = await open(t);
  await lockAll();
  await nlm.notify("ALPHA", 3);
  assert.deepEqual(holders(), ["beta"]);
  await lockAll();
  await nlm.notify("ALPHA", 3);
  assert.deepEqual(holders(), ["alpha", "beta"], "a repetition of old news");
  await nlm.notify("ALPHA", 5);
  assert.deepEqual(holders(), ["beta"]);
});

test("NSM: the name may have its domain, or be another one when it is the only client of its address", async (t) => {
  const { nlm, lockAll, holders } = await open(t);
  await lockAll();
  await nlm.notify("gamma", 3);
  assert.deepEqual(holders(), HOSTS, "two clients behind one address: it could be either");
  await nlm.notify("Alpha.example.com", 3);
  assert.deepEqual(holders(), ["beta"]);
  await nlm.notify("gamma", 5);
  assert.deepEqual(holders(), []);
});

test("NSM: an export that asks for a privileged port hears the status monitor, which has none, and no FREE_ALL", async (t) => {
  const { nlm, lockAll, holders, exports, fs } = await open(t);
  await lockAll();
  exports.add({ path: "/data", fileSystem: fs, rules: [{ ...RW, secure: true }] });
  await nlm.freeAll("alpha");
  assert.deepEqual(holders(), HOSTS);
  await nlm.notify("alpha", 3);
  assert.deepEqual(holders(), ["beta"]);
});

test("NSM: who may use no export frees nothing", async (t) => {
  const { nlm, lockAll, holders, exports, fs } = await open(t);
  await lockAll();
  exports.add({ path: "/data", fileSystem: fs, rules: [{ ...RW, clients: "10.0.0.0/8" }] });
  await nlm.notify("alpha", 3);
  await nlm.freeAll("alpha");
  assert.deepEqual(holders(), HOSTS);
});

test("NSM: news that could not be heeded are not answered: the connection ends, and they are sent again", async (t) => {
  const { client, handle, lockAll, holders, connect, fs } = await open(t);
  await lockAll();
  fs.hold = () => Promise.reject(new StorageError("EIO", "the file system has stopped"));
  const answer = client.call(6, notifyArgs("alpha", 3), { program: NSM, version: 1 });
  await assert.rejects(answer, { message: "connection closed" });
  fs.hold = null;
  const again = new NlmClient(await connect());
  assert.equal(await again.lock({ handle, host: "alpha", length: 1n }), NlmStat.granted);
  await again.notify("alpha", 3);
  assert.deepEqual(holders(), ["beta"]);
});

test("NSM: over UDP too, and it monitors nobody for others", async (t) => {
  const { port, lockAll, holders } = await open(t);
  await lockAll();
  const options = { program: NSM, version: 1 };
  const reply = await callOverUdp(port, 6, notifyArgs("beta", 9), options);
  assert.deepEqual([reply?.denied, reply?.status], [false, 0]);
  assert.deepEqual(holders(), ["alpha"]);
  const name = encode((w) => w.text("anybody"));
  for (const procedure of [1, 2]) {
    const body = (await callOverUdp(port, procedure, name, options))?.body;
    assert.deepEqual([body?.u32(), body?.u32()], [1, 1], `procedure ${procedure}`);
  }
  assert.equal((await callOverUdp(port, 5, Buffer.alloc(0), options))?.status, 0);
});
