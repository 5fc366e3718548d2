import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../../src/lib/units.js";
import { MemoryLu, SECTOR_BYTES } from "../../support/memory-lu.js";

const at = (n: number) => (n * BLOCK_BYTES) as LuByte;
const filled = (byte: number, blocks = 1) => Buffer.alloc(blocks * BLOCK_BYTES, byte);

test("memory-lu: a crash keeps what was flushed or written through and nothing else", async () => {
  const lu = new MemoryLu({ sizeBytes: MIB });
  await lu.write(filled(1), at(0));
  await lu.flush();
  await lu.write(filled(2), at(0));
  await lu.write(filled(3), at(1));
  await lu.writeThrough([filled(4)], at(2));
  assert.deepEqual(lu.peek(0, BLOCK_BYTES), filled(2));
  const after = lu.crash({ keep: "none" });
  assert.deepEqual(after.peek(0, 3 * BLOCK_BYTES), Buffer.concat([filled(1), filled(0), filled(4)]));
  await assert.rejects(lu.write(filled(9), at(0)), /halted/);
});

test("memory-lu: a random crash mixes sectors of old and new", async () => {
  const lu = new MemoryLu({ sizeBytes: MIB, random: new SeededRandom(3) });
  await lu.write(filled(1, 8), at(0));
  await lu.write(filled(2, 8), at(0));
  const after = lu.crash({ keep: "random" }).peek(0, 8 * BLOCK_BYTES);
  const seen = new Set<number>();
  for (let i = 0; i < after.length; i += SECTOR_BYTES) seen.add(after[i]!);
  assert.deepEqual([...seen].sort(), [0, 1, 2]);
});

test("memory-lu: a halted write may survive in part, later operations do nothing", async () => {
  const lu = new MemoryLu({ sizeBytes: MIB });
  lu.beforeOperation = (operation) => (operation.index === 1 ? "halt" : undefined);
  await lu.writeThrough([filled(1)], at(0));
  await assert.rejects(lu.writeThrough([filled(2)], at(1)), { code: "EIO" });
  await assert.rejects(lu.flush(), { code: "EIO" });
  assert.equal(lu.operations, 2);
  const after = lu.crash({ keep: "all" });
  assert.deepEqual(after.peek(0, 2 * BLOCK_BYTES), Buffer.concat([filled(1), filled(2)]));
});

test("memory-lu: rot is silent, an alternative is good, heal repairs", async () => {
  const lu = new MemoryLu({ sizeBytes: MIB, redundant: true });
  await lu.writeThrough([filled(7)], at(5));
  lu.corrupt(at(5));
  const target = filled(0);
  await lu.read(target, at(5));
  assert.notDeepEqual(target, filled(7));
  for await (const _ of lu.readAlternatives(target, at(5))) break;
  assert.deepEqual(target, filled(7));
  await lu.heal(target, at(5));
  assert.deepEqual(lu.peek(at(5), BLOCK_BYTES), filled(7));
});

test("memory-lu: failing switches reject and change nothing; a bad range is EINVAL", async () => {
  const lu = new MemoryLu({ sizeBytes: MIB });
  lu.failWrites = (position) => position === BLOCK_BYTES;
  await lu.write(filled(1), at(0));
  await assert.rejects(lu.write(filled(1), at(1)), { code: "EIO" });
  lu.failReads = true;
  await assert.rejects(lu.read(filled(0), at(0)), { code: "EIO" });
  await assert.rejects(lu.write(filled(1), 5 as LuByte), { code: "EINVAL" });
  await assert.rejects(lu.write(filled(1), MIB as LuByte), { code: "EINVAL" });
  assert.deepEqual(lu.peek(BLOCK_BYTES, BLOCK_BYTES), filled(0));
});
