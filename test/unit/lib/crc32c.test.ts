import { equal } from "node:assert/strict";
import { test } from "node:test";
import { crc32c, crc32cAppendBlock } from "../../../src/lib/crc32c.js";
import { SeededRandom } from "../../../src/lib/prng.js";

test("crc32c: the check value of RFC 3720, in one piece and continued", () => {
  equal(crc32c(Buffer.from("123456789")), 0xe3069283);
  equal(crc32c(Buffer.from("6789"), crc32c(Buffer.from("12345"))), 0xe3069283);
});

test("crc32cAppendBlock: the CRC of a run comes from the CRCs of its blocks", () => {
  const random = new SeededRandom(11);
  for (const blockCount of [1, 2, 3, 16, 64]) {
    const run = Buffer.alloc(blockCount * 4096);
    random.fill(run);
    let sum = 0;
    for (let i = 0; i < blockCount; i++) {
      const block = crc32c(run.subarray(i * 4096, (i + 1) * 4096));
      sum = i === 0 ? block : crc32cAppendBlock(sum, block);
    }
    equal(sum, crc32c(run));
    run[random.below(run.length)]! ^= 1;
    equal(sum === crc32c(run), false);
  }
});
