import assert from "node:assert/strict";
import { test } from "node:test";
import type { LocksPage } from "../../../src/control/types.js";
import { LIMITS } from "../../../src/limits.js";
import { FakeWorld } from "./fake-layers.js";
import { furnished } from "./furnished.js";

const FILE = { ino: 12, generation: 1 };
const request = (host: string, first: bigint, last: bigint) => ({
  owner: { address: "192.0.2.9", host, svid: 42, oh: Buffer.from("oh") },
  ...{ first, last, exclusive: true },
});

test("locks: the tables name the file, and the node that has opened the group of an LU", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet } = await furnished(t, world, { fileSystem: true });
  await world.locks.lock(FILE, request("alpha", 5n, 9n), null);
  await world.locks.lock(FILE, request("beta", 0n, 2n ** 64n - 1n), Buffer.alloc(0));
  await world.locks.share(FILE, { owner: request("beta", 0n, 0n).owner, access: 1, deny: 2 });
  const common = { fileSystem: "data", name: "/name of 12", address: "192.0.2.9" };
  assert.deepEqual((await cabinet.lockAdmin.files(null, 100)).locks, [
    { ...common, state: "held", host: "alpha", pid: 42, kind: "exclusive", first: "5", last: "9" },
    { ...common, state: "waiting", host: "beta", pid: 42, kind: "exclusive", first: "0", last: null },
    { ...common, state: "share", host: "beta", pid: null, kind: null, first: null, last: null },
  ]);
  assert.deepEqual(cabinet.lockAdmin.owners(), [
    { address: "192.0.2.9", host: "alpha", files: 1 },
    { address: "192.0.2.9", host: "beta", files: 1 },
  ]);
  assert.deepEqual(
    cabinet.lockAdmin.lus().map(({ name, node }) => `${name} ${node}`),
    ["data.meta chn1", "data chn1"],
  );
});

test("locks: releasing a host tells what went, and is an event", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, said } = await furnished(t, world, { fileSystem: true });
  await world.locks.lock(FILE, request("alpha", 5n, 9n), null);
  await world.locks.lock(FILE, request("beta", 5n, 9n), Buffer.alloc(0));
  const alpha = { host: "alpha", address: null };
  assert.deepEqual(await cabinet.lockAdmin.release(alpha), { ...alpha, held: 1, waiting: 0, shares: 0 });
  assert.deepEqual(said("locks-released"), ["all locks of client alpha released by an administrator: 1"]);
  const nobody = { host: "beta", address: "192.0.2.10" };
  assert.deepEqual(await cabinet.lockAdmin.release(nobody), { ...nobody, held: 0, waiting: 0, shares: 0 });
  assert.equal(said("locks-released").length, 1);
  assert.deepEqual(
    (await cabinet.lockAdmin.files(null, 100)).locks.map(({ state, host }) => `${state} ${host}`),
    ["offered beta", "held beta"],
  );
});

test("locks: the list comes in pages, and names are looked for a bounded number of times in all of them", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet } = await furnished(t, world, { fileSystem: true });
  for (let ino = 2; ino < 602; ino++)
    await world.locks.lock({ ino, generation: 1 }, request("alpha", 0n, BigInt(ino)), null);
  const pages: LocksPage[] = [];
  for (let after: string | null = null; pages.length === 0 || after !== null; after = pages.at(-1)!.next)
    pages.push(await cabinet.lockAdmin.files(after, 250));
  assert.deepEqual(
    pages.map(({ locks }) => locks.length),
    [250, 250, 100],
  );
  const all = pages.flatMap(({ locks }) => locks);
  assert.deepEqual(
    all.map(({ last }) => last),
    Array.from({ length: 600 }, (_, i) => String(i + 2)),
  );
  assert.equal(all.filter(({ name }) => name.startsWith("/name of")).length, LIMITS.lockNamesMax);
  await assert.rejects(cabinet.lockAdmin.files("nonsense", 1), /not a position/);
});
