import { FaultyDevice } from "../../src/device/faulty-device.js";
import { MemoryDevice } from "../../src/device/memory-device.js";
import { SystemClock } from "../../src/lib/clock.js";
import { SeededRandom } from "../../src/lib/prng.js";
import { MIB } from "../../src/lib/units.js";
import { blockDeviceContract, type Opened } from "./block-device.js";

/** The power fails before it is opened again, and nothing unflushed is kept: only what was promised is there. */
async function openMemory(alignmentBytes: number): Promise<Opened> {
  const device = new MemoryDevice({ sizeBytes: 8 * MIB, random: new SeededRandom(3), alignmentBytes });
  const reopen = async () => {
    device.crash({ keep: "none" });
    return device.reopen();
  };
  return { device, reopen, cleanup: async () => {} };
}

async function openSlowMemory(): Promise<Opened> {
  const random = new SeededRandom(4);
  const before = () => new Promise<void>((resolve) => setTimeout(resolve, random.below(3)));
  const device = new MemoryDevice({ sizeBytes: 8 * MIB, random, before });
  return { device, reopen: async () => device.reopen(), cleanup: async () => {} };
}

async function openFaulty(): Promise<Opened> {
  const memory = new MemoryDevice({ sizeBytes: 8 * MIB, random: new SeededRandom(5) });
  const over = (below: MemoryDevice) =>
    new FaultyDevice(below, { clock: new SystemClock(), random: new SeededRandom(6) });
  return { device: over(memory), reopen: async () => over(memory.reopen()), cleanup: async () => {} };
}

blockDeviceContract("memory", () => openMemory(1));
blockDeviceContract("memory, aligned", () => openMemory(4096));
blockDeviceContract("memory, slow", openSlowMemory);
blockDeviceContract("faulty without a fault", openFaulty);
