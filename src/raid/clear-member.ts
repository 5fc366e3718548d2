import type { BlockDevice } from "../device/device.js";
import { MIB } from "../lib/units.js";
import type { GroupCore } from "./core.js";
import { RING_START } from "./journal.js";
import { LAYOUT } from "./layout.js";

/**
 * Zeros where a disk that joins may hold bitmaps and records of another life: its journal may have gone on from the same record as ours, and nothing in
 * a record tells which of the two it belongs to. Durable when it resolves. @throws StorageError of the device
 */
export async function clearJournal(core: GroupCore, device: BlockDevice): Promise<void> {
  const end = RING_START + core.journal.ringBytes;
  await core.workspace.run(1, Math.min(MIB, core.workspace.partBytes(1)), async ([zeros]) => {
    zeros!.fill(0);
    for (let at: number = LAYOUT.bitmapSlot0; at < end; at += zeros!.length) {
      await device.write(zeros!.subarray(0, Math.min(zeros!.length, end - at)), at);
    }
    await device.flush();
  });
}
