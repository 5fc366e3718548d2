import assert from "node:assert/strict";
import { test } from "node:test";
import { isStorageError } from "../../../../src/lib/errors.js";
import { BLOCK_BYTES, MIB } from "../../../../src/lib/units.js";
import { bytes, Rig } from "./fixture.js";

/** One file of 1 MiB that is on the LU only. */
async function stored(redundant: boolean, without: { checksum?: boolean } = {}): Promise<Rig> {
  const rig = await Rig.create({ redundant, without });
  await rig.stableWrite(rig.inodes.create(2), 0, bytes(MIB, 1));
  return await rig.remount();
}

/** All blocks that one of two disks holds, in chunks of 64 KiB; they read back changed, or not at all. */
function ofOneDisk(block: number): boolean {
  return Math.floor(block / 16) % 2 === 0;
}

test("read: every block of one disk is bad, in large reads and small ones; all are healed and told with LU and place", async () => {
  for (const byteCount of [MIB, 20 * 1024]) {
    const rig = await stored(true);
    const inode = rig.inodes.load(2)!;
    const head = rig.contents.headAddress(2);
    for (let block = 0; block < 256; block++) if (ofOneDisk(block)) rig.data.corrupt(head + block * BLOCK_BYTES);
    for (let at = 0; at < MIB; at += byteCount) {
      const end = Math.min(MIB, at + byteCount);
      assert.deepEqual(await rig.read(inode, at, byteCount), bytes(MIB, 1).subarray(at, end));
    }
    assert.deepEqual([rig.data.counters.heals, rig.contents.statistics().healedBlocks], [128, 128]);
    const told = rig.events.map((event) => (event.kind === "healed" ? [event.lu, event.at - head] : event.kind));
    assert.deepEqual(told.at(-1), [1, 239 * BLOCK_BYTES]);
    assert.equal(told.length, 128);
    assert.deepEqual(await rig.faults(), []);
    assert.equal(rig.data.counters.heals, 128);
    await rig.close();
  }
});

test("read: a disk that refuses some blocks: only those come from elsewhere and are written again", async () => {
  for (const byteCount of [MIB, 20 * 1024]) {
    const rig = await stored(true);
    const head = rig.contents.headAddress(2);
    const refused = (at: number) => at >= head && ofOneDisk((at - head) / BLOCK_BYTES);
    rig.data.failReads = (at, count) => {
      for (let done = 0; done < count; done += BLOCK_BYTES) if (refused(at + done)) return true;
      return false;
    };
    const inode = rig.inodes.load(2)!;
    for (let at = 0; at < MIB; at += byteCount) {
      const end = Math.min(MIB, at + byteCount);
      assert.deepEqual(await rig.read(inode, at, byteCount), bytes(MIB, 1).subarray(at, end));
    }
    assert.equal(rig.data.counters.heals, 128);
    await rig.close();
  }
});

test("read: one block that no copy has is EIO for who reads it, and told; its neighbours can be read", async () => {
  const rig = await stored(false);
  const inode = rig.inodes.load(2)!;
  const at = rig.contents.headAddress(2) + 100 * BLOCK_BYTES;
  rig.data.corrupt(at);
  const target = rig.read(inode, 0, MIB);
  await assert.rejects(target, (error) => isStorageError(error, "EIO") && error.detail.at === at);
  await assert.rejects(rig.read(inode, 100 * BLOCK_BYTES + 5, 10), (error) => isStorageError(error, "EIO"));
  assert.deepEqual(rig.events[0], { kind: "unreadable", ino: 2, block: 100, lu: 1, at });
  assert.deepEqual(await rig.read(inode, 0, 100 * BLOCK_BYTES), bytes(MIB, 1).subarray(0, 100 * BLOCK_BYTES));
  assert.equal(rig.data.counters.heals, 0);
  await rig.close();
});

test("without checksum: rot is handed out in large and small reads, and nobody is told; check still finds it", async () => {
  const rig = await stored(true, { checksum: false });
  const trusting = await stored(true, { checksum: true });
  for (const [which, wanted] of [[rig, true] as const, [trusting, false] as const]) {
    const inode = which.inodes.load(2)!;
    const head = which.contents.headAddress(2);
    for (const block of [3, 77]) which.data.corrupt(head + block * BLOCK_BYTES);
    const small = await which.read(inode, 3 * BLOCK_BYTES, BLOCK_BYTES);
    assert.equal(small.equals(bytes(MIB, 1).subarray(3 * BLOCK_BYTES, 4 * BLOCK_BYTES)), wanted);
    const large = await which.read(inode, 64 * BLOCK_BYTES, 64 * BLOCK_BYTES);
    assert.equal(large.equals(bytes(MIB, 1).subarray(64 * BLOCK_BYTES, 128 * BLOCK_BYTES)), wanted);
    assert.equal(which.events.length, wanted ? 2 : 0);
  }
  assert.deepEqual(await trusting.faults(), []);
  assert.ok(trusting.data.counters.heals > 0);
  await rig.close();
  await trusting.close();
});
