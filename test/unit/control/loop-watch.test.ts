import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { cpuWait } from "../../../src/control/cpu-wait.js";
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
  assert.deepEqual(watch.delay(), { p99Ms: 0, maxMs: 0, longestMs: 0, starvedMs: 0 });
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
  assert.deepEqual(watch.delay(), { p99Ms: 1, maxMs: 30, longestMs: 30, starvedMs: 0 });
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
  assert.deepEqual(watch.delay(), { p99Ms: 15, maxMs: 15, longestMs: 15, starvedMs: 0 });
});

test("loop watch: a long piece leaves the minute, and stays the longest since the start", async () => {
  const clock = new HandClock();
  const watch = new LoopWatch(clock);
  await hold(clock, 505);
  await clock.advance(30_000);
  assert.equal(watch.delay().maxMs, 500);
  await clock.advance(31_000);
  assert.deepEqual(watch.delay(), { p99Ms: 0, maxMs: 0, longestMs: 500, starvedMs: 0 });
});

test("loop watch: ended, it looks no more", () => {
  const clock = new HandClock();
  const watch = new LoopWatch(clock);
  assert.equal(clock.timerCount, 1);
  watch.end();
  assert.equal(clock.timerCount, 0);
});

test("loop watch: what others had of the CPU is not our delay, and is told apart", async () => {
  const clock = new HandClock();
  let starvedMs = 1000;
  const watch = new LoopWatch(clock, () => starvedMs);
  await clock.advance(1000);
  starvedMs += 90;
  await hold(clock, 105);
  assert.deepEqual(watch.delay(), { p99Ms: 1, maxMs: 10, longestMs: 10, starvedMs: 90 });
});

test("loop watch: the kernel says how long the thread waited for a CPU; where it does not, that is nothing", (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-cpu-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = path.join(folder, "schedstat");
  writeFileSync(file, "78189885 343163527 50\n");
  const read = cpuWait(file);
  assert.equal(read(), 343.163527);
  writeFileSync(file, "78189999 343200000 51\n");
  assert.equal(read(), 343.2);
  writeFileSync(file, "nonsense\n");
  assert.equal(read(), 343.2);
  assert.equal(cpuWait(path.join(folder, "none"))(), 0);
});
