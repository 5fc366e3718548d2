import type { Group } from "../raid/contract.js";
import type { FileSystemKeeper } from "./file-system-keeper.js";

/** A scrub with everybody asked who knows blocks of the group. @throws StorageError as Group.scrub */
export async function startScrub(group: Group, fileSystems: FileSystemKeeper, heal: boolean): Promise<void> {
  const inspectors = fileSystems.inspectors(group.describe().name);
  try {
    await group.scrub({ heal, inspectors });
  } catch (error) {
    for (const inspector of inspectors.values()) inspector.close();
    throw error;
  }
}
