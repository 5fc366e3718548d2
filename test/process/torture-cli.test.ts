import assert from "node:assert/strict";
import { openSync, readSync } from "node:fs";
import { test } from "node:test";
import type { FaultRow, InjectedFault } from "../../src/control/fault-bench.js";
import { alive, Rig } from "../support/rig.js";
import { cli } from "./cli.js";

function byteOf(file: string, position: number): number {
  const byte = Buffer.alloc(1);
  readSync(openSync(file, "r"), byte, 0, 1, position);
  return byte.readUInt8();
}

test("rig fault: sets, lists and clears; what rots is rotten in the file; misuse is one line", async (t) => {
  const rig = await Rig.up({ disks: 3, diskSize: "192M" });
  t.after(() => rig.remove());
  const disk = rig.description.disks[1]?.path ?? "";
  const fault = (...args: readonly string[]) => rig.cli(["rig", "fault", ...args]);
  assert.match(await rig.ok(["rig", "fault", "--list"]), /^No fault is set\.\n$/);
  await rig.ok(["rig", "fault", "--disk", "#002", "--kind", "slow", "--delay", "1", "--at", "1M", "--bytes", "4K"]);
  assert.match(await rig.ok(["rig", "fault", "--list"]), /#002 +slow 1 ms +byte 1048576, 4 KiB/);
  const before = byteOf(disk, 100_000_000);
  const args = ["rig", "fault", "--disk", "2", "--kind", "bitrot", "--at", "100000000", "--seed", "3"];
  const { rotten, seed } = (await rig.json(args)) as InjectedFault;
  assert.deepEqual([seed, rotten.length, rotten[0]?.position], [3, 1, 100_000_000]);
  assert.equal(byteOf(disk, 100_000_000), before ^ (1 << (rotten[0]?.bit ?? 0)));
  const cleared = (await rig.json(["rig", "fault", "--clear"])) as FaultRow[];
  assert.deepEqual(
    cleared.map(({ kind }) => kind),
    ["slow"],
  );
  const none = await fault("--disk", "7", "--kind", "gone");
  assert.deepEqual([none.status, none.stderr], [1, "stripeward: there is no disk #007\n"]);
  for (const wrong of [
    ["--disk", "1"],
    ["--disk", "1", "--kind", "slow"],
    ["--list", "--clear"],
    ["--disk", "x"],
  ]) {
    const { status, stderr } = await fault(...wrong);
    assert.equal(status, 2, stderr);
    assert.match(stderr, /^stripeward: [^\n]+\n$/);
  }
});

test("rig fault: a disk that is pulled out of an idle rig is named at once, and taken back as soon as it is there again", async (t) => {
  const rig = await Rig.up({ disks: 3, diskSize: "192M" });
  t.after(() => rig.remove());
  await rig.ok(["rig", "fault", "--disk", "3", "--kind", "gone"]);
  assert.match(await rig.ok(["status"]), /DEGRADED.*#003 +[^\n]*MISSING.*disk #003: [^\n]+disk3\.img is gone\n/s);
  await rig.ok(["rig", "fault", "--disk", "3", "--clear"]);
  await rig.ok(["group", "rebuild", "--wait"]);
  assert.match(await rig.ok(["status"]), /is CLEAN/);
  await rig.ok(["group", "scrub", "--wait"]);
});

test("rig crash: ends the daemon, also one without faults, and the rig comes up again", async (t) => {
  const rig = await Rig.up({ disks: 3, diskSize: "192M", more: ["--no-faults"] });
  t.after(() => rig.remove());
  const refused = await rig.cli(["rig", "fault", "--list"]);
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /^stripeward: fault injection is off [^\n]+\n$/);
  assert.match(await rig.ok(["rig", "crash", "--seed", "5"]), /has failed, seed 5\.\n.* no volatile cache/);
  assert.equal(alive(rig.pid), false);
  const again = await rig.cli(["rig", "crash"]);
  assert.match(again.stderr, /^stripeward: the rig in .* is not running\n$/);
  await rig.ok(["rig", "up", "--volatile-cache", "--faults"]);
  const crashed = await rig.json(["rig", "crash", "--mode", "drop", "--seed", "6"]);
  const { seed, mode, volatileCache } = crashed as { seed: number; mode: string; volatileCache: boolean };
  assert.deepEqual([seed, mode, volatileCache], [6, "drop", true]);
  const both = await cli("rig", "up", "--dir", rig.dir, "--no-faults", "--volatile-cache");
  assert.equal(both.status, 2);
});
