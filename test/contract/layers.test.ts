import path from "node:path";
import { FaultyDevice } from "../../src/device/faulty-device.js";
import { openFileDevice } from "../../src/device/file-device.js";
import { MemoryDevice } from "../../src/device/memory-device.js";
import { VolatileDevice } from "../../src/device/volatile-device.js";
import { SystemClock } from "../../src/lib/clock.js";
import { SILENT } from "../../src/lib/log.js";
import { SeededRandom } from "../../src/lib/prng.js";
import { KIB, MIB } from "../../src/lib/units.js";
import { blockDeviceContract, type Opened } from "./block-device.js";
import { makeSparse, scratchFolder } from "./disks.js";

/** The power fails before it is opened again, and nothing unflushed is kept: only what was promised is there. */
async function openVolatile(cacheBytes: number): Promise<Opened> {
  const random = new SeededRandom(7);
  // Requests end in another order than they began.
  const before = () => new Promise<void>((resolve) => setTimeout(resolve, random.below(3)));
  const memory = new MemoryDevice({ sizeBytes: 8 * MIB, random, before });
  const reopen = async () => {
    memory.crash({ keep: "none" });
    return new VolatileDevice(memory.reopen(), { cacheBytes });
  };
  return { device: new VolatileDevice(memory, { cacheBytes }), reopen, cleanup: async () => {} };
}

/** As a rig has them. */
async function openStack(direct: boolean): Promise<Opened> {
  const { folder, remove } = scratchFolder();
  const file = makeSparse(path.join(folder, "disk"), 8 * MIB);
  const reopen = async () => {
    const medium = await openFileDevice(file, { mode: "read-write-exclusive", direct, log: SILENT });
    const below = new VolatileDevice(medium, { cacheBytes: 64 * KIB });
    return new FaultyDevice(below, { clock: new SystemClock(), random: new SeededRandom(8) });
  };
  return { device: await reopen(), reopen, cleanup: async () => remove() };
}

blockDeviceContract("volatile", () => openVolatile(16 * MIB));
blockDeviceContract("volatile, hardly any cache", () => openVolatile(32 * KIB));
blockDeviceContract("faulty over volatile over a file", () => openStack(false));
blockDeviceContract("faulty over volatile over a file, direct", () => openStack(true));
