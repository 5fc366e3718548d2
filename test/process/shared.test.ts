import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { NodeRecordsReport, SharedGroupRow } from "../../src/control/types.js";
import { Rig } from "../support/rig.js";
import { cli } from "./cli.js";

const CLI = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../src/cli/main.js");

let rig: Rig;
before(async () => {
  rig = await Rig.up({ disks: 2, diskSize: "128M", raid: 1 });
});
after(() => rig.remove());

function image(name: string): string {
  const file = path.join(rig.dir, "disks", `${name}.img`);
  writeFileSync(file, "");
  truncateSync(file, 48 * 2 ** 20);
  return file;
}

async function until<T>(look: () => Promise<T>, good: (value: T) => boolean): Promise<T> {
  for (let i = 0; ; i++) {
    const value = await look();
    if (good(value)) return value;
    assert.ok(i < 60, `did not come about: ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

const groups = async () => (await rig.json(["shared", "show"])) as SharedGroupRow[];
const records = async (node: string) => (await rig.json(["node", "show", node])) as NodeRecordsReport;

const shared: string[] = [];

test("shared: made of extra disks, the node writes about itself on it, and it is all there after kill -9", async () => {
  shared.push(image("shared1"), image("shared2"), image("backup"));
  await rig.ok(["disk", "add", ...shared]);
  const before = await rig.cli(["node", "show", "chn1"]);
  assert.deepEqual([before.status, before.stdout], [1, ""]);
  assert.match(before.stderr, /^stripeward: there is no shared group: make one \(shared create\)\n$/);
  await rig.ok(["shared", "create", "--disks", "3,4"]);
  await rig.ok(["shared", "create", "--disks", "5", "--backup"]);
  const report = await until(
    () => records("chn1").catch(() => null),
    (found) => found !== null && (found.service.some(({ key }) => key === "export /data 127.0.0.0/8") ?? false),
  );
  const process1 = report?.daemon.find(({ key }) => key === "process")?.value;
  assert.equal(process1?.pid, rig.pid);
  const text = await rig.ok(["node", "show", "chn1"]);
  for (const title of ["CLIENT", "USER", "SERVICE OPERATING", "DAEMON OPERATING"]) {
    assert.match(text, new RegExp(`^${title} INFORMATION`, "m"));
  }
  await until(groups, (found) => found.every(({ partitions }) => partitions[0]?.writer === "chn1"));
  await rig.kill();
  await rig.up();
  const [main, backup] = await groups();
  assert.deepEqual(main?.partitions[0]?.current, [3, 4]);
  assert.deepEqual(backup?.partitions[0]?.current, [5]);
  const again = await until(
    () => records("chn1"),
    ({ daemon }) => daemon.find(({ key }) => key === "process")?.value.pid === rig.pid,
  );
  assert.ok(again.sequence > (report?.sequence ?? 0));
  assert.match(await rig.ok(["shared", "show"]), /chn1 +chn1 +\d+ +\d+ +#003 #004 +– /);
});

test("shared: an ordinary group cannot be made of its disks", async () => {
  const { status, stderr } = await rig.cli(["group", "create", "g", "--disks", "3,4"]);
  assert.equal(status, 1);
  assert.match(stderr, /disk #003 is in a shared group/);
});

test("shared: a second daemon has the same disks open, and each reads what the other writes", async (t) => {
  const folder = path.join(rig.dir, "second");
  const socket = path.join(rig.dir, "second.sock");
  const config = path.join(rig.dir, "second.yaml");
  const lines = [
    ...["node: chn2", `state-directory: ${folder}`, "disks:", ...shared.map((file) => `  - ${file}`)],
    ...["management:", `  socket: ${socket}`, "nfs:", "  host: 127.0.0.1", "  port: 0"],
  ];
  writeFileSync(config, `${lines.join("\n")}\n`);
  const child = spawn(process.execPath, [CLI, "serve", "--config", config], { stdio: "ignore" });
  t.after(() => end(child));
  const other = async (...args: string[]) => {
    const { status, stdout } = await cli(...args, "--json", "--socket", socket);
    return status === 0 ? (JSON.parse(stdout) as unknown) : null;
  };
  await until(
    () => other("shared", "show"),
    (found) => found !== null,
  );
  const theirs = await until(
    () => records("chn2").catch(() => null),
    (found) => found !== null,
  );
  const { pid } = (await other("status")) as { pid: number };
  assert.equal(theirs?.daemon.find(({ key }) => key === "process")?.value.pid, pid);
  const ours = (await other("node", "show", "chn1")) as NodeRecordsReport;
  assert.equal(ours.daemon.find(({ key }) => key === "process")?.value.pid, rig.pid);
  // Nobody stands in the other's way: both go on, and both say so.
  const [main] = await groups();
  assert.deepEqual(
    main?.partitions.slice(0, 2).map(({ writer, current }) => [writer, current]),
    [
      ["chn1", [3, 4]],
      ["chn2", [3, 4]],
    ],
  );
  await end(child);
  const stopped = await records("chn2");
  assert.equal(stopped.service.find(({ key }) => key === "service nfs")?.value.state, "stopped");
});

test("shared: a disk that is pulled out is told, and is current again when it is back", async () => {
  await rig.ok(["rig", "fault", "--disk", "4", "--kind", "gone"]);
  const state = async () => (await groups())[0]!;
  await until(state, ({ members }) => members[1]?.state === "missing");
  await until(state, ({ partitions }) => partitions[0]?.behind.join() === "4");
  assert.match(await rig.ok(["status"]), /group shared: disk #004 is missing/);
  await rig.ok(["rig", "fault", "--clear", "--disk", "4"]);
  await until(state, ({ members, partitions }) => members[1]?.state === "online" && partitions[0]?.behind.length === 0);
});

test("shared: each node of a pair writes its own partition, also while one stands in for the other", async (t) => {
  const pair = await Rig.up({ disks: 2, diskSize: "128M", raid: 1, more: ["--nodes", "2"] });
  t.after(() => pair.remove());
  const first = pair.description.nodes.find(({ role }) => role === "active")!;
  const second = pair.description.nodes.find(({ name }) => name !== first.name)!;
  const there = async (...args: string[]) => {
    const { status, stdout } = await cli(...args, "--json", "--socket", second.socket);
    return status === 0 ? (JSON.parse(stdout) as NodeRecordsReport) : null;
  };
  const serves = (report: NodeRecordsReport | null) =>
    report?.service.some(({ key }) => key === "file-system data") === true;
  const before = await until(
    () => there("node", "show", second.name),
    (report) => report !== null,
  );
  assert.equal(before?.daemon.find(({ key }) => key === "process")?.value.pid, second.pid);
  assert.ok(!serves(before));
  assert.ok(serves(await there("node", "show", first.name)));
  process.kill(first.pid, "SIGKILL");
  await until(() => there("node", "show", second.name), serves);
  // What the one that is gone wrote last is still there to be read.
  const left = await there("node", "show", first.name);
  assert.equal(left?.daemon.find(({ key }) => key === "process")?.value.pid, first.pid);
});

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill("SIGTERM");
  await gone;
}
