import { equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../../src/lib/prng.js";
import { KIB, type LuByte, MIB } from "../../../src/lib/units.js";
import { RaidRig } from "../../model/raid-rig.js";

const BLOCK = 4096;
const LU_BYTES = 12 * MIB;

/** An LU of random bytes, and the same bytes beside it. */
async function fixture(members: number, chunkBytes: number) {
  const rig = new RaidRig({ members, seed: 5, chunkBytes, buffers: {} });
  const group = await rig.create();
  await group.createLu("data", 5, LU_BYTES);
  const lu = group.openLu(1);
  const content = Buffer.alloc(LU_BYTES);
  new SeededRandom(9).fill(content);
  await lu.write(content, 0 as LuByte);
  await lu.flush();
  return { rig, group, lu, content };
}

for (const [members, chunkBytes] of [
  [3, 16 * KIB],
  [5, 64 * KIB],
  [4, 256 * KIB],
] as const) {
  test(`degraded: ${members} members, chunks of ${chunkBytes / KIB} KiB: whole stripes and their ends, whichever member is lost`, async () => {
    for (let lost = 1; lost <= members; lost++) {
      const { rig, group, lu, content } = await fixture(members, chunkBytes);
      await group.failDisk(lost);
      // Scattered memory: ranges of the arena that are not neighbours.
      const memory = rig.arena.take(4 * MIB, "test");
      for (const [at, byteCount] of [
        [0, 2 * MIB],
        [3 * BLOCK, 2 * MIB + BLOCK],
        [MIB + BLOCK, 3 * MIB],
      ] as const) {
        const third = Math.floor(byteCount / 3 / BLOCK) * BLOCK;
        const parts = [
          memory.subarray(0, third),
          memory.subarray(2 * third + BLOCK, byteCount + BLOCK),
          memory.subarray(third, 2 * third),
        ];
        await lu.readv(parts, at as LuByte);
        ok(
          Buffer.concat(parts).equals(content.subarray(at, at + Buffer.concat(parts).length)),
          `${at}, disk ${lost} lost`,
        );
      }
      await group.close();
    }
  });
}

test("degraded: what is newer in memory is what is read", async () => {
  const { rig, group, lu, content } = await fixture(5, 64 * KIB);
  await group.failDisk(2);
  const target = rig.arena.take(MIB, "test");
  for (const at of [0, 5 * BLOCK, 300 * KIB]) {
    content.fill(0x77, at, at + BLOCK);
    await lu.write(content.subarray(at, at + BLOCK), at as LuByte);
  }
  await lu.read(target, 0 as LuByte);
  ok(target.equals(content.subarray(0, MIB)));
  await lu.flush();
  await lu.read(target, 0 as LuByte);
  ok(target.equals(content.subarray(0, MIB)));
  await group.close();
});

test("degraded: a stripe is read once, its parity in place of what is lost", async () => {
  const { rig, group, lu } = await fixture(5, 64 * KIB);
  const target = rig.arena.take(MIB, "test");
  const calls = () => rig.devices.reduce((sum, device) => sum + (device?.counters.reads ?? 0), 0);
  await group.failDisk(5);
  const before = calls();
  await lu.read(target, 0 as LuByte);
  // Four stripes of four members: one run of each, as parity fills the gap that it leaves in a healthy read.
  equal(calls() - before, 4);
  await group.close();
});
