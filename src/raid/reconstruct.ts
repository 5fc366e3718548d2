import { StorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import type { GroupCore } from "./core.js";

/**
 * What one member of a RAID-5 stripe holds, as the XOR of all the others, as they are on the disks. Nobody may be writing the stripe:
 * the caller holds its lock.
 * @param width     members of the stripe: the first so many of the group
 * @param slot      the member whose bytes are wanted; it is not read
 * @param position  byte on every member
 * @throws StorageError EIO when another member cannot be read either (I-3)
 */
export async function reconstruct(
  core: GroupCore,
  width: number,
  target: Buffer,
  slot: number,
  position: number,
): Promise<void> {
  const others = core.members.filter((member) => member.slot !== slot && member.slot < width);
  const bands = await core.bands.acquireMany(others.length);
  try {
    for (let at = 0; at < target.length; at += core.bands.bandBytes) {
      const part = target.subarray(at, at + core.bands.bandBytes);
      const sources = bands.map((band) => band.subarray(0, part.length));
      await allSettledOrThrow(others.map((member, i) => member.readv([sources[i]!], position + at)));
      core.arena.xorBuffers(part, sources);
    }
  } catch (error) {
    throw new StorageError(
      "EIO",
      "a block cannot be proven: two members of its stripe cannot be read",
      { position },
      error,
    );
  } finally {
    core.bands.releaseMany(bands);
  }
}
