import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FailoverLoad } from "../support/failover-load.js";
import { Pair } from "../support/pair.js";
import { alive, Rig } from "../support/rig.js";

/** A client waits longer than this only when nobody took over: the figures are the benchmark's (npm run bench -- failover). */
const GAP_MS_MAX = 20_000;

test("failover: killed, hung and planned, under load: nothing acknowledged is lost, nothing is done twice", async (t) => {
  const rig = await Rig.up({ disks: 4, diskSize: "256M", more: ["--nodes", "2"] });
  t.after(() => rig.remove());
  const pair = new Pair(rig);
  await pair.whole();
  const { host, nfsPort } = rig.description.service;
  const load = new FailoverLoad(host, nfsPort);
  await load.start();
  await load.progress(20);

  for (const how of ["killed", "hung", "killed", "planned", "giveback"] as const) {
    load.takeGapMs();
    const pid = await pair.activePid();
    if (how === "killed") await pair.kill(pid);
    else if (how === "hung") process.kill(pid, "SIGSTOP");
    else if (how === "planned") await rig.ok(["node", "takeover"]);
    else await rig.ok(["node", "giveback"]);
    await load.progress(30);
    const gapMs = load.takeGapMs();
    t.diagnostic(`${how}: ${Math.round(gapMs)} ms, ${load.operations} calls so far, ${load.repeated} repeated`);
    assert.deepEqual(load.faults, []);
    assert.ok(gapMs < GAP_MS_MAX);
    if (how === "hung") {
      // It was ended before its disks were taken: continued, it would find itself dead.
      while (alive(pid)) await sleep(10);
    }
    await pair.whole();
  }
  await load.end();
  assert.deepEqual(load.faults, []);
  assert.match(await rig.ok(["fs", "check", "data", "--data"]), /clean/);
});
