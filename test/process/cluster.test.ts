import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { freePort } from "../../src/cli/rig/free-port.js";
import type { ClusterRecord } from "../../src/cluster/record.js";
import type { NodeRecordsReport, PairRow, SharedGroupRow, StatusReport } from "../../src/control/types.js";
import { NfsClient } from "../support/nfs-client.js";
import { cli, gone } from "./cli.js";

const CLI = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../src/cli/main.js");
const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-set-up-"));
const at = (name: string) => path.join(folder, name);
const disk = (name: string) => at(`disks/${name}.img`);
const socketOf = (node: string) => at(`${node}.sock`);

before(async () => {
  mkdirSync(at("disks"));
  for (const [name, mib] of [
    ["s1", 48],
    ["s2", 48],
    ["b1", 48],
    ["d1", 160],
    ["d2", 160],
    ["d3", 160],
  ] as const) {
    writeFileSync(disk(name), "");
    truncateSync(disk(name), mib * 2 ** 20);
  }
  const [terminalPort, nfsPort] = [await freePort(), await freePort()];
  const node = (name: string, address: string) => ({
    ...{ name, address, port: nfsPort, install: at(name), state: at(`${name}/state`), socket: socketOf(name) },
    ...{ disks: [at("disks/*.img")], local: true },
  });
  const plan = {
    management: { host: "127.0.0.1", port: terminalPort },
    nodes: [node("chn1", "127.0.0.1"), node("chn5", "127.0.0.2")],
    shared: [disk("s1"), disk("s2")],
    backup: [disk("b1")],
    data: {
      ...{ disks: [disk("d1"), disk("d2"), disk("d3")], group: "shelf", "file-system": "data", mode: "1777" },
      exports: [{ client: "127.0.0.0/8", squash: "none", "privileged-port": false }],
    },
  };
  writeFileSync(at("plan.yaml"), stringify(plan));
});

after(async () => {
  // The one that stands by first, so that nothing is taken over meanwhile.
  for (const node of ["chn5", "chn1"]) {
    const pid = await pidOf(node);
    if (pid === null) continue;
    process.kill(pid, "SIGKILL");
    await gone(pid);
  }
  rmSync(folder, { recursive: true, force: true });
});

async function ask<T>(node: string, ...args: string[]): Promise<T | null> {
  const { status, stdout } = await cli(...args, "--json", "--socket", socketOf(node));
  return status === 0 ? (JSON.parse(stdout) as T) : null;
}

async function pidOf(node: string): Promise<number | null> {
  return existsSync(socketOf(node)) ? ((await ask<StatusReport>(node, "status"))?.pid ?? null) : null;
}

async function until<T>(look: () => Promise<T>, good: (value: T) => boolean): Promise<T> {
  for (let i = 0; ; i++) {
    const value = await look();
    if (good(value)) return value;
    assert.ok(i < 100, `did not come about: ${JSON.stringify(value)}`);
    await sleep(200);
  }
}

const INIT = ["cluster", "init", "--plan", at("plan.yaml"), "--dir", at("record")];

/** Run the set-up until a step has begun, and kill it there. */
async function killedAt(step: string): Promise<ClusterRecord> {
  const child: ChildProcess = spawn(process.execPath, [CLI, ...INIT], { stdio: "ignore" });
  const ended = once(child, "exit");
  const record = () => JSON.parse(readFileSync(at("record/cluster.json"), "utf8")) as ClusterRecord;
  const begun = () =>
    existsSync(at("record/cluster.json")) && record().steps.find(({ id }) => id === step)?.state !== "pending";
  while (child.exitCode === null && !begun()) await sleep(2);
  child.kill("SIGKILL");
  await ended;
  assert.equal(child.signalCode, "SIGKILL");
  return record();
}

test("cluster: from nothing to a pair, killed twice on the way; then the partner takes over", async (t) => {
  const startedMs = Date.now();
  const nothing = await cli("cluster", "show", "--dir", at("record"));
  assert.deepEqual([nothing.status, nothing.stdout], [1, ""]);
  assert.match(nothing.stderr, /^stripeward: no set-up has begun in .*record \(cluster init\)\n$/);

  const first = await killedAt("install chn1");
  assert.deepEqual(
    first.steps.slice(0, 4).map(({ state }) => state),
    Array(4).fill("done"),
  );
  const second = await killedAt("data group");
  assert.deepEqual(second.steps.slice(0, 4), first.steps.slice(0, 4));
  const shown = await cli("cluster", "show", "--dir", at("record"));
  assert.match(shown.stdout, /^16 +completion notice of chn5 +PENDING +– +– +– +–$/m);
  assert.match(
    shown.stdout,
    /^1 +initialise the shared LU +DONE +\S+@\S+ +\d{4}-\S+Z +\d{4}-\S+Z +group shared made of disks #001 #002$/m,
  );

  const { status, stdout, stderr } = await cli(...INIT, "--json");
  assert.equal(status, 0, stderr);
  const record = JSON.parse(stdout) as ClusterRecord;
  assert.ok(record.steps.every(({ state }) => state === "done"));
  assert.deepEqual(
    record.steps.slice(0, 4),
    first.steps.slice(0, 4),
    "what was done before the first cut is not done again",
  );
  assert.match((await cli("cluster", "show", "--dir", at("record"))).stdout, /The set-up is complete\.\n$/);
  t.diagnostic(`set up after ${Date.now() - startedMs} ms`);

  const pair = await until(
    () => ask<PairRow>("chn1", "node", "list"),
    (row) => row?.nodes.some(({ role }) => role === "standby") === true,
  );
  assert.deepEqual(
    pair?.nodes.map(({ name, role }) => [name, role]),
    [
      ["chn1", "active"],
      ["chn5", "standby"],
    ],
  );
  assert.match((await cli("node", "list", "--socket", socketOf("chn1"))).stdout, /^chn1 +ACTIVE .*\nchn5 +STANDBY /m);
  const groups = await ask<SharedGroupRow[]>("chn1", "shared", "show");
  assert.deepEqual(
    groups?.map(({ name, nodes, members }) => [name, nodes, members.length]),
    [
      ["shared", ["chn1", "chn5"], 2],
      ["shared-backup", ["chn1", "chn5"], 1],
    ],
  );
  for (const { partitions } of groups ?? []) {
    assert.deepEqual(
      partitions.filter(({ writer }) => writer !== "").map(({ node, writer }) => [node, writer]),
      [
        ["chn1", "chn1"],
        ["chn5", "chn5"],
      ],
    );
  }
  const records = await until(
    () => ask<NodeRecordsReport>("chn1", "node", "show", "chn5"),
    (report) => report?.daemon.some(({ key }) => key === "process") === true,
  );
  assert.equal(records?.daemon.find(({ key }) => key === "process")?.value.pid, await pidOf("chn5"));
  assert.equal(record.versions.chn1, record.versions.chn5);

  const active = await pidOf("chn1");
  assert.ok(active !== null);
  const written = Buffer.from("what was acknowledged before the takeover");
  const { service } = (await ask<StatusReport>("chn1", "status"))!;
  const writer = await NfsClient.connect(service.nfsPort!, "127.0.0.1");
  const { handle } = await writer.create((await writer.mount("/data")).handle, "file");
  assert.equal((await writer.write(handle!, 0, written)).status, 0);
  process.kill(active, "SIGKILL");
  await writer.closed;
  const killedMs = Date.now();
  // The service address moves: the same one answers again, and the handle is still good.
  const read = async () => {
    const reader = await NfsClient.connect(service.nfsPort!, "127.0.0.1");
    const { data } = await reader.read(handle!, 0, written.length);
    await reader.close();
    return data;
  };
  const found = await until(
    () => read().catch(() => null),
    (data) => data !== null,
  );
  t.diagnostic(`chn5 serves ${Date.now() - killedMs} ms after the kill`);
  assert.deepEqual(found, written);
  const row = await ask<PairRow>("chn5", "node", "list");
  assert.deepEqual(row?.nodes[0]?.serves, ["shelf"]);
  assert.equal(row?.groups[0]?.servedBy, "chn5");
  t.diagnostic(`all after ${Date.now() - startedMs} ms`);
});
