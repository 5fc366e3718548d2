import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { someoneAnswers } from "../../src/control/claim-socket.js";
import { NfsClient } from "../support/nfs-client.js";
import { Rig } from "../support/rig.js";

const CLI = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../src/cli/main.js");
const FILES_MAX = 128;

function processorSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** The rig's daemon, which may have few files open. */
async function serveWithin(t: TestContext, rig: Rig, filesMax: number) {
  const { socket } = rig.description.nodes[0]!;
  await rig.down();
  const line = `ulimit -n ${filesMax} && exec "$0" "$@"`;
  const args = ["-c", line, process.execPath, CLI, "serve", "--config", path.join(rig.dir, "stripeward.yaml")];
  const env = { ...process.env, UV_THREADPOOL_SIZE: "8" };
  const child = spawn("sh", args, { stdio: ["ignore", "ignore", "inherit"], env });
  t.after(() => child.kill("SIGKILL"));
  while (!(await someoneAnswers(socket).catch(() => false))) await sleep(20);
  return { child, socket };
}

function held(open: () => net.Socket): Promise<net.Socket> {
  return new Promise((resolve) => {
    const socket = open();
    socket.on("error", () => {});
    socket.once("connect", () => resolve(socket));
    socket.once("close", () => resolve(socket));
  });
}

test("descriptors: when none is left the daemon neither ends nor spins, and serves again as soon as there are some", {
  timeout: 120_000,
}, async (t) => {
  const rig = await Rig.up({ disks: 3, diskSize: "256M" });
  t.after(() => rig.remove());
  const { child, socket } = await serveWithin(t, rig, FILES_MAX);
  const pid = child.pid!;
  const before = await NfsClient.connect(rig.port);
  t.after(() => before.close());
  const { handle } = await before.mount("/data");
  const many: net.Socket[] = [];
  t.after(() => {
    for (const one of many) one.destroy();
  });
  for (let i = 0; i < 2 * FILES_MAX; i++) many.push(await held(() => net.connect(rig.port, "127.0.0.1")));
  for (let i = 0; i < 20; i++) many.push(await held(() => net.connect(socket)));
  while (openFiles(pid) < FILES_MAX) many.push(await held(() => net.connect(rig.port, "127.0.0.1")));
  const beganSeconds = processorSeconds(pid);
  await sleep(2_000);
  const spent = processorSeconds(pid) - beganSeconds;
  assert.ok(spent < 1, `${spent} s of processor in 2 s of doing nothing`);
  // Who was there is served all the while, and what changes is on the disks.
  assert.equal((await before.create(handle, "at-the-limit")).status, 0);
  for (const one of many.splice(0)) one.destroy();
  while (openFiles(pid) > FILES_MAX / 2) await sleep(20);
  const after = await NfsClient.connect(rig.port);
  t.after(() => after.close());
  const { handle: root } = await after.mount("/data");
  assert.equal((await after.lookup(root, "at-the-limit")).status, 0);
  assert.match(await rig.ok(["status"]), /CLEAN/i);
  child.kill("SIGTERM");
  const [status] = (await once(child, "exit")) as [number | null];
  assert.equal(status, 0);
});
