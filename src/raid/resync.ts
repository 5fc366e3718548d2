import { isStorageError, StorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { GroupCore } from "./core.js";
import type { Raid5Geometry } from "./geometry.js";
import type { Member } from "./member.js";
import { succeeds } from "./succeeds.js";

/** Bytes of the member space [from, to), whole bands, where those begin that are not settled. */
function unsettledBands({ unsettled, bands }: GroupCore, { rows }: Raid5Geometry, from: number, to: number): number[] {
  const found: number[] = [];
  if (!unsettled.any) return found;
  for (let inLu = from; inLu < to; inLu += bands.bandBytes) {
    if (!unsettled.isSettled(rows.memberByte(inLu), 0)) found.push(inLu);
  }
  return found;
}

/** @param from, to  of the member space, whole bands */
export function isSettledRaid5(core: GroupCore, geometry: Raid5Geometry, from: number, to: number): boolean {
  return unsettledBands(core, geometry, from, to).length === 0;
}

/**
 * After an unclean stop: parity is made to agree with data in [from, to) of a RAID-5 LU's member space, whole bands, as far as they are not settled.
 * Called with the lock of their stripes held. When it resolves, what each block reads as does not change any more by itself, also not by another crash,
 * nor by the loss of a member.
 * @returns blocks that had to be rewritten
 * @throws StorageError EIO when the group has failed, ESTALE when this node is no longer the owner
 */
export async function settleRaid5(core: GroupCore, geometry: Raid5Geometry, from: number, to: number): Promise<number> {
  const unsettled = unsettledBands(core, geometry, from, to);
  if (unsettled.length === 0) return 0;
  core.guard();
  const members = core.members.slice(0, geometry.members);
  const { written, unread } = await resyncBands(core, geometry, members, unsettled);
  if (written > 0) await Promise.all(members.map((member) => member.flush(false)));
  // With a member lost, its blocks are what the others say from now on: it must not come back as if nothing had been.
  await core.labelsSettled();
  core.assertAlive();
  for (const inLu of unsettled) if (!unread.includes(inLu)) core.unsettled.settled(geometry.rows.memberByte(inLu), 0);
  if (unread.length > 0) throw unsettledYet(geometry.rows.memberByte(unread[0]!));
  return written;
}

/** Two blocks of one column cannot be read now: what they hold, and whether the parity agrees, is open until they can. */
export function unsettledYet(position: number): StorageError {
  const text = `what a crash left at byte ${position} cannot be made consistent now: two members cannot be read there`;
  return new StorageError("EIO", text, { position, waits: true });
}

async function resyncBands(
  core: GroupCore,
  geometry: Raid5Geometry,
  members: readonly Member[],
  unsettled: readonly number[],
): Promise<{ written: number; unread: readonly number[] }> {
  // What a member that is not there should hold is what the others say; nothing has been read from it since the crash.
  if (!members.every((member) => member.online)) return { written: 0, unread: [] };
  const bands = await core.bands.acquireMany(members.length + 1);
  try {
    let written = 0;
    const unread: number[] = [];
    for (const inLu of unsettled) {
      const parity = members[geometry.parityMember(Math.floor(inLu / geometry.chunkBytes))]!;
      const count = await resyncBand(core, members, parity, geometry.rows.memberByte(inLu), bands);
      if (count === null) unread.push(inLu);
      else written += count;
    }
    return { written, unread };
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
): Promise<number | null> {
  if (core.lost.apartWithin(position, core.bands.bandBytes))
    return resyncBlocks(core, members, parity, position, bands);
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
  await journalParity(core, parity, right, position);
  await parity.writev([right], position, true);
  return core.bands.bandBytes / BLOCK_BYTES;
}

/**
 * Where the journal has older parity of a column, which the next replay would put over the right one, it gets the right one, too: durable when this
 * resolves. It counts as far as the older one does, so that what is pending stays so.
 */
async function journalParity(core: GroupCore, parity: Member, right: Buffer, position: number): Promise<void> {
  const { journaled } = core.unsettled;
  if (journaled === null) return;
  let last = 0;
  for (let at = 0; at < right.length; at += BLOCK_BYTES) {
    const block = (position + at) / BLOCK_BYTES;
    const upToSeq = journaled.upToSeq.get(block);
    if (upToSeq === undefined) continue;
    let record = core.journal.tryBegin(1, 1);
    while (record === null) {
      await core.journal.makeRoom();
      record = core.journal.tryBegin(1, 1);
    }
    record.addParity(parity.slot, block, right.subarray(at, at + BLOCK_BYTES), upToSeq);
    journaled.noted(block, record.seq);
    last = record.seq;
  }
  if (last > 0) await core.journal.durable(last);
}

/**
 * Something cannot be read: block for block, so that one bad sector does not keep the group from coming up.
 * @returns blocks that had to be rewritten; null when a column has to wait for a block that cannot be read
 */
async function resyncBlocks(
  core: GroupCore,
  members: readonly Member[],
  parity: Member,
  position: number,
  bands: readonly Buffer[],
): Promise<number | null> {
  let written = 0;
  let whole = true;
  for (let from = 0; from < core.bands.bandBytes; from += BLOCK_BYTES) {
    const blocks = bands.map((band) => band.subarray(0, BLOCK_BYTES));
    const count = await resyncBlock(core, members, parity, position + from, blocks);
    if (count === null) whole = false;
    else written += count;
  }
  return whole ? written : null;
}

/** What cannot be read is written as the others say; where two cannot be read the column is not settled yet: null. */
async function resyncBlock(
  core: GroupCore,
  members: readonly Member[],
  parity: Member,
  position: number,
  blocks: readonly Buffer[],
): Promise<number | null> {
  const own = members.filter((member) => !core.lost.isApart(member.slot, position));
  const there = await Promise.all(own.map((member) => readTwice(member, blocks[member.slot]!, position)));
  const unread = own.filter((_, i) => !there[i]);
  if (unread.length > 1) return core.cache.givingUp ? 0 : null;
  const wrong = unread[0] ?? parity;
  const right = blocks[members.length]!;
  const sources = own.filter((member) => member !== wrong).map((member) => blocks[member.slot]!);
  if (sources.length === 0) right.fill(0);
  else core.arena.xorBuffers(right, sources);
  if (unread.length === 0 && right.equals(blocks[wrong.slot]!)) return 0;
  if (wrong === parity) await journalParity(core, parity, right, position);
  await wrong.writev([right], position, true);
  return 1;
}

async function readTwice(member: Member, target: Buffer, position: number): Promise<boolean> {
  return (await succeeds(member.read(target, position))) || (await succeeds(member.read(target, position)));
}
