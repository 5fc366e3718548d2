import { deepEqual, throws } from "node:assert/strict";
import { test } from "node:test";
import { LeaseWatchdog } from "../../../src/control/lease-watchdog.js";
import { StorageError } from "../../../src/lib/errors.js";

function bench() {
  const calls: string[] = [];
  const told: string[] = [];
  const now = { owns: false, fails: false };
  const call = (name: string) => () => {
    if (now.fails) throw new StorageError("EIO", "broken");
    calls.push(name);
  };
  const make = () =>
    new LeaseWatchdog({
      watchdog: { live: call("live"), disarm: call("disarm") },
      owns: () => now.owns,
      onTrouble: (what) => told.push(what),
    });
  return { calls, told, now, make };
}

test("lease watchdog: fed by heartbeats that count, while there is something to lose", () => {
  const { calls, now, make } = bench();
  const watchdog = make();
  deepEqual(calls.splice(0), ["live", "disarm"], "what an earlier process armed");
  watchdog.heard();
  deepEqual(calls.splice(0), ["disarm"]);
  now.owns = true;
  watchdog.heard();
  watchdog.heard();
  deepEqual(calls.splice(0), ["live", "live"]);
  now.owns = false;
  watchdog.heard();
  watchdog.end();
  deepEqual(calls, ["disarm", "disarm"]);
});

test("lease watchdog: one that cannot be opened is refused at the start; one that breaks later is told once", () => {
  const { told, now, make } = bench();
  now.fails = true;
  throws(make, { code: "EIO" });
  now.fails = false;
  const watchdog = make();
  now.owns = true;
  now.fails = true;
  for (let i = 0; i < 3; i++) watchdog.heard();
  deepEqual(told, ["the watchdog gets no sign of life: broken"]);
});
