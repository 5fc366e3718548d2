import assert from "node:assert/strict";
import { test } from "node:test";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { type Turn, Turns } from "../../../src/protocol/rpc/turns.js";

test("turns: addresses take turns, however many connections one has, and others have the loop in between", async () => {
  const turns = new Turns();
  const order: string[] = [];
  const [hog, other] = [{}, {}];
  const waiting = (client: object, name: string): Turn => ({
    client,
    goOn: () => {
      order.push(name);
      turns.spent(3);
    },
  });
  for (let i = 0; i < 6; i++) turns.later(waiting(hog, `hog ${i}`));
  turns.later(waiting(other, "other"));
  await nextTurn();
  assert.deepEqual(order, ["hog 0", "other", "hog 1"], "8 ms are over");
  assert.equal(turns.over, true);
  await nextTurn();
  assert.deepEqual(order.slice(3), ["hog 2", "hog 3", "hog 4"]);
  await nextTurn();
  assert.equal(turns.over, false);
  assert.equal(order.length, 7);
});

test("turns: many little pieces make a turn too, and a new one begins with nothing spent", async () => {
  const turns = new Turns();
  for (let i = 0; i < 70; i++) turns.spent(0.1);
  assert.equal(turns.over, false);
  for (let i = 0; i < 20; i++) turns.spent(0.1);
  assert.equal(turns.over, true);
  await nextTurn();
  assert.equal(turns.over, false);
});
