import assert from "node:assert/strict";
import { test } from "node:test";
import type { FileId } from "../../../src/fs/vfs.js";
import { bytes, makeDirectory, makeFile, openNamespace, ROOT, refused } from "../../support/namespace-fixture.js";

/** What a client may prepare so that others have to walk far: trees without end, and entries that are passed over. */

async function nest(fs: ReturnType<typeof openNamespace>["fs"], depth: number): Promise<FileId> {
  let directory: FileId = fs.root;
  for (let i = 0; i < depth; i++) directory = await makeDirectory(fs, ROOT, directory, "d");
  return directory;
}

test("deep trees: a directory is not moved where no path leads; files are, and within one directory everything", async () => {
  const { fs } = openNamespace();
  const deep = await nest(fs, 2100);
  await makeDirectory(fs, ROOT, fs.root, "moved");
  await makeFile(fs, ROOT, fs.root, "file");
  await refused("ENAMETOOLONG", () => fs.rename(ROOT, fs.root, bytes("moved"), deep, bytes("moved")));
  await fs.rename(ROOT, fs.root, bytes("file"), deep, bytes("file"));
  await fs.rename(ROOT, deep, bytes("file"), deep, bytes("other"));
  await fs.rename(ROOT, fs.root, bytes("moved"), fs.root, bytes("again"));
  assert.deepEqual((await fs.check()).faults, []);
});

test("deep trees: the list of files names a bounded number of directories above each", async () => {
  const { fs } = openNamespace();
  await makeFile(fs, ROOT, await nest(fs, 100), "near");
  await makeFile(fs, ROOT, fs.root, "top");
  const [top, near] = fs.listFiles({ limit: 10 });
  assert.equal(String(top?.path), "/top");
  assert.equal(String(near?.path), `/${"d/".repeat(100)}near`);
  const other = openNamespace().fs;
  await makeFile(other, ROOT, await nest(other, 500), "far");
  const [far] = other.listFiles({ limit: 10 });
  assert.match(String(far?.path), /^\/…\/(d\/){128}far$/);
});

test("list of files: a thousand entries that are none are passed over a few at a time", async () => {
  const { fs } = openNamespace();
  for (let i = 0; i < 1000; i++) await fs.symlink(ROOT, fs.root, bytes(`s${i}`), bytes("target"), {});
  await makeFile(fs, ROOT, fs.root, "file");
  const found: string[] = [];
  let slices = 0;
  for (let at: string | null | undefined; at !== null; slices++) {
    const { rows, next } = fs.listFilesSlice(at);
    assert.ok(rows.length <= 64);
    found.push(...rows.map(({ path }) => String(path)));
    at = next;
  }
  assert.deepEqual(found, ["/file"]);
  assert.ok(slices > 10, `${slices} slices`);
  assert.deepEqual(
    fs.listFiles({ limit: 1 }).map(({ path }) => String(path)),
    ["/file"],
  );
});
