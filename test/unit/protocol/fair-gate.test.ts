import assert from "node:assert/strict";
import { test } from "node:test";
import { FairGate } from "../../../src/protocol/rpc/fair-gate.js";
import { gate } from "../../support/gate.js";
import { settle } from "../../support/hand-clock.js";
import { openRig } from "./fixture.js";

test("fair gate: so many at once; those who wait take turns by whom they come from", async () => {
  const gate = new FairGate(2);
  const order: string[] = [];
  const come = (from: string, name: string) => {
    const turn = gate.enter(from);
    if (turn === null) order.push(name);
    else void turn.then(() => order.push(name));
  };
  for (const name of ["a1", "a2", "a3", "a4", "a5"]) come("a", name);
  come("b", "b1");
  assert.deepEqual(order, ["a1", "a2"]);
  for (let i = 0; i < 3; i++) gate.leave();
  await settle();
  assert.deepEqual(order, ["a1", "a2", "a3", "b1", "a4"]);
  for (let i = 0; i < 3; i++) gate.leave();
  await settle();
  assert.deepEqual(order.at(-1), "a5");
  come("c", "c1");
  assert.deepEqual(order.at(-1), "c1", "there is room again");
});

test("NFS: a bounded number of changes go into one commit, and one client's many do not stand before another's one", async (t) => {
  const { fs, root, connect } = await openRig(t);
  const held: (() => void)[] = [];
  fs.hold = (operation) => {
    if (operation !== "mkdir") return undefined;
    const { opened, open } = gate();
    held.push(open);
    return opened;
  };
  const until = async (count: number) => {
    for (let i = 0; i < 1000 && held.length < count; i++) await settle();
    for (let i = 0; i < 20; i++) await settle();
    assert.equal(held.length, count);
  };
  const crowd = await Promise.all([1, 2, 3].map(() => connect("127.0.0.2")));
  const made = crowd.flatMap((client, c) => Array.from({ length: 250 }, (_, i) => client.mkdir(root, `d${c}-${i}`)));
  const other = await connect("127.0.0.3");
  await until(512);
  const mine = other.mkdir(root, "mine");
  await until(512);
  held[0]?.();
  held[1]?.();
  await until(514);
  // One of the crowd has gone in, then the other client, though hundreds of the crowd came before it.
  held[513]?.();
  assert.equal((await mine).status, 0);
  fs.hold = null;
  for (const open of held) open();
  const statuses = await Promise.all(made);
  assert.ok(statuses.every(({ status }) => status === 0));
});
