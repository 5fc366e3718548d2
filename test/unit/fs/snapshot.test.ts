import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { GROUP_BYTES, GROUPS_START, type Snapshot } from "../../../src/fs/snapshot/snapshot.js";
import type { FileId } from "../../../src/fs/vfs.js";
import { isStorageError } from "../../../src/lib/errors.js";
import { KIB, MIB } from "../../../src/lib/units.js";
import { filled, MemoryFileSystem, put } from "../../support/memory-file-system.js";
import { ALICE, bytes, makeDirectory, makeFile, refused } from "../../support/namespace-fixture.js";
import { liveTree, treeOf } from "../../support/snapshot-tree.js";

function snapshotFiles(memory: MemoryFileSystem): string[] {
  return readdirSync(memory.scratchDir).filter((name) => name.startsWith("snapshot-") && name.endsWith(".db"));
}

/** Small, large, sparse and cut files, a folder, a second link and a symlink. */
async function furnish(memory: MemoryFileSystem) {
  const { fs } = memory;
  const directory = await makeDirectory(fs, ALICE, fs.root, "d");
  const small = await makeFile(fs, ALICE, directory, "small");
  await put(memory, small, bytes("a few bytes"));
  const large = await makeFile(fs, ALICE, fs.root, "large");
  await put(memory, large, filled(MIB + 5000, 1));
  const sparse = await makeFile(fs, ALICE, fs.root, "sparse");
  await put(memory, sparse, bytes("far"), 3 * GROUP_BYTES + 777);
  const cut = await makeFile(fs, ALICE, fs.root, "cut");
  await put(memory, cut, filled(600 * KIB, 2));
  await fs.setattr(ALICE, cut, { sizeBytes: 300_001 });
  await fs.link(ALICE, large, directory, bytes("link"));
  await fs.symlink(ALICE, directory, bytes("symlink"), bytes("../large"), {});
  return { directory, small, large, sparse, cut };
}

test("snapshot: what is written, cut, removed, made and renamed behind it is not in it", async () => {
  const memory = await MemoryFileSystem.open();
  const { fs } = memory;
  const { directory, small, large, sparse, cut } = await furnish(memory);
  const before = await liveTree(fs);
  const snapshot = await fs.snapshot();
  assert.deepEqual(await treeOf(snapshot), before);

  for (let round = 0; round < 4; round++) {
    await put(memory, large, filled(MIB, 10 + round));
    await put(memory, small, filled(9000, 20 + round));
    await fs.setattr(ALICE, cut, { sizeBytes: round * 100_000 });
    const made = await makeFile(fs, ALICE, directory, `made ${round}`);
    await put(memory, made, filled(400 * KIB, 30 + round));
    await fs.settle();
  }
  await fs.remove(ALICE, fs.root, bytes("sparse"));
  await fs.rename(ALICE, fs.root, bytes("large"), directory, bytes("moved"));
  await refused("ESTALE", () => fs.getattr(sparse));
  assert.ok(snapshot.heldBytes > 0, "what the snapshot needs is held back");
  assert.deepEqual(await treeOf(snapshot), before);

  snapshot.close();
  await refused("EBUSY", () => snapshot.groups(GROUPS_START, 1));
  const report = await fs.check({ data: true });
  assert.deepEqual(report.faults, []);
  assert.deepEqual(snapshotFiles(memory), []);
  await memory.end();
});

test("snapshot: what was written unstably and waits in memory is in it, whole", async () => {
  const memory = await MemoryFileSystem.open();
  const file = await makeFile(memory.fs, ALICE, memory.fs.root, "f");
  await memory.fs.write(ALICE, file, 0, filled(300 * KIB, 3), "unstable");
  const snapshot = await memory.fs.snapshot();
  assert.deepEqual(await treeOf(snapshot), await liveTree(memory.fs));
  snapshot.close();
  await memory.end();
});

test("snapshot: taken while many write it is some moment between two writes of each", async () => {
  const memory = await MemoryFileSystem.open();
  const files: FileId[] = [];
  for (let i = 0; i < 8; i++) files.push(await makeFile(memory.fs, ALICE, memory.fs.root, `f${i}`));
  let ended = false;
  const acknowledged = files.map(() => 0);
  const writers = files.map(async (file, i) => {
    for (let round = 1; !ended; round++) {
      await memory.fs.write(ALICE, file, 0, Buffer.alloc(5000 * (i + 1), round % 250), "stable");
      acknowledged[i] = round;
    }
  });
  try {
    for (let turn = 0; turn < 5; turn++) {
      const least = [...acknowledged];
      const snapshot = await memory.fs.snapshot();
      const most = acknowledged.map((round) => round + 1);
      const tree = await treeOf(snapshot);
      snapshot.close();
      for (let i = 0; i < files.length; i++) {
        const content = Buffer.from(tree.get(`/f${i}`) ?? "", "latin1");
        if (content.length === 0) {
          assert.equal(least[i], 0);
          continue;
        }
        const allowed = new Set<number>();
        for (let round = least[i]!; round <= most[i]!; round++) allowed.add(round % 250);
        assert.ok(allowed.has(content[0]!), `f${i} holds ${content[0]}, not one of ${[...allowed]}`);
        assert.ok(content.equals(Buffer.alloc(5000 * (i + 1), content[0])), `f${i} is one write, whole`);
      }
    }
  } finally {
    ended = true;
  }
  await Promise.all(writers);
  await memory.end();
});

test("snapshot: small stable writes go into the log again behind it", async () => {
  const memory = await MemoryFileSystem.open();
  const file = await makeFile(memory.fs, ALICE, memory.fs.root, "f");
  const intents = () => memory.fs.statistics().loggedIntents ?? 0;
  await put(memory, file, bytes("one"));
  const first = intents();
  assert.ok(first > 0, "small stable writes are intents");
  const snapshot = await memory.fs.snapshot();
  await put(memory, file, bytes("two"));
  assert.ok(intents() > first, "while it is held, too");
  snapshot.close();
  await memory.end();
});

test("snapshot: given up, with a sentence, when clients need the space that it holds back", async () => {
  const memory = await MemoryFileSystem.open({ dataBytes: 16 * MIB });
  const { fs } = memory;
  const file = await makeFile(fs, ALICE, fs.root, "f");
  const half = Math.floor(fs.space().freeBytes / 2 / (128 * KIB)) * 128 * KIB;
  await put(memory, file, filled(half, 4));
  const snapshot = await fs.snapshot();
  const before = await treeOf(snapshot);
  let content = filled(half, 5);
  for (let round = 0; round < 4; round++) {
    content = filled(half, 6 + round);
    await put(memory, file, content);
  }
  assert.match(String(snapshot.lost), /given up: the file system needs the space/);
  await assert.rejects(async () => assert.deepEqual(await treeOf(snapshot), before), isStorageError);
  snapshot.close();
  assert.equal((await liveTree(fs)).get("/f"), content.toString("latin1"));
  const report = await fs.check({ data: true });
  assert.deepEqual(report.faults, []);
  await memory.end();
});

test("snapshot: a full LU stays ENOSPC for its clients, and space comes back with a removal", async () => {
  const memory = await MemoryFileSystem.open({ dataBytes: 16 * MIB });
  const { fs } = memory;
  const file = await makeFile(fs, ALICE, fs.root, "f");
  const snapshot = await fs.snapshot();
  await refused("ENOSPC", async () => {
    for (let at = 0; ; at += MIB) await put(memory, file, filled(MIB, 7), at);
  });
  snapshot.close();
  await fs.remove(ALICE, fs.root, bytes("f"));
  const again = await makeFile(fs, ALICE, fs.root, "again");
  await put(memory, again, filled(4 * MIB, 8));
  assert.deepEqual((await fs.check({ data: true })).faults, []);
  await memory.end();
});

test("snapshot: a crash while it is held leaves nothing behind", async () => {
  const memory = await MemoryFileSystem.open({ seed: 11 });
  const { large, small } = await furnish(memory);
  const snapshot = await memory.fs.snapshot();
  await put(memory, large, filled(MIB, 40));
  await put(memory, small, bytes("afterwards"));
  assert.equal(snapshotFiles(memory).length, 1);
  const space = memory.fs.space().freeBytes;
  await memory.crash();
  assert.deepEqual(snapshotFiles(memory), []);
  assert.ok(memory.fs.space().freeBytes >= space, "what was held back is free");
  const tree = await liveTree(memory.fs);
  assert.equal(tree.get("/d/small"), "afterwardss", "over the first ten of eleven bytes");
  assert.deepEqual((await memory.fs.check({ data: true })).faults, []);
  snapshot.close();
  await memory.end();
});

test("snapshot: closed file systems and a second one at the same moment", async () => {
  const memory = await MemoryFileSystem.open();
  await furnish(memory);
  const results = await Promise.allSettled([memory.fs.snapshot(), memory.fs.snapshot()]);
  const held = results.flatMap((one): Snapshot[] => (one.status === "fulfilled" ? [one.value] : []));
  assert.equal(held.length, 1);
  const another = await memory.fs.snapshot();
  assert.deepEqual(await treeOf(another), await treeOf(held[0]!));
  await memory.fs.close();
  assert.match(String(another.lost), /given up: the file system is closed/);
  for (const one of [...held, another]) one.close();
  await refused("EIO", () => memory.fs.snapshot());
});

test("snapshot: without one nothing of it is done in a commit", async () => {
  const memory = await MemoryFileSystem.open();
  const { large, small } = await furnish(memory);
  const work = async () => {
    const before = { ...memory.data.counters, ...prefixed(memory.metadata.counters) };
    await put(memory, large, filled(MIB, 50));
    await put(memory, small, bytes("some more"));
    const after: Record<string, number> = { ...memory.data.counters, ...prefixed(memory.metadata.counters) };
    return Object.fromEntries(Object.entries(before).map(([name, count]) => [name, after[name]! - Number(count)]));
  };
  const first = await work();
  const snapshot = await memory.fs.snapshot();
  snapshot.close();
  await memory.fs.settle();
  assert.deepEqual(await work(), first, "the same writes cost the same before and behind a snapshot");
  await memory.end();
});

function prefixed(counts: object): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).map(([name, count]) => [`metadata ${name}`, Number(count)]));
}
