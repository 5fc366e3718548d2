// Facts about the machine that native-notes/ states and the code stands on. If one of these fails, a page there is out of date.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs, { constants as flags } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { flockSync } from "fs-ext";
import { MIB } from "../../../src/lib/units.js";
import { skipAloud } from "../../contract/block-device.js";
import { attachLoop, makeSparse, noLoopReason, scratchFolder } from "../../contract/disks.js";

const { folder, remove } = scratchFolder();
process.on("exit", remove);
const inFolder = (name: string): string => path.join(folder, name);

test("native: WebAssembly memory is aligned for direct I/O at every page of it; 16 bytes further on is EINVAL", () => {
  // Not sparse: a hole is read without a look at the address.
  fs.writeFileSync(inFolder("aligned"), Buffer.alloc(4096, 1));
  const fd = fs.openSync(inFolder("aligned"), flags.O_RDWR | flags.O_DIRECT);
  for (let i = 0; i < 16; i++) {
    const memory = Buffer.from(new WebAssembly.Memory({ initial: 1, maximum: 1 }).buffer);
    assert.equal(fs.readSync(fd, memory, 4096 * (i % 15), 4096, 0), 4096);
    assert.throws(() => fs.readSync(fd, memory, 16, 4096, 0), { code: "EINVAL" });
  }
  fs.closeSync(fd);
});

test("native: fs.read into WebAssembly memory works in place; the memory does not move or detach while it cannot grow", async () => {
  fs.writeFileSync(inFolder("text"), "stripe".repeat(100));
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 2 });
  const view = Buffer.from(memory.buffer, 65536, 600);
  const fd = fs.openSync(inFolder("text"), "r");
  await new Promise<void>((resolve, reject) => {
    fs.read(fd, view, 0, 600, 0, (error) => (error ? reject(error) : resolve()));
  });
  fs.closeSync(fd);
  assert.equal(view.toString("latin1", 594), "stripe");
  assert.equal(memory.buffer, view.buffer);
});

test("native: a flock belongs to the open file, not to the process", () => {
  const file = makeSparse(inFolder("locked"), 4096);
  const [first, second] = [fs.openSync(file, "r+"), fs.openSync(file, "r+")];
  flockSync(first, "exnb");
  assert.throws(() => flockSync(second, "exnb"), { code: "EAGAIN" });
  fs.closeSync(first);
  flockSync(second, "exnb");
  fs.closeSync(second);
});

/** Threads of a fresh Node process that had 40 requests in flight. */
function threadsOf(file: string, program: string, environment: Record<string, string> = {}): number {
  const { UV_THREADPOOL_SIZE: _, ...rest } = process.env;
  fs.writeFileSync(inFolder(file), program);
  const run = spawnSync(process.execPath, [inFolder(file)], { encoding: "utf8", env: { ...rest, ...environment } });
  return Number(run.stdout);
}

const BUSY = `
  await Promise.all(Array.from({ length: 40 }, () => new Promise((resolve) => fs.stat("/", resolve))));
  console.log(fs.readdirSync("/proc/self/task").length);`;
const ASSIGN = `process.env.UV_THREADPOOL_SIZE = "16";`;

test("native: the thread pool's size must be in the environment before an ES module starts", () => {
  const usual = threadsOf("usual.mjs", `import fs from "node:fs"; ${BUSY}`);
  const fromOutside = threadsOf("outside.mjs", `import fs from "node:fs"; ${BUSY}`, { UV_THREADPOOL_SIZE: "16" });
  assert.equal(fromOutside - usual, 12, "4 by default, 16 when asked for");
  assert.equal(threadsOf("inside.mjs", `import fs from "node:fs"; ${ASSIGN} ${BUSY}`), usual, "too late");
  const script = `${ASSIGN} const fs = require("node:fs"); (async () => { ${BUSY} })();`;
  assert.equal(threadsOf("inside.cjs", script), fromOutside, "a CommonJS script is early enough");
});

test("native: process.exit waits for threads that stand in a call; a signal does not", () => {
  const fsExt = pathToFileURL(createRequire(import.meta.url).resolve("fs-ext")).href;
  const program = `
    import fs from "node:fs";
    import fsExt from ${JSON.stringify(fsExt)};
    const [first, second] = [0, 1].map(() => fs.openSync(${JSON.stringify(inFolder("held"))}, "w"));
    fsExt.flockSync(first, "ex");
    fsExt.flock(second, "ex", () => {});
    setTimeout(() => (process.argv[2] === "exit" ? process.exit(3) : process.kill(process.pid, "SIGKILL")), 100);`;
  fs.writeFileSync(inFolder("held.mjs"), program);
  const run = (how: string) => spawnSync(process.execPath, [inFolder("held.mjs"), how], { timeout: 3000 });
  assert.equal((run("exit").error as NodeJS.ErrnoException | undefined)?.code, "ETIMEDOUT");
  const killed = run("signal");
  assert.deepEqual([killed.error, killed.signal], [undefined, "SIGKILL"]);
});

const why = noLoopReason();
if (why !== null) skipAloud("native: loop devices", why);
else {
  test("native: fstat says 0 for a block device; a lock on a loop device and one on its file know nothing of each other", () => {
    const file = makeSparse(inFolder("backing"), MIB);
    const loop = attachLoop(file);
    try {
      const [onLoop, onFile] = [fs.openSync(loop.path, "r+"), fs.openSync(file, "r+")];
      assert.equal(fs.fstatSync(onLoop).size, 0);
      flockSync(onLoop, "exnb");
      flockSync(onFile, "exnb");
      fs.closeSync(onFile);
      fs.closeSync(onLoop);
    } finally {
      loop.detach();
    }
  });

  test("native: a failed fdatasync is reported once, the page cache keeps the data, the disk never gets it", () => {
    fs.mkdirSync(inFolder("tmpfs"));
    spawnSync("mount", ["-t", "tmpfs", "-o", "size=1M", "tmpfs", inFolder("tmpfs")]);
    const loop = attachLoop(makeSparse(inFolder("tmpfs/disk"), 16 * MIB));
    const fd = fs.openSync(loop.path, "r+");
    const direct = fs.openSync(loop.path, flags.O_RDONLY | flags.O_DIRECT);
    try {
      const written = Buffer.alloc(4 * MIB, 1);
      fs.writeSync(fd, written, 0, written.length, 8 * MIB);
      assert.throws(() => fs.fdatasyncSync(fd), { code: "EIO" });
      fs.fdatasyncSync(fd);
      const seen = Buffer.from(new WebAssembly.Memory({ initial: 64, maximum: 64 }).buffer);
      fs.readSync(fd, seen, 0, seen.length, 8 * MIB);
      assert.ok(seen.equals(written));
      fs.readSync(direct, seen, 0, seen.length, 8 * MIB);
      assert.ok(!seen.equals(written));
    } finally {
      fs.closeSync(direct);
      fs.closeSync(fd);
      loop.detach();
      spawnSync("umount", [inFolder("tmpfs")]);
    }
  });

  test("native: O_EXCL claims a block device against other O_EXCL openers only", () => {
    const loop = attachLoop(makeSparse(inFolder("claimed"), MIB));
    try {
      const claim = fs.openSync(loop.path, flags.O_RDWR | flags.O_EXCL);
      assert.throws(() => fs.openSync(loop.path, flags.O_RDWR | flags.O_EXCL), { code: "EBUSY" });
      fs.closeSync(fs.openSync(loop.path, "r+"));
      fs.closeSync(claim);
    } finally {
      loop.detach();
    }
  });
}
