import { isStorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { GroupCore } from "./core.js";
import type { Raid5Geometry } from "./geometry.js";
import type { Member } from "./member.js";
import { succeeds } from "./succeeds.js";

/**
 * After an unclean stop: parity is made to agree with data in the chunk rows [from, to) of a RAID-5 LU's member space. Nobody else is there yet.
 * @returns blocks that had to be rewritten
 */
export async function resyncRaid5(core: GroupCore, geometry: Raid5Geometry, from: number, to: number): Promise<number> {
  const members = core.members.slice(0, geometry.members);
  if (!members.every((member) => member.online)) return 0;
  const bands = await core.bands.acquireMany(members.length + 1);
  try {
    let differing = 0;
    for (let inLu = from; inLu < to; inLu += core.bands.bandBytes) {
      const parity = members[geometry.parityMember(Math.floor(inLu / geometry.chunkBytes))]!;
      differing += await resyncBand(core, members, parity, geometry.rows.memberByte(inLu), bands);
    }
    return differing;
  } finally {
    core.bands.releaseMany(bands);
  }
}

/** Where parity and data differ, some of the data was being written and may be anything. */
async function resyncBand(
  core: GroupCore,
  members: readonly Member[],
  parity: Member,
  position: number,
  bands: readonly Buffer[],
): Promise<number> {
  try {
    await allSettledOrThrow(members.map((member) => member.read(bands[member.slot]!, position)));
  } catch (error) {
    if (!isStorageError(error)) throw error;
    return resyncBlocks(core, members, parity, position, bands);
  }
  const right = bands[members.length]!;
  const data = members.filter((member) => member !== parity).map((member) => bands[member.slot]!);
  core.arena.xorBuffers(right, data);
  if (right.equals(bands[parity.slot]!)) return 0;
  await parity.writev([right], position, true);
  return core.bands.bandBytes / BLOCK_BYTES;
}

/** Something cannot be read: block for block, so that one bad sector does not keep the group from coming up. */
async function resyncBlocks(
  core: GroupCore,
  members: readonly Member[],
  parity: Member,
  position: number,
  bands: readonly Buffer[],
): Promise<number> {
  let written = 0;
  for (let from = 0; from < core.bands.bandBytes; from += BLOCK_BYTES) {
    const blocks = bands.map((band) => band.subarray(0, BLOCK_BYTES));
    written += await resyncBlock(core, members, parity, position + from, blocks);
  }
  return written;
}

/** What cannot be read is written as the others say; where two cannot be read, a read will say so. */
async function resyncBlock(
  core: GroupCore,
  members: readonly Member[],
  parity: Member,
  position: number,
  blocks: readonly Buffer[],
): Promise<number> {
  const there = await Promise.all(members.map((member, i) => succeeds(member.read(blocks[i]!, position))));
  const lost = members.filter((_, i) => !there[i]);
  if (lost.length > 1) return 0;
  const wrong = lost[0] ?? parity;
  const right = blocks[members.length]!;
  core.arena.xorBuffers(
    right,
    blocks.filter((_, i) => i < members.length && members[i] !== wrong),
  );
  if (lost.length === 0 && right.equals(blocks[wrong.slot]!)) return 0;
  await wrong.writev([right], position, true);
  return 1;
}
