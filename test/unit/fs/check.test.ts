import assert from "node:assert/strict";
import { test } from "node:test";
import type { CheckOptions } from "../../../src/fs/check.js";
import { ALICE, bytes, type Fixture, makeDirectory, makeFile, openNamespace } from "../../support/namespace-fixture.js";

/** A small tree, all of it in rows: /d (directory) with e (directory), f and its second link g, and a symlink s. */
async function tree(): Promise<{ fixture: Fixture; d: number; e: number; f: number }> {
  const fixture = openNamespace();
  const { fs } = fixture;
  const d = await makeDirectory(fs, ALICE, fs.root, "d");
  const e = await makeDirectory(fs, ALICE, d, "e");
  const f = await makeFile(fs, ALICE, d, "f");
  await fs.link(ALICE, f, d, bytes("g"));
  await fs.symlink(ALICE, fs.root, bytes("s"), bytes("target"), {});
  return { fixture, d: d.ino, e: e.ino, f: f.ino };
}

async function faultsOf(fixture: Fixture, options: CheckOptions = {}): Promise<string[]> {
  const report = await fixture.fs.check(options);
  assert.equal(report.ok, report.faultCount === 0);
  return report.faults.map((fault) => `${fault.ino}: ${fault.what}`);
}

test("check: a sound tree has no fault, at every size of the window", async () => {
  const { fixture } = await tree();
  for (const windowInodes of [1, 2, 3, 1000]) {
    const report = await fixture.fs.check({ windowInodes });
    assert.deepEqual(report.faults, []);
    assert.deepEqual([report.inodes, report.directories, report.files], [5, 3, 1]);
  }
});

test("check: each kind of damage to the rows is named", async () => {
  const damage: Array<[sql: string, expected: RegExp]> = [
    ["UPDATE inode SET nlink = 3 WHERE ino = F", /F: nlink is 3, entries are 2/],
    ["DELETE FROM dirent WHERE ino = F", /F: no entry names this inode/],
    ["DELETE FROM inode WHERE ino = F", /D: entry \d+ names inode F, which does not exist/],
    ["UPDATE inode SET nlink = 2 WHERE ino = D", /D: nlink is 2, should be 3/],
    ["UPDATE inode SET next_cookie = 4 WHERE ino = D", /D: cookie \d+ is not below the next one, 4/],
    ["UPDATE inode SET parent = 1 WHERE ino = E", /E: directory named by entry \d+ of D, but its parent is 1/],
    ["UPDATE inode SET parent = E WHERE ino = D", /D: hangs in a circle/],
    ["INSERT INTO dirent VALUES (1, CAST('x' AS BLOB), 2, E)", /E: a directory named by 2 entries/],
    ["INSERT INTO dirent VALUES (1, CAST('a/b' AS BLOB), 2, F)", /1: entry 2 has a name that cannot be/],
    ["INSERT INTO dirent VALUES (F, CAST('x' AS BLOB), 3, F)", /F: has entries, but is no directory/],
    ["UPDATE inode SET target = CAST('t' AS BLOB) WHERE kind = 5", /the link target has not the size/],
    ["UPDATE inode SET kind = 9 WHERE ino = F", /F: kind 9/],
    [
      "INSERT INTO inode SELECT 999, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, NULL, NULL",
      /999: .*never/,
    ],
    ["DELETE FROM inode WHERE kind = 5", /0: inodes are 4, counted were 5/],
  ];
  for (const [sql, expected] of damage) {
    const { fixture, d, e, f } = await tree();
    const named = (text: string) =>
      text.replace(/\bD\b/g, String(d)).replace(/\bE\b/g, String(e)).replace(/\bF\b/g, String(f));
    assert.deepEqual(await faultsOf(fixture), []);
    fixture.store.db.exec(named(sql));
    const faults = await faultsOf(fixture, { windowInodes: 4 });
    assert.ok(
      faults.some((fault) => new RegExp(named(expected.source)).test(fault)),
      `${sql}: ${faults.join("; ")}`,
    );
  }
});

test("check: changes while it runs are no faults", async () => {
  const { fs } = openNamespace();
  const a = await makeDirectory(fs, ALICE, fs.root, "a");
  const b = await makeDirectory(fs, ALICE, fs.root, "b");
  const c = await makeDirectory(fs, ALICE, fs.root, "c");
  const directories = [a, b, c];
  const adding: Promise<unknown>[] = [];
  for (let i = 0; i < 3000; i++) adding.push(makeFile(fs, ALICE, directories[i % 3] ?? a, `f${i}`));
  await Promise.all(adding);
  let step = 0;
  const change = () => {
    const i = step++;
    const name = bytes(`f${i * 3}`);
    return Promise.all([
      fs.link(ALICE, fs.lookup(ALICE, b, bytes(`f${i * 3 + 1}`)), c, bytes(`l${i}`)),
      fs.rename(ALICE, a, name, i % 2 === 0 ? c : b, bytes(`r${i}`)),
      makeDirectory(fs, ALICE, directories[i % 3] ?? a, `n${i}`),
      fs.remove(ALICE, c, bytes(`f${2999 - i * 3}`)),
    ]);
  };
  const changes: Promise<unknown>[] = [];
  const report = await fs.check({ windowInodes: 1500, onProgress: () => void changes.push(change(), change()) });
  await Promise.all(changes);
  assert.ok(changes.length > 10);
  assert.deepEqual(report.faults, []);
  assert.deepEqual((await fs.check()).faults, []);
});

test("check: keeps so many faults and counts all", async () => {
  const { fixture } = await tree();
  fixture.store.db.exec("UPDATE inode SET nlink = 77");
  const report = await fixture.fs.check({ faultsMax: 2 });
  assert.deepEqual([report.faults.length, report.faultCount, report.ok], [2, 5, false]);
});
