import assert from "node:assert/strict";
import { test } from "node:test";
import { EventLog } from "../../../src/control/event-log.js";
import { SILENT } from "../../../src/lib/log.js";
import { LIMITS } from "../../../src/limits.js";
import { HandClock } from "../../support/hand-clock.js";

const PATH_BYTES = 32 * 1024;

function addMany(events: EventLog, count: number, file: string): void {
  for (let i = 0; i < count; i++)
    events.add({ severity: "warning", kind: "block-healed", what: "a block was healed", detail: { file, at: i } });
}

test("events: bounded in number while they are short", () => {
  const events = new EventLog(new HandClock(), SILENT);
  addMany(events, LIMITS.eventsMax + 100, "/a/file");
  const kept = events.last(LIMITS.eventsMax);
  assert.deepEqual([kept.length, kept.at(-1)?.number], [LIMITS.eventsMax, LIMITS.eventsMax + 100]);
});

test("events: bounded in bytes when they name files with long paths, and the bound holds for those that follow", () => {
  const events = new EventLog(new HandClock(), SILENT);
  addMany(events, 200, `/${"n".repeat(PATH_BYTES)}`);
  const long = events.last(LIMITS.eventsMax);
  assert.ok(long.length * PATH_BYTES <= LIMITS.eventsBytesMax, `${long.length} events`);
  assert.deepEqual([long.length > 50, long.at(-1)?.number], [true, 200]);
  addMany(events, LIMITS.eventsMax, "/a/file");
  assert.equal(events.last(LIMITS.eventsMax).length, LIMITS.eventsMax, "short ones have all of the room again");
});
