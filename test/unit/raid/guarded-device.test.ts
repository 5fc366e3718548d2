import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import { StorageError } from "../../../src/lib/errors.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES } from "../../../src/lib/units.js";
import { GuardedDevice } from "../../../src/raid/guarded-device.js";

const block = Buffer.alloc(BLOCK_BYTES, 7);

test("guarded device: no write reaches the disk once the group is somebody else's; reads do", async () => {
  const below = new MemoryDevice({ name: "disk", sizeBytes: 16 * BLOCK_BYTES, random: new SeededRandom(1) });
  let ours = true;
  const device = new GuardedDevice(below, () => {
    if (!ours) throw new StorageError("ESTALE", "this node no longer owns the group");
  });
  await device.write(block, 0);
  ours = false;
  const { writes, writesThrough } = below.counters;
  await rejects(device.write(block, 0), { code: "ESTALE" });
  await rejects(device.writev([block, block], 0), { code: "ESTALE" });
  await rejects(device.writeThrough([block], 0), { code: "ESTALE" });
  deepEqual([below.counters.writes, below.counters.writesThrough], [writes, writesThrough]);
  const found = Buffer.alloc(BLOCK_BYTES);
  await device.read(found, 0);
  equal(found.equals(block), true);
});
