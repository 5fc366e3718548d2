/** The libnfs tools against a running rig: data in and out, over a restart, and with a disk moved away. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomFillSync } from "node:crypto";
import { once } from "node:events";
import { closeSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import type { EventRow } from "../../src/control/types.js";
import { skipWithout } from "../support/packages.js";
import { command, Rig } from "../support/rig.js";

const MIB = 2 ** 20;
const SIZE_MIB = 300;

/** A file of random bytes; returns its digest. */
function randomFile(file: string, mib: number): string {
  const hash = createHash("sha256");
  const block = Buffer.allocUnsafe(4 * MIB);
  const fd = openSync(file, "w");
  for (let left = mib * MIB; left > 0; left -= block.length) {
    const part = randomFillSync(block).subarray(0, Math.min(left, block.length));
    hash.update(part);
    writeSync(fd, part);
  }
  closeSync(fd);
  return hash.digest("hex");
}

async function digestOf(url: string): Promise<string> {
  const child = spawn("nfs-cat", [url], { stdio: ["ignore", "pipe", "inherit"], timeout: 180_000 });
  const hash = createHash("sha256");
  child.stdout.on("data", (chunk: Buffer) => hash.update(chunk));
  const [status] = (await once(child, "close")) as [number | null];
  assert.equal(status, 0, "nfs-cat succeeds");
  return hash.digest("hex");
}

async function succeeds(program: string, args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await command(program, args, 180_000);
  assert.equal(status, 0, `${program} ${args.join(" ")}\n${stderr}${stdout}`);
  return stdout;
}

describe("libnfs tools", { skip: skipWithout("libnfs-utils") }, () => {
  let rig: Rig;
  let digest = "";
  let moved: { from: string; to: string } | undefined;

  before(
    async () => {
      rig = await Rig.up({ disks: 5, diskSize: "1G" });
    },
    { timeout: 120_000 },
  );
  after(
    async () => {
      await rig?.remove();
    },
    { timeout: 60_000 },
  );

  test(`nfs-cp puts ${SIZE_MIB} MiB of random data in, nfs-cat gets the same out`, { timeout: 240_000 }, async () => {
    const source = path.join(rig.dir, "random.bin");
    digest = randomFile(source, SIZE_MIB);
    await succeeds("nfs-cp", [source, rig.url("random.bin")]);
    rmSync(source);
    assert.equal(await digestOf(rig.url("random.bin")), digest);
    const listing = await succeeds("nfs-ls", [rig.url()]);
    assert.match(listing, new RegExp(`^-rw.*\\b${SIZE_MIB * MIB}\\b.*random\\.bin$`, "m"));
  });

  test("equal again after a stop and a start", { timeout: 240_000 }, async () => {
    await rig.down();
    await rig.up();
    assert.equal(await digestOf(rig.url("random.bin")), digest);
  });

  test("equal again after kill -9 and a start", { timeout: 240_000 }, async () => {
    await rig.kill();
    await rig.up();
    assert.equal(await digestOf(rig.url("random.bin")), digest);
  });

  test("with a disk moved away everything reads, and disk list and status name it", { timeout: 240_000 }, async () => {
    const disk = rig.description.disks[2]!;
    await rig.down();
    moved = { from: disk.path, to: `${disk.path}.away` };
    renameSync(moved.from, moved.to);
    const description = await rig.up();
    assert.equal(await digestOf(rig.url("random.bin")), digest);
    assert.equal(description.disks.find(({ number }) => number === disk.number)?.state, "missing");
    const rows = (await rig.json(["disk", "list"])) as { number: number; state: string }[];
    assert.deepEqual(
      rows.filter(({ state }) => state === "missing").map(({ number }) => number),
      [disk.number],
    );
    const row = new RegExp(`^#0*${disk.number}\\b.*\\bMISSING\\b`, "m");
    for (const table of [await rig.ok(["disk", "list"]), await rig.ok(["status"])]) assert.match(table, row);
  });

  test("what is written while it is away is there too, also after it has come back", { timeout: 240_000 }, async () => {
    const source = path.join(rig.dir, "second.bin");
    const second = randomFile(source, 20);
    await succeeds("nfs-cp", [source, rig.url("second.bin")]);
    assert.equal(await digestOf(rig.url("second.bin")), second);
    await rig.down();
    renameSync(moved!.to, moved!.from);
    await rig.up();
    await rig.ok(["group", "rebuild", "--wait"]);
    const events = (await rig.json(["events"])) as EventRow[];
    const returned = events.some(({ kind }) => kind === "group-member-returned");
    assert.ok(returned, "a member that missed writes is not simply taken back: it gets them first");
    assert.equal(await digestOf(rig.url("random.bin")), digest);
    assert.equal(await digestOf(rig.url("second.bin")), second);
  });
});
