import assert from "node:assert/strict";
import { truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FailoverLoad } from "../support/failover-load.js";
import { Pair } from "../support/pair.js";
import { Rig } from "../support/rig.js";

/** A second group, made on chn5 of disks that both nodes see: chn5 is its home. */
async function secondGroup(rig: Rig): Promise<void> {
  const files = ["a", "b", "c"].map((name) => path.join(rig.dir, "disks", `${name}.img`));
  for (const file of files) {
    writeFileSync(file, "");
    truncateSync(file, 192 * 2 ** 20);
  }
  assert.match(await rig.ok(["disk", "add", ...files, "--node", "chn5"]), /#007 .* NOT USED .*#009/s);
  assert.match(await rig.ok(["disk", "add", ...files, "--node", "chn1"]), /#007 .* PARTNER'S .*#009/s);
  await rig.ok(["group", "create", "second", "--disks", "7-9", "--node", "chn5"]);
  await rig.ok(["fs", "create", "more", "--group", "second", "--mode", "1777", "--node", "chn5"]);
  const rule = ["--client", "127.0.0.0/8", "--squash", "none", "--insecure"];
  await rig.ok(["export", "add", "/more", ...rule, "--node", "chn5"]);
}

test("two active nodes: each serves its own group, stands in for the other, and gives back what is not its own", async (t) => {
  const rig = await Rig.up({ disks: 4, diskSize: "192M", more: ["--nodes", "2"] });
  t.after(() => rig.remove());
  const pair = new Pair(rig);
  await pair.whole();
  await secondGroup(rig);
  const servedBy = async (): Promise<Record<string, string | null>> =>
    Object.fromEntries((await pair.row()).groups.map(({ name, servedBy: node }) => [name, node]));
  const become = async (wanted: Record<string, string>): Promise<void> => {
    for (let i = 0; i < 200; i++) {
      const is = await servedBy();
      if (Object.entries(wanted).every(([group, node]) => is[group] === node)) return;
      await sleep(50);
    }
    assert.deepEqual(await servedBy(), wanted);
  };
  await become({ rig: "chn1", second: "chn5" });

  const { nfsPort } = rig.description.service;
  const loads = [
    new FailoverLoad("127.0.0.1", nfsPort, 2, 1, "/data"),
    new FailoverLoad("127.0.0.2", nfsPort, 2, 2, "/more"),
  ];
  const goOn = async (): Promise<void> => {
    await Promise.all(loads.map((load) => load.progress(20)));
    for (const load of loads) await load.checkLocks();
    for (const load of loads) assert.deepEqual(load.faults, []);
  };
  for (const load of loads) await load.start();
  await goOn();

  for (const [dead, other] of [
    ["chn5", "chn1"],
    ["chn1", "chn5"],
  ] as const) {
    const pid = rig.description.nodes.find(({ name }) => name === dead)!.pid;
    await pair.kill(pid);
    await become({ rig: other, second: other });
    await goOn();
    await rig.up();
    await become({ rig: other, second: other });
    await goOn();
    await rig.ok(["node", "giveback"]);
    await become({ rig: "chn1", second: "chn5" });
    await goOn();
  }
  await Promise.all(loads.map((load) => load.end()));
  for (const load of loads) assert.deepEqual(load.faults, []);
});
