import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "../../src/cli/rig/free-port.js";
import type { PairRow } from "../../src/control/types.js";
import { Pair } from "../support/pair.js";
import { Rig } from "../support/rig.js";
import { cli } from "./cli.js";

const CLI = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../src/cli/main.js");

let rig: Rig;
let pair: Pair;
before(async () => {
  rig = await Rig.up({ disks: 4, diskSize: "128M", raid: 1, more: ["--nodes", "2"] });
  pair = new Pair(rig);
  await pair.whole();
});
after(() => rig.remove());

const at = (name: string): string => path.join(rig.dir, name);

/** chn5's configuration, changed, as another file. */
function configuration(name: string, change: (text: string) => string): string {
  const file = at(name);
  writeFileSync(file, change(readFileSync(at("chn5.yaml"), "utf8")));
  return file;
}

const refused = (file: string) => cli("serve", "--config", file);

test("pair: a second process with the name of a node is refused, and the service goes on", async () => {
  const port = await freePort();
  const file = configuration("twin.yaml", (text) =>
    text
      .replace("node: chn5", "node: chn1")
      .replace("partner: chn1", "partner: chn5")
      .replaceAll(at("state-chn5"), at("state-twin"))
      .replace(/port: \d+/, `port: ${port}`),
  );
  const serving = await pair.activePid();
  const { status, stderr } = await refused(file);
  assert.equal(status, 1);
  const twin = rig.description.nodes.find(({ name }) => name === "chn1")!;
  const text = `stripeward: another process (${twin.pid}) is node chn1 on these disks: both nodes of a pair need names of their own\n`;
  assert.equal(stderr, text);
  assert.equal(await pair.activePid(), serving);
});

test("pair: a configuration whose nodes have one name, or whose lease is too short, is refused by line", async () => {
  const one = await refused(configuration("one.yaml", (text) => text.replace("partner: chn1", "partner: chn5")));
  assert.equal(one.status, 1);
  assert.match(
    one.stderr,
    /^[^\n]*one\.yaml:\d+:\d+: pair\.partner: chn5 is this node: the two nodes of a pair need different names\n$/,
  );
  const short = (text: string) => text.replace("partner: chn1", "partner: chn1\n  lease-seconds: 0.6");
  const lease = await refused(configuration("lease.yaml", short));
  assert.equal(lease.status, 1);
  assert.match(
    lease.stderr,
    /^[^\n]*lease\.yaml:\d+:\d+: pair\.lease-seconds: 0\.6 is too short for a heartbeat every 200 ms: 1 at least\n$/,
  );
});

test("pair: a node that looks at fewer disks says so on both, and takes over with those that it sees", async (t) => {
  const chn5 = rig.description.nodes.find(({ name }) => name === "chn5")!;
  const epochs = ["chn1", "chn5"].map(async (node) => {
    const row = (await rig.json(["node", "list", "--node", node])) as PairRow;
    return row.groups[0]?.epoch;
  });
  const [first, second] = await Promise.all(epochs);
  assert.ok(first !== null && first !== undefined && first > 0);
  assert.equal(second, first, "the node that does not serve it knows its epoch too");
  await pair.kill(chn5.pid);
  const file = configuration("fewer.yaml", (text) => text.replace(/^.*disk4\.img\n/m, ""));
  const child = spawn(process.execPath, [CLI, "serve", "--config", file], { stdio: "ignore" });
  t.after(() => end(child));
  const said = /chn5 could not take over: this node can use 3 of the 4 disks of group rig/;
  for (let i = 0; i < 100 && !said.test(await rig.ok(["node", "list"]).catch(() => "")); i++) await sleep(100);
  for (const node of ["chn1", "chn5"]) assert.match(await rig.ok(["node", "list", "--node", node]), said);
  assert.match(await rig.ok(["status"]), /3 of the 4 disks/);
  await pair.kill(await pair.activePid());
  const served = async () => (await pair.row()).groups[0]?.servedBy === "chn5";
  for (let i = 0; i < 100 && !(await served().catch(() => false)); i++) await sleep(100);
  assert.match(await rig.ok(["status"]), /DEGRADED/);
});

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill("SIGTERM");
  await gone;
}
