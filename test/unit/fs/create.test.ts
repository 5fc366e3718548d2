import assert from "node:assert/strict";
import { test } from "node:test";
import { FileKind, LIMITS } from "../../../src/fs/vfs.js";
import {
  ALICE,
  BOB,
  bytes,
  EVE,
  makeDirectory,
  makeFile,
  namesOf,
  openNamespace,
  ROOT,
  refused,
} from "../../support/namespace-fixture.js";

test("create: a file has the caller's owner, the mode asked for and one link", async () => {
  const { fs } = openNamespace();
  const { attributes } = await fs.create(ALICE, fs.root, bytes("f"), { mode: "guarded", attributes: { mode: 0o640 } });
  assert.equal(attributes.kind, FileKind.file);
  assert.equal(attributes.mode, 0o640);
  assert.equal(attributes.nlink, 1);
  assert.deepEqual([attributes.uid, attributes.gid], [ALICE.uid, ALICE.gid]);
  assert.equal(attributes.sizeBytes, 0);
  assert.deepEqual(fs.lookup(ALICE, fs.root, bytes("f")), attributes);
});

test("create: the directory's change has both sides of this one operation", async () => {
  const { fs } = openNamespace();
  const before = fs.getattr(fs.root);
  const { directory } = await fs.create(ALICE, fs.root, bytes("f"), { mode: "guarded", attributes: {} });
  assert.deepEqual(directory.before.mtime, before.mtime);
  assert.deepEqual(directory.after, fs.getattr(fs.root));
  assert.notDeepEqual(directory.after.mtime, before.mtime);
  assert.notDeepEqual(directory.after.ctime, before.ctime);
});

test("create: guarded refuses a name that exists, unchecked opens it", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  await refused("EEXIST", () => fs.create(ALICE, fs.root, bytes("f"), { mode: "guarded", attributes: {} }));
  const again = await fs.create(ALICE, fs.root, bytes("f"), { mode: "unchecked", attributes: { mode: 0o777 } });
  assert.deepEqual(again.attributes, file);
  assert.deepEqual(again.directory.before.mtime, again.directory.after.mtime);
});

test("create: unchecked with size 0 truncates for whoever may write, and for nobody else", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f", 0o644);
  await fs.write(ALICE, file, 0, bytes("hello"), "stable");
  const truncating = { mode: "unchecked", attributes: { sizeBytes: 0 } } as const;
  await refused("EACCES", () => fs.create(EVE, fs.root, bytes("f"), truncating));
  assert.equal(fs.getattr(file).sizeBytes, 5);
  assert.equal((await fs.create(ALICE, fs.root, bytes("f"), truncating)).attributes.sizeBytes, 0);
});

test("create: unchecked over what is no regular file is EEXIST", async () => {
  const { fs } = openNamespace();
  await makeDirectory(fs, ALICE, fs.root, "d");
  await refused("EEXIST", () => fs.create(ALICE, fs.root, bytes("d"), { mode: "unchecked", attributes: {} }));
});

test("create: exclusive succeeds again with its own verifier, also after a restart", async () => {
  const first = openNamespace();
  const how = { mode: "exclusive", verifier: bytes("12345678") } as const;
  const made = await first.fs.create(ALICE, first.fs.root, bytes("x"), how);
  assert.deepEqual((await first.fs.create(ALICE, first.fs.root, bytes("x"), how)).attributes, made.attributes);
  await first.store.durable();
  const second = openNamespace({ store: first.store });
  const again = await second.fs.create(ALICE, second.fs.root, bytes("x"), how);
  assert.equal(again.attributes.ino, made.attributes.ino);
  const other = { mode: "exclusive", verifier: bytes("87654321") } as const;
  await refused("EEXIST", () => second.fs.create(ALICE, second.fs.root, bytes("x"), other));
});

test("create: a size makes a file that begins with a hole", async () => {
  const { fs } = openNamespace();
  const how = { mode: "guarded", attributes: { sizeBytes: 10_000, mode: 0o4755 } } as const;
  const { attributes } = await fs.create(ALICE, fs.root, bytes("f"), how);
  assert.equal(attributes.sizeBytes, 10_000);
  assert.equal(attributes.mode, 0o4755);
});

test("create: in a setgid directory the group is the directory's, and a new directory inherits the bit", async () => {
  const { fs } = openNamespace();
  const shared = await makeDirectory(fs, ROOT, fs.root, "shared", 0o2777);
  await fs.setattr(ROOT, shared, { gid: 555 });
  assert.equal((await makeFile(fs, ALICE, shared, "f")).gid, 555);
  const inner = await makeDirectory(fs, ALICE, shared, "d", 0o755);
  assert.equal(inner.gid, 555);
  assert.equal(inner.mode, 0o2755);
});

test("create: setgid and group execute in a foreign group lose the setgid bit", async () => {
  const { fs } = openNamespace();
  const shared = await makeDirectory(fs, ROOT, fs.root, "shared", 0o2777);
  await fs.setattr(ROOT, shared, { gid: 555 });
  assert.equal((await makeFile(fs, ALICE, shared, "f", 0o2755)).mode, 0o755);
});

test("create: root names an owner, nobody else does", async () => {
  const { fs } = openNamespace();
  const attributes = { uid: 5, gid: 6 };
  const byRoot = await fs.create(ROOT, fs.root, bytes("r"), { mode: "guarded", attributes });
  assert.deepEqual([byRoot.attributes.uid, byRoot.attributes.gid], [5, 6]);
  const byAlice = await fs.create(ALICE, fs.root, bytes("a"), { mode: "guarded", attributes });
  assert.deepEqual([byAlice.attributes.uid, byAlice.attributes.gid], [ALICE.uid, ALICE.gid]);
});

test("create: needs write and search permission on the directory", async () => {
  const { fs } = openNamespace();
  const directory = await makeDirectory(fs, ALICE, fs.root, "d", 0o755);
  await refused("EACCES", () => makeFile(fs, EVE, directory, "f"));
  await fs.setattr(ALICE, directory, { mode: 0o662 });
  await refused("EACCES", () => makeFile(fs, EVE, directory, "f"));
  await fs.setattr(ALICE, directory, { mode: 0o663 });
  await makeFile(fs, EVE, directory, "f");
});

test("create: names are checked", async () => {
  const { fs } = openNamespace();
  await refused("EINVAL", () => makeFile(fs, ALICE, fs.root, ""));
  await refused("EINVAL", () => makeFile(fs, ALICE, fs.root, "a/b"));
  await refused("EINVAL", () => makeFile(fs, ALICE, fs.root, "a\0b"));
  await refused("ENAMETOOLONG", () => makeFile(fs, ALICE, fs.root, "x".repeat(256)));
  await refused("EEXIST", () => makeFile(fs, ALICE, fs.root, "."));
  await refused("EEXIST", () => makeFile(fs, ALICE, fs.root, ".."));
  await makeFile(fs, ALICE, fs.root, "x".repeat(255));
  await makeFile(fs, ALICE, fs.root, "\xff\x01 …".slice(0, 3));
  assert.deepEqual(namesOf(fs, fs.root), [".", "..", "x".repeat(255), "\xff\x01 "]);
});

test("create: in what is no directory is ENOTDIR, in a removed one ESTALE", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  await refused("ENOTDIR", () => makeFile(fs, ALICE, file, "g"));
  const directory = await makeDirectory(fs, ALICE, fs.root, "d");
  await fs.rmdir(ALICE, fs.root, bytes("d"));
  await refused("ESTALE", () => makeFile(fs, ALICE, directory, "g"));
});

test("mkdir: two links, one more in the parent, until EMLINK", async () => {
  const { fs, inodes } = openNamespace();
  const directory = await makeDirectory(fs, ALICE, fs.root, "d");
  assert.equal(directory.nlink, 2);
  assert.equal(fs.getattr(fs.root).nlink, 3);
  inodes.resolve(directory).nlink = LIMITS.linksMax;
  await refused("EMLINK", () => makeDirectory(fs, ALICE, directory, "e"));
});

test("symlink: keeps its bytes; empty, too long and NUL are refused", async () => {
  const { fs } = openNamespace();
  const target = bytes(`../\xfe/${"y".repeat(4090)}`);
  const { attributes } = await fs.symlink(ALICE, fs.root, bytes("s"), target, {});
  assert.equal(attributes.sizeBytes, target.length);
  assert.equal(attributes.mode, 0o777);
  assert.ok(fs.readlink(EVE, attributes).target.equals(target));
  await refused("ENOENT", () => fs.symlink(ALICE, fs.root, bytes("t"), bytes(""), {}));
  await refused("ENAMETOOLONG", () => fs.symlink(ALICE, fs.root, bytes("t"), Buffer.alloc(4096, 0x61), {}));
  await refused("EINVAL", () => fs.symlink(ALICE, fs.root, bytes("t"), bytes("a\0"), {}));
  const file = await makeFile(fs, ALICE, fs.root, "f");
  await refused("EINVAL", () => fs.readlink(ALICE, file));
});

test("mknod: FIFOs and sockets for all, devices for root, other kinds for nobody", async () => {
  const { fs } = openNamespace();
  const rdev = { major: 8, minor: 300 };
  const fifo = await fs.mknod(ALICE, fs.root, bytes("p"), FileKind.fifo, rdev, { mode: 0o600 });
  assert.deepEqual([fifo.attributes.kind, fifo.attributes.rdevMajor], [FileKind.fifo, 0]);
  await refused("EPERM", () => fs.mknod(ALICE, fs.root, bytes("b"), FileKind.block, rdev, {}));
  const device = await fs.mknod(ROOT, fs.root, bytes("b"), FileKind.block, rdev, {});
  assert.deepEqual([device.attributes.rdevMajor, device.attributes.rdevMinor], [8, 300]);
  await refused("EINVAL", () => fs.mknod(ROOT, fs.root, bytes("q"), FileKind.directory, rdev, {}));
});

test("link: counts, changes ctime only, and refuses directories and existing names", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  const { file: linked } = await fs.link(ALICE, file, fs.root, bytes("g"));
  assert.equal(linked.nlink, 2);
  assert.deepEqual(linked.mtime, file.mtime);
  assert.notDeepEqual(linked.ctime, file.ctime);
  assert.equal(fs.lookup(BOB, fs.root, bytes("g")).ino, file.ino);
  await refused("EEXIST", () => fs.link(ALICE, file, fs.root, bytes("f")));
  const directory = await makeDirectory(fs, ALICE, fs.root, "d");
  await refused("EPERM", () => fs.link(ROOT, directory, fs.root, bytes("e")));
});

test("create: refuses with ENOSPC and changes nothing when the metadata LU is full; removing goes on", async () => {
  const { fs, store } = openNamespace();
  await makeFile(fs, ALICE, fs.root, "old");
  store.pagesFree = 10;
  // The count of free pages is asked for again after some operations.
  const filling = async () => {
    for (let i = 0; i < 1000; i++) await makeFile(fs, ALICE, fs.root, `f${i}`);
  };
  await refused("ENOSPC", filling);
  const names = namesOf(fs, fs.root, 1000);
  await refused("ENOSPC", () => makeDirectory(fs, ALICE, fs.root, "d"));
  await refused("ENOSPC", () => fs.rename(ALICE, fs.root, bytes("old"), fs.root, bytes("new")));
  assert.deepEqual(namesOf(fs, fs.root, 1000), names);
  await fs.remove(ALICE, fs.root, bytes("old"));
  store.pagesFree = 100_000;
  await makeFile(fs, ALICE, fs.root, "again");
  assert.equal((await fs.check()).ok, true);
});
