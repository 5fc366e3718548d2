import { equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../../src/lib/prng.js";
import { type LuByte, MIB } from "../../../src/lib/units.js";
import { RaidRig } from "../../model/raid-rig.js";

const BLOCK = 4096;

test("pressure: more partial stripes than slots, and several times the journal, go through with small buffers", async () => {
  const rig = new RaidRig({ members: 4, seed: 5 });
  const group = await rig.create();
  await group.createLu("data", 5, 24 * MIB);
  const lu = group.openLu(1);
  const random = new SeededRandom(6);
  const latest = new Map<number, number>();
  const content = (block: number, version: number) => Buffer.alloc(3 * BLOCK, `${block}/${version};`);
  for (let round = 0; round < 60; round++) {
    const writes: Promise<void>[] = [];
    for (let i = 0; i < 40; i++) {
      const block = 3 * random.below((24 * MIB) / BLOCK / 3);
      if (latest.get(block) === round) continue;
      latest.set(block, round);
      writes.push(lu.write(content(block, round), (block * BLOCK) as LuByte));
    }
    await Promise.all(writes);
    await Promise.all([lu.flush(), lu.flush()]);
  }
  ok(group.counters().journalRecords >= 60);
  rig.crash("none");
  const again = await rig.assemble();
  for (const [block, version] of latest) {
    const target = Buffer.alloc(3 * BLOCK);
    await again.openLu(1).read(target, (block * BLOCK) as LuByte);
    ok(target.equals(content(block, version)), `block ${block} of round ${version}`);
  }
  await again.close();
});

test("pressure: small sequential writes become whole stripes, and nothing is journaled or read", async () => {
  const rig = new RaidRig({ members: 5, seed: 5 });
  const group = await rig.create();
  await group.createLu("data", 5, 16 * MIB);
  const lu = group.openLu(1);
  const reads = () => rig.devices.reduce((sum, device) => sum + device!.counters.reads, 0);
  const before = reads();
  for (let at = 0; at < 8 * MIB; at += 16384) await lu.write(Buffer.alloc(16384, at / 16384), at as LuByte);
  await lu.flush();
  equal(group.counters().journalRecords, 0);
  equal(group.counters().fullStripeWrites, (8 * MIB) / lu.stripeBytes);
  equal(reads(), before);
  await group.close();
});

test("pressure: a long aligned write takes one device call per member", async () => {
  const rig = new RaidRig({ members: 5, seed: 5 });
  const group = await rig.create();
  await group.createLu("data", 5, 16 * MIB);
  const lu = group.openLu(1);
  const source = rig.arena.take(MIB, "test");
  await lu.write(source, 0 as LuByte);
  const writes = () => rig.devices.map((device) => device!.counters.writes);
  const before = writes();
  await lu.write(source, (2 * MIB) as LuByte);
  const grown = writes().map((count, i) => count - before[i]!);
  // The write, and one more for the write-intent bits of a region that was not marked yet.
  ok(
    grown.every((count) => count <= 2),
    grown.join(),
  );
  await group.close();
});

test("pressure: a stripe that was journaled is revoked when it is written whole, also within one record", async () => {
  for (const flushBetween of [true, false]) {
    const rig = new RaidRig({ members: 3, seed: 5 });
    const group = await rig.create();
    await group.createLu("data", 5, 4 * MIB);
    const lu = group.openLu(1);
    await lu.write(Buffer.alloc(BLOCK, 1), 0 as LuByte);
    const flushed = lu.flush();
    if (flushBetween) await flushed;
    await lu.write(Buffer.alloc(lu.stripeBytes, 2), 0 as LuByte);
    await lu.write(Buffer.alloc(BLOCK, 3), BLOCK as LuByte);
    await Promise.all([flushed, lu.flush()]);
    rig.crash("none");
    const again = await rig.assemble();
    const target = Buffer.alloc(3 * BLOCK);
    await again.openLu(1).read(target, 0 as LuByte);
    equal([0, 1, 2].map((i) => target[i * BLOCK]).join(), "2,3,2");
    await again.close();
  }
});

test("pressure: scattered small writes between two flushes fit the cache of a group as it comes, and take one record", async () => {
  const rig = new RaidRig({ members: 5, seed: 5, buffers: {}, diskBytes: 256 * MIB });
  const group = await rig.create();
  await group.createLu("data", 5, 64 * MIB);
  const lu = group.openLu(1);
  const random = new SeededRandom(8);
  for (let flush = 1; flush <= 3; flush++) {
    const writes = Array.from({ length: 64 }, () => random.below(lu.sizeBytes / BLOCK) * BLOCK);
    await Promise.all(writes.map((at) => lu.write(Buffer.alloc(BLOCK, flush), at as LuByte)));
    await lu.flush();
    equal(group.counters().journalRecords, flush);
  }
  await group.close();
});
