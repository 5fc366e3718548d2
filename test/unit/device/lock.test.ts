import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { statSync } from "node:fs";
import path from "node:path";
import { afterEach, test } from "node:test";
import type { BlockDevice } from "../../../src/device/device.js";
import { type OpenMode, openFileDevice } from "../../../src/device/file-device.js";
import { mountPoint } from "../../../src/device/in-use.js";
import { findHolder, lockHolder, major, minor } from "../../../src/device/lock.js";
import { SILENT } from "../../../src/lib/log.js";
import { MIB } from "../../../src/lib/units.js";
import { makeSparse, scratchFolder } from "../../contract/disks.js";

const { folder, remove } = scratchFolder();
const disk = makeSparse(path.join(folder, "disk"), MIB);
process.on("exit", remove);

const open: BlockDevice[] = [];
async function opened(mode: OpenMode): Promise<BlockDevice> {
  const device = await openFileDevice(disk, { mode, log: SILENT });
  open.push(device);
  return device;
}
afterEach(async () => {
  for (const device of open.splice(0)) await device.close();
});

test("lock: two opens of one process conflict, and the error says so", async () => {
  await opened("read-write-exclusive");
  await assert.rejects(opened("read-write-exclusive"), {
    code: "EBUSY",
    message: `disk ${disk} is in use by this process (${process.pid})`,
  });
});

test("lock: shared opens live together, exclusive ones with nobody, read-only ones with everybody", async () => {
  await opened("read-write-shared");
  await opened("read-write-shared");
  await opened("read-only");
  await assert.rejects(opened("read-write-exclusive"), { code: "EBUSY" });
  for (const device of open.splice(0)) await device.close();
  await opened("read-write-exclusive");
  await opened("read-only");
  await assert.rejects(opened("read-write-shared"), { code: "EBUSY" });
});

test("lock: closing releases it; a refused open leaves nothing behind", async () => {
  const first = await opened("read-write-exclusive");
  await assert.rejects(opened("read-write-exclusive"), { code: "EBUSY" });
  await first.close();
  await (await opened("read-write-exclusive")).close();
  assert.equal(await lockHolder(statSync(disk, { bigint: true })), null);
});

test("lock: another process is named by number and command; its death releases the lock", async () => {
  const child = spawn("flock", ["--no-fork", "--exclusive", disk, "sleep", "60.25"], { stdio: "ignore" });
  try {
    const where = statSync(disk, { bigint: true });
    while ((await lockHolder(where)) !== child.pid) await new Promise((resolve) => setTimeout(resolve, 5));
    // flock execs the command after it has taken the lock.
    const named = new RegExp(`in use by process ${child.pid} \\((flock|sleep) .*60\\.25\\)$`);
    await assert.rejects(opened("read-write-exclusive"), { code: "EBUSY", message: named });
  } finally {
    child.kill("SIGKILL");
  }
  await new Promise((resolve) => child.once("exit", resolve));
  await opened("read-write-exclusive");
});

test("lock: the table of /proc/locks is read by device and inode; who cannot be seen is null", () => {
  const locks = [
    "1: POSIX  ADVISORY  WRITE 11 fe:00:4242 0 EOF",
    "2: FLOCK  ADVISORY  WRITE 12 fe:01:4242 0 EOF",
    "2: -> FLOCK  ADVISORY  WRITE 13 fe:00:4242 0 EOF",
    "3: FLOCK  ADVISORY  WRITE 14 fe:00:4242 0 EOF",
    "4: FLOCK  ADVISORY  WRITE 0 fe:00:4343 0 EOF",
    "",
  ].join("\n");
  assert.equal(findHolder(locks, { dev: 0xfe00n, ino: 4242n }), 14);
  assert.equal(findHolder(locks, { dev: 0xfe00n, ino: 4343n }), null);
  assert.equal(findHolder(locks, { dev: 0xfe00n, ino: 1n }), null);
  assert.equal(findHolder("", { dev: 0xfe00n, ino: 1n }), null);
});

test("lock: device numbers are taken apart as glibc puts them together", () => {
  assert.deepEqual([major(0xfe01n), minor(0xfe01n)], [254, 1]);
  assert.deepEqual([major(0x12345n), minor(0x12345n)], [0x123, 0x45]);
});

test("in use: the mount table is read by device number", () => {
  const line = "36 35 7:5 / /mnt/data rw,noatime shared:1 - ext4 /dev/loop5 rw";
  assert.equal(mountPoint(`${line}\n`, "7:5"), "mounted on /mnt/data");
  assert.equal(mountPoint(`${line}\n`, "7:50"), null);
});
