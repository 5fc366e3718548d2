import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ApiClient } from "../../src/cli/client.js";
import type { BackupReport, FileSystemRow } from "../../src/control/types.js";
import { type Fattr, NfsClient } from "../support/nfs-client.js";
import { type CommandResult, command, Rig } from "../support/rig.js";

/** Backups of a real daemon to files, pipes and devices, through the real command line. */

const CLI = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../src/cli/main.js");
const ROOT = process.getuid?.() === 0;
const PIECE = 256 * 1024;
const DIRECTORY = 2;
const SYMLINK = 5;

interface Bench {
  readonly rig: Rig;
  readonly folder: string;
  place(name: string): string;
  backup(...args: readonly string[]): Promise<CommandResult>;
  ok(...args: readonly string[]): Promise<string>;
}

/** A rig with /data, and an empty file system /copy in a group of its own. */
async function bench(t: { after(action: () => unknown): void }): Promise<Bench> {
  const folder = mkdtempSync(path.join(process.env.STRIPEWARD_TEST_DIR ?? os.tmpdir(), "stripeward-backup-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const rig = await Rig.up({ disks: 3, diskSize: "192M" });
  t.after(() => rig.remove());
  mkdirSync(path.join(folder, "disks"));
  for (const number of [4, 5, 6]) {
    const disk = path.join(folder, "disks", `disk${number}`);
    spawnSync("truncate", ["-s", "192M", disk]);
    await rig.ok(["disk", "add", disk]);
  }
  await rig.ok(["group", "create", "second", "--disks", "4-6"]);
  await rig.ok(["fs", "create", "copy", "--group", "second"]);
  await rig.ok(["export", "add", "/copy", "--client", "127.0.0.0/8", "--squash", "none", "--insecure"]);
  return {
    ...{ rig, folder },
    place: (name) => path.join(folder, name),
    backup: (...args) => rig.cli(["backup", ...args]),
    ok: (...args) => rig.ok(["backup", ...args]),
  };
}

async function withClient<T>(
  rig: Rig,
  action: (client: NfsClient, root: Buffer) => Promise<T>,
  at = "/data",
): Promise<T> {
  const client = await NfsClient.connect(rig.port);
  try {
    const { status, handle } = await client.mount(at);
    assert.equal(status, 0, `mount ${at}`);
    return await action(client, handle);
  } finally {
    await client.close();
  }
}

async function put(client: NfsClient, directory: Buffer, name: string, data: Buffer, mode = 0o644): Promise<Buffer> {
  const { status, handle } = await client.create(directory, name, { mode });
  assert.equal(status, 0, `create ${name}`);
  for (let at = 0; at < data.length; at += PIECE) await client.write(handle, at, data.subarray(at, at + PIECE));
  return handle;
}

interface Seen {
  readonly attributes: Omit<Fattr, "fsid" | "atime">;
  readonly content: string;
}

/** Every path with all its attributes but the time of access, and what it holds. */
async function treeOf(rig: Rig, at: string): Promise<Map<string, Seen>> {
  const tree = new Map<string, Seen>();
  await withClient(
    rig,
    async (client, root) => {
      const walk = async (directory: Buffer, below: string): Promise<void> => {
        const { entries } = await client.readdirplus(directory, 0, Buffer.alloc(8), 8192, 65536);
        for (const { name, handle, attributes } of entries) {
          if (name === "." || name === ".." || handle === null || attributes === null) continue;
          const { fsid: _, atime: __, ...kept } = attributes;
          tree.set(`${below}/${name}`, { attributes: kept, content: await contentOf(client, handle, attributes) });
          if (attributes.type === DIRECTORY) await walk(handle, `${below}/${name}`);
        }
      };
      await walk(root, "");
    },
    at,
  );
  return tree;
}

async function contentOf(client: NfsClient, handle: Buffer, { type, size }: Fattr): Promise<string> {
  if (type === SYMLINK) return String((await client.readlink(handle)).target);
  if (type !== 1) return "";
  const pieces: Buffer[] = [];
  for (let at = 0; at < size; at += PIECE) pieces.push(Buffer.from((await client.read(handle, at, PIECE)).data));
  return Buffer.concat(pieces).toString("latin1");
}

async function assertCopied(rig: Rig): Promise<void> {
  const [wanted, found] = [await treeOf(rig, "/data"), await treeOf(rig, "/copy")];
  assert.deepEqual([...found.keys()], [...wanted.keys()]);
  for (const [name, one] of wanted) {
    assert.deepEqual(found.get(name)?.attributes, one.attributes, name);
    assert.ok(found.get(name)?.content === one.content, `${name} holds the same`);
  }
  assert.match(await rig.ok(["fs", "check", "copy", "--data"]), /clean/);
}

async function furnish(rig: Rig): Promise<void> {
  await withClient(rig, async (client, root) => {
    const { handle: directory } = await client.mkdir(root, "dir", { mode: 0o2750 });
    await put(client, directory, "small", Buffer.from("a few bytes"), 0o4711);
    const large = await put(client, root, "large", randomBytes(5 * 1024 * 1024 + 77));
    await client.link(large, directory, "hard link");
    await client.symlink(directory, "symlink", "../large");
    const sparse = await put(client, root, "sparse", Buffer.alloc(0));
    await client.write(sparse, 3_000_000, Buffer.from("far"));
    await client.mknod(root, "pipe", 7);
    await client.setattr(large, { mtime: { seconds: 1_000_000_007, nanoseconds: 123_456_789 }, uid: 1234 });
  });
}

test("backup: full and incremental, verified, restored into another file system, are the same in everything", async (t) => {
  const { rig, place, ok, backup } = await bench(t);
  await furnish(rig);
  assert.match(await ok("run", "--fs", "data", "--to", place("full")), /full backup of file system data/);
  await withClient(rig, async (client, root) => {
    const { handle: large } = await client.lookup(root, "large");
    assert.ok(large !== null);
    await client.write(large, 1_000_001, randomBytes(5000));
    await client.remove(root, "sparse");
    const { handle: directory } = await client.lookup(root, "dir");
    assert.ok(directory !== null);
    await client.rename(directory, "small", root, "renamed");
    await put(client, directory, "new", randomBytes(70_000));
  });
  const made = JSON.parse(await ok("run", "--fs", "data", "--to", place("more"), "--json"));
  assert.ok(made.parent !== null && made.dataBytes < 1024 * 1024, "only what has changed");
  await ok("verify", place("full"), place("more"));

  const refusals: [string[], RegExp][] = [
    [["restore", place("full"), place("more"), "--fs", "data"], /^stripeward: file system data is not empty: .*\n$/],
    [["restore", place("more"), "--fs", "copy"], /is an incremental backup: name the full one/],
    [["verify", place("more"), place("full")], /incremental backup: name the full one/],
    [["run", "--fs", "data", "--to", place("full")], /holds a finished backup of data .*: name another target/],
    [["run", "--fs", "nosuch", "--to", place("x")], /there is no file system nosuch/],
    [["run", "--shared", "--to", place("x")], /there is no shared group here/],
    [["restore", place("nosuch"), "--fs", "copy"], /nosuch cannot be read/],
  ];
  for (const [args, wanted] of refusals) {
    const { status, stderr } = await backup(...args);
    assert.deepEqual([status, wanted.test(stderr)], [1, true], `${args.join(" ")}: ${stderr}`);
  }

  await ok("restore", place("full"), place("more"), "--fs", "copy");
  await assertCopied(rig);
  const { backups } = JSON.parse(await ok("list", "--json")) as BackupReport;
  assert.deepEqual(
    backups.map(({ state, verified, parent }) => [state, verified !== null, parent !== null]),
    [
      ["finished", true, false],
      ["finished", true, true],
    ],
  );
  await rig.down();
  await rig.up();
  await assertCopied(rig);
});

test("backup: through a pipe both ways; a reader that goes away is told of, and the next backup is made", async (t) => {
  const { rig, place, backup, ok } = await bench(t);
  await furnish(rig);
  const sh = (line: string) =>
    command("sh", [
      "-c",
      line.replaceAll("BACKUP", `"${process.execPath}" "${CLI}" backup`).replaceAll("RIG", `--dir "${rig.dir}"`),
    ]);
  const piped = await sh("set -e; BACKUP run RIG --fs data --to - | BACKUP restore RIG - --fs copy");
  assert.equal(piped.status, 0, piped.stderr);
  await assertCopied(rig);
  const broken = await sh("{ BACKUP run RIG --fs data --full --to -; echo status $? >&2; } | head -c 70000 >/dev/null");
  assert.match(
    broken.stderr,
    /^stripeward: the backup was broken off: whoever read standard output has gone\nstatus 1\n$/,
  );
  assert.equal((await backup("run", "--fs", "data", "--to", "-", "--json")).status, 2);
  await ok("run", "--fs", "data", "--to", place("next"));
});

test("backup: a byte that flipped, and a stream that is cut, are named with their place; nothing is restored from it", async (t) => {
  const { rig, place, backup, ok } = await bench(t);
  await furnish(rig);
  await ok("run", "--fs", "data", "--to", place("full"));
  const at = 2_000_000;
  const file = openSync(place("full"), "r+");
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  byte[0]! ^= 4;
  writeSync(file, byte, 0, 1, at);
  const flipped = await backup("verify", place("full"));
  const block = at - (at % 65536);
  assert.deepEqual([flipped.status, flipped.stderr.includes(`damaged at byte ${block}: the checksum`)], [1, true]);
  const refused = await backup("restore", place("full"), "--fs", "copy");
  assert.match(refused.stderr, /damaged at byte/);
  assert.match(
    (await backup("run", "--fs", "data", "--to", place("full"))).stderr,
    /was finished and is damaged; --overwrite/,
  );
  byte[0]! ^= 4;
  writeSync(file, byte, 0, 1, at);
  await ok("verify", place("full"));
  truncateSync(place("full"), 3_000_000);
  assert.match((await backup("verify", place("full"))).stderr, /damaged at byte \d+: the stream ends/);
  assert.equal((await treeOf(rig, "/copy")).size, 0, "still empty, still served");
});

test("backup: a target that is full is told of, and gone on with once it has room", { skip: !ROOT }, async (t) => {
  const { rig, place, backup, ok } = await bench(t);
  await furnish(rig);
  const full = await backup("run", "--fs", "data", "--to", "/dev/full");
  assert.match(full.stderr, /^stripeward: the backup was broken off: the target \/dev\/full is too small: .*\n$/);
  assert.equal(full.status, 1);
  const mount = mkdtempSync(path.join(os.tmpdir(), "stripeward-full-"));
  if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", mount]).status !== 0)
    return t.skip("no file system can be mounted here");
  t.after(() => {
    spawnSync("umount", ["-l", mount]);
    rmSync(mount, { recursive: true });
  });
  const target = path.join(mount, "backup");
  const small = await backup("run", "--fs", "data", "--to", target);
  assert.match(small.stderr, /the target .* is too small: it is full after 2 MiB; the same command again goes on/);
  const { backups } = JSON.parse(await ok("list", "--json")) as BackupReport;
  assert.deepEqual(
    backups.map(({ state }) => state),
    ["broken-off", "broken-off"],
  );

  await withClient(rig, async (client, root) => {
    const { handle } = await client.lookup(root, "large");
    assert.ok(handle !== null);
    await client.write(handle, 12_345, randomBytes(5000));
  });
  spawnSync("mount", ["-o", "remount,size=64m", mount]);
  const made = JSON.parse(await ok("run", "--fs", "data", "--to", target, "--json"));
  assert.equal(made.resumed, true);
  assert.ok(made.bytes < 9 * 1024 * 1024, "what was there is not written again");
  await ok("run", "--fs", "data", "--to", place("more"));
  await ok("restore", target, place("more"), "--fs", "copy");
  await assertCopied(rig);
});

test("backup: a device that is too small, and one that holds something else", { skip: !ROOT }, async (t) => {
  const { rig, place, backup, ok } = await bench(t);
  await furnish(rig);
  const device = loop(t, place("device"), "1M");
  if (device === null) return t.skip("no loop device can be made here");
  const small = await backup("run", "--fs", "data", "--to", device);
  assert.match(small.stderr, /is too small: it is full after 1 MiB/);
  const large = loop(t, place("large"), "64M");
  assert.ok(large !== null);
  await ok("run", "--fs", "data", "--to", large);
  assert.match((await backup("run", "--fs", "data", "--to", large)).stderr, /holds a finished backup of data/);
  await ok("verify", large);
  await ok("restore", large, "--fs", "copy");
  await assertCopied(rig);
  const { stderr } = await backup("run", "--fs", "data", "--to", rig.description.disks[0]!.path);
  assert.match(stderr, /holds something that is no backup: name another target/);
});

function loop(t: { after(action: () => unknown): void }, file: string, size: string): string | null {
  spawnSync("truncate", ["-s", size, file]);
  const { status, stdout } = spawnSync("losetup", ["-f", "--show", file], { encoding: "utf8" });
  if (status !== 0) return null;
  const device = stdout.trim();
  t.after(() => spawnSync("losetup", ["-d", device]));
  return device;
}

test("backup: the daemon dies in the middle, and a restore does; both are given once more", async (t) => {
  const { rig, place, ok, backup } = await bench(t);
  await furnish(rig);
  await withClient(rig, async (client, root) => {
    for (let i = 0; i < 4; i++) await put(client, root, `more ${i}`, randomBytes(16 * 1024 * 1024));
  });
  const run = start(rig, ["backup", "run", "--fs", "data", "--to", place("full")]);
  await until(() => sizeOf(place("full")) > 4 * 1024 * 1024);
  await rig.kill();
  const { status, stderr } = await run.ended;
  assert.deepEqual([status, /the daemon at .* went away/.test(stderr)], [1, true], stderr);
  await rig.up();
  const made = JSON.parse(await ok("run", "--fs", "data", "--to", place("full"), "--json"));
  assert.equal(made.resumed, true);

  const restore = start(rig, ["backup", "restore", place("full"), "--fs", "copy"]);
  const api = new ApiClient(rig.description.nodes[0]!.socket);
  await until(async () => {
    assert.equal(restore.child.exitCode, null, "the restore takes longer than a look");
    const rows = await api.get<FileSystemRow[]>("/v1/file-systems");
    return rows.some(({ name, state }) => name === "copy" && state === "failed");
  });
  await rig.kill();
  assert.equal((await restore.ended).status, 1);
  await rig.up();
  assert.match(await rig.ok(["fs", "list"]), /restoring a backup into it broke off: restore it once more/);
  assert.match(
    (await backup("run", "--fs", "copy", "--to", place("x"))).stderr,
    /copy is not served: restoring a backup/,
  );
  await ok("restore", place("full"), "--fs", "copy");
  await assertCopied(rig);
});

test("backup: a target that disappears, and a command that is killed in the middle, harm nobody", async (t) => {
  const { rig, place, ok } = await bench(t);
  await withClient(rig, async (client, root) => {
    for (let i = 0; i < 4; i++) await put(client, root, `f${i}`, randomBytes(16 * 1024 * 1024));
  });
  const lost = start(rig, ["backup", "run", "--fs", "data", "--to", place("lost")]);
  await until(() => sizeOf(place("lost")) > 4 * 1024 * 1024);
  rmSync(place("lost"));
  const { status, stderr } = await lost.ended;
  assert.match(stderr, /^stripeward: the backup was broken off: the target .*lost disappeared while it was written\n$/);
  assert.equal(status, 1);
  const run = start(rig, ["backup", "run", "--fs", "data", "--to", place("full")]);
  await until(() => sizeOf(place("full")) > 4 * 1024 * 1024);
  run.child.kill("SIGKILL");
  await run.ended;
  await ok("run", "--fs", "data", "--to", place("full"));

  const api = new ApiClient(rig.description.nodes[0]!.socket);
  const stateOf = async () => (await api.get<FileSystemRow[]>("/v1/file-systems")).find(({ name }) => name === "copy");
  const restore = start(rig, ["backup", "restore", place("full"), "--fs", "copy"]);
  await until(async () => (await stateOf())?.state === "failed" || restore.child.exitCode !== null);
  restore.child.kill("SIGKILL");
  await restore.ended;
  const { pid } = rig;
  await until(async () => /broke off: restore it once more/.test((await stateOf())?.reason ?? ""));
  await until(async () => (await rig.cli(["backup", "restore", place("full"), "--fs", "copy"])).status === 0);
  assert.equal((await stateOf())?.state, "mounted");
  await rig.up();
  assert.equal(rig.pid, pid, "the daemon is the same");
  await assertCopied(rig);
});

test("backup: the shared LU, and by schedule", async (t) => {
  const { rig, folder, place, ok } = await bench(t);
  await furnish(rig);
  const disk = path.join(folder, "disks", "shared");
  spawnSync("truncate", ["-s", "48M", disk]);
  await rig.ok(["disk", "add", disk]);
  await rig.ok(["shared", "create", "--disks", "7"]);
  await until(async () => (await rig.cli(["node", "show", "chn1"])).status === 0);
  assert.match(await ok("run", "--shared", "--to", place("shared")), /full backup of the shared LU/);
  assert.match(await ok("verify", place("shared")), /whole; full backup of the shared LU/);
  assert.equal(await ok("restore", place("shared"), "--shared"), "chn1: has records of its own, which stay\n");

  await rig.down();
  const config = path.join(rig.dir, "scheduled.yaml");
  const scheduled = `backups: [{ fs: data, to: "${folder}/by-schedule-{time}", every: 1h }]\n`;
  writeFileSync(config, `${readFileSync(path.join(rig.dir, "stripeward.yaml"), "utf8")}${scheduled}`);
  const daemon = spawn(process.execPath, [CLI, "serve", "--config", config], { stdio: "ignore" });
  t.after(() => daemon.kill("SIGKILL"));
  const api = new ApiClient(rig.description.nodes[0]!.socket);
  const report = () => api.get<BackupReport>("/v1/backups").catch(() => null);
  await until(
    async () => (await report())?.backups.some(({ verified, series }) => series !== "" && verified !== null) ?? false,
  );
  const { backups, schedules } = (await report())!;
  const made = backups.find(({ series }) => series !== "")!;
  // The time until then passes by another clock than the one that people read.
  const offMs = Date.parse(schedules[0]!.next!) - (Date.parse(made.time) + 3_600_000);
  assert.ok(Math.abs(offMs) < 1000, `next ${schedules[0]!.next!} after ${made.time}`);
  await ok("restore", made.target, "--fs", "copy");
  assert.match(await ok("list"), /file system data to .*by-schedule-\{time\}: next at 20/);
  await assertCopied(rig);
  daemon.kill("SIGTERM");
  await once(daemon, "close");
});

interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<{ status: number | null; stderr: string }>;
}

function start(rig: Rig, args: readonly string[]): Started {
  const child = spawn(process.execPath, [CLI, ...args, "--dir", rig.dir], { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.on("data", (piece: Buffer) => {
    stderr += piece.toString();
  });
  const ended = once(child, "close").then(([status]) => ({ status: status as number | null, stderr }));
  return { child, ended };
}

function sizeOf(place: string): number {
  return statSync(place, { throwIfNoEntry: false })?.size ?? 0;
}

async function until(there: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await there())) await new Promise((resolve) => setTimeout(resolve, 2));
}
