import assert from "node:assert/strict";
import { test } from "node:test";
import { LoopWatch } from "../../../src/control/loop-watch.js";
import { HandClock } from "../../support/hand-clock.js";

/** What a piece of work does that keeps the loop for so long. */
async function hold(clock: HandClock, ms: number): Promise<void> {
  clock.jump(ms);
  await clock.advance(0);
}

test("loop watch: an idle loop is never late", async () => {
  const clock = new HandClock();
  const watch = new LoopWatch(clock);
  await clock.advance(200);
  assert.deepEqual(watch.delay(), { p99Ms: 0, maxMs: 0, longestMs: 0 });
  assert.equal(
    watch.over().some(({ count }) => count > 0),
    false,
  );
});

test("loop watch: a piece of work is seen as long as it was, less what was left of an interval", async () => {
  const clock = new HandClock();
  const watch = new LoopWatch(clock);
  await clock.advance(1002); // three milliseconds before the next look
  await hold(clock, 33);
  assert.deepEqual(watch.delay(), { p99Ms: 1, maxMs: 30, longestMs: 30 });
  const over = new Map(watch.over().map(({ overMs, count }) => [overMs, count]));
  assert.deepEqual([over.get(20), over.get(50)], [1, 0]);
});

test("loop watch: p99 is of all looks of the minute", async () => {
  const clock = new HandClock();
  const watch = new LoopWatch(clock);
  for (let i = 0; i < 10; i++) {
    await clock.advance(100);
    await hold(clock, 20);
  }
  // Ten of some two hundred looks were late: more than one of a hundred.
  assert.deepEqual(watch.delay(), { p99Ms: 15, maxMs: 15, longestMs: 15 });
});

test("loop watch: a long piece leaves the minute, and stays the longest since the start", async () => {
  const clock = new HandClock();
  const watch = new LoopWatch(clock);
  await hold(clock, 505);
  await clock.advance(30_000);
  assert.equal(watch.delay().maxMs, 500);
  await clock.advance(31_000);
  assert.deepEqual(watch.delay(), { p99Ms: 0, maxMs: 0, longestMs: 500 });
});

test("loop watch: ended, it looks no more", () => {
  const clock = new HandClock();
  const watch = new LoopWatch(clock);
  assert.equal(clock.timerCount, 1);
  watch.end();
  assert.equal(clock.timerCount, 0);
});
