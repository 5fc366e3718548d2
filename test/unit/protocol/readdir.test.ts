import assert from "node:assert/strict";
import { test } from "node:test";
import type { NfsClient } from "../../support/nfs-client.js";
import { openRig } from "./fixture.js";

const [NOTDIR, BAD_COOKIE, TOOSMALL] = [20, 10003, 10005];
const ZERO = Buffer.alloc(8);

async function fill(client: NfsClient, root: Buffer, count: number): Promise<string[]> {
  const names = Array.from({ length: count }, (_, i) => `${"n".repeat(i % 50)}${i}`);
  await Promise.all(names.map((name) => client.create(root, name)));
  return [".", "..", ...names].sort();
}

test("READDIR: every entry once, whatever the size of the replies; count is kept", async (t) => {
  const { client, root } = await openRig(t);
  const expected = await fill(client, root, 300);
  for (const count of [200, 512, 1000, 4096, 65536, 1 << 20]) {
    const seen: string[] = [];
    let cookie = 0;
    let verifier: Buffer = ZERO;
    for (let eof = false; !eof; ) {
      const page = await client.readdir(root, cookie, verifier, count);
      assert.equal(page.status, 0);
      assert.ok(page.resokBytes <= count, `${page.resokBytes} bytes for ${count}`);
      assert.ok(page.entries.length > 0);
      seen.push(...page.entries.map(({ name }) => name));
      cookie = page.entries.at(-1)?.cookie ?? 0;
      ({ eof, verifier } = page);
    }
    assert.deepEqual(seen.sort(), expected);
  }
});

test("READDIRPLUS: handles and attributes of every entry; dircount and maxcount are kept", async (t) => {
  const { client, root } = await openRig(t);
  const expected = await fill(client, root, 100);
  for (const [dircount, maxcount] of [
    [512, 2000],
    [65536, 800],
    [0, 4096],
    [8192, 32768],
  ] as const) {
    const seen: string[] = [];
    let cookie = 0;
    let verifier: Buffer = ZERO;
    for (let eof = false; !eof; ) {
      const page = await client.readdirplus(root, cookie, verifier, dircount, maxcount);
      assert.ok(page.resokBytes <= maxcount);
      const dirBytes = page.entries.reduce((sum, { name }) => sum + 24 + ((name.length + 3) & ~3), 0);
      assert.ok(page.entries.length === 1 || dirBytes <= dircount);
      for (const entry of page.entries) {
        assert.equal(entry.attributes?.fileid, entry.fileid);
        assert.deepEqual(entry.handle, (await client.lookup(root, entry.name)).handle);
        seen.push(entry.name);
      }
      cookie = page.entries.at(-1)?.cookie ?? 0;
      ({ eof, verifier } = page);
    }
    assert.deepEqual(seen.sort(), expected);
  }
});

test("READDIR: TOOSMALL, BAD_COOKIE, NOTDIR, with attributes", async (t) => {
  const { client, root } = await openRig(t);
  await fill(client, root, 3);
  const { verifier } = await client.readdir(root, 0, ZERO, 4096);
  for (const count of [0, 1, 103, 110]) {
    const small = await client.readdir(root, 0, ZERO, count);
    assert.deepEqual([small.status, small.attributes?.fileid], [TOOSMALL, 1]);
    assert.equal((await client.readdirplus(root, 0, ZERO, 4096, count)).status, TOOSMALL);
  }
  for (const cookie of [999, 2 ** 52, 2n ** 53n, 2n ** 64n - 1n]) {
    assert.equal((await client.readdir(root, cookie, verifier, 4096)).status, BAD_COOKIE);
    assert.equal((await client.readdirplus(root, cookie, verifier, 4096, 4096)).status, BAD_COOKIE);
  }
  assert.equal((await client.readdir(root, 1, ZERO, 4096)).status, BAD_COOKIE);
  const { handle } = await client.lookup(root, "0");
  assert.equal((await client.readdir(handle, 0, ZERO, 4096)).status, NOTDIR);
});

test("READDIR: going on behind a removed entry", async (t) => {
  const { client, root } = await openRig(t);
  await fill(client, root, 20);
  const first = await client.readdir(root, 0, ZERO, 400);
  const last = first.entries.at(-1);
  assert.ok(last);
  await client.remove(root, last.name);
  const second = await client.readdir(root, last.cookie, first.verifier, 4096);
  assert.equal(first.entries.length + second.entries.length, 22);
});
