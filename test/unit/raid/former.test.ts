import { equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import { isStorageError } from "../../../src/lib/errors.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, MIB } from "../../../src/lib/units.js";
import { Former } from "../../../src/raid/former.js";

async function bench() {
  const [old, successor] = [
    new MemoryDevice({ sizeBytes: MIB, random: new SeededRandom(1) }),
    new MemoryDevice({ sizeBytes: MIB, random: new SeededRandom(1) }),
  ];
  await old.write(Buffer.alloc(MIB, 1), 0);
  await successor.write(Buffer.alloc(MIB, 2), 0);
  const former = new Former({
    ...{ uuid: "u", number: 1, labels: () => [], device: old, stale: new Set<number>(), builtRegions: 0 },
    ...{ fillers: new Set<number>(), doubtful: new Set<number>(), rowsStart: 0, regionBytes: MIB },
  });
  const read = async () => {
    const block = Buffer.alloc(BLOCK_BYTES);
    await former.readBlock(block, BLOCK_BYTES, successor);
    return block[0];
  };
  return { former, read };
}

test("former: what is just being written is waited for, and read from the successor", async () => {
  const { former, read } = await bench();
  equal(await read(), 1);
  const first = former.begin(0, 2 * BLOCK_BYTES);
  const reading = read();
  const elsewhere = former.begin(4 * BLOCK_BYTES, BLOCK_BYTES);
  former.end(elsewhere, true);
  let ended = false;
  void reading.finally(() => {
    ended = true;
  });
  await nextTurn();
  ok(!ended, "the end of another write is not its own");
  former.end(first, true);
  equal(await reading, 2);
});

test("former: a block whose write failed is on neither", async () => {
  const { former, read } = await bench();
  const write = former.begin(BLOCK_BYTES, BLOCK_BYTES);
  const reading = read();
  former.end(write, false);
  await rejects(reading, (error) => isStorageError(error, "EIO"));
});
