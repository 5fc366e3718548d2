import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { NodeRecordsReport } from "../../src/control/types.js";
import { FailoverLoad } from "../support/failover-load.js";
import { Pair } from "../support/pair.js";
import { alive, Rig } from "../support/rig.js";

/** A client waits longer than this only when nobody took over: the figures are the benchmark's (npm run bench -- failover). */
const LANES = 4;
const GAP_MS_MAX = 20_000;

/** Two of them, for the node that serves only. The faults end with its process. */
async function loseDisks(rig: Rig): Promise<void> {
  for (const disk of ["1", "2"]) await rig.ok(["rig", "fault", "--disk", disk, "--kind", "gone"]);
}

/** The shared LU says of a node that died what has become of its groups. */
async function markedGone(rig: Rig, pid: number): Promise<void> {
  const dead = rig.description.nodes.find((node) => node.pid === pid)!.name;
  for (let i = 0; i < 100; i++) {
    const { daemon } = (await rig.json(["node", "show", dead])) as NodeRecordsReport;
    const state = String(daemon.find(({ key }) => key === "part daemon")?.value.state);
    if (/^gone: chn\d took over at /.test(state)) return;
    await sleep(100);
  }
  assert.fail(`the records of ${dead} say nothing of its end`);
}

test("failover: killed, hung, without its disks and planned, under load: nothing acknowledged is lost, nothing is done twice", async (t) => {
  const rig = await Rig.up({ disks: 4, diskSize: "256M", more: ["--nodes", "2"] });
  t.after(() => rig.remove());
  const pair = new Pair(rig);
  await pair.whole();
  const { service } = rig.description;
  const { host, nfsPort } = service;
  const load = new FailoverLoad(host, nfsPort, LANES);
  await load.start();
  await load.progress(20);

  for (const how of ["killed", "hung", "disks lost", "killed", "planned", "giveback"] as const) {
    load.takeGapMs();
    const pid = await pair.activePid();
    if (how === "killed") await pair.kill(pid);
    else if (how === "hung") process.kill(pid, "SIGSTOP");
    else if (how === "disks lost") await loseDisks(rig);
    else if (how === "planned") await rig.ok(["node", "takeover"]);
    else await rig.ok(["node", "giveback"]);
    await load.progress(30);
    await load.checkLocks();
    const gapMs = load.takeGapMs();
    t.diagnostic(`${how}: ${Math.round(gapMs)} ms, ${load.operations} calls so far, ${load.repeated} repeated`);
    assert.deepEqual(load.faults, []);
    assert.ok(gapMs < GAP_MS_MAX);
    if (how === "killed") await markedGone(rig, pid);
    if (how === "disks lost") await pair.kill(pid);
    if (how === "hung") {
      // It was ended before its disks were taken: continued, it would find itself dead.
      while (alive(pid)) await sleep(10);
    }
    await pair.whole();
    assert.deepEqual(rig.description.service, service, "clients find the service where it was");
  }
  const waiting = ((await rig.json(["lock", "list"])) as { state: string }[]).filter(
    ({ state }) => state === "waiting",
  );
  assert.equal(waiting.length, LANES, "whoever waited for a lock still waits");
  await load.end();
  assert.deepEqual(load.faults, []);
  assert.match(await rig.ok(["fs", "check", "data", "--data"]), /clean/);
});
