import assert from "node:assert/strict";
import { test } from "node:test";
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

test("remove: the last link makes the handle stale and frees the contents", async () => {
  const { fs, contents } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  await fs.link(ALICE, file, fs.root, bytes("g"));
  await fs.remove(ALICE, fs.root, bytes("f"));
  const left = fs.getattr(file);
  assert.equal(left.nlink, 1);
  assert.equal(contents.discarded, 0);
  await fs.remove(ALICE, fs.root, bytes("g"));
  assert.equal(contents.discarded, 1);
  await refused("ESTALE", () => fs.getattr(file));
  await refused("ENOENT", () => fs.lookup(ALICE, fs.root, bytes("g")));
});

test("remove: a removed file stays stale after a restart, and its number is not used again", async () => {
  const first = openNamespace();
  const file = await makeFile(first.fs, ALICE, first.fs.root, "f");
  await first.fs.remove(ALICE, first.fs.root, bytes("f"));
  const second = openNamespace({ store: first.store });
  await refused("ESTALE", () => second.fs.getattr(file));
  assert.ok((await makeFile(second.fs, ALICE, second.fs.root, "g")).ino > file.ino);
});

test("getattr: another generation is ESTALE", async () => {
  const { fs } = openNamespace();
  const { ino, generation } = await makeFile(fs, ALICE, fs.root, "f");
  await refused("ESTALE", () => fs.getattr({ ino, generation: generation + 1 }));
  await refused("ESTALE", () => fs.getattr({ ino: ino + 1, generation }));
});

test("remove and rmdir: each refuses the other's kind", async () => {
  const { fs } = openNamespace();
  await makeFile(fs, ALICE, fs.root, "f");
  await makeDirectory(fs, ALICE, fs.root, "d");
  await refused("EISDIR", () => fs.remove(ALICE, fs.root, bytes("d")));
  await refused("ENOTDIR", () => fs.rmdir(ALICE, fs.root, bytes("f")));
  await refused("ENOENT", () => fs.remove(ALICE, fs.root, bytes("x")));
});

test("remove and rmdir: the dots", async () => {
  const { fs } = openNamespace();
  await refused("EINVAL", () => fs.remove(ROOT, fs.root, bytes(".")));
  await refused("EINVAL", () => fs.remove(ROOT, fs.root, bytes("..")));
  await refused("EINVAL", () => fs.rmdir(ROOT, fs.root, bytes(".")));
  await refused("ENOTEMPTY", () => fs.rmdir(ROOT, fs.root, bytes("..")));
});

test("rmdir: only an empty directory, and the parent loses a link", async () => {
  const { fs } = openNamespace();
  const directory = await makeDirectory(fs, ALICE, fs.root, "d");
  await makeFile(fs, ALICE, directory, "f");
  await refused("ENOTEMPTY", () => fs.rmdir(ALICE, fs.root, bytes("d")));
  await fs.remove(ALICE, directory, bytes("f"));
  const change = await fs.rmdir(ALICE, fs.root, bytes("d"));
  assert.equal(change.after.nlink, 2);
  await refused("ESTALE", () => fs.getattr(directory));
});

test("remove: needs write permission on the directory, not on the file", async () => {
  const { fs } = openNamespace();
  const directory = await makeDirectory(fs, ALICE, fs.root, "d", 0o775);
  await makeFile(fs, ALICE, directory, "f", 0o000);
  await refused("EACCES", () => fs.remove(EVE, directory, bytes("f")));
  await fs.remove(BOB, directory, bytes("f"));
});

test("remove: in a sticky directory only the owners", async () => {
  const { fs } = openNamespace({ rootMode: 0o1777 });
  await makeFile(fs, ALICE, fs.root, "f", 0o666);
  await makeFile(fs, ALICE, fs.root, "g", 0o666);
  await refused("EPERM", () => fs.remove(BOB, fs.root, bytes("f")));
  await refused("EPERM", () => fs.rename(BOB, fs.root, bytes("f"), fs.root, bytes("h")));
  await fs.remove(ALICE, fs.root, bytes("f"));
  await fs.remove(ROOT, fs.root, bytes("g"));
  const own = await makeDirectory(fs, BOB, fs.root, "own", 0o1777);
  await makeFile(fs, ALICE, own, "f");
  await fs.remove(BOB, own, bytes("f"));
});

test("rename: moves a name and leaves the inode, but for its ctime", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  const directory = await makeDirectory(fs, ALICE, fs.root, "d");
  await fs.rename(ALICE, fs.root, bytes("f"), directory, bytes("g"));
  const moved = fs.lookup(ALICE, directory, bytes("g"));
  assert.equal(moved.ino, file.ino);
  assert.deepEqual(moved.mtime, file.mtime);
  assert.notDeepEqual(moved.ctime, file.ctime);
  await refused("ENOENT", () => fs.lookup(ALICE, fs.root, bytes("f")));
});

test("rename: over a file replaces it, in its place of the listing", async () => {
  const { fs } = openNamespace();
  const old = await makeFile(fs, ALICE, fs.root, "target");
  await makeFile(fs, ALICE, fs.root, "between");
  const file = await makeFile(fs, ALICE, fs.root, "source");
  await fs.rename(ALICE, fs.root, bytes("source"), fs.root, bytes("target"));
  assert.equal(fs.lookup(ALICE, fs.root, bytes("target")).ino, file.ino);
  assert.deepEqual(namesOf(fs, fs.root), [".", "..", "target", "between"]);
  await refused("ESTALE", () => fs.getattr(old));
});

test("rename: over one of several links only takes that link", async () => {
  const { fs } = openNamespace();
  const old = await makeFile(fs, ALICE, fs.root, "a");
  await fs.link(ALICE, old, fs.root, bytes("b"));
  await makeFile(fs, ALICE, fs.root, "c");
  await fs.rename(ALICE, fs.root, bytes("c"), fs.root, bytes("a"));
  assert.equal(fs.getattr(old).nlink, 1);
});

test("rename: two names of one inode: nothing happens", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "a");
  await fs.link(ALICE, file, fs.root, bytes("b"));
  const before = fs.getattr(fs.root);
  await fs.rename(ALICE, fs.root, bytes("a"), fs.root, bytes("b"));
  await fs.rename(ALICE, fs.root, bytes("a"), fs.root, bytes("a"));
  assert.deepEqual(fs.getattr(fs.root), before);
  assert.deepEqual(namesOf(fs, fs.root), [".", "..", "a", "b"]);
});

test("rename: a directory takes its parent with it", async () => {
  const { fs } = openNamespace();
  const a = await makeDirectory(fs, ALICE, fs.root, "a");
  const b = await makeDirectory(fs, ALICE, fs.root, "b");
  const inner = await makeDirectory(fs, ALICE, a, "inner");
  const { from, to } = await fs.rename(ALICE, a, bytes("inner"), b, bytes("inner"));
  assert.deepEqual([from.after.nlink, to.after.nlink], [2, 3]);
  assert.equal(fs.lookup(ALICE, inner, bytes("..")).ino, b.ino);
  assert.equal((await fs.check()).ok, true);
});

test("rename: not into itself, not over its own parent, not over a full directory", async () => {
  const { fs } = openNamespace();
  const a = await makeDirectory(fs, ALICE, fs.root, "a");
  const b = await makeDirectory(fs, ALICE, a, "b");
  const c = await makeDirectory(fs, ALICE, b, "c");
  await refused("EINVAL", () => fs.rename(ALICE, fs.root, bytes("a"), c, bytes("x")));
  await refused("EINVAL", () => fs.rename(ALICE, fs.root, bytes("a"), a, bytes("x")));
  await refused("ENOTEMPTY", () => fs.rename(ALICE, b, bytes("c"), fs.root, bytes("a")));
  await makeDirectory(fs, ALICE, fs.root, "other");
  await refused("ENOTEMPTY", () => fs.rename(ALICE, fs.root, bytes("other"), fs.root, bytes("a")));
  await fs.rename(ALICE, fs.root, bytes("other"), b, bytes("c"));
  await refused("ESTALE", () => fs.getattr(c));
  assert.equal(fs.getattr(b).nlink, 3);
  assert.equal((await fs.check()).ok, true);
});

test("rename: file and directory do not replace each other", async () => {
  const { fs } = openNamespace();
  await makeFile(fs, ALICE, fs.root, "f");
  await makeDirectory(fs, ALICE, fs.root, "d");
  await refused("EISDIR", () => fs.rename(ALICE, fs.root, bytes("f"), fs.root, bytes("d")));
  await refused("ENOTDIR", () => fs.rename(ALICE, fs.root, bytes("d"), fs.root, bytes("f")));
  await refused("EINVAL", () => fs.rename(ALICE, fs.root, bytes("d"), fs.root, bytes("..")));
});

test("rename: to another parent needs write permission on the directory itself", async () => {
  const { fs } = openNamespace();
  await makeDirectory(fs, ALICE, fs.root, "a", 0o755);
  const b = await makeDirectory(fs, BOB, fs.root, "b", 0o755);
  await refused("EACCES", () => fs.rename(BOB, fs.root, bytes("a"), b, bytes("a")));
  await fs.rename(BOB, fs.root, bytes("a"), fs.root, bytes("renamed"));
});
