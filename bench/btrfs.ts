/** The peer's storage: btrfs with RAID-5 data and RAID-1 metadata over loop devices on sparse files. Needs root. */
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { must, pause, type Undo } from "./undo.js";

/** Makes it and mounts it; `undo` takes it down. @returns where it is mounted */
export function mountBtrfs(folder: string, disks: number, diskBytes: number, undo: Undo): string {
  const mount = path.join(folder, "mount");
  mkdirSync(mount, { recursive: true });
  const loops = Array.from({ length: disks }, (_, index) => attachLoop(folder, index, diskBytes, undo));
  must("mkfs.btrfs", "-q", "-f", "-d", "raid5", "-m", "raid1", ...loops);
  must("mount", "-t", "btrfs", loops[0]!, mount);
  undo.add("unmount the peer's file system", () => unmount(mount));
  return mount;
}

function attachLoop(folder: string, index: number, diskBytes: number, undo: Undo): string {
  const file = path.join(folder, `disk-${index}`);
  writeFileSync(file, "");
  truncateSync(file, diskBytes);
  const device = must("losetup", "-f", "--show", file);
  undo.add(`release ${device}`, () => void must("losetup", "-d", device));
  return device;
}

/** The kernel lets go of a file system some moments after its user has ended. */
async function unmount(mount: string): Promise<void> {
  for (let left = 20; ; left--) {
    try {
      must("umount", mount);
      return;
    } catch (error) {
      if (left === 0) throw error;
      await pause(250);
    }
  }
}
