import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "../../src/cli/rig/free-port.js";
import type { DiskRow, StatusReport } from "../../src/control/types.js";
import { command } from "../support/rig.js";
import { cli, gone } from "./cli.js";

const SOURCE = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../src");

/** Three small disks and a configuration for them; JSON is YAML, too. */
function cabinet(t: TestContext, more: object = {}) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-daemon-"));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const n of [1, 2, 3]) {
    writeFileSync(path.join(folder, `d${n}.img`), "");
    truncateSync(path.join(folder, `d${n}.img`), 128 * 1024 ** 2);
  }
  const file = path.join(folder, "s.yaml");
  const socket = path.join(folder, "s.sock");
  const base = { disks: ["d*.img"], "state-directory": "state", management: { socket } };
  writeFileSync(file, JSON.stringify({ ...base, nfs: { host: "127.0.0.1", port: 0 }, ...more }));
  return { folder, file, socket };
}

async function serve(t: TestContext, { file, socket }: { file: string; socket: string }) {
  const args = [path.join(SOURCE, "cli/main.js"), "serve", "--config", file];
  // The variable that serve sets for itself is absent, so this is also the road through its child.
  const { UV_THREADPOOL_SIZE: _, ...env } = process.env;
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"], env });
  t.after(() => child.kill("SIGKILL"));
  let log = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    log += text;
  });
  while (!existsSync(socket)) await sleep(20);
  return { child, log: () => log, call: (...more: string[]) => cli(...more, "--socket", socket) };
}

test("daemon: an administrator's way from disks to an export; SIGHUP reloads, SIGTERM stops cleanly", async (t) => {
  const place = cabinet(t);
  const { child, log, call } = await serve(t, place);
  const run = async (...args: string[]): Promise<string> => {
    const { status, stdout, stderr } = await call(...args);
    assert.deepEqual([status, stderr], [0, ""], args.join(" "));
    return stdout;
  };
  assert.match(await run("disk", "list"), /NOT ADDED/);
  await run("disk", "add", ...[1, 2, 3].map((n) => path.join(place.folder, `d${n}.img`)));
  await run("group", "create", "shelf", "--disks", "1-3");
  await run("lu", "create", "spare", "--size", "16M", "--raid", "1");
  assert.match(await run("lu", "list"), /#1 +#001-#003 +.*MiB +1 +spare/);
  await run("lu", "delete", "spare");
  await run("fs", "create", "data", "--mode", "0777");
  await run("export", "add", "/data", "--client", "127.0.0.1", "--read-only", "--insecure");
  const status = JSON.parse(await run("status", "--json")) as StatusReport;
  assert.deepEqual([status.state, status.warnings, status.exports.length], ["clean", [], 1]);

  writeFileSync(place.file, readFileSync(place.file, "utf8").replace(/}$/, ',"log-level":"debug"}'));
  child.kill("SIGHUP");
  while (!log().includes('"reloaded"')) await sleep(20);
  writeFileSync(place.file, "disks: [");
  child.kill("SIGHUP");
  while (!log().includes("the reload failed")) await sleep(20);
  assert.equal((JSON.parse(await run("disk", "list", "--json")) as DiskRow[]).length, 3);

  child.kill("SIGTERM");
  const [code] = (await once(child, "exit")) as [number];
  assert.equal(code, 0);
  assert.match(log(), /stopped cleanly/);
  assert.equal(existsSync(place.socket), false);
});

test("daemon: whoever is killed takes the daemon behind it along, and the next start finds nothing in its way", async (t) => {
  const place = cabinet(t);
  const first = await serve(t, place);
  const status = JSON.parse((await first.call("status", "--json")).stdout) as StatusReport;
  assert.notEqual(status.pid, first.child.pid, "the daemon is a child of what was started");
  first.child.kill("SIGKILL");
  // At once: the daemon may not even know yet.
  const args = [path.join(SOURCE, "cli/main.js"), "serve", "--config", place.file];
  const { UV_THREADPOOL_SIZE: _, ...env } = process.env;
  const second = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"], env });
  t.after(() => second.kill("SIGKILL"));
  const answers = async () => {
    const { stdout } = await cli("status", "--json", "--socket", place.socket);
    return stdout === "" ? null : (JSON.parse(stdout) as StatusReport).pid;
  };
  let pid = await answers();
  while (pid === null || pid === status.pid) {
    assert.equal(second.exitCode, null, "the second daemon did not start");
    pid = await answers();
  }
  // Its files are closed, its lock with them, a moment before the last of it is gone.
  await gone(status.pid);
  second.kill("SIGTERM");
  const [code] = (await once(second, "exit")) as [number];
  assert.equal(code, 0);
});

test("daemon: a limit of open files that is far too low is one clear line", async (t) => {
  const place = cabinet(t);
  const line = `ulimit -n 40 && exec "$0" "$@"`;
  const { status, stderr } = await command("sh", [
    "-c",
    line,
    process.execPath,
    path.join(SOURCE, "cli/main.js"),
    "serve",
    "--config",
    place.file,
  ]);
  assert.equal(status, 1);
  assert.equal(
    stderr,
    "stripeward: no more files may be open in this process (ulimit -n; LimitNOFILE= in a unit): 1024 is a good least\n",
  );
});

test("daemon: a port that is taken is one clear line, and nothing is left behind", async (t) => {
  const port = await freePort();
  const other = net.createServer().listen(port, "127.0.0.1");
  t.after(() => other.close());
  const place = cabinet(t, { nfs: { host: "127.0.0.1", port } });
  const { status, stderr } = await cli("serve", "--config", place.file);
  assert.equal(status, 1);
  assert.equal(stderr, `stripeward: NFS cannot listen on 127.0.0.1 port ${port}: another program has the port\n`);
  assert.equal(existsSync(path.join(place.folder, "state/stripeward.pid")), false);
});

test("daemon: a failed assertion ends it with status 70, without a clean stop", async (t) => {
  const place = cabinet(t);
  const script = `
    const { runDaemon } = await import(${JSON.stringify(path.join(SOURCE, "main.js"))});
    const { loadConfig } = await import(${JSON.stringify(path.join(SOURCE, "config/load.js"))});
    setTimeout(() => { throw new Error("a fact does not hold"); }, 1000);
    await runDaemon(loadConfig(${JSON.stringify(place.file)}));`;
  const { status, stdout, stderr } = await command(process.execPath, ["--input-type=module", "-e", script]);
  assert.equal(status, 70);
  assert.equal(stderr, "stripeward: internal error: a fact does not hold\n");
  assert.match(stdout, /ending without a clean stop/);
  assert.doesNotMatch(stdout, /stopped cleanly/);
});
