import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { ClientReach } from "../../../src/control/client-reach.js";
import type { NewEvent } from "../../../src/control/event-log.js";
import type { Reach } from "../../../src/ha/record.js";
import { HandClock, settle } from "../../support/hand-clock.js";

const [A, B, C] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
const WHY = (names: string) =>
  `all clients that were at work fell silent, and none of them answers (${names}): clients hardly reach this node`;

/** Clients that say something all the time while they are in `working`, and answer while they are in `answering`. */
function bench() {
  const clock = new HandClock();
  const [working, answering] = [new Set<string>(), new Set<string>()];
  const heard = new Map<string, number>();
  const [asked, cuts, events] = [[] as string[], [] as string[], [] as NewEvent[]];
  const said = { silent: [] as readonly string[], standing: null as Reach | null, partner: [] as string[] };
  const watch = new ClientReach({
    clock,
    heard: () => heard,
    connect: async ({ host }) => {
      asked.push(host);
      return answering.has(host);
    },
    asked: () => said.partner,
    onSilent: (addresses) => {
      said.silent = addresses;
    },
    onStanding: (reach) => {
      said.standing = reach;
    },
    onCut: (why) => void cuts.push(why),
    onEvent: (event) => void events.push(event),
  });
  const pass = async (seconds: number) => {
    for (let i = 0; i < 10 * seconds; i++) {
      for (const address of working) heard.set(address, clock.monotonicMs());
      await clock.advance(100);
      await settle();
    }
  };
  const work = async (...addresses: string[]) => {
    for (const address of addresses) working.add(address);
    await pass(3);
  };
  watch.start();
  return { working, answering, heard, asked, cuts, events, said, pass, work, watch };
}

test("client reach: all fall silent and none answers: the partner hears of it first, then this node is cut off", async () => {
  const { working, answering, cuts, events, said, pass, work, watch } = bench();
  for (const address of [A, B]) answering.add(address);
  await work(A, B);
  deepEqual([said.silent, cuts], [[], []]);
  working.clear();
  answering.clear();
  await pass(4);
  deepEqual([said.silent, cuts], [[A, B], []]);
  await pass(6);
  deepEqual(
    [new Set(cuts), events.map(({ kind, what }) => [kind, what])],
    [new Set([WHY(`${A}, ${B}`)]), [["clients-silent", WHY(`${A}, ${B}`)]]],
  );
  await pass(60);
  const before = cuts.length;
  deepEqual(said.silent, []);
  await pass(60);
  equal(cuts.length, before, "they are gone");
  watch.end();
});

test("client reach: one that is heard, or answers, and nobody is cut off", async () => {
  const { working, answering, asked, cuts, said, pass, work, watch } = bench();
  for (const address of [A, B]) answering.add(address);
  await work(A, B);
  working.delete(A);
  answering.delete(A);
  await pass(30);
  deepEqual([said.silent, cuts], [[], []], "B is at work");
  await work(A);
  answering.add(A);
  await pass(20);
  answering.delete(A);
  working.clear();
  asked.length = 0;
  await pass(60);
  deepEqual([said.silent, cuts], [[], []], "B answers: it has nothing to say");
  equal(asked.length < 5, true, `they are left alone then, and were asked ${asked.length} times`);
  watch.end();
});

test("client reach: one that has never answered, or is of this machine, says nothing of the network", async () => {
  const { working, answering, asked, cuts, said, pass, work, watch } = bench();
  for (const address of ["127.0.0.5", "::1", "fe80::1"]) answering.add(address);
  await work(A, "127.0.0.5", "::1", "fe80::1");
  working.clear();
  await pass(60);
  deepEqual([said.silent, cuts, asked], [[], [], [A]]);
  watch.end();
});

test("client reach: it does not cut a node off again and again", async () => {
  const { working, answering, cuts, events, pass, work, watch } = bench();
  answering.add(C);
  for (let i = 0; i < 3; i++) {
    await work(C);
    working.clear();
    answering.clear();
    await pass(30);
    answering.add(C);
    await pass(70);
  }
  deepEqual(
    events.map(({ kind }) => kind),
    ["clients-silent"],
  );
  const before = cuts.length;
  await pass(600);
  await work(C);
  working.clear();
  answering.clear();
  await pass(30);
  deepEqual([cuts.length > before, events.length], [true, 2]);
  watch.end();
});

test("client reach: those that fell silent for the partner are asked for it, as long as it wants", async () => {
  const { answering, said, pass, watch } = bench();
  await pass(2);
  equal(said.standing, null);
  said.partner = [A, B];
  await pass(3);
  deepEqual(said.standing, { reached: 0, targets: 2 });
  answering.add(B);
  await pass(3);
  deepEqual(said.standing, { reached: 1, targets: 2 });
  said.partner = [];
  await pass(2);
  equal(said.standing, null);
  watch.end();
});
