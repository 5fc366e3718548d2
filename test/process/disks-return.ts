import { MemoryDevice } from "../../src/device/memory-device.js";
import { SystemClock } from "../../src/lib/clock.js";
import { isStorageError } from "../../src/lib/errors.js";
import { SILENT } from "../../src/lib/log.js";
import { SeededRandom } from "../../src/lib/prng.js";
import { MIB } from "../../src/lib/units.js";
import { createGroup, initDisk } from "../../src/lu/group.js";
import { Arena } from "../../src/parity/arena.js";
import type { LabelledDisk } from "../../src/raid/contract.js";

let known: Promise<boolean> | undefined;

/** Whether groups of this build take a disk back that was away: asked of one, with a disk that is not its own. */
export function disksReturn(): Promise<boolean> {
  known ??= ask();
  return known;
}

async function ask(): Promise<boolean> {
  const random = new SeededRandom(1);
  const disk = async (number: number): Promise<LabelledDisk> => {
    const device = new MemoryDevice({ name: `memory ${number}`, sizeBytes: 128 * MIB, random });
    return initDisk(device, { number, random });
  };
  const members = [await disk(1), await disk(2)];
  const options = {
    name: "asked",
    arena: new Arena({ byteCount: 64 * MIB }),
    clock: new SystemClock(),
    random,
    log: SILENT,
  };
  const group = await createGroup(members, options);
  try {
    await group.returnDisk(await disk(3));
    return true;
  } catch (error) {
    return !isStorageError(error, "ENOTSUP");
  } finally {
    await group.close();
  }
}
