import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { ClockWatch, spanText } from "../../../src/control/clock-watch.js";
import { DueTimes } from "../../../src/control/due-times.js";
import { EventLog } from "../../../src/control/event-log.js";
import { SILENT } from "../../../src/lib/log.js";
import { HandClock } from "../../support/hand-clock.js";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const YEARS_MS = 3650 * DAY_MS;

test("due: never done is due now, and what was done while we were away counts by the wall clock", () => {
  const clock = new HandClock();
  const due = new DueTimes(clock);
  equal(due.dueInMs("a", 0, DAY_MS), Number.NEGATIVE_INFINITY);
  equal(due.dueInMs("b", clock.wallMs - 10 * HOUR_MS, DAY_MS), 14 * HOUR_MS);
});

test("due: however the wall clock is set, time passes as it passes", async () => {
  const clock = new HandClock();
  const due = new DueTimes(clock);
  const lastMs = clock.wallMs;
  equal(due.dueInMs("a", lastMs, DAY_MS), DAY_MS);
  clock.setWall(YEARS_MS);
  equal(due.dueInMs("a", lastMs, DAY_MS), DAY_MS);
  clock.setWall(-2 * YEARS_MS);
  await clock.advance(DAY_MS / 2);
  equal(due.dueInMs("a", lastMs, DAY_MS), DAY_MS / 2);
});

test("due: a time in the future is told once, and waited for no longer than the interval, or a day", () => {
  const clock = new HandClock();
  const told: unknown[] = [];
  const due = new DueTimes(clock, (...what) => told.push(what));
  const future = clock.wallMs + YEARS_MS;
  equal(due.dueInMs("often", future, HOUR_MS), HOUR_MS);
  equal(due.dueInMs("seldom", future, 30 * DAY_MS), DAY_MS);
  equal(due.dueInMs("seldom", future, 30 * DAY_MS), DAY_MS);
  equal(due.dueInMs("corrected", clock.wallMs + 2000, HOUR_MS), HOUR_MS);
  deepEqual(told, [
    ["often", future],
    ["seldom", future],
  ]);
});

test("clock watch: a wall clock that was set is told, which way and how far; a small correction is not", async () => {
  const clock = new HandClock();
  const events = new EventLog(clock, SILENT);
  const watch = new ClockWatch(clock, events);
  watch.start();
  await clock.advance(60_000);
  clock.setWall(900);
  await clock.advance(20_000);
  deepEqual(events.last(9), []);
  clock.setWall(YEARS_MS);
  await clock.advance(60_000);
  clock.setWall(-YEARS_MS);
  await clock.advance(60_000);
  const said = events.last(9).map(({ kind, what }) => `${kind}: ${what.replace(/to \S+:/, "to TIME:")}`);
  const tail = "to TIME: file times follow it; schedules do not";
  deepEqual(said, [
    `clock-jumped: the clock of this machine went 3650 days ahead, ${tail}`,
    `clock-jumped: the clock of this machine went 3650 days back, ${tail}`,
  ]);
  watch.stop();
});

test("clock watch: spans in words", () => {
  deepEqual([9000, 119_000, 150_000, 7_300_000].map(spanText), ["9 seconds", "119 seconds", "3 minutes", "2 hours"]);
});
