import assert from "node:assert/strict";
import { test } from "node:test";
import { LIMITS } from "../../../src/fs/vfs.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import {
  ALICE,
  BOB,
  bytes,
  EVE,
  makeFile,
  namesOf,
  openNamespace,
  ROOT,
  refused,
} from "../../support/namespace-fixture.js";

test("write and read: bytes, counts and the end of the file", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  const written = await fs.write(ALICE, file, 3, bytes("hello"), "unstable");
  assert.deepEqual([written.count, written.change.before.sizeBytes, written.change.after.sizeBytes], [5, 0, 8]);
  assert.deepEqual(written.change.after.mtime, written.change.after.ctime);
  const target = Buffer.alloc(6, 0xff);
  const first = await fs.read(ALICE, file, 0, target);
  assert.deepEqual([first.count, first.endOfFile, target.toString("latin1")], [6, false, "\0\0\0hel"]);
  const rest = await fs.read(ALICE, file, 6, target);
  assert.deepEqual([rest.count, rest.endOfFile], [2, true]);
  const beyond = await fs.read(ALICE, file, 100, target);
  assert.deepEqual([beyond.count, beyond.endOfFile], [0, true]);
});

test("write: unstable returns at once and waits for no commit; stable does", async () => {
  const { fs, store } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  const commits = store.commits;
  assert.ok(!(fs.write(ALICE, file, 0, bytes("a"), "unstable") instanceof Promise));
  assert.equal(store.commits, commits);
  const stable = await fs.write(ALICE, file, 0, bytes("b"), "stable");
  assert.equal(stable.stability, "stable");
  assert.equal(store.commits, commits + 1);
  fs.write(ALICE, file, 0, bytes("c"), "unstable");
  await fs.commit(ALICE, file, 0, 0);
  assert.equal(store.commits, commits + 2);
});

test("write: by another than root ends setuid and setgid; no bytes change nothing", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f", 0o6777);
  await fs.write(ROOT, file, 0, bytes("x"), "unstable");
  assert.equal(fs.getattr(file).mode, 0o6777);
  const before = fs.getattr(file);
  await fs.write(BOB, file, 0, bytes(""), "unstable");
  assert.deepEqual(fs.getattr(file), before);
  await fs.write(BOB, file, 0, bytes("x"), "unstable");
  assert.equal(fs.getattr(file).mode, 0o777);
});

test("read and write: the owner passes whatever the mode is, others need the bits", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f", 0o400);
  await fs.write(ALICE, file, 0, bytes("x"), "unstable");
  await refused("EACCES", () => fs.write(EVE, file, 0, bytes("x"), "unstable"));
  await refused("EACCES", () => fs.read(EVE, file, 0, Buffer.alloc(1)));
  await fs.setattr(ALICE, file, { mode: 0o001 });
  assert.equal((await fs.read(EVE, file, 0, Buffer.alloc(1))).count, 1);
});

test("read, write, commit: kinds and ranges that have no data", async () => {
  const { fs } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  const link = (await fs.symlink(ALICE, fs.root, bytes("s"), bytes("t"), {})).attributes;
  await refused("EISDIR", () => fs.read(ROOT, fs.root, 0, Buffer.alloc(1)));
  await refused("EISDIR", () => fs.write(ROOT, fs.root, 0, bytes("x"), "unstable"));
  await refused("EINVAL", () => fs.read(ROOT, link, 0, Buffer.alloc(1)));
  await refused("EINVAL", () => fs.commit(ROOT, link, 0, 0));
  await refused("EINVAL", () => fs.read(ROOT, file, -1, Buffer.alloc(1)));
  await refused("EFBIG", () => fs.write(ALICE, file, LIMITS.fileBytesMax, bytes("x"), "unstable"));
  assert.equal(fs.getattr(file).sizeBytes, 0);
});

test("write: a file that is removed while its write waits is ESTALE", async () => {
  const { fs, contents } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  contents.slow = true;
  const pending = fs.write(ALICE, file, 0, bytes("x"), "stable");
  const removing = fs.remove(ALICE, fs.root, bytes("f"));
  await refused("ESTALE", () => pending);
  await removing;
});

test("write: ENOSPC of the contents layer changes neither times nor mode", async () => {
  const { fs, contents } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f", 0o4755);
  contents.blocksFree = 0;
  await refused("ENOSPC", () => fs.write(ALICE, file, 0, bytes("x"), "unstable"));
  assert.deepEqual(fs.getattr(file), file);
});

test("atime: moves with the first read after a change and then once a day, and forces no commit", async () => {
  const { fs, store, clock } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  await fs.write(ALICE, file, 0, bytes("x"), "stable");
  const commits = store.commits;
  const first = await fs.read(ALICE, file, 0, Buffer.alloc(1));
  assert.ok(first.attributes.atime.nanoseconds > first.attributes.mtime.nanoseconds);
  const second = await fs.read(ALICE, file, 0, Buffer.alloc(1));
  assert.deepEqual(second.attributes.atime, first.attributes.atime);
  clock.seconds += 86_401;
  const nextDay = await fs.read(ALICE, file, 0, Buffer.alloc(1));
  assert.equal(nextDay.attributes.atime.seconds, clock.seconds);
  assert.deepEqual(nextDay.attributes.ctime, first.attributes.ctime);
  assert.equal(store.commits, commits);
});

test("atime: what a read has moved is committed after a while without any other change", async () => {
  const { fs, store, clock } = openNamespace();
  await makeFile(fs, ALICE, fs.root, "f");
  const commits = store.commits;
  namesOf(fs, fs.root);
  clock.fire();
  await nextTurn();
  assert.equal(store.commits, commits + 1);
  clock.fire();
  await nextTurn();
  assert.equal(store.commits, commits + 1);
});

test("failure: after a failed commit every operation is EIO and the owner is told once", async () => {
  const { fs, store, events } = openNamespace();
  const file = await makeFile(fs, ALICE, fs.root, "f");
  store.failing = true;
  await refused("EIO", () => makeFile(fs, ALICE, fs.root, "g"));
  await refused("EIO", () => fs.getattr(file));
  await refused("EIO", () => fs.read(ALICE, file, 0, Buffer.alloc(1)));
  await refused("EIO", () => fs.remove(ALICE, fs.root, bytes("f")));
  assert.equal(fs.failed?.code, "EIO");
  assert.deepEqual(
    events.map((event) => event.kind),
    ["failed"],
  );
});

test("failure: a database that breaks in the middle of a change stops the file system", async () => {
  const { fs, store, events } = openNamespace();
  await refused("ENOENT", () => fs.lookup(ALICE, fs.root, bytes("f")));
  store.db.exec("DROP TABLE dirent");
  await refused("EIO", () => fs.lookup(ALICE, fs.root, bytes("g")));
  assert.deepEqual(events, []);
  await refused("EIO", () => makeFile(fs, ALICE, fs.root, "f"));
  assert.equal(fs.failed?.code, "EIO");
  await refused("EIO", () => fs.getattr(fs.root));
});

test("settings and space", async () => {
  const { fs } = openNamespace();
  assert.equal(fs.getSetting("k"), undefined);
  await fs.setSetting("k", "väl");
  assert.equal(fs.getSetting("k"), "väl");
  const space = fs.space();
  assert.equal(space.totalBytes, 2_000_000 * 4096);
  assert.ok(space.freeFiles > 0 && space.totalFiles > space.freeFiles);
});
