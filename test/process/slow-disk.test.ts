import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { EventRow } from "../../src/control/types.js";
import { FailoverLoad } from "../support/failover-load.js";
import { Pair } from "../support/pair.js";
import { alive, Rig } from "../support/rig.js";

const LANES = 4;
/** It is left out after some five seconds of being slow; until then each change waits for it. */
const GAP_MS_MAX = 8000;
const DELAY_MS = "400";
const SLOW_MS = 25_000;

test("slow disk: one of eight on the node that serves, each of its calls holding a thread: no node ends, and clients wait for some seconds at most", async (t) => {
  const rig = await Rig.up({ disks: 8, diskSize: "128M", more: ["--nodes", "2"] });
  t.after(() => rig.remove());
  const pair = new Pair(rig);
  await pair.whole();
  const { host, nfsPort } = rig.description.service;
  const pids = rig.description.nodes.map(({ pid }) => pid!);
  const active = await pair.activePid();
  const load = new FailoverLoad(host, nfsPort, LANES);
  await load.start();
  await load.progress(20);
  load.takeGapMs();
  await rig.ok(["rig", "fault", "--disk", "3", "--kind", "slow", "--delay", DELAY_MS]);
  await sleep(SLOW_MS);
  await load.progress(20);
  const gapMs = load.takeGapMs();
  t.diagnostic(`longest wait ${Math.round(gapMs)} ms, ${load.operations} calls`);
  assert.deepEqual(load.faults, []);
  assert.ok(pids.every(alive), "no process has ended");
  assert.equal(await pair.activePid(), active, "the group is where it was");
  assert.ok(gapMs < GAP_MS_MAX, `${gapMs} ms`);
  assert.equal((await stateOf(rig, 3)).state, "stale");
  assert.ok(await told(rig, "group-member-left-out"));

  await rig.ok(["rig", "fault", "--clear"]);
  for (let i = 0; i < 300 && (await stateOf(rig, 3)).state !== "online"; i++) await sleep(200);
  assert.deepEqual(await stateOf(rig, 3), { state: "online", slow: false });
  await load.progress(20);
  await load.end();
  assert.deepEqual(load.faults, []);
  assert.match(await rig.ok(["fs", "check", "data", "--data"]), /clean/);
});

async function stateOf(rig: Rig, wanted: number): Promise<{ readonly state: string; readonly slow: boolean }> {
  const disks = (await rig.json(["disk", "list"])) as { number: number; state: string; slow: boolean }[];
  const { state, slow } = disks.find(({ number }) => number === wanted)!;
  return { state, slow };
}

async function told(rig: Rig, kind: string): Promise<boolean> {
  return ((await rig.json(["events"])) as EventRow[]).some((event) => event.kind === kind);
}
