import assert from "node:assert/strict";
import { test } from "node:test";
import type { Steps } from "../../../../src/fs/locks/book.js";
import { type Task, WorkLanes } from "../../../../src/fs/locks/work-lanes.js";
import { nextTurn } from "../../../../src/lib/next-turn.js";

/** A task of so many steps, each of which costs what half a turn may. */
function task(said: string[], name: string, steps: number): Task {
  return {
    *steps(): Steps<void> {
      for (let step = 0; step < steps; step++) {
        said.push(`${name}${step}`);
        yield 500;
      }
    },
    failed: (error) => said.push(`${name} failed: ${error}`),
  };
}

test("work lanes: what is short is done at once, what is long a part in each turn", async () => {
  const said: string[] = [];
  const lanes = new WorkLanes(
    () => said.push("."),
    () => null,
  );
  lanes.run(1, task(said, "a", 1));
  assert.deepEqual(said, ["a0", "."]);
  lanes.run(1, task(said, "b", 4));
  assert.deepEqual(said.splice(0), ["a0", ".", "b0", "."], "the two together have had their part of this turn");
  await nextTurn();
  assert.deepEqual(said.splice(0), ["b1", "b2", "."]);
  await nextTurn();
  assert.deepEqual(said.splice(0), ["b3", "."]);
});

test("work lanes: one after the other on a lane, side by side on two", async () => {
  const said: string[] = [];
  const lanes = new WorkLanes(
    () => {},
    () => null,
  );
  lanes.run(1, task(said, "a", 4));
  lanes.run(1, task(said, "b", 1));
  lanes.run(2, task(said, "c", 1));
  for (let i = 0; i < 5; i++) await nextTurn();
  const order = said.filter((step) => !step.startsWith("c"));
  assert.deepEqual(order, ["a0", "a1", "a2", "a3", "b0"]);
  assert.ok(said.indexOf("c0") < said.indexOf("b0"), `another lane does not wait for the whole of the first: ${said}`);
});

test("work lanes: one that fails ends, and the others go on; who rests waits for the next turn", async () => {
  const said: string[] = [];
  const lanes = new WorkLanes(
    () => {},
    () => null,
  );
  lanes.run(1, {
    // biome-ignore lint/correctness/useYield: it fails before its first step
    *steps(): Steps<void> {
      throw new Error("no");
    },
    failed: (error) => said.push(String(error)),
  });
  await lanes.rest();
  lanes.run(1, task(said, "a", 3));
  const resting = lanes.rest().then(() => said.push("rested"));
  assert.deepEqual(said, ["Error: no", "a0", "a1"]);
  await resting;
  await nextTurn();
  assert.deepEqual(said, ["Error: no", "a0", "a1", "a2", "rested"]);
});

test("work lanes: stopped, every task that has not ended fails", async () => {
  const said: string[] = [];
  const lanes = new WorkLanes(
    () => {},
    () => null,
  );
  lanes.run(1, task(said, "a", 9));
  lanes.run(1, task(said, "b", 1));
  lanes.run(2, task(said, "c", 1));
  lanes.stop("closed");
  for (let i = 0; i < 3; i++) await nextTurn();
  assert.deepEqual(said, ["a0", "a1", "a failed: closed", "b failed: closed", "c failed: closed"]);
});

test("work lanes: a commit that will never have room is nobody's unhandled rejection, and the task goes on to be refused", async () => {
  const said: string[] = [];
  const strays: unknown[] = [];
  const stray = (error: unknown): void => void strays.push(error);
  process.on("unhandledRejection", stray);
  const lanes = new WorkLanes(
    () => {},
    () => Promise.reject(new Error("the store has failed")),
  );
  lanes.run(1, task(said, "a", 1));
  for (let i = 0; i < 3; i++) await nextTurn();
  process.off("unhandledRejection", stray);
  assert.deepEqual(strays, []);
  assert.deepEqual(said, ["a0"]);
});
