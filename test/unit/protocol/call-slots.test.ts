import assert from "node:assert/strict";
import { test } from "node:test";
import { CallSlots } from "../../../src/protocol/rpc/call-slots.js";
import { settle } from "../../support/hand-clock.js";

const BOUNDS = { total: 6, answers: 2, ofHost: 2, suspects: 3 };

/** Who has got a slot, in turn. */
function open() {
  const slots = new CallSlots(BOUNDS);
  const begun: string[] = [];
  const news = (host: string) => void slots.take(host, "news").then(() => begun.push(host));
  return { slots, begun, news };
}

test("call slots: hosts take turns, and none has more than its share", async () => {
  const { slots, begun, news } = open();
  for (let i = 0; i < 5; i++) news("a");
  for (const host of ["b", "c", "d", "d"]) news(host);
  await settle();
  assert.deepEqual(begun, ["a", "a", "b", "c", "d", "d"]);
  begun.length = 0;
  slots.release("a", "news", true);
  slots.release("b", "news", true);
  await settle();
  assert.deepEqual(begun, ["a"], "one at a time of the share is free again");
  news("e");
  await settle();
  assert.deepEqual(begun, ["a", "e"]);
});

test("call slots: answers leave room for news, and find a place at once or never", async () => {
  const { slots, begun, news } = open();
  const taken = await Promise.all(["a", "b", "c"].map((host) => slots.take(host, "answer")));
  assert.deepEqual(taken, [true, true, false]);
  for (const host of ["a", "d", "e", "f"]) news(host);
  await settle();
  assert.deepEqual(begun, ["a", "d", "e", "f"]);
  assert.equal(await slots.take("g", "answer"), false);
  slots.release("a", "answer", true);
  assert.equal(await slots.take("g", "answer"), true);
});

test("call slots: hosts that do not answer leave room for those that do, and are trusted again after one answer", async () => {
  const { slots, begun, news } = open();
  const dead = ["x1", "x2", "x3", "x4", "x5"];
  for (const host of dead) news(host);
  await settle();
  for (const host of dead) slots.release(host, "news", false);
  begun.length = 0;
  for (const host of dead) for (let i = 0; i < 3; i++) news(host);
  news("alive");
  news("alive");
  await settle();
  assert.deepEqual(begun, ["x1", "x2", "x3", "alive", "alive"]);
  slots.release("x1", "news", true);
  await settle();
  assert.deepEqual(begun.slice(5), ["x1", "x4"], "x1 answers: it counts no more as one that does not");
});

test("call slots: what waits and is not wanted any more leaves the line, and takes no turn", async () => {
  const { slots, begun, news } = open();
  news("a");
  news("a");
  const given: boolean[] = [];
  let looked = 0;
  const many = 10_000;
  for (let i = 0; i < many; i++) {
    const isWanted = () => {
      looked++;
      return i === many - 1;
    };
    void slots.take("a", "news", isWanted).then((mayRun) => given.push(mayRun));
  }
  await settle();
  assert.ok(given.length > many - 128, `${given.length} are gone before their turn`);
  assert.ok(looked < 2 * many, `${looked} looks`);
  slots.release("a", "news", true);
  await settle();
  assert.deepEqual([begun.length, given.length, given.filter(Boolean).length], [2, many, 1]);
  slots.release("a", "news", true);
  slots.release("a", "news", true);
  news("a");
  news("a");
  await settle();
  assert.equal(begun.length, 4, "none of them has a place any more");
});
