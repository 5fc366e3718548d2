import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { isStorageError } from "../../../../src/lib/errors.js";
import { nextTurn } from "../../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../../src/lib/prng.js";
import { BLOCK_BYTES, KIB, type LuByte, MIB } from "../../../../src/lib/units.js";
import { bytes, Rig } from "./fixture.js";

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);

async function fillUp(rig: Rig, ino: number): Promise<number> {
  const inode = rig.inodes.load(ino) ?? rig.inodes.create(ino);
  let written = inode.sizeBytes;
  try {
    for (; ; written += 64 * KIB) await rig.write(inode, written, bytes(64 * KIB, written));
  } catch (error) {
    assert.ok(isStorageError(error, "ENOSPC"));
  }
  await rig.contents.stabilize(inode);
  return inode.sizeBytes;
}

test("growth: a full file system takes new space at once, and still has it after a crash", async () => {
  const rig = await Rig.create({ dataBytes: 16 * MIB });
  const before = await fillUp(rig, 2);
  const { totalBlocks } = rig.contents.space();
  rig.contents.grow();
  assert.equal(rig.contents.space().totalBlocks, totalBlocks, "it has not grown");
  rig.data.grow(40 * MIB + 5 * BLOCK_BYTES);
  rig.contents.grow();
  rig.contents.grow();
  const added = rig.contents.space().totalBlocks - totalBlocks;
  assert.ok(added * BLOCK_BYTES > 23 * MIB, `${added} blocks`);
  const after = await fillUp(rig, 2);
  assert.ok(after - before > 23 * MIB, `${after - before} bytes more`);
  assert.deepEqual(await rig.faults(), []);
  const crashed = await rig.crash("random");
  const inode = crashed.inodes.load(2)!;
  for (let at = 0; at < after; at += 64 * KIB) {
    assert.deepEqual(await crashed.read(inode, at, 64 * KIB), bytes(64 * KIB, at));
  }
  assert.deepEqual(await crashed.faults(), []);
  await crashed.close();
});

test("growth: without a word it comes with the next mount, and the LU may not shrink below it again", async () => {
  const rig = await Rig.create({ dataBytes: 16 * MIB });
  const { totalBlocks } = rig.contents.space();
  await rig.close();
  rig.data.grow(32 * MIB);
  const grown = await Rig.mount(rig.options, rig.data, rig.metadata);
  assert.ok(grown.contents.space().totalBlocks > 1.9 * totalBlocks);
  await fillUp(grown, 2);
  await grown.close();
  rig.data.sizeBytes = 24 * MIB;
  await assert.rejects(Rig.mount(rig.options, rig.data, rig.metadata), { code: "EIO", message: /smaller/ });
});

test("growth: by less than a segment, in the middle of one and by odd blocks", async () => {
  const rig = await Rig.create({ dataBytes: 16 * MIB });
  let sizeBytes = 16 * MIB;
  for (const blocks of [1, 7, 64, 250, 3000]) {
    const { totalBlocks, freeBlocks } = rig.contents.space();
    sizeBytes += blocks * BLOCK_BYTES;
    rig.data.grow(sizeBytes);
    rig.contents.grow();
    const reserve = rig.contents.space().totalBlocks - totalBlocks - blocks;
    assert.equal(rig.contents.space().freeBlocks, freeBlocks + blocks + reserve);
  }
  await fillUp(rig, 3);
  assert.deepEqual(await rig.faults(), []);
  await rig.close();
});

test("growth: other stripes of the LU change nothing but where large writes are cut", async () => {
  const rig = await Rig.create({ dataBytes: 32 * MIB, stripeBytes: 256 * KIB });
  await rig.stableWrite(rig.inodes.create(2), 0, bytes(MIB, 1));
  // One more member, online; then the next mount.
  rig.data.grow(48 * MIB, 320 * KIB);
  rig.contents.grow();
  const cuts: number[] = [];
  rig.data.beforeOperation = ({ kind, at, byteCount }) => {
    if (kind === "write") cuts.push((at + byteCount) % (320 * KIB));
    return undefined;
  };
  const inode = rig.inodes.create(3);
  for (let i = 0; i < 3; i++) await rig.write(inode, i * MIB, bytes(MIB, i));
  await rig.contents.stabilize(inode);
  assert.ok(
    cuts.slice(0, -1).some((rest) => rest === 0),
    `whole stripes of the LU: ${cuts}`,
  );
  rig.data.beforeOperation = null;
  const fresh = await rig.remount();
  assert.deepEqual(await fresh.content(fresh.inodes.load(2)!), bytes(MIB, 1));
  await fillUp(fresh, 4);
  assert.deepEqual(await fresh.faults(), []);
  const after = await fresh.crash("none");
  assert.deepEqual(await after.read(after.inodes.load(3)!, MIB, MIB), bytes(MIB, 1));
  assert.deepEqual(await after.faults(), []);
  await after.close();
});

test("growth: a check that runs meanwhile knows the new blocks", async () => {
  const rig = await Rig.create({ dataBytes: 16 * MIB });
  const rows = rig.inodes.create(5);
  for (let i = 0; i < 1500; i++) await rig.write(rows, i * 64 * BLOCK_BYTES, bytes(4096, i));
  await rig.contents.stabilize(rows);
  await fillUp(rig, 6);
  let growing: Promise<void> | null = null;
  const onSlice = () => {
    if (growing !== null) return;
    rig.data.grow(32 * MIB);
    rig.contents.grow();
    growing = (async () => {
      for (let ino = 10; ino < 16; ino++) await rig.stableWrite(rig.inodes.create(ino), 0, bytes(MIB, ino));
    })();
  };
  const faults = [];
  for await (const fault of rig.contents.check({ files: rig.inodes.numbers(), onSlice })) faults.push(fault.what);
  await growing;
  assert.ok(rig.contents.headAddress(10) >= 16 * MIB || rig.contents.headAddress(13) >= 16 * MIB);
  assert.deepEqual(faults, []);
  await rig.close();
});

test(`growth: beside random changes, a check and an inspector, SEED=${SEED}`, async () => {
  const random = new SeededRandom(SEED);
  const rig = await Rig.create({ dataBytes: 16 * MIB, cacheBytes: 8 * MIB, segmentBlocks: 64 });
  const inspector = rig.contents.inspector(tmpdir(), { labelOf: async () => "" });
  await inspector.prepare(0 as LuByte, rig.data.sizeBytes as LuByte);
  let running = true;
  const change = async () => {
    const ino = 10 + random.below(6);
    const inode = rig.inodes.load(ino) ?? rig.inodes.create(ino);
    const choice = random.below(8);
    if (choice < 5) await rig.write(inode, random.below(400) * 5000, bytes(1 + random.below(200_000), random.next()));
    else if (choice < 7) await rig.contents.stabilize(inode);
    else await rig.truncate(inode, random.below(400) * 5000);
  };
  const changing = (async () => {
    while (running) {
      try {
        await change();
      } catch (error) {
        assert.ok(isStorageError(error, "ENOSPC"));
      }
    }
  })();
  for (let size = 18; size < 40; size += 2) {
    const faults = rig.faults(false);
    await nextTurn();
    rig.data.grow(size * MIB);
    rig.contents.grow();
    assert.deepEqual(await faults, []);
  }
  running = false;
  await changing;
  for (let at = 0; at < rig.data.sizeBytes; at += BLOCK_BYTES) {
    assert.notEqual(await inspector.judge(rig.data.peek(at, BLOCK_BYTES), at as LuByte), "bad");
  }
  const after = await rig.crash("random");
  assert.deepEqual(await after.faults(), []);
  await after.close();
});
