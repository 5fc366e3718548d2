import { isStorageError, StorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { GroupCore } from "./core.js";
import type { Member } from "./member.js";
import { succeeds } from "./succeeds.js";

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
  if (core.lost.apartWithin(position, target.length)) return reconstructApart(core, others, target, slot, position);
  const bands = await core.bands.acquireMany(others.length);
  try {
    for (let at = 0; at < target.length; at += core.bands.bandBytes) {
      const part = target.subarray(at, at + core.bands.bandBytes);
      const sources = bands.map((band) => band.subarray(0, part.length));
      await allSettledOrThrow(others.map((member, i) => member.readv([sources[i]!], position + at)));
      core.arena.xorBuffers(part, sources);
    }
  } catch (error) {
    throw unproven(position, error);
  } finally {
    core.bands.releaseMany(bands);
  }
}

/** As `reconstruct`, block by block: some take no part in the parity of their column. */
async function reconstructApart(
  core: GroupCore,
  others: readonly Member[],
  target: Buffer,
  slot: number,
  position: number,
): Promise<void> {
  const bands = await core.bands.acquireMany(others.length);
  try {
    for (let from = 0; from < target.length; from += BLOCK_BYTES) {
      const at = position + from;
      if (core.lost.isApart(slot, at)) throw unproven(at);
      const part = target.subarray(from, from + BLOCK_BYTES);
      const sources = others.filter((member) => !core.lost.isApart(member.slot, at));
      const blocks = bands.slice(0, sources.length).map((band) => band.subarray(0, BLOCK_BYTES));
      await allSettledOrThrow(sources.map((member, i) => member.readv([blocks[i]!], at)));
      if (blocks.length === 0) part.fill(0);
      else core.arena.xorBuffers(part, blocks);
    }
  } catch (error) {
    throw unproven(position, error);
  } finally {
    core.bands.releaseMany(bands);
  }
}

function unproven(position: number, cause?: unknown): StorageError {
  return new StorageError(
    "EIO",
    "a block cannot be proven: two members of its stripe cannot be read",
    { position },
    cause,
  );
}

/**
 * What a member of a RAID-5 stripe holds, from itself or else from all the others; a block that it cannot read, although it is in use, is written
 * anew there. Nobody may be writing the stripe.
 * @throws StorageError EIO when it can be had from neither
 */
export async function readOrReconstruct(
  core: GroupCore,
  width: number,
  target: Buffer,
  member: Member,
  position: number,
): Promise<void> {
  const rebuild = async (): Promise<void> => {
    core.counters.degradedReads++;
    await reconstruct(core, width, target, member.slot, position);
  };
  const direct = (): Promise<void> => member.read(target, position);
  if (!member.online) {
    // One that is being rebuilt may have it already, and the disk that was there before may have it still.
    try {
      return await rebuild();
    } catch (error) {
      if (!isStorageError(error) || !(await succeeds(direct()))) throw error;
      return;
    }
  }
  // One that answers late is asked when the others cannot help.
  const [first, second] = member.slow ? [rebuild, direct] : [direct, rebuild];
  try {
    await first();
  } catch (error) {
    if (!isStorageError(error)) throw error;
    await second();
    if (first === direct) await repairBlocks(member, target, position);
  }
}

/** A read of several blocks failed: those that really cannot be read are repaired. */
async function repairBlocks(member: Member, good: Buffer, position: number): Promise<void> {
  const back = Buffer.allocUnsafe(BLOCK_BYTES);
  for (let at = 0; at < good.length; at += BLOCK_BYTES) {
    if (!member.online) return;
    const there = await succeeds(member.read(back, position + at));
    if (!there && member.online) await member.repair(good.subarray(at, at + BLOCK_BYTES), position + at, "read");
  }
}
