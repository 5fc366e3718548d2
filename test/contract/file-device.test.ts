import path from "node:path";
import { openFileDevice } from "../../src/device/file-device.js";
import { SILENT } from "../../src/lib/log.js";
import { MIB } from "../../src/lib/units.js";
import { blockDeviceContract, type Opened, skipAloud } from "./block-device.js";
import { attachLoop, makeSparse, noLoopReason, scratchFolder } from "./disks.js";

const SIZE = 8 * MIB;

async function openFile(direct: boolean): Promise<Opened> {
  const { folder, remove } = scratchFolder();
  const file = makeSparse(path.join(folder, "disk"), SIZE + 1000);
  const reopen = () => openFileDevice(file, { mode: "read-write-exclusive", direct, log: SILENT });
  return { device: await reopen(), reopen, cleanup: async () => remove() };
}

async function openLoop(direct: boolean): Promise<Opened> {
  const { folder, remove } = scratchFolder();
  const loop = attachLoop(makeSparse(path.join(folder, "disk"), SIZE));
  const cleanup = async (): Promise<void> => {
    loop.detach();
    remove();
  };
  try {
    const reopen = () => openFileDevice(loop.path, { mode: "read-write-exclusive", direct, log: SILENT });
    return { device: await reopen(), reopen, cleanup };
  } catch (error) {
    await cleanup();
    throw error;
  }
}

blockDeviceContract("file, buffered", () => openFile(false));
blockDeviceContract("file, direct", () => openFile(true));

const why = noLoopReason();
if (why === null) {
  blockDeviceContract("loop device, buffered", () => openLoop(false));
  blockDeviceContract("loop device, direct", () => openLoop(true));
} else skipAloud("loop device", why);
