import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32c } from "../../../src/lib/crc32c.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, type LuByte } from "../../../src/lib/units.js";
import { ChecksumInspector, type KnownChecksums } from "../../../src/lu/checksum-inspector.js";

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);

function inspectorOf(known: ReadonlyMap<number, number>, written: ReadonlySet<number> = new Set()): ChecksumInspector {
  const checksums: KnownChecksums = {
    sliceBytes: BLOCK_BYTES,
    prepare: async () => {},
    checksumOf: (block) => known.get(block) ?? -1,
    writtenSince: (block) => written.has(block),
    nameOf: async (block) => `block ${block}`,
    close: () => {},
  };
  return new ChecksumInspector(checksums);
}

function suspectsOf(inspector: ChecksumInspector, data: Buffer, first: number): number[] {
  const found: number[] = [];
  inspector.suspects(data, (first * BLOCK_BYTES) as LuByte, (at) => found.push(at / BLOCK_BYTES));
  return found;
}

test(`suspects: exactly the known blocks that do not match, SEED=${SEED}`, () => {
  const random = new SeededRandom(SEED);
  for (let round = 0; round < 50; round++) {
    const data = Buffer.alloc(24 * BLOCK_BYTES);
    random.fill(data);
    const known = new Map<number, number>();
    const wrong: number[] = [];
    for (let i = 0; i < 24; i++) {
      const choice = random.below(5);
      if (choice === 0) continue;
      const sum = crc32c(data.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES));
      known.set(100 + i, choice === 1 ? (sum ^ 1) >>> 0 : sum);
      if (choice === 1) wrong.push(100 + i);
    }
    assert.deepEqual(suspectsOf(inspectorOf(known), data, 100), wrong);
  }
});

test("suspects: every block known, none wrong, one wrong at either end", () => {
  const data = Buffer.alloc(4 * BLOCK_BYTES, 7);
  const sum = crc32c(data.subarray(0, BLOCK_BYTES));
  const all = new Map([0, 1, 2, 3].map((block) => [block, sum]));
  assert.deepEqual(suspectsOf(inspectorOf(all), data, 0), []);
  data[0] = 8;
  data[data.length - 1] = 8;
  assert.deepEqual(suspectsOf(inspectorOf(all), data, 0), [0, 3]);
});

test("judge: good, bad, nobody's; one that was written since is never bad", async () => {
  const block = Buffer.alloc(BLOCK_BYTES, 1);
  const known = new Map([0, 1, 2, 3].map((index) => [index, index % 2 === 0 ? crc32c(block) : 5]));
  const inspector = inspectorOf(known, new Set([2, 3]));
  const verdicts: string[] = [];
  for (const index of [0, 1, 2, 3, 4]) verdicts.push(await inspector.judge(block, (index * BLOCK_BYTES) as LuByte));
  assert.deepEqual(verdicts, ["good", "bad", "good", "unknown", "unknown"]);
});
