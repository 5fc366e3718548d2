/** `direct-io: true` on files and, as root, on loop devices: large reads go from the disks to the socket without a copy, and degraded ones in whole stripes. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, existsSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { skipAloud } from "../contract/block-device.js";
import { attachLoop, noLoopReason } from "../contract/disks.js";
import { NfsClient } from "../support/nfs-client.js";
import { cli } from "./cli.js";

const MIB = 1024 ** 2;
const CLI = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../src/cli/main.js");
const DISKS = [1, 2, 3, 4, 5];
/** A block of each disk is looked at now and then, and labels are written, through a copy. Of each of the passes below there would be more, if it were copied. */
const PROBES_MAX = 40;
const FILE_BYTES = 48 * MIB;
/** Of five disks with chunks of 64 KiB. */
const STRIPE_BYTES = 4 * 65536;

/** Not on tmpfs. */
function takesDirectIo(folder: string): boolean {
  const file = path.join(folder, "probe");
  writeFileSync(file, "");
  try {
    closeSync(openSync(file, constants.O_RDWR | constants.O_DIRECT));
    return true;
  } catch {
    return false;
  } finally {
    rmSync(file);
  }
}

interface Daemon {
  call(...args: string[]): Promise<string>;
  counter(name: string): Promise<number>;
  port(): Promise<number>;
  stop(): Promise<void>;
}

async function serve(t: TestContext, file: string, socket: string): Promise<Daemon> {
  const child = spawn(process.execPath, [CLI, "serve", "--config", file], { stdio: ["ignore", "ignore", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  while (!existsSync(socket)) await sleep(20);
  const call = async (...args: string[]): Promise<string> => {
    const { status, stdout, stderr } = await cli(...args, "--socket", socket);
    assert.equal(status, 0, `${args.join(" ")}: ${stderr}`);
    return stdout;
  };
  const port = async () =>
    (JSON.parse(await call("status", "--json")) as { service: { nfsPort: number } }).service.nfsPort;
  const stop = async () => {
    child.kill("SIGTERM");
    await once(child, "exit");
  };
  return { call, counter: (name) => counterOf(socket, name), port, stop };
}

async function counterOf(socket: string, name: string): Promise<number> {
  const { get } = await import("node:http");
  const text = await new Promise<string>((resolve, reject) => {
    get({ socketPath: socket, path: "/metrics" }, async (response) => {
      let all = "";
      for await (const piece of response) all += piece;
      resolve(all);
    }).once("error", reject);
  });
  const [, value] = new RegExp(`^stripeward_${name}(?:\\{[^}]*\\})? (\\S+)$`, "m").exec(text) ?? [];
  assert.ok(value !== undefined, `there is a metric ${name}`);
  return Number(value);
}

/** Each block tells where it belongs. */
function content(offset: number, byteCount: number): Buffer {
  const data = Buffer.alloc(byteCount, 0x5c);
  for (let at = 0; at < byteCount; at += 4096) data.writeDoubleLE(offset + at, at);
  return data;
}

async function readAll(client: NfsClient, file: Buffer, stepBytes: number): Promise<void> {
  for (let at = 0; at < FILE_BYTES; at += 8 * stepBytes) {
    const offsets = Array.from({ length: 8 }, (_, i) => at + i * stepBytes).filter((offset) => offset < FILE_BYTES);
    const replies = await Promise.all(offsets.map((offset) => client.read(file, offset, stepBytes)));
    replies.forEach(({ data }, i) => {
      const wanted = Math.min(stepBytes, FILE_BYTES - offsets[i]!);
      assert.ok(data.equals(content(offsets[i]!, wanted)), `at ${offsets[i]}`);
    });
  }
}

async function directly(t: TestContext, folder: string, disks: readonly string[]): Promise<void> {
  const [config, socket] = [path.join(folder, "s.yaml"), path.join(folder, "s.sock")];
  const settings = { disks, "state-directory": path.join(folder, "state"), management: { socket }, "direct-io": true };
  // The cache is smaller than the file: what is read comes from the disks.
  const memory = { "data-cache": "16M", "metadata-cache": "4M" };
  writeFileSync(config, JSON.stringify({ ...settings, memory, nfs: { host: "127.0.0.1", port: 0 } }));
  const daemon = await serve(t, config, socket);
  await daemon.call("disk", "add", ...disks);
  await daemon.call("group", "create", "g", "--disks", "1-5");
  await daemon.call("fs", "create", "data", "--mode", "0777");
  await daemon.call("export", "add", "/data", "--client", "127.0.0.0/8", "--insecure");
  const client = await NfsClient.connect(await daemon.port());
  t.after(() => client.close());
  const { handle: root } = await client.mount("/data");
  const { handle: file } = await client.create(root, "f");
  assert.ok(file !== null);
  const before = await daemon.counter("device_bounced_transfers_total");
  for (let at = 0; at < FILE_BYTES; at += MIB)
    assert.equal((await client.write(file, at, content(at, MIB), 0)).status, 0);
  assert.equal((await client.commit(file)).status, 0);
  const copied = async (since: number) => (await daemon.counter("device_bounced_transfers_total")) - since;
  assert.ok((await copied(before)) < PROBES_MAX, `${await copied(before)} writes were copied`);

  const directBefore = await daemon.counter("file_system_direct_blocks");
  for (const step of [MIB, 256 * 1024, 65536]) await readAll(client, file, step);
  const { data } = await client.read(file, 5 * MIB + 100, MIB);
  assert.ok(data.equals(content(5 * MIB, 2 * MIB).subarray(100, MIB + 100)), "an odd place");
  assert.ok((await copied(before)) < PROBES_MAX, `${await copied(before)} reads were copied`);
  assert.equal(await daemon.counter("device_stray_reads_total"), 0);
  const direct = (await daemon.counter("file_system_direct_blocks")) - directBefore;
  assert.ok(direct > FILE_BYTES / 4096, `${direct} blocks were read past the cache`);

  await daemon.call("disk", "fail", "2");
  const stripes = await daemon.counter("group_degraded_stripes_total");
  const bounced = await daemon.counter("device_bounced_transfers_total");
  await readAll(client, file, MIB);
  const whole = (await daemon.counter("group_degraded_stripes_total")) - stripes;
  t.diagnostic(`${whole} of ${FILE_BYTES / STRIPE_BYTES} stripes were read whole`);
  // In a fifth of them the lost member has the parity, which nobody needs; and a request ends within stripes.
  assert.ok(whole > (FILE_BYTES / STRIPE_BYTES) * 0.5, `${whole} stripes were read whole`);
  assert.ok((await copied(bounced)) < PROBES_MAX, `${await copied(bounced)} degraded reads were copied`);
  await client.close();
  await daemon.stop();
}

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(path.join(process.env.STRIPEWARD_TEST_DIR ?? os.tmpdir(), "stripeward-direct-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function diskFile(folder: string, number: number): string {
  const file = path.join(folder, `d${number}.img`);
  writeFileSync(file, "");
  truncateSync(file, 192 * MIB);
  return file;
}

test("direct I/O: files", async (t) => {
  const folder = folderFor(t);
  if (!takesDirectIo(folder)) return t.skip(`${folder} is on a file system without direct I/O`);
  await directly(
    t,
    folder,
    DISKS.map((number) => diskFile(folder, number)),
  );
});

const noLoops = noLoopReason();
if (noLoops !== null) skipAloud("direct I/O: loop devices", noLoops);
else {
  test("direct I/O: loop devices", async (t) => {
    const folder = folderFor(t);
    const loops = DISKS.map((number) => attachLoop(diskFile(folder, number)));
    t.after(() => loops.forEach((loop) => void loop.detach()));
    await directly(
      t,
      folder,
      loops.map((loop) => loop.path),
    );
  });
}
