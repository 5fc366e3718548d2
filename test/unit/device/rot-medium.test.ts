import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import { rotMedium } from "../../../src/device/rot-medium.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { MIB } from "../../../src/lib/units.js";

const SIZE = 16 * MIB;

function memory(alignmentBytes = 1): MemoryDevice {
  return new MemoryDevice({ sizeBytes: SIZE, random: new SeededRandom(1), alignmentBytes });
}

async function contentOf(device: MemoryDevice): Promise<Buffer> {
  const content = Buffer.alloc(SIZE);
  await device.read(content, 0);
  return content;
}

function differences(a: Buffer, b: Buffer): Array<{ position: number; bit: number }> {
  const found: Array<{ position: number; bit: number }> = [];
  for (let position = 0; position < a.length; position++) {
    const changed = (a[position] ?? 0) ^ (b[position] ?? 0);
    for (let bit = 0; bit < 8; bit++) if (((changed >> bit) & 1) === 1) found.push({ position, bit });
  }
  return found;
}

for (const alignmentBytes of [1, 4096]) {
  test(`rot: flips the bits it says, inside the range (alignment ${alignmentBytes})`, async () => {
    const device = memory(alignmentBytes);
    const before = await contentOf(device);
    const range = { from: 5000, to: 5100 };
    const rotten = await rotMedium(device, { range, bits: 3 }, new SeededRandom(2));
    const changed = differences(before, await contentOf(device));
    assert.equal(rotten.length, 3);
    assert.deepEqual(
      changed,
      [...rotten].sort((a, b) => a.position - b.position),
    );
    for (const { position } of rotten) assert.ok(position >= 5000 && position < 5100);
  });
}

test("rot: without a range it finds the one block that is written, wherever it is", async () => {
  for (const block of [0, 1777, 4095]) {
    const device = memory();
    await device.write(Buffer.alloc(4096, 9), block * 4096);
    for (let seed = 0; seed < 5; seed++) {
      const [bit] = await rotMedium(device, { range: null, bits: 1 }, new SeededRandom(seed));
      assert.equal(Math.floor((bit?.position ?? -1) / 4096), block);
    }
  }
});

test("rot: nothing rots on a disk that was never written", async () => {
  assert.deepEqual(await rotMedium(memory(), { range: null, bits: 2 }, new SeededRandom(1)), []);
});
