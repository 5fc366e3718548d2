import assert from "node:assert/strict";
import { test } from "node:test";
import { NameCache } from "../../../src/fs/name-cache.js";
import { FileKind } from "../../../src/fs/vfs.js";
import { ALICE, bytes, makeFile, openNamespace, ROOT } from "../../support/namespace-fixture.js";

test("inode table: stays within its bound and finds what left it again", async () => {
  const { fs, inodes } = openNamespace({ inodesCachedMax: 10, namesBytesMax: 1000 });
  const ids = [];
  for (let i = 0; i < 200; i++) ids.push(await makeFile(fs, ALICE, fs.root, `f${i}`, i));
  assert.ok(inodes.cachedCount <= 12, `cached: ${inodes.cachedCount}`);
  for (const [i, id] of ids.entries()) {
    await Promise.resolve();
    assert.equal(fs.getattr(id).mode, i);
    assert.equal(fs.lookup(ALICE, fs.root, bytes(`f${i}`)).ino, id.ino);
  }
});

test("inode table: what is dirty or has contents stays, and the table shrinks again", async () => {
  const { inodes } = openNamespace({ inodesCachedMax: 10 });
  const held = Array.from({ length: 50 }, () => inodes.create(FileKind.file));
  assert.ok(inodes.cachedCount >= 50);
  for (const inode of held) assert.equal(inodes.load(inode.ino), inode);
  inodes.flushDirty();
  const kept = held[7];
  assert.ok(kept !== undefined);
  kept.contents = {};
  for (let round = 0; round < 200; round++) {
    inodes.create(FileKind.fifo);
    inodes.flushDirty();
    await Promise.resolve();
  }
  assert.ok(inodes.cachedCount <= 12, `cached: ${inodes.cachedCount}`);
  assert.equal(inodes.load(kept.ino), kept);
});

test("inode table: an inode that is removed leaves memory at once, not when the table is full", () => {
  const { inodes } = openNamespace({ inodesCachedMax: 1000 });
  const before = inodes.cachedCount;
  const made = Array.from({ length: 100 }, () => inodes.create(FileKind.fifo));
  const kept = made.splice(50, 1);
  for (const inode of made) inodes.remove(inode);
  assert.equal(inodes.cachedCount, before + 1);
  for (const inode of kept) assert.equal(inodes.load(inode.ino), inode);
});

test("inode table: links count with their targets", async () => {
  const { fs, inodes } = openNamespace({ inodesCachedMax: 100 });
  const target = Buffer.alloc(4095, "t");
  for (let i = 0; i < 100; i++) await fs.symlink(ALICE, fs.root, bytes(`l${i}`), target, {});
  const links = Array.from({ length: 100 }, (_, i) => fs.lookup(ALICE, fs.root, bytes(`l${i}`)));
  await Promise.resolve();
  assert.ok(inodes.cachedCount <= 10, `cached: ${inodes.cachedCount}`);
  for (const link of links) assert.deepEqual(fs.readlink(ALICE, link).target, target);
  await Promise.resolve();
  assert.ok(inodes.cachedCount <= 20, `cached: ${inodes.cachedCount}`);
});

test("inode table: an inode that was looked up is the only one of its number until the next await, and while it is held", async () => {
  const { fs, inodes } = openNamespace({ inodesCachedMax: 4 });
  const ids = [];
  for (let i = 0; i < 100; i++) ids.push(await makeFile(fs, ALICE, fs.root, `f${i}`));
  const [first] = ids;
  assert.ok(first !== undefined);
  const inode = inodes.resolve(first);
  for (const id of ids) inodes.resolve(id);
  assert.equal(inodes.resolve(first), inode);
  inode.holders++;
  for (const id of ids) {
    await Promise.resolve();
    inodes.resolve(id);
  }
  assert.equal(inodes.resolve(first), inode);
  assert.ok(inodes.cachedCount < 10, `cached: ${inodes.cachedCount}`);
});

test("inode table: the row says the durable size of a file", async () => {
  const { inodes, store } = openNamespace();
  const inode = inodes.create(FileKind.file);
  inode.sizeBytes = 9000;
  inode.durableSizeBytes = 4096;
  inodes.flushDirty();
  assert.equal(store.db.prepare("SELECT size FROM inode WHERE ino = ?").pluck().get(inode.ino), 4096);
});

test("inode table: every field survives its row", async () => {
  const { fs, store } = openNamespace();
  const made = await fs.mknod(
    ROOT,
    fs.root,
    bytes("dev"),
    FileKind.character,
    { major: 0xffffffff, minor: 3 },
    {
      mode: 0o7777,
      uid: 0xffff_fffe,
      gid: 0x8000_0000,
      atime: { seconds: -5, nanoseconds: 999_999_999 },
      mtime: { seconds: 2 ** 33, nanoseconds: 1 },
    },
  );
  const again = openNamespace({ store });
  assert.deepEqual(again.fs.lookup(ROOT, again.fs.root, bytes("dev")), made.attributes);
  assert.deepEqual(again.fs.getattr(made.attributes), made.attributes);
});

test("name cache: bounded, keeps what is asked for, and the newest answer wins", () => {
  const cache = new NameCache(20_000);
  for (let i = 0; i < 1000; i++) {
    cache.set(i % 7, `n${i}`, { ino: i, cookie: i });
    cache.set(1, "hot", cache.get(1, "hot") ?? { ino: 5, cookie: 5 });
  }
  assert.equal(cache.get(1, "hot")?.ino, 5);
  assert.equal(cache.get(0, "n0"), undefined);
  assert.equal(cache.get(999 % 7, "n999")?.ino, 999);
  cache.set(1, "hot", { ino: 6, cookie: 5 });
  assert.equal(cache.get(1, "hot")?.ino, 6);
  cache.forgetDirectory(1);
  assert.equal(cache.get(1, "hot"), undefined);
});
