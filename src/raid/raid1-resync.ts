import { isStorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { GroupCore } from "./core.js";
import type { Raid1Geometry } from "./geometry.js";
import type { Member } from "./member.js";
import { unsettledYet } from "./resync.js";
import { succeeds } from "./succeeds.js";

/** A copy of some bytes: on whom, and the byte on that member where it begins. */
interface Copy {
  readonly member: Member;
  readonly position: number;
}

/** Both copies of a RAID-1 LU's bytes from `at` on, which are inside one chunk. */
function copiesAt(core: GroupCore, geometry: Raid1Geometry, at: number): readonly [Copy, Copy] {
  const copy = (i: number): Copy => {
    const { member, inLu } = geometry.place(Math.floor(at / geometry.chunkBytes), i);
    return { member: core.members[member]!, position: geometry.rows.memberByte(inLu) + (at % geometry.chunkBytes) };
  };
  return [copy(0), copy(1)];
}

/** @param at  byte of the LU where a band begins. The second copy is in the same region: regions are whole pairs of chunk rows */
export function isSettledRaid1(core: GroupCore, geometry: Raid1Geometry, at: number): boolean {
  if (!core.unsettled.any) return true;
  const { member, position } = copiesAt(core, geometry, at)[0];
  return core.unsettled.isSettled(position, member.slot);
}

/**
 * After an unclean stop: the two copies of a band of a RAID-1 LU are made the same, unless it is settled. Called with the lock of its bytes held. When
 * it resolves, what each block reads as does not change any more by itself, also not by another crash, nor by the loss of a member.
 * @param at  byte of the LU where the band begins
 * @returns blocks that had to be rewritten
 * @throws StorageError EIO when the group has failed, ESTALE when this node is no longer the owner
 */
export async function settleRaid1(core: GroupCore, geometry: Raid1Geometry, at: number): Promise<number> {
  if (isSettledRaid1(core, geometry, at)) return 0;
  core.guard();
  const copies = copiesAt(core, geometry, at);
  const written = await resyncCopies(core, copies);
  if (written === null) throw unsettledYet(copies[0].position);
  if (written > 0) await Promise.all(copies.map(({ member }) => member.flush(false)));
  // With one copy lost the other is what everybody reads from now on: the lost one must not come back as if nothing had been.
  await core.labelsSettled();
  core.assertAlive();
  core.unsettled.settled(copies[0].position, copies[0].member.slot);
  return written;
}

/** @returns blocks that had to be rewritten; null when one cannot be read in either copy now */
async function resyncCopies(core: GroupCore, copies: readonly [Copy, Copy]): Promise<number | null> {
  if (!copies.every(({ member }) => member.online)) return 0;
  const buffers = await core.bands.acquireMany(2);
  try {
    return await resyncBand(core, copies, buffers[0]!, buffers[1]!);
  } finally {
    core.bands.releaseMany(buffers);
  }
}

/** The first copy wins: neither is more right than the other, they only have to be the same. */
async function resyncBand(
  core: GroupCore,
  copies: readonly [Copy, Copy],
  first: Buffer,
  second: Buffer,
): Promise<number | null> {
  const [source, target] = copies;
  if (core.lost.apartWithin(source.position, first.length)) return resyncBlocks(core, copies, first);
  try {
    await allSettledOrThrow([
      source.member.readv([first], source.position),
      target.member.readv([second], target.position),
    ]);
  } catch (error) {
    if (!isStorageError(error)) throw error;
    return resyncBlocks(core, copies, first);
  }
  let written = 0;
  for (let from = 0; from < first.length; from += BLOCK_BYTES) {
    const block = first.subarray(from, from + BLOCK_BYTES);
    if (block.equals(second.subarray(from, from + BLOCK_BYTES))) continue;
    await target.member.writev([block], target.position + from, true);
    written++;
  }
  return written;
}

/** Something cannot be read: every block that can is copied over the one that cannot; where both cannot, the band is not settled yet. */
async function resyncBlocks(core: GroupCore, copies: readonly [Copy, Copy], band: Buffer): Promise<number | null> {
  const block = band.subarray(0, BLOCK_BYTES);
  let written = 0;
  let whole = true;
  for (let from = 0; from < band.length; from += BLOCK_BYTES) {
    // Of one that was given up neither copy is to be written over the other.
    if (copies.some(({ member, position }) => core.lost.isApart(member.slot, position + from))) continue;
    const read = ({ member, position }: Copy): Promise<boolean> => succeeds(member.readv([block], position + from));
    const source = (await read(copies[0])) ? 0 : (await read(copies[1])) ? 1 : -1;
    if (source < 0) {
      whole &&= core.cache.givingUp;
      continue;
    }
    const { member, position } = copies[1 - source]!;
    await member.writev([block], position + from, true);
    written++;
  }
  return whole ? written : null;
}
