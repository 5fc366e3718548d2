import assert from "node:assert/strict";
import { test } from "node:test";
import { BLOCK } from "../../../src/backup/format.js";
import { joinDigests, readDigests } from "../../../src/backup/group-digests.js";
import { StreamScanner } from "../../../src/backup/scan.js";
import { GROUP_BYTES } from "../../../src/fs/snapshot/snapshot.js";
import { type Attributes, type FileId, FileKind } from "../../../src/fs/vfs.js";
import { KIB, MIB } from "../../../src/lib/units.js";
import { backUp, backupId, digestsOf, headerOf, piecesOf, restored } from "../../support/backup-fixture.js";
import { filled, MemoryFileSystem, put } from "../../support/memory-file-system.js";
import { ALICE, bytes, makeDirectory, makeFile, ROOT, refused } from "../../support/namespace-fixture.js";
import { liveTree } from "../../support/snapshot-tree.js";

async function furnish(memory: MemoryFileSystem) {
  const { fs } = memory;
  const directory = await makeDirectory(fs, ALICE, fs.root, "d");
  const deep = await makeDirectory(fs, ALICE, directory, "deep \xff name");
  const small = await makeFile(fs, ALICE, deep, "small", 0o4711);
  await put(memory, small, bytes("a few bytes"));
  const large = await makeFile(fs, ALICE, fs.root, "large");
  await put(memory, large, filled(2 * MIB + 5000, 1));
  const sparse = await makeFile(fs, ALICE, fs.root, "sparse");
  await put(memory, sparse, bytes("near"), 777);
  await put(memory, sparse, bytes("far"), 3 * GROUP_BYTES + 777);
  const cut = await makeFile(fs, ALICE, fs.root, "cut");
  await put(memory, cut, filled(600 * KIB, 2));
  await fs.setattr(ALICE, cut, { sizeBytes: 300_001 });
  await fs.link(ALICE, large, directory, bytes("link"));
  await fs.symlink(ALICE, directory, bytes("symlink"), bytes("../large"), {});
  await fs.mknod(ROOT, directory, bytes("device"), FileKind.character, { major: 4, minor: 7 }, { mode: 0o600 });
  await fs.setattr(ALICE, small, { mtime: { seconds: 123, nanoseconds: 456 } });
  return { directory, deep, small, large, sparse, cut };
}

/** Path to all attributes but the time of access, which looking changes. */
function attributesOf(memory: MemoryFileSystem): Map<string, Omit<Attributes, "atime">> {
  const found = new Map<string, Omit<Attributes, "atime">>();
  const walk = (directory: FileId, path: string): void => {
    for (const entry of memory.fs.readdir(ROOT, directory, 0, 1000, true).entries) {
      const name = entry.name.toString("latin1");
      const attributes = entry.attributes;
      if (name === "." || name === ".." || attributes === undefined) continue;
      const { atime: _, ...kept } = attributes;
      found.set(`${path}/${name}`, kept);
      if (attributes.kind === FileKind.directory) walk(attributes, `${path}/${name}`);
    }
  };
  walk(memory.fs.root, "");
  return found;
}

async function assertSame(found: MemoryFileSystem, wanted: MemoryFileSystem): Promise<void> {
  const report = await found.fs.check({ data: true });
  assert.deepEqual(report.faults, []);
  assert.deepEqual(await liveTree(found.fs), await liveTree(wanted.fs));
  await wanted.fs.settle();
  assert.deepEqual(attributesOf(found), attributesOf(wanted));
}

test("backup: a full one restored is the same in every attribute", async () => {
  const memory = await MemoryFileSystem.open();
  await furnish(memory);
  const stream = await backUp(memory, headerOf(1), 1);
  const copy = await restored([stream]);
  await assertSame(copy, memory);
  const made = await makeFile(copy.fs, ALICE, copy.fs.root, "new");
  const live = await makeFile(memory.fs, ALICE, memory.fs.root, "new");
  assert.equal(made.ino, live.ino, "numbers go on where they were");
  await copy.end();
  await memory.end();
});

test("backup: incrementals hold what changed, and a chain restored is the newest", async () => {
  const memory = await MemoryFileSystem.open();
  const { fs } = memory;
  const { directory, large, small, cut, sparse } = await furnish(memory);
  const full = await backUp(memory, headerOf(1), 1);
  await put(memory, large, filled(9000, 9), 300 * KIB);
  await put(memory, small, bytes("other"));
  await fs.setattr(ALICE, cut, { sizeBytes: 100 });
  await fs.setattr(ALICE, cut, { sizeBytes: 400_000 });
  await fs.rename(ALICE, directory, bytes("link"), fs.root, bytes("renamed"));
  const second = await makeFile(fs, ALICE, directory, "second");
  await put(memory, second, filled(70_000, 10));
  const first = await backUp(memory, headerOf(2, { parent: backupId(1) }), 2, readDigests(digestsOf(1)));
  await assertSame(await restored([first, full]), memory);

  await fs.setattr(ALICE, sparse, { sizeBytes: 0 });
  await fs.setattr(ALICE, sparse, { sizeBytes: 2 * GROUP_BYTES });
  await fs.remove(ALICE, directory, bytes("second"));
  await put(memory, large, filled(2 * MIB, 11));
  const last = await backUp(memory, headerOf(3, { parent: backupId(2) }), 3, readDigests(digestsOf(2)));
  const copy = await restored([last, first, full]);
  await assertSame(copy, memory);

  const nothing = await backUp(memory, headerOf(4, { parent: backupId(3) }), 4, readDigests(digestsOf(3)));
  const scanner = new StreamScanner(piecesOf(nothing));
  const [part] = await scanner.run();
  assert.deepEqual([part?.end?.groups, scanner.dataBytes], [0, 0], "nothing changed: no data");
  await memory.end();
});

test("backup: one that was broken off goes on from its last group", async () => {
  const memory = await MemoryFileSystem.open();
  const { large, small } = await furnish(memory);
  const whole = await backUp(memory, headerOf(1), 1);
  const broken = whole.subarray(0, 20 * BLOCK.end + 1234);
  const scanner = new StreamScanner(piecesOf(broken));
  await assert.rejects(scanner.run(), /ends inside a block/);
  const { last } = scanner.parts[0]!;
  assert.ok(last !== null && scanner.goodBytes === 20 * BLOCK.end);
  await put(memory, small, bytes("changed"));
  await put(memory, large, filled(1000, 12));
  const base = joinDigests(readDigests(digestsOf(1)), last, (async function* () {})());
  const next = await backUp(memory, headerOf(2, { continues: backupId(1), chain: backupId(2) }), 2, base);
  assert.ok(next.length < whole.length, "what arrived is not sent again");
  const copy = await restored([next, broken.subarray(0, scanner.goodBytes)]);
  await assertSame(copy, memory);
  await copy.end();
  await memory.end();
});

test("backup: a block that nothing can prove is told of, not made up", async () => {
  const memory = await MemoryFileSystem.open();
  const file = await makeFile(memory.fs, ALICE, memory.fs.root, "f");
  await put(memory, file, filled(300_000, 1));
  await memory.fs.settle();
  const [row] = memory.fs.listFiles({ limit: 1 });
  memory.data.corrupt(row!.headAddress);
  await assert.rejects(
    backUp(memory, headerOf(1), 1),
    new RegExp(`the file with inode ${file.ino} cannot be read: no copy of a block matches its checksum; events`),
  );
  await memory.end();
});

test("restore: refuses parts of two chains, and one that is missing", async () => {
  const memory = await MemoryFileSystem.open();
  await furnish(memory);
  const full = await backUp(memory, headerOf(1), 1);
  const other = await backUp(memory, headerOf(5), 5);
  const child = await backUp(memory, headerOf(2, { parent: backupId(1) }), 2, readDigests(digestsOf(1)));
  await refused("EINVAL", () => restored([child, other]));
  await refused("EINVAL", () => restored([child]));
  await refused("EIO", () => restored([full.subarray(0, 10 * BLOCK.end)]));
  await memory.end();
});

test("restore: into LUs that are too small it is ENOSPC", async () => {
  const memory = await MemoryFileSystem.open();
  const file = await makeFile(memory.fs, ALICE, memory.fs.root, "f");
  await put(memory, file, filled(12 * MIB, 1));
  const full = await backUp(memory, headerOf(1), 1);
  await refused("ENOSPC", () => restored([full], { dataBytes: 8 * MIB }));
  await memory.end();
});
