import assert from "node:assert/strict";
import { test } from "node:test";
import { plainEvent, serveFileSystem } from "../../../src/control/serve-file-system.js";
import type { MountedFileSystem } from "../../../src/fs/file-system.js";
import type { FileId } from "../../../src/fs/vfs.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { BLOCK_BYTES, KIB, type LuByte, MIB } from "../../../src/lib/units.js";
import type { BlockInspector } from "../../../src/lu/lu.js";
import { MemoryFileSystem } from "../../support/memory-file-system.js";
import { ALICE, bytes, makeDirectory, makeFile, ROOT, refused } from "../../support/namespace-fixture.js";
import { scan } from "../../support/scan.js";

const [DATA, METADATA] = [1, 2];

async function file(fs: MountedFileSystem, directory: FileId, name: string, byteCount: number): Promise<FileId> {
  const made = await makeFile(fs, ALICE, directory, name);
  await fs.write(ALICE, made, 0, Buffer.alloc(byteCount, name), "unstable");
  await fs.commit(ALICE, made, 0, 0);
  return made;
}

function headOf(fs: MountedFileSystem, { ino }: FileId): number {
  const row = fs.listFiles({ limit: 20_000 }).find((found) => found.ino === ino);
  assert.ok(row !== undefined && row.headAddress >= 0);
  return row.headAddress;
}

function inspector(fs: MountedFileSystem, number: number): BlockInspector {
  const found = fs.inspectors().get(number);
  assert.ok(found !== undefined);
  return found;
}

async function turns(): Promise<void> {
  for (let i = 0; i < 10; i++) await nextTurn();
}

test("inspectors: one for each LU; rot in either is found, with names that people can read", async () => {
  const memory = await MemoryFileSystem.open();
  const served = serveFileSystem(memory.fs);
  const deep = await makeDirectory(
    memory.fs,
    ALICE,
    await makeDirectory(memory.fs, ALICE, memory.fs.root, "a"),
    "b\x1b",
  );
  const one = await file(memory.fs, deep, "fil\xffe", MIB);
  const two = await file(memory.fs, memory.fs.root, "two", 300 * KIB);
  await memory.remount();
  assert.deepEqual([...served.inspectors().keys()], [], "of a closed file system");
  memory.data.corrupt(headOf(memory.fs, one) + 5 * BLOCK_BYTES);
  memory.data.corrupt(headOf(memory.fs, two) + 50 * BLOCK_BYTES);
  for (let at = 64 * KIB; at < 32 * MIB; at += BLOCK_BYTES) memory.metadata.corrupt(at);
  const found = await scan(memory.data, inspector(memory.fs, DATA));
  assert.deepEqual(
    found.map(({ verdict, name }) => `${verdict} ${name}`),
    ["bad /a/b\\x1b/fil\\xffe (block 5)", "bad /two (block 50)"],
  );
  const names = (await scan(memory.metadata, inspector(memory.fs, METADATA))).map(({ name }) => name);
  assert.ok(
    names.some((name) => name?.startsWith('metadata of "test" (page ')),
    names.join("\n"),
  );
});

test("names: moved, linked, removed; of several links one that is there", async () => {
  const memory = await MemoryFileSystem.open();
  const { fs } = memory;
  const id = await file(fs, fs.root, "first", 70 * BLOCK_BYTES);
  const at = headOf(fs, id) as LuByte;
  const names = inspector(fs, DATA);
  assert.equal(await names.nameOf(at), "/first (block 0)");
  const directory = await makeDirectory(fs, ALICE, fs.root, "dir");
  await fs.link(ALICE, id, directory, bytes("second"));
  await fs.remove(ALICE, fs.root, bytes("first"));
  assert.equal(await names.nameOf((at + 3 * BLOCK_BYTES) as LuByte), "/dir/second (block 3)");
  await fs.rename(ALICE, directory, bytes("second"), fs.root, bytes("third"));
  assert.equal(await names.nameOf(at), "/third (block 0)");
  await fs.rename(ALICE, fs.root, bytes("dir"), fs.root, bytes("folder"));
  await fs.rename(ALICE, fs.root, bytes("third"), directory, bytes("fourth"));
  assert.equal(await names.nameOf(at), "/folder/fourth (block 0)");
  await fs.remove(ALICE, directory, bytes("fourth"));
  assert.equal(await names.nameOf(at), null);
  await memory.end();
});

test("names: found among more entries than one piece of the search looks at", async () => {
  const memory = await MemoryFileSystem.open({ metadataBytes: 64 * MIB });
  const { fs } = memory;
  const crowd = await makeDirectory(fs, ROOT, fs.root, "crowd");
  const made: Promise<unknown>[] = [];
  for (let i = 0; i < 9000; i++) made.push(makeFile(fs, ROOT, crowd, `f${i}`));
  await Promise.all(made);
  const last = await makeDirectory(fs, ALICE, fs.root, "last");
  const id = await file(fs, last, "it", BLOCK_BYTES * 70);
  const names = inspector(fs, DATA);
  assert.equal(await names.nameOf(headOf(fs, id) as LuByte), "/last/it (block 0)");
  const middle = fs.lookup(ROOT, crowd, bytes("f4096"));
  await fs.write(ROOT, middle, 0, Buffer.alloc(70 * BLOCK_BYTES, 1), "unstable");
  await fs.commit(ROOT, middle, 0, 0);
  assert.equal(await names.nameOf(headOf(fs, middle) as LuByte), "/crowd/f4096 (block 0)");
  await memory.end();
});

test("events: a read that heals, and one that cannot, name file, LU and place", async () => {
  for (const redundant of [true, false]) {
    const memory = await MemoryFileSystem.open({ redundant });
    const id = await file(memory.fs, memory.fs.root, "f", MIB);
    await memory.remount();
    const at = headOf(memory.fs, id) + 9 * BLOCK_BYTES;
    memory.data.corrupt(at);
    const reading = async () => await memory.fs.read(ALICE, id, 0, Buffer.alloc(MIB));
    if (redundant) await reading();
    else await refused("EIO", reading);
    await turns();
    const kind = redundant ? "healed" : "unreadable";
    const detail = { ino: id.ino, block: 9, lu: DATA, at, file: "/f (block 9)" };
    assert.deepEqual(memory.events.map(plainEvent), [{ kind, detail }]);
    await memory.end();
  }
});

test("events: they keep their order, and one whose file is gone says so", async () => {
  const memory = await MemoryFileSystem.open({ redundant: true });
  const ids = [await file(memory.fs, memory.fs.root, "a", MIB), await file(memory.fs, memory.fs.root, "b", MIB)];
  await memory.remount();
  const heads = ids.map((id) => headOf(memory.fs, id));
  for (const head of heads) for (let i = 0; i < 40; i++) memory.data.corrupt(head + i * BLOCK_BYTES);
  await Promise.all(ids.map((id) => memory.fs.read(ALICE, id, 0, Buffer.alloc(MIB))));
  const gone = memory.fs.remove(ALICE, memory.fs.root, bytes("b"));
  await gone;
  await turns();
  const files = memory.events.map((event) => (event.kind === "healed" ? (event.file ?? "") : event.kind));
  assert.equal(files.length, 80);
  const ofA = files.filter((text) => text.startsWith("/a (block "));
  assert.deepEqual(
    ofA,
    Array.from({ length: 40 }, (_, i) => `/a (block ${i})`),
  );
  await memory.end();
});

test("without checksum: rot reaches the client", async () => {
  for (const checksum of [false, true]) {
    const memory = await MemoryFileSystem.open({ redundant: true, without: { checksum } });
    const id = await file(memory.fs, memory.fs.root, "f", MIB);
    await memory.remount();
    memory.data.corrupt(headOf(memory.fs, id));
    const target = Buffer.alloc(MIB);
    await memory.fs.read(ALICE, id, 0, target);
    assert.equal(target.equals(Buffer.alloc(MIB, "f")), !checksum);
    await memory.end();
  }
});

test("grow: clients see the new space at once; a metadata LU that grew is used as it was", async () => {
  const memory = await MemoryFileSystem.open({ dataBytes: 16 * MIB });
  const served = serveFileSystem(memory.fs);
  const before = memory.fs.space();
  await served.grow();
  assert.deepEqual(memory.fs.space(), before);
  memory.data.grow(64 * MIB, 320 * KIB);
  memory.metadata.grow(48 * MIB);
  await served.grow();
  await served.grow();
  const { totalBytes, freeBytes, totalFiles } = memory.fs.space();
  assert.ok(totalBytes > 60 * MIB);
  assert.ok(freeBytes - before.freeBytes > 47 * MIB);
  // The metadata LU is used as it was; the bitmaps of the new segments are promised their rows in it.
  assert.ok(totalFiles <= before.totalFiles && totalFiles > before.totalFiles * 0.99);
  await memory.crash();
  assert.equal(memory.fs.space().totalBytes, totalBytes);
  const id = await makeFile(memory.fs, ALICE, memory.fs.root, "large");
  for (let i = 0; i < 50; i++) await memory.fs.write(ALICE, id, i * MIB, Buffer.alloc(MIB, i), "unstable");
  await memory.fs.commit(ALICE, id, 0, 0);
  assert.deepEqual((await memory.fs.check({ data: true })).faults, []);
  await memory.fs.close();
  await refused("EIO", () => memory.fs.grow());
});
