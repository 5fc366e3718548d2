import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import type { DiskRow, EventRow, FileRow, StatusReport } from "../../src/control/types.js";
import { NfsClient } from "../support/nfs-client.js";
import { alive, Rig } from "../support/rig.js";
import { cli } from "./cli.js";

/** Small disks: what is tested here does not depend on their size. */
const SMALL = { disks: 3, diskSize: "192M" };

async function writeFile(port: number, name: string, data: Buffer): Promise<void> {
  const client = await NfsClient.connect(port);
  const { handle: root } = await client.mount("/data");
  const { handle } = await client.create(root, name);
  assert.ok(handle !== null);
  const { status } = await client.write(handle, 0, data);
  assert.equal(status, 0);
  await client.close();
}

async function readFile(port: number, name: string, length: number): Promise<Buffer> {
  const client = await NfsClient.connect(port);
  const { handle: root } = await client.mount("/data");
  const { handle } = await client.lookup(root, name);
  assert.ok(handle !== null);
  const { data } = await client.read(handle, 0, length);
  const copy = Buffer.from(data);
  await client.close();
  return copy;
}

test("rig: up prints the agreed document, up again changes nothing, down leaves no trace but the data", async (t) => {
  const rig = await Rig.up(SMALL);
  t.after(() => rig.remove());
  const up = rig.description;
  assert.deepEqual(Object.keys(up), ["dir", "nodes", "service", "exports", "disks", "groups", "lus"]);
  assert.deepEqual(Object.keys(up.nodes[0]!), ["name", "pid", "socket", "role"]);
  assert.deepEqual(Object.keys(up.service), ["host", "nfsPort", "nbdPort", "httpPort"]);
  assert.deepEqual(up.exports, [
    { path: "/data", url: `nfs://127.0.0.1/data?nfsport=${rig.port}&mountport=${rig.port}` },
  ]);
  assert.deepEqual(
    up.disks.map(({ number, state }) => [number, state]),
    [
      [1, "online"],
      [2, "online"],
      [3, "online"],
    ],
  );
  assert.equal(statSync(up.nodes[0]!.socket).mode & 0o777, 0o600);
  const pid = rig.pid;
  await rig.up();
  assert.equal(rig.pid, pid);
  await rig.down();
  assert.equal(alive(pid), false);
  assert.equal(existsSync(up.nodes[0]!.socket), false);
  assert.equal(existsSync(path.join(rig.dir, "state/stripeward.pid")), false);
  assert.match(readFileSync(path.join(rig.dir, "stripeward.log"), "utf8"), /stopped cleanly/);
  assert.match(await rig.ok(["rig", "down"]), /was not running/);
  assert.match(await rig.ok(["rig", "status"]), /is down/);
});

test("rig: data outlives a stop; with a disk file moved away it still reads, and everything names the disk", async (t) => {
  const rig = await Rig.up(SMALL);
  t.after(() => rig.remove());
  const data = randomBytes(300_000);
  await writeFile(rig.port, "kept", data);
  await rig.down();
  await rig.up();
  assert.deepEqual(await readFile(rig.port, "kept", data.length), data);
  await rig.down();

  const disk = rig.description.disks[1]!.path;
  renameSync(disk, `${disk}.away`);
  const { disks } = await rig.up();
  assert.equal(disks[1]?.state, "missing");
  assert.equal(existsSync(disk), false);
  assert.deepEqual(await readFile(rig.port, "kept", data.length), data);
  await writeFile(rig.port, "while degraded", data);
  assert.match(await rig.ok(["disk", "list"]), /#002 .*MISSING/);
  const status = (await rig.json(["status"])) as StatusReport;
  assert.equal(status.state, "degraded");
  assert.match(status.warnings.join("\n"), /disk #002 is missing/);
  const events = (await rig.json(["events"])) as EventRow[];
  assert.ok(events.some(({ kind }) => kind === "group-degraded"));

  // Back again it has missed writes: it gets them, and counts from then on.
  await rig.down();
  renameSync(`${disk}.away`, disk);
  await rig.up();
  await rig.ok(["group", "rebuild", "--wait"]);
  const rows = (await rig.json(["disk", "list"])) as DiskRow[];
  assert.equal(rows[1]?.state, "online");
  assert.deepEqual(await readFile(rig.port, "while degraded", data.length), data);
});

test("rig: two disks missing is too many for RAID-5: shown as failed, and the daemon runs", async (t) => {
  const rig = await Rig.up(SMALL);
  t.after(() => rig.remove());
  await rig.down();
  const away = rig.description.disks.slice(1).map((disk) => disk.path);
  for (const disk of away) renameSync(disk, `${disk}.away`);
  await rig.up();
  const failed = (await rig.json(["status"])) as StatusReport;
  assert.equal(failed.state, "failed");
  assert.deepEqual(failed.exports, []);
  // The disks come back: a reload tries again.
  for (const disk of away) renameSync(`${disk}.away`, disk);
  process.kill(rig.pid, "SIGHUP");
  for (let i = 0; i < 100; i++) {
    const { state } = (await rig.json(["status"])) as StatusReport;
    if (state === "clean") break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const revived = (await rig.json(["status"])) as StatusReport;
  assert.equal(revived.state, "clean");
  assert.equal(revived.exports.length, 1);
});

test("rig: what is in the way, what does not fit and what does not exist yet is refused in one line", async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-other-"));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(path.join(folder, "letter.txt"), "x");
  const full = await cli("rig", "up", "--dir", folder);
  assert.deepEqual([full.status, full.stdout], [1, ""]);
  assert.match(full.stderr, /^stripeward: .* is not empty \(letter\.txt\) and holds no rig: choose another folder\n$/);
  const empty = path.join(folder, "empty");
  mkdirSync(empty);
  const three = await cli("rig", "up", "--dir", empty, "--nodes", "3");
  assert.equal(three.status, 2);
  assert.match(three.stderr, /^stripeward: option '--nodes <count>'[^\n]*from 1 to 2\n$/);
  const few = await cli("rig", "up", "--dir", empty, "--disks", "2");
  assert.match(few.stderr, /^stripeward: RAID-5 needs at least 3 disks\n$/);
  const none = await cli("rig", "down", "--dir", empty);
  assert.match(none.stderr, /^stripeward: there is no rig in /);
  assert.equal(none.status, 1);
});

test("rig: a second daemon on the same disks is refused by name of the holder", async (t) => {
  const rig = await Rig.up(SMALL);
  t.after(() => rig.remove());
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-second-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const config = path.join(folder, "s.yaml");
  const disks = rig.description.disks.map((disk) => disk.path);
  const second = {
    disks,
    "state-directory": "state",
    management: { socket: "s.sock" },
    nfs: { host: "127.0.0.1", port: 0 },
  };
  writeFileSync(config, JSON.stringify(second));
  const refused = await cli("serve", "--config", config);
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /^stripeward: [^\n]*\n$/);
  assert.match(refused.stderr, new RegExp(`\\b${rig.pid}\\b`));
  assert.equal(existsSync(path.join(folder, "s.sock")), false);

  writeFileSync(config, JSON.stringify({ ...second, "state-directory": path.join(rig.dir, "state") }));
  const sameState = await cli("serve", "--config", config);
  assert.match(
    sameState.stderr,
    new RegExp(`^stripeward: another daemon \\(process ${rig.pid}\\) works in the state directory`),
  );
  writeFileSync(config, JSON.stringify({ ...second, management: { socket: rig.description.nodes[0]!.socket } }));
  const sameSocket = await cli("serve", "--config", config);
  assert.match(sameSocket.stderr, /^stripeward: another daemon is serving the management socket/);
  assert.equal(alive(rig.pid), true);
});

test("rig: files are listed with head address, size, owner and time; the check is clean", async (t) => {
  const rig = await Rig.up(SMALL);
  t.after(() => rig.remove());
  await writeFile(rig.port, "one", randomBytes(1_000_000));
  await writeFile(rig.port, "empty", Buffer.alloc(0));
  const check = JSON.parse(await rig.ok(["fs", "check", "data", "--json"])) as {
    clean: boolean;
    counts: { files: number };
  };
  assert.deepEqual([check.clean, check.counts.files], [true, 2]);
  const files = (await rig.json(["fs", "files", "data"])) as FileRow[];
  const one = files.find(({ name }) => name === "/one");
  assert.equal(one?.sizeBytes, 1_000_000);
  assert.equal(files.find(({ name }) => name === "/empty")?.headAddress, null);
  assert.match(await rig.ok(["fs", "files", "data"]), /FILE NAME +HEAD ADDRESS +VOLUME +OWNER +UPDATE TIME/);
});
