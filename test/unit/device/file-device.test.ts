import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, linkSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import type { BlockDevice } from "../../../src/device/device.js";
import { type OpenOptions, openFileDevice } from "../../../src/device/file-device.js";
import { SILENT } from "../../../src/lib/log.js";
import { GIB, MIB } from "../../../src/lib/units.js";
import { skipAloud } from "../../contract/block-device.js";
import { attachLoop, makeSparse, noLoopReason, scratchFolder } from "../../contract/disks.js";

const { folder, remove } = scratchFolder();
process.on("exit", remove);
const inFolder = (name: string): string => path.join(folder, name);

function open(place: string, options: Partial<OpenOptions> = {}): Promise<BlockDevice> {
  return openFileDevice(place, { mode: "read-write-exclusive", log: SILENT, ...options });
}

async function refuses(place: string, code: string, message: string, options: Partial<OpenOptions> = {}) {
  await assert.rejects(open(place, options), { name: "StorageError", code, message });
}

test("open: what is not a disk is refused in one sentence, and never waited for", async () => {
  mkdirSync(inFolder("folder"));
  spawnSync("mkfifo", [inFolder("fifo")]);
  await refuses(inFolder("folder"), "ENODEV", `${inFolder("folder")} is a directory, not a disk`);
  await refuses(inFolder("fifo"), "ENODEV", `${inFolder("fifo")} is a FIFO, not a disk`);
  await refuses("/dev/null", "ENODEV", "/dev/null is a character device, not a disk");
});

test("open: what does not exist", async () => {
  await refuses(inFolder("none"), "ENOENT", `disk ${inFolder("none")} does not exist`);
  symlinkSync(inFolder("none"), inFolder("dangling"));
  await refuses(inFolder("dangling"), "ENOENT", `disk ${inFolder("dangling")} does not exist`);
  await refuses(`${makeSparse(inFolder("plain"), MIB)}/x`, "ENOENT", `disk ${inFolder("plain")}/x does not exist`);
});

test("open: too small, with both sizes", async () => {
  const file = makeSparse(inFolder("small"), 5000);
  await refuses(file, "EINVAL", `disk ${file} is too small: 4.9 KiB, needed are 64 MiB`, { minimumBytes: 64 * MIB });
  const device = await open(file);
  assert.equal(device.sizeBytes, 4096, "rounded down to whole blocks");
  await device.close();
  await refuses(
    makeSparse(inFolder("empty"), 0),
    "EINVAL",
    `disk ${inFolder("empty")} is too small: 0 B, needed are 4 KiB`,
  );
});

test("open: a disk is the same disk under every name", async () => {
  const file = makeSparse(inFolder("one"), MIB);
  linkSync(file, inFolder("hard"));
  symlinkSync(file, inFolder("soft"));
  const device = await open(file);
  for (const name of ["hard", "soft"]) await assert.rejects(open(inFolder(name)), { code: "EBUSY" });
  await device.close();
});

test("open: no permission", { skip: process.getuid?.() === 0 ? "root has every permission" : false }, async () => {
  const file = makeSparse(inFolder("secret"), MIB);
  chmodSync(file, 0o000);
  await refuses(file, "EACCES", `no permission to open disk ${file}`);
});

test("open: direct I/O where there is none", async () => {
  // procfs has regular files and no direct I/O.
  await refuses("/proc/self/comm", "ENOTSUP", "direct I/O is not possible on /proc/self/comm", { direct: true });
});

test("read-only: reads, refuses to write, flush is nothing", async () => {
  const file = inFolder("read-only");
  writeFileSync(file, Buffer.alloc(MIB, 9));
  const device = await open(file, { mode: "read-only" });
  assert.equal(device.readOnly, true);
  const target = Buffer.alloc(4096);
  await device.read(target, 8192);
  assert.equal(target[0], 9);
  await assert.rejects(device.write(target, 0), { code: "EROFS", detail: { device: file, position: 0 } });
  await assert.rejects(device.writeThrough([target], 4096), { code: "EROFS" });
  await device.flush();
  await device.close();
});

test("sizes and positions above 4 GiB", async () => {
  const file = makeSparse(inFolder("huge"), 5 * 1024 * GIB);
  const device = await open(file);
  assert.equal(device.sizeBytes, 5 * 1024 * GIB);
  const source = Buffer.alloc(4096, 0x77);
  await device.write(source, 3 * 1024 * GIB + 4096);
  const target = Buffer.alloc(12288);
  await device.read(target, 3 * 1024 * GIB);
  assert.equal(target.indexOf(0x77), 4096);
  assert.equal(target.lastIndexOf(0x77), 8191);
  await device.close();
});

test("a file that has become shorter is an I/O error, not zeros", async () => {
  const file = makeSparse(inFolder("shrinks"), MIB);
  for (const direct of [false, true]) {
    const device = await open(file, { direct });
    truncateSync(file, 10_000);
    const detail = { device: file, position: 4096, errno: "end of file" };
    await assert.rejects(device.read(Buffer.alloc(16384), 4096), { code: "EIO", detail });
    truncateSync(file, MIB);
    await device.close();
  }
});

test("direct: buffers at any address arrive whole, also more than the bounce buffer holds", async () => {
  const device = await open(makeSparse(inFolder("direct"), 16 * MIB), { direct: true });
  assert.equal(device.alignmentBytes, 4096);
  const slow = Buffer.allocUnsafeSlow(3 * MIB + 4096);
  for (let i = 0; i < slow.length; i++) slow[i] = i % 251;
  const odd = slow.subarray(7, 7 + 3 * MIB);
  for (const source of [slow, odd]) {
    await device.write(source, 4096);
    await device.writeThrough([source.subarray(0, 1000), source.subarray(1000)], 8 * MIB);
    const target = Buffer.alloc(source.length + 5).subarray(5);
    for (const position of [4096, 8 * MIB]) {
      target.fill(0);
      await device.readv([target.subarray(0, 5000), target.subarray(5000)], position);
      assert.ok(target.equals(source));
    }
  }
  await device.close();
});

const why = noLoopReason();
if (why !== null) skipAloud("file device: what only loop devices and mounts show", why);
else {
  test("loop: its size comes from the kernel, and a mounted one is refused by name of the mount", async () => {
    const loop = attachLoop(makeSparse(inFolder("loop"), 20 * MIB + 512));
    try {
      const device = await open(loop.path);
      assert.equal(device.sizeBytes, 20 * MIB);
      await assert.rejects(open(loop.path), { code: "EBUSY", message: /in use by this process/ });
      await device.close();
      spawnSync("mkfs.ext4", ["-q", loop.path]);
      mkdirSync(inFolder("mount"));
      spawnSync("mount", [loop.path, inFolder("mount")]);
      await refuses(loop.path, "EBUSY", `disk ${loop.path} is in use: mounted on ${inFolder("mount")}`);
      await (await open(loop.path, { mode: "read-only" })).close();
    } finally {
      spawnSync("umount", [inFolder("mount")]);
      loop.detach();
    }
  });

  test("loop: a write-protected one is refused for writing and can be read", async () => {
    const loop = attachLoop(makeSparse(inFolder("protected"), MIB), "--read-only");
    try {
      await refuses(loop.path, "EROFS", `disk ${loop.path} is read-only`);
      const device = await open(loop.path, { mode: "read-only" });
      await device.read(Buffer.alloc(4096), 0);
      await device.close();
    } finally {
      loop.detach();
    }
  });

  test("a full host file system: ENOSPC for a file; for a loop device a failed flush, which stays failed", async () => {
    mkdirSync(inFolder("tmpfs"));
    spawnSync("mount", ["-t", "tmpfs", "-o", "size=2M", "tmpfs", inFolder("tmpfs")]);
    const file = makeSparse(inFolder("tmpfs/disk"), 16 * MIB);
    try {
      const device = await open(file);
      await assert.rejects(device.write(Buffer.alloc(4 * MIB, 1), 0), { code: "ENOSPC" });
      await device.close();
      const loop = attachLoop(file);
      try {
        const onLoop = await open(loop.path);
        await onLoop.write(Buffer.alloc(4 * MIB, 1), 8 * MIB);
        await assert.rejects(
          onLoop.flush(),
          (error) => error instanceof Error && /flush of .* failed/.test(error.message),
        );
        await assert.rejects(onLoop.flush(), "the kernel would now say that all is well");
        await onLoop.close();
      } finally {
        loop.detach();
      }
    } finally {
      spawnSync("umount", [inFolder("tmpfs")]);
    }
  });
}
