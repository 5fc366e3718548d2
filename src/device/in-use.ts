import { readdir, readFile } from "node:fs/promises";
import { StorageError } from "../lib/errors.js";
import { type FileIdentity, inUseError, lockHolder, major, minor } from "./lock.js";

/**
 * Why the kernel did not give us a block device for ourselves (open with O_EXCL answered EBUSY): somebody's flock tells more than
 * a mount, a mount more than a volume on top.
 * @param rdev  the device number, from a stat with `bigint: true`
 */
export async function claimedError(path: string, where: FileIdentity, rdev: bigint): Promise<StorageError> {
  if ((await lockHolder(where)) !== null) return inUseError(path, where);
  const number = `${major(rdev)}:${minor(rdev)}`;
  const reason =
    mountPoint(await readFile("/proc/self/mountinfo", "utf8").catch(() => ""), number) ?? (await volumeOnTop(number));
  return new StorageError("EBUSY", `disk ${path} is in use: ${reason}`, { device: path });
}

/** Field 3 of /proc/self/mountinfo is the device, field 5 the place (proc_pid_mountinfo(5)). */
export function mountPoint(mountinfo: string, number: string): string | null {
  for (const line of mountinfo.split("\n")) {
    const fields = line.split(" ");
    if (fields[2] === number) return `mounted on ${fields[4] ?? "?"}`;
  }
  return null;
}

async function volumeOnTop(number: string): Promise<string> {
  const holders = await readdir(`/sys/dev/block/${number}/holders`).catch(() => []);
  if (holders.length > 0) return `${holders.join(", ")} stands on it`;
  return "the kernel or another process has claimed it";
}
