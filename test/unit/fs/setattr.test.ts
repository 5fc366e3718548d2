import assert from "node:assert/strict";
import { test } from "node:test";
import { Access, LIMITS } from "../../../src/fs/vfs.js";
import {
  ALICE,
  BOB,
  bytes,
  EVE,
  makeDirectory,
  makeFile,
  openNamespace,
  ROOT,
  refused,
} from "../../support/namespace-fixture.js";

test("setattr: chmod by the owner and by root, by nobody else", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f", 0o644);
  const change = await fs.setattr(ALICE, file, { mode: 0o600 });
  assert.equal(change.after.mode, 0o600);
  assert.notDeepEqual(change.after.ctime, change.before.ctime);
  assert.deepEqual(change.after.mtime, change.before.mtime);
  await refused("EPERM", () => fs.setattr(BOB, file, { mode: 0o666 }));
  assert.equal((await fs.setattr(ROOT, file, { mode: 0o4711 })).after.mode, 0o4711);
});

test("setattr: chmod with setgid in a foreign group drops the bit", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  assert.equal((await fs.setattr(ALICE, file, { mode: 0o2755 })).after.mode, 0o2755);
  await fs.setattr(ROOT, file, { gid: 999 });
  assert.equal((await fs.setattr(ALICE, file, { mode: 0o2755 })).after.mode, 0o755);
});

test("setattr: an owner picks among its groups, and gives nothing away", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  assert.equal((await fs.setattr(ALICE, file, { gid: 200, uid: ALICE.uid })).after.gid, 200);
  await refused("EPERM", () => fs.setattr(ALICE, file, { gid: 300 }));
  await refused("EPERM", () => fs.setattr(ALICE, file, { uid: BOB.uid }));
  await refused("EPERM", () => fs.setattr(BOB, file, { gid: BOB.gid }));
  assert.equal((await fs.setattr(ROOT, file, { uid: BOB.uid, gid: 300 })).after.uid, BOB.uid);
});

test("setattr: a new owner ends setuid and setgid, on files", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f", 0o6755);
  assert.equal((await fs.setattr(ALICE, file, { gid: 200 })).after.mode, 0o755);
  const directory = await makeDirectory(fs, ALICE, fs.root, "d", 0o2755);
  assert.equal((await fs.setattr(ALICE, directory, { gid: 200 })).after.mode, 0o2755);
  const both = await fs.setattr(ROOT, file, { uid: BOB.uid, mode: 0o4755 });
  assert.equal(both.after.mode, 0o4755);
});

test("setattr: explicit times by the owner, the present by whoever may write", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f", 0o664);
  const mtime = { seconds: 12345, nanoseconds: 678_901_234 };
  const { after } = await fs.setattr(ALICE, file, { mtime });
  assert.deepEqual(after.mtime, mtime);
  assert.deepEqual(after.atime, file.atime);
  await refused("EPERM", () => fs.setattr(BOB, file, { mtime }));
  const touched = await fs.setattr(BOB, file, { mtime: "now", atime: "now" });
  assert.deepEqual(touched.after.mtime, touched.after.ctime);
  assert.deepEqual(touched.after.atime, touched.after.ctime);
  await refused("EACCES", () => fs.setattr(EVE, file, { mtime: "now" }));
  await refused("EINVAL", () => fs.setattr(ALICE, file, { mtime: { seconds: 1, nanoseconds: 1e9 } }));
});

test("setattr: the guard must be the ctime", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  const { after } = await fs.setattr(ALICE, file, { mode: 0o600 }, file.ctime);
  await refused("ENOTSYNC", () => fs.setattr(ALICE, file, { mode: 0o611 }, file.ctime));
  assert.equal(fs.getattr(file).mode, 0o600);
  await fs.setattr(ALICE, file, { mode: 0o611 }, after.ctime);
});

test("setattr: size of a file with the rest in one piece; not of anything else", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f", 0o4755);
  const { before, after } = await fs.setattr(ALICE, file, { sizeBytes: 5000, atime: { seconds: 1, nanoseconds: 2 } });
  assert.deepEqual([before.sizeBytes, after.sizeBytes, after.mode], [0, 5000, 0o755]);
  assert.deepEqual(after.atime, { seconds: 1, nanoseconds: 2 });
  assert.deepEqual(after.mtime, after.ctime);
  await refused("EACCES", () => fs.setattr(EVE, file, { sizeBytes: 0 }));
  await refused("EFBIG", () => fs.setattr(ALICE, file, { sizeBytes: LIMITS.fileBytesMax + 1 }));
  await refused("EISDIR", () => fs.setattr(ROOT, fs.root, { sizeBytes: 0 }));
  const link = await fs.symlink(ALICE, fs.root, bytes("s"), bytes("t"), {});
  await refused("EINVAL", () => fs.setattr(ALICE, link.attributes, { sizeBytes: 0 }));
});

test("setattr: refused in one field changes no other", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  await refused("EPERM", () => fs.setattr(ALICE, file, { sizeBytes: 9, mode: 0o777, uid: 0 }));
  assert.deepEqual(fs.getattr(file), file);
});

test("setattr: nothing asked for changes nothing", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  await fs.setattr(EVE, file, {});
  assert.deepEqual(fs.getattr(file), file);
});

test("access: the class of the caller alone counts", async () => {
  const { fs } = openNamespace();
  const all = 63;
  const file = await makeFile(fs, ALICE, fs.root, "f", 0o046);
  assert.equal(fs.access(ALICE, file, all).granted, 0);
  assert.equal(fs.access(BOB, file, all).granted, Access.read);
  assert.equal(fs.access(EVE, file, all).granted, Access.read | Access.modify | Access.extend);
  assert.equal(fs.access(ROOT, file, all).granted, Access.read | Access.modify | Access.extend);
  await fs.setattr(ALICE, file, { mode: 0o001 });
  assert.equal(fs.access(ROOT, file, Access.execute).granted, Access.execute);
  const inGroup = { uid: 7, gid: 7, groups: [1, 2, 100] };
  await fs.setattr(ALICE, file, { mode: 0o070 });
  assert.equal(fs.access(inGroup, file, Access.execute).granted, Access.execute);
});

test("access: entries of a directory change only for who may search it", async () => {
  const { fs } = openNamespace();
  const directory = await makeDirectory(fs, ALICE, fs.root, "d", 0o732);
  const change = Access.modify | Access.extend | Access.delete;
  assert.equal(fs.access(ALICE, directory, 63).granted, Access.read | Access.lookup | change);
  assert.equal(fs.access(BOB, directory, 63).granted, Access.lookup | change);
  assert.equal(fs.access(EVE, directory, 63).granted, 0);
});

test("lookup: dots, search permission, and names that cannot be", async () => {
  const { fs } = openNamespace();
  const directory = await makeDirectory(fs, ALICE, fs.root, "d", 0o750);
  assert.equal(fs.lookup(ALICE, directory, bytes(".")).ino, directory.ino);
  assert.equal(fs.lookup(ALICE, directory, bytes("..")).ino, fs.root.ino);
  assert.equal(fs.lookup(ALICE, fs.root, bytes("..")).ino, fs.root.ino);
  await refused("EACCES", () => fs.lookup(EVE, directory, bytes("x")));
  await refused("EINVAL", () => fs.lookup(ALICE, directory, bytes("")));
  await refused("EINVAL", () => fs.lookup(ALICE, directory, bytes("a/b")));
  await refused("ENAMETOOLONG", () => fs.lookup(ALICE, directory, Buffer.alloc(256, 0x61)));
});
