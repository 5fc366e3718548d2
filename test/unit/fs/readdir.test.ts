import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ALICE,
  bytes,
  EVE,
  makeDirectory,
  makeFile,
  namesOf,
  openNamespace,
  ROOT,
  refused,
} from "../../support/namespace-fixture.js";

test("readdir: dots first, then the order of creation, at every page size", async () => {
  const { fs } = openNamespace();
  const directory = await makeDirectory(fs, ALICE, fs.root, "d");
  const names = ["zebra", "apple", "mango", "b", "a"];
  for (const name of names) await makeFile(fs, ALICE, directory, name);
  for (const pageSize of [1, 2, 3, 4, 5, 6, 7, 8, 100]) {
    assert.deepEqual(namesOf(fs, directory, pageSize), [".", "..", ...names]);
  }
});

test("readdir: an empty directory ends with its dots", async () => {
  const { fs } = openNamespace();
  const directory = await makeDirectory(fs, ALICE, fs.root, "d");
  const page = fs.readdir(ALICE, directory, 0, 2, true);
  assert.equal(page.endOfDirectory, true);
  assert.deepEqual(
    page.entries.map((entry) => [entry.ino, entry.cookie, entry.attributes?.ino]),
    [
      [directory.ino, 1, directory.ino],
      [fs.root.ino, 2, fs.root.ino],
    ],
  );
  assert.equal(fs.readdir(ALICE, directory, 2, 10, false).entries.length, 0);
  assert.equal(fs.readdir(ALICE, directory, 1, 10, false).entries.length, 1);
});

test("readdir: attributes are those of the inodes, dirty or on disk", async () => {
  const { fs, store } = openNamespace({ inodesCachedMax: 4 });
  for (let i = 0; i < 20; i++) await makeFile(fs, ALICE, fs.root, `f${i}`, 0o600 + i);
  await store.durable();
  const page = fs.readdir(ROOT, fs.root, 2, 100, true);
  assert.deepEqual(
    page.entries.map((entry) => entry.attributes?.mode),
    Array.from({ length: 20 }, (_, i) => 0o600 + i),
  );
  assert.deepEqual(page.entries[3]?.attributes, fs.lookup(ALICE, fs.root, bytes("f3")));
});

test("readdir: a listing that goes on after changes shows what lived all the while, once", async () => {
  const { fs } = openNamespace();
  const directory = await makeDirectory(fs, ALICE, fs.root, "d");
  for (let i = 0; i < 10; i++) await makeFile(fs, ALICE, directory, `f${i}`);
  const first = fs.readdir(ALICE, directory, 0, 6, false);
  const cookie = first.entries.at(-1)?.cookie ?? 0;
  await fs.remove(ALICE, directory, bytes("f3"));
  await fs.remove(ALICE, directory, bytes("f5"));
  await makeFile(fs, ALICE, directory, "new");
  const rest = fs.readdir(ALICE, directory, cookie, 100, false);
  assert.deepEqual(
    rest.entries.map((entry) => entry.name.toString()),
    ["f4", "f6", "f7", "f8", "f9", "new"],
  );
});

test("readdir: cookies are never given twice, also over a restart", async () => {
  const first = openNamespace();
  await makeFile(first.fs, ALICE, first.fs.root, "a");
  const cookieOfA = first.fs.readdir(ALICE, first.fs.root, 2, 1, false).entries[0]?.cookie ?? 0;
  await first.fs.remove(ALICE, first.fs.root, bytes("a"));
  const second = openNamespace({ store: first.store });
  await makeFile(second.fs, ALICE, second.fs.root, "b");
  assert.ok((second.fs.readdir(ALICE, second.fs.root, 2, 1, false).entries[0]?.cookie ?? 0) > cookieOfA);
});

test("readdir: cookies from nowhere, permission and kind", async () => {
  const { fs } = openNamespace();
  const directory = await makeDirectory(fs, ALICE, fs.root, "d", 0o711);
  const file = await makeFile(fs, ALICE, directory, "f");
  for (const cookie of [-1, 4, 1e15, 0.5, Number.NaN]) {
    await refused("EBADCOOKIE", () => fs.readdir(ALICE, directory, cookie, 10, false));
  }
  assert.equal(fs.readdir(ALICE, directory, 3, 10, false).endOfDirectory, true);
  await refused("EACCES", () => fs.readdir(EVE, directory, 0, 10, false));
  await refused("ENOTDIR", () => fs.readdir(ALICE, file, 0, 10, false));
});

test("listFiles: every name of every file with its path, page by page", async () => {
  const { fs } = openNamespace();
  const a = await makeDirectory(fs, ALICE, fs.root, "a");
  const b = await makeDirectory(fs, ALICE, a, "b");
  const file = await makeFile(fs, ALICE, b, "one");
  await fs.write(ALICE, file, 0, bytes("content"), "stable");
  await fs.link(ALICE, file, fs.root, bytes("two"));
  await fs.symlink(ALICE, fs.root, bytes("link"), bytes("a"), {});
  await makeFile(fs, ROOT, a, "three");
  await fs.rename(ALICE, a, bytes("b"), fs.root, bytes("moved"));
  const rows = [];
  for (let after: string | undefined; ; ) {
    const page = fs.listFiles(after === undefined ? { limit: 1 } : { limit: 1, after });
    if (page.length === 0) break;
    rows.push(...page);
    after = page.at(-1)?.position;
  }
  assert.deepEqual(
    rows.map((row) => [row.path.toString(), row.ownerUid, row.headAddress, row.sizeBytes, row.volume]),
    [
      ["/two", ALICE.uid, file.ino * 4096, 7, "data"],
      ["/a/three", ROOT.uid, -1, 0, "data"],
      ["/moved/one", ALICE.uid, file.ino * 4096, 7, "data"],
    ],
  );
  await refused("EINVAL", () => fs.listFiles({ limit: 1, after: "nonsense" }));
});
