import assert from "node:assert/strict";
import { test } from "node:test";
import { FileGroup, FileState } from "../../../src/fs/contents/file-state.js";
import { GROUP_BYTES_HELD } from "../../../src/fs/contents/limits.js";
import { Inode } from "../../../src/fs/inode.js";
import { INODE_BYTES } from "../../../src/fs/inode-table.js";
import { NameCache } from "../../../src/fs/name-cache.js";
import { FileKind } from "../../../src/fs/vfs.js";
import { MIB } from "../../../src/lib/units.js";
import { keptBytes } from "../../support/heap.js";

const COUNT = 20_000;

/** Of what a cache believes that it holds: never much less than what it does, nor so much more that half of it is wasted. */
function assertNear(bytes: number, counted: number, what: string): void {
  assert.ok(bytes < counted * 1.1, `${what}: ${bytes} bytes, counted as ${counted}`);
  assert.ok(bytes > counted * 0.5, `${what}: ${bytes} bytes, counted as ${counted}`);
}

function inodes(): Map<number, Inode> {
  const all = new Map<number, Inode>();
  for (let ino = 1; ino <= COUNT; ino++) {
    const inode = new Inode(ino, ino * 7, FileKind.file);
    inode.mtimeSeconds = 1.7e9 + ino;
    inode.mtimeNanoseconds = 123_456 * (ino % 1000);
    inode.sizeBytes = ino * 1000;
    all.set(ino, inode);
  }
  return all;
}

test("memory: an inode takes what the inode table counts for it", () => {
  const { kept, bytes } = keptBytes(inodes);
  assertNear(bytes / kept.size, INODE_BYTES, "an inode");
});

test("memory: the group of a small file takes what the bound on groups counts for it", () => {
  const inode = new Inode(1, 1, FileKind.file);
  const { kept, bytes } = keptBytes(() =>
    Array.from({ length: COUNT / 4 }, () => {
      const state = new FileState(inode);
      const group = new FileGroup(state, 0);
      state.groups.set(0, group);
      // It was written with a log record, and is written back.
      state.addDirty(group);
      state.addUnsaved(group);
      group.setLogged(3, { seq: 1, liveCount: 1 });
      state.deleteUnsaved(group);
      state.deleteDirty(group);
      group.setLogged(3, null);
      return state;
    }),
  );
  assertNear(bytes / kept.length, GROUP_BYTES_HELD, "a group");
});

for (const [what, namesOfDirectory, characters] of [
  ["short names", 500, 10],
  ["the longest names", 500, 255],
  ["directories of one name", 1, 10],
  ["one large directory", COUNT, 24],
] as const) {
  test(`memory: the name cache counts what it holds: ${what}`, () => {
    const { kept, bytes } = keptBytes(() => {
      const cache = new NameCache(100 * MIB);
      for (let i = 0; i < COUNT; i++) {
        const key = Buffer.from(String(i).padStart(characters, "n")).toString("latin1");
        cache.set(Math.floor(i / namesOfDirectory), key, { ino: i + 2, cookie: i });
      }
      return cache;
    });
    assertNear(bytes, kept.bytes, what);
  });
}

test("name cache: bounded in bytes, however long the names are and however many directories they lie in", () => {
  for (const [directoryCount, characters] of [
    [1, 10],
    [1, 255],
    [COUNT, 10],
  ] as const) {
    const cache = new NameCache(MIB);
    for (let i = 0; i < COUNT; i++) {
      cache.set(i % directoryCount, String(i).padStart(characters, "n"), { ino: i + 2, cookie: i });
    }
    assert.ok(cache.bytes < 2 * MIB + 1000, `${cache.bytes} bytes`);
    for (let directory = 0; directory < directoryCount; directory++) cache.forgetDirectory(directory);
    assert.equal(cache.bytes, 0);
  }
});
