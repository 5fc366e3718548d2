import assert from "node:assert/strict";
import { test } from "node:test";
import { formatFileSystem, mountFileSystem } from "../../../src/fs/file-system.js";
import { SILENT } from "../../../src/lib/log.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { MIB } from "../../../src/lib/units.js";
import { Arena } from "../../../src/parity/arena.js";
import { MemoryFileSystem, scratchFolder } from "../../support/memory-file-system.js";
import { MemoryLu } from "../../support/memory-lu.js";
import {
  ALICE,
  bytes,
  makeDirectory,
  makeFile,
  namesOf,
  ROOT,
  refused,
  StepClock,
} from "../../support/namespace-fixture.js";

test("mount: identity, tree and data are there again", async () => {
  const memory = await MemoryFileSystem.open();
  const { id, root, handleKey, name } = memory.fs;
  const directory = await makeDirectory(memory.fs, ALICE, root, "d");
  const file = await makeFile(memory.fs, ALICE, directory, "f");
  await memory.fs.write(ALICE, file, 5000, bytes("far"), "unstable");
  await memory.fs.setSetting("export", "all");
  await memory.remount();
  assert.deepEqual([memory.fs.id, memory.fs.root, memory.fs.name], [id, root, name]);
  assert.ok(memory.fs.handleKey.equals(handleKey));
  assert.equal(memory.fs.getSetting("export"), "all");
  const target = Buffer.alloc(8);
  assert.equal((await memory.fs.read(ALICE, file, 4998, target)).count, 5);
  assert.equal(target.toString("latin1", 0, 5), "\0\0far");
  const [row] = memory.fs.listFiles({ limit: 10 });
  assert.deepEqual([row?.path.toString(), row?.volume, (row?.headAddress ?? -1) >= 0], ["/d/f", "data", true]);
  const report = await memory.fs.check({ data: true });
  assert.deepEqual([report.faults, report.blocks], [[], 1]);
  const { inodes, pageStoreCommits } = memory.fs.statistics();
  // Nobody waits for a commit at a mount.
  assert.deepEqual([inodes, pageStoreCommits], [3, 0]);
  await memory.end();
});

test("write verifier: the same after a clean close, another after a crash", async () => {
  const memory = await MemoryFileSystem.open();
  const first = Buffer.from(memory.fs.writeVerifier);
  await memory.remount();
  assert.ok(memory.fs.writeVerifier.equals(first));
  await memory.crash();
  assert.ok(!memory.fs.writeVerifier.equals(first));
  const second = Buffer.from(memory.fs.writeVerifier);
  await memory.crash();
  assert.ok(!memory.fs.writeVerifier.equals(second));
  await memory.end();
});

test("crash: what was answered is there, with the file removed and the number not used again", async () => {
  const memory = await MemoryFileSystem.open({ seed: 5 });
  const { root } = memory.fs;
  const kept = await makeFile(memory.fs, ALICE, root, "kept");
  await memory.fs.write(ALICE, kept, 0, bytes("stable"), "stable");
  const gone = await makeFile(memory.fs, ALICE, root, "gone");
  await memory.fs.remove(ALICE, root, bytes("gone"));
  await memory.crash();
  assert.deepEqual(namesOf(memory.fs, root), [".", "..", "kept"]);
  const target = Buffer.alloc(6);
  await memory.fs.read(ALICE, kept, 0, target);
  assert.equal(target.toString(), "stable");
  await refused("ESTALE", () => memory.fs.getattr(gone));
  assert.ok((await makeFile(memory.fs, ALICE, root, "new")).ino > gone.ino);
  assert.deepEqual((await memory.fs.check({ data: true })).faults, []);
  await memory.end();
});

test("mount: another data LU, an empty LU and a page store of another kind are refused", async () => {
  const random = new SeededRandom(3);
  const clock = new StepClock();
  const lu = (name: string) => new MemoryLu({ sizeBytes: 16 * MIB, name });
  const [metadataLu, dataLu, other] = [lu("m"), lu("d"), lu("o")];
  Object.assign(other, { description: { ...other.description, uuid: "another" } });
  const memory = await MemoryFileSystem.open();
  const scratchDir = scratchFolder();
  const common = { metadataLu, dataLu, clock, random, log: SILENT, scratchDir };
  const arena = () => new Arena({ byteCount: 16 * MIB });
  await refused("ENXIO", () => mountFileSystem({ ...common, arena: arena(), cacheBytes: 4 * MIB }));
  await formatFileSystem({ ...common, name: "x" });
  await refused("EINVAL", () => mountFileSystem({ ...common, dataLu: other, arena: arena(), cacheBytes: 4 * MIB }));
  const mounted = await mountFileSystem({ ...common, arena: arena(), cacheBytes: 4 * MIB });
  await mounted.close();
  await memory.end();
});

test("failure: when the metadata LU fails everything is EIO, and the owner is told", async () => {
  const memory = await MemoryFileSystem.open();
  const { root } = memory.fs;
  const file = await makeFile(memory.fs, ALICE, root, "f");
  memory.metadata.failWrites = true;
  await refused("EIO", () => memory.fs.write(ALICE, file, 0, bytes("x"), "stable"));
  await refused("EIO", () => memory.fs.getattr(file));
  assert.deepEqual(
    memory.events.map((event) => event.kind),
    ["failed"],
  );
  await memory.end();
});

test("close: every operation is EIO afterwards, and closing again does nothing", async () => {
  const memory = await MemoryFileSystem.open();
  await memory.fs.close();
  await memory.fs.close();
  await refused("EIO", () => memory.fs.getattr(memory.fs.root));
  await refused("EIO", () => memory.fs.lookup(ROOT, memory.fs.root, bytes("x")));
  await memory.end();
});
