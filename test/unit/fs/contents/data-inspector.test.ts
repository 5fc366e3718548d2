import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { test } from "node:test";
import type { FileLabels } from "../../../../src/fs/contents/data-inspector.js";
import { nextTurn } from "../../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../../src/lib/prng.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../../../src/lib/units.js";
import type { BlockInspector } from "../../../../src/lu/lu.js";
import { scan } from "../../../support/scan.js";
import { bytes, Rig } from "./fixture.js";

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
const LABELS: FileLabels = { labelOf: async (ino, block) => `${ino}:${block}` };

function inspectorOf(rig: Rig): BlockInspector {
  return rig.contents.inspector(tmpdir(), LABELS);
}

/** Where each block of a file lies, by the rows. */
function addresses(rig: Rig, ino: number, blockCount: number): number[] {
  const head = rig.contents.headAddress(ino);
  return Array.from({ length: blockCount }, (_, i) => head + i * BLOCK_BYTES);
}

/** Stable, in one piece on the LU. */
async function fill(rig: Rig, ino: number, byteCount: number): Promise<void> {
  const inode = rig.inodes.create(ino);
  for (let at = 0; at < byteCount; at += MIB) await rig.write(inode, at, bytes(MIB, ino + at));
  await rig.contents.stabilize(inode);
}

async function judged(rig: Rig, inspector: BlockInspector, at: number): Promise<string> {
  return await inspector.judge(rig.data.peek(at, BLOCK_BYTES), at as LuByte);
}

async function prepared(rig: Rig): Promise<BlockInspector> {
  const inspector = inspectorOf(rig);
  await inspector.prepare(0 as LuByte, rig.data.sizeBytes as LuByte);
  return inspector;
}

test("data inspector: rot is found with the file and block that it hit, and nothing else", async () => {
  const rig = await Rig.create({ redundant: true, cacheBytes: 16 * MIB });
  await fill(rig, 2, 3 * MIB);
  await rig.stableWrite(rig.inodes.create(3), 0, bytes(MIB, 2));
  const places = [...addresses(rig, 2, 768), ...addresses(rig, 3, 256)];
  const inspector = inspectorOf(rig);
  assert.deepEqual(await scan(rig.data, inspector), []);
  for (const i of [0, 63, 64, 767, 800]) rig.data.corrupt(places[i]!);
  // Of no file.
  rig.data.corrupt(rig.data.sizeBytes - BLOCK_BYTES);
  const found = await scan(rig.data, inspector);
  assert.deepEqual(
    found.map(({ verdict, name }) => `${verdict} ${name}`),
    ["bad 2:0", "bad 2:63", "bad 2:64", "bad 2:767", "bad 3:32"],
  );
  inspector.close();
  await rig.close();
});

test("data inspector: a name can be had without a scrub, of a free block there is none", async () => {
  const rig = await Rig.create({ cacheBytes: 16 * MIB });
  await fill(rig, 2, 3 * MIB);
  const inspector = inspectorOf(rig);
  const places = addresses(rig, 2, 768);
  assert.equal(await inspector.nameOf(places[700]! as LuByte), "2:700");
  assert.equal(await inspector.nameOf(places[701]! as LuByte), "2:701");
  assert.equal(await inspector.nameOf((rig.data.sizeBytes - BLOCK_BYTES) as LuByte), null);
  assert.equal(await judged(rig, inspector, places[0]!), "unknown", "nothing was prepared");
  inspector.close();
  await rig.close();
});

test("data inspector: blocks that were overwritten or freed since prepare are never bad", async () => {
  const rig = await Rig.create();
  const inode = rig.inodes.create(2);
  await rig.stableWrite(inode, 0, bytes(MIB, 3));
  const [kept, moved, cut] = [0, 100, 200].map((i) => addresses(rig, 2, 256)[i]!);
  const inspector = await prepared(rig);
  await rig.write(inode, 100 * BLOCK_BYTES, bytes(70 * BLOCK_BYTES, 4));
  await rig.truncate(inode, 190 * BLOCK_BYTES);
  await rig.contents.stabilize(inode);
  await rig.store.durable();
  for (const at of [kept!, moved!, cut!]) rig.data.corrupt(at);
  const verdicts = [];
  for (const at of [kept!, moved!, cut!]) verdicts.push(await judged(rig, inspector, at));
  assert.deepEqual(verdicts, ["bad", "unknown", "unknown"]);
  assert.deepEqual([await inspector.nameOf(moved! as LuByte), await inspector.nameOf(cut! as LuByte)], [null, null]);
  inspector.close();
  await rig.close();
});

test("data inspector: a block that was written since prepare is good when it matches, else unknown; at the next prepare bad", async () => {
  const rig = await Rig.create();
  const inspector = await prepared(rig);
  const inode = rig.inodes.create(2);
  await rig.stableWrite(inode, 0, bytes(MIB, 5));
  const at = rig.contents.headAddress(2);
  assert.equal(await judged(rig, inspector, at), "good");
  // What a scrub had read before the write came.
  assert.equal(await inspector.judge(Buffer.alloc(BLOCK_BYTES), at as LuByte), "unknown");
  rig.data.corrupt(at);
  assert.equal(await judged(rig, inspector, at), "unknown");
  await inspector.prepare(0 as LuByte, rig.data.sizeBytes as LuByte);
  assert.equal(await judged(rig, inspector, at), "bad");
  assert.equal(await inspector.nameOf(at as LuByte), "2:0");
  inspector.close();
  await rig.close();
});

test("data inspector: a freed block must keep its content until the commit that freed it is durable", async () => {
  const rig = await Rig.create();
  const inode = rig.inodes.create(2);
  await rig.stableWrite(inode, 0, bytes(MIB, 6));
  const at = rig.contents.headAddress(2) + 7 * BLOCK_BYTES;
  const inspector = await prepared(rig);
  await rig.truncate(inode, 0);
  assert.equal(await judged(rig, inspector, at), "good");
  rig.data.corrupt(at);
  assert.equal(await judged(rig, inspector, at), "bad", "after a crash the file would have it again");
  assert.equal(await inspector.nameOf(at as LuByte), null);
  await rig.store.durable();
  assert.equal(await judged(rig, inspector, at), "unknown");
  inspector.close();
  await rig.close();
});

test("data inspector: a block that a read in flight still wants keeps its checksum", async () => {
  const rig = await Rig.create();
  await rig.stableWrite(rig.inodes.create(2), 0, bytes(MIB, 7));
  const fresh = await rig.remount();
  const inode = fresh.inodes.load(2)!;
  const at = fresh.contents.headAddress(2);
  const inspector = await prepared(fresh);
  fresh.data.latencyMs = 400;
  const reading = fresh.read(inode, 0, MIB);
  fresh.data.latencyMs = 0;
  await fresh.truncate(inode, 0);
  await fresh.store.durable();
  assert.equal(await judged(fresh, inspector, at), "good");
  await reading;
  assert.equal(await judged(fresh, inspector, at), "unknown");
  inspector.close();
  await fresh.close();
});

test("data inspector: what waits in the intent log changes nothing about the block at home", async () => {
  const rig = await Rig.create();
  const inode = rig.inodes.create(2);
  await rig.stableWrite(inode, 0, bytes(MIB, 8));
  const at = rig.contents.headAddress(2);
  const inspector = await prepared(rig);
  await rig.stableWrite(inode, 0, bytes(BLOCK_BYTES, 9));
  assert.ok(rig.contents.statistics().dirtyBlocks > 0);
  assert.equal(await judged(rig, inspector, at), "good");
  rig.data.corrupt(at);
  assert.equal(await judged(rig, inspector, at), "bad");
  assert.equal(await inspector.nameOf(at as LuByte), "2:0");
  inspector.close();
  await rig.close();
});

test("data inspector: rows that change ahead of the first pass, and behind it, are met as they are", async () => {
  const rig = await Rig.create({ cacheBytes: 8 * MIB });
  const inodes = [];
  // Several slices of rows, a block each.
  for (let ino = 10; ino < 16; ino++) {
    const inode = rig.inodes.create(ino);
    inodes.push(inode);
    for (let i = 0; i < 100; i++) await rig.write(inode, i * 64 * BLOCK_BYTES, bytes(BLOCK_BYTES, i));
    await rig.contents.stabilize(inode);
  }
  const [first, last] = [rig.contents.headAddress(10), rig.contents.headAddress(15)];
  const inspector = inspectorOf(rig);
  const verdicts: string[] = [];
  const preparing = inspector.prepare(0 as LuByte, rig.data.sizeBytes as LuByte).then(async () => {
    for (const at of [first, last]) verdicts.push(await judged(rig, inspector, at));
  });
  for (let turn = 0; turn < 3; turn++) await nextTurn();
  for (const inode of [inodes[0]!, inodes[5]!]) await rig.truncate(inode, 0);
  await preparing;
  assert.ok(verdicts.every((verdict) => verdict !== "bad"));
  await rig.store.durable();
  await inspector.prepare(0 as LuByte, rig.data.sizeBytes as LuByte);
  for (const at of [first, last]) assert.equal(await judged(rig, inspector, at), "unknown");
  assert.deepEqual(await scan(rig.data, inspector), []);
  inspector.close();
  await rig.close();
});

test(`data inspector: beside random changes nothing sound is bad, and at the end it is exact, SEED=${SEED}`, async () => {
  const random = new SeededRandom(SEED);
  const rig = await Rig.create({ random: new SeededRandom(SEED + 1), freedGroupsPerStep: 4, cacheBytes: 8 * MIB });
  let running = true;
  const change = async () => {
    const ino = 10 + random.below(8);
    const inode = rig.inodes.load(ino) ?? rig.inodes.create(ino);
    const choice = random.below(12);
    const at = random.below(600) * BLOCK_BYTES;
    if (choice < 6) await rig.write(inode, at, bytes(1 + random.below(90) * 1000, random.next()));
    else if (choice < 9) await rig.contents.stabilize(inode);
    else if (choice < 11) await rig.truncate(inode, random.below(600) * 3000);
    else rig.discard(inode);
  };
  const changing = (async () => {
    while (running) await change();
  })();
  const inspector = inspectorOf(rig);
  for (let round = 0; round < 4; round++) {
    const bad = (await scan(rig.data, inspector)).filter(({ verdict }) => verdict === "bad");
    assert.deepEqual(bad, []);
  }
  running = false;
  await changing;
  // The last change may have been that a file went: something is stored in any case, and not only in the log.
  const last = rig.inodes.load(9) ?? rig.inodes.create(9);
  await rig.write(last, 0, bytes(300_000, random.next()));
  await rig.contents.stabilize(last);
  for (const ino of rig.inodes.numbers()) await rig.contents.stabilize(rig.inodes.load(ino)!);
  for (let i = 0; i < 20; i++) await rig.store.durable();
  await exact(rig, inspector);
  inspector.close();
  await rig.close();
});

/** Good is every block that is allocated, and no other. */
async function exact(rig: Rig, inspector: BlockInspector): Promise<void> {
  const stored = new Set<number>();
  const segments = rig.store.db.prepare<[], [number, Buffer]>("SELECT seg, bitmap FROM segment").raw().all();
  const size = rig.store.db.prepare<[], number>("SELECT segment_blocks FROM contents_geometry").pluck().get() ?? 0;
  for (const [segment, bitmap] of segments) {
    for (let i = 0; i < size; i++) if ((bitmap[i >> 3]! & (1 << (i & 7))) !== 0) stored.add(segment * size + i);
  }
  assert.ok(stored.size > 0);
  for (let block = 0; block < rig.data.sizeBytes / BLOCK_BYTES; block++) {
    const verdict = await judged(rig, inspector, block * BLOCK_BYTES);
    assert.equal(verdict, stored.has(block) ? "good" : "unknown", `block ${block}`);
  }
}

test("data inspector: two of them, and one whose file system is closed", async () => {
  const rig = await Rig.create();
  await rig.stableWrite(rig.inodes.create(2), 0, bytes(MIB, 8));
  const at = rig.contents.headAddress(2);
  const [one, two] = [await prepared(rig), await prepared(rig)];
  one.close();
  rig.data.corrupt(at);
  assert.deepEqual([await judged(rig, one, at), await judged(rig, two, at)], ["unknown", "bad"]);
  await one.prepare(0 as LuByte, rig.data.sizeBytes as LuByte);
  assert.equal(await judged(rig, one, at), "bad");
  await rig.contents.close();
  await two.prepare(0 as LuByte, rig.data.sizeBytes as LuByte);
  assert.equal(await judged(rig, two, at + BLOCK_BYTES), "unknown");
  await rig.store.close();
  assert.deepEqual(await scan(rig.data, two), []);
  assert.deepEqual([await judged(rig, two, at), await two.nameOf(at as LuByte)], ["unknown", null]);
  one.close();
  two.close();
});
