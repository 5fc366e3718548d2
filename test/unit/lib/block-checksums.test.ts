import assert from "node:assert/strict";
import { test } from "node:test";
import { checksumWithBlocks } from "../../../src/lib/block-checksums.js";
import { crc32c } from "../../../src/lib/crc32c.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES } from "../../../src/lib/units.js";

test("block checksums: of the whole blocks, wherever the content lies, and of everything, as in one pass", () => {
  const random = new SeededRandom(5);
  const buffer = Buffer.alloc(80_000);
  random.fill(buffer);
  for (let run = 0; run < 300; run++) {
    const start = random.below(200);
    const dataStart = start + random.below(300);
    const dataEnd = dataStart + random.below(run % 3 === 0 ? 5_000 : 60_000);
    const end = Math.min(buffer.length, dataEnd + random.below(4));
    const offset = random.below(2) === 0 ? BLOCK_BYTES * random.below(1000) : random.below(2 ** 31);
    const { checksum, blocks } = checksumWithBlocks(buffer, { start, dataStart, dataEnd, end }, offset);
    assert.equal(checksum, crc32c(buffer.subarray(start, end)));
    const last = Math.floor((offset + dataEnd - dataStart) / BLOCK_BYTES);
    for (let block = Math.floor(offset / BLOCK_BYTES) - 1; block <= last + 1; block++) {
      const at = dataStart + block * BLOCK_BYTES - offset;
      const isWhole = at >= dataStart && at + BLOCK_BYTES <= dataEnd;
      assert.equal(blocks.of(block), isWhole ? crc32c(buffer.subarray(at, at + BLOCK_BYTES)) : -1);
    }
  }
});
