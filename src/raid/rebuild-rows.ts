import { isStorageError, StorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { GroupCore } from "./core.js";
import type { CopyPlace, Raid1Geometry, Raid5Geometry } from "./geometry.js";
import { IoBatch } from "./io-batch.js";
import type { Loss } from "./losses.js";
import type { Member } from "./member.js";
import { succeeds } from "./succeeds.js";

/** XOR in pieces that stay in the processor's cache. */
const XOR_BYTES = 64 * 1024;

/** Blocks of one piece that are tried although a block before them could not be read: a member that answers nothing there is not asked for all. */
const TRIES_MAX = 8;

/** Rows of one LU that are written anew on one member. Chunk rows [from, to) of its member space, in one run of rows. */
export interface RowsToRebuild {
  readonly lu: number;
  readonly slot: number;
  readonly from: number;
  readonly to: number;
  /** What no source has is given up. Otherwise it waits. */
  readonly giveUp: boolean;
  /** Something from this byte of the member on cannot be read now: what it is needed for is not rebuilt. */
  readonly unreadable: (member: Member, position: number) => void;
}

/**
 * RAID-5: a member's chunks, data or parity, are the XOR of all the others. Nobody is writing the stripes.
 * @param buffers  one of `to - from` bytes for each member of the LU, in the arena
 * @returns blocks that were given up
 */
export async function rebuildRaid5(
  core: GroupCore,
  geometry: Raid5Geometry,
  rows: RowsToRebuild,
  buffers: readonly Buffer[],
): Promise<number> {
  if (rows.slot >= geometry.members) return 0;
  const position = geometry.rows.memberByte(rows.from);
  const own = core.members.slice(0, geometry.members);
  const others = own.filter((member) => member.slot !== rows.slot);
  const target = buffers[rows.slot]!;
  if (core.lost.apartWithin(position, target.length)) return rebuildRaid5Blocks(core, geometry, rows, buffers);
  try {
    await allSettledOrThrow(others.map((member) => member.read(buffers[member.slot]!, position)));
  } catch (error) {
    if (!isStorageError(error)) throw error;
    core.assertAlive();
    return rebuildRaid5Blocks(core, geometry, rows, buffers);
  }
  xorPieces(
    core,
    target,
    others.map((member) => buffers[member.slot]!),
  );
  await own[rows.slot]!.writev([target], position, true);
  return 0;
}

function xorPieces(core: GroupCore, target: Buffer, sources: readonly Buffer[]): void {
  for (let at = 0; at < target.length; at += XOR_BYTES) {
    const end = Math.min(at + XOR_BYTES, target.length);
    core.arena.xorBuffers(
      target.subarray(at, end),
      sources.map((source) => source.subarray(at, end)),
    );
  }
}

/** Something cannot be read: block by block, so that one bad sector costs one block. */
async function rebuildRaid5Blocks(
  core: GroupCore,
  geometry: Raid5Geometry,
  rows: RowsToRebuild,
  buffers: readonly Buffer[],
): Promise<number> {
  const blocks = buffers.slice(0, geometry.members).map((buffer) => buffer.subarray(0, BLOCK_BYTES));
  const target = core.members[rows.slot]!;
  let given = 0;
  let failed = 0;
  for (let inLu = rows.from; inLu < rows.to; inLu += BLOCK_BYTES) {
    const position = geometry.rows.memberByte(inLu);
    let blocked = await computeBlock(core, geometry, rows.slot, blocks, position);
    if (blocked !== null && (await succeeds(target.read(blocks[rows.slot]!, position)))) blocked = null;
    core.assertAlive();
    if (blocked !== null && rows.giveUp) {
      given += await giveUpRaid5(core, geometry, rows, inLu, blocks);
      blocked = null;
    }
    if (blocked === null) {
      await target.writev([blocks[rows.slot]!], position, true);
      continue;
    }
    rows.unreadable(blocked, position);
    // What follows is in the same unit as this, or is named with a unit of its own.
    if (++failed === TRIES_MAX)
      return given + (await skipRest(geometry.rows, rows, inLu, geometry.chunkBytes, blocked));
  }
  return given;
}

/** The rest of a piece waits as well, untried. */
async function skipRest(
  map: Raid5Geometry["rows"],
  rows: RowsToRebuild,
  inLu: number,
  chunkBytes: number,
  blocked: Member,
): Promise<number> {
  const unit = 2 * chunkBytes;
  for (let at = (Math.floor(inLu / unit) + 1) * unit; at < rows.to; at += unit)
    rows.unreadable(blocked, map.memberByte(at));
  return 0;
}

/**
 * The XOR of all others, as far as they take part in redundancy, into the block of `slot`.
 * @param zeros  slot of one that counts as zeros; -1: none
 * @returns null, or who is to blame that it cannot be had
 */
async function computeBlock(
  core: GroupCore,
  geometry: Raid5Geometry,
  slot: number,
  blocks: readonly Buffer[],
  position: number,
  zeros = -1,
): Promise<Member | null> {
  // Its column says nothing of it.
  if (core.lost.isApart(slot, position)) return core.members[slot]!;
  const sources: Buffer[] = [];
  for (const member of core.members.slice(0, geometry.members)) {
    if (member.slot === slot || member.slot === zeros || core.lost.isApart(member.slot, position)) continue;
    const block = blocks[member.slot]!;
    const read = (): Promise<boolean> => succeeds(member.read(block, position));
    if (!(await read()) && !(await read())) return member;
    sources.push(block);
  }
  if (sources.length === 0) blocks[slot]!.fill(0);
  else core.arena.xorBuffers(blocks[slot]!, sources);
  return null;
}

/**
 * A column of which more than the member at hand cannot be read. First the labels say what is given up. Data of the others that cannot be read is only
 * set apart, and not written: when it can be read again, it is taken back, and the member's own block computed from it.
 * @returns blocks that were given up; the member's own is in its buffer
 */
async function giveUpRaid5(
  core: GroupCore,
  geometry: Raid5Geometry,
  rows: RowsToRebuild,
  inLu: number,
  blocks: readonly Buffer[],
): Promise<number> {
  const position = geometry.rows.memberByte(inLu);
  const stripe = Math.floor(inLu / geometry.chunkBytes);
  const atOf = (slot: number): number => {
    const chunk = geometry.dataChunk(stripe, slot);
    return chunk < 0 ? -1 : stripe * geometry.stripeBytes + chunk * geometry.chunkBytes + (inLu % geometry.chunkBytes);
  };
  const parity = core.members[geometry.parityMember(stripe)]!;
  const own = atOf(rows.slot);
  const unread: Member[] = [];
  for (const member of core.members.slice(0, geometry.members)) {
    if (member.slot === rows.slot || core.lost.isApart(member.slot, position)) continue;
    if (!(await succeeds(member.read(blocks[member.slot]!, position)))) unread.push(member);
  }
  core.assertAlive();
  const data = unread.filter((member) => member !== parity);
  const { lu } = rows;
  const losses: Loss[] = data.map((member) => ({ lu, at: atOf(member.slot), member, position, kind: "unread" }));
  const derived = data.length === 1 && !unread.includes(parity) && !core.lost.isApart(rows.slot, position);
  if (own >= 0)
    losses.push({ lu, at: own, member: core.members[rows.slot]!, position, kind: derived ? "derived" : "lost" });
  if (losses.length > 0) await core.losses.lose(...losses);
  const given = own >= 0 ? 1 : 0;
  if (!unread.includes(parity) || parity.slot === rows.slot) {
    const blocked = await computeBlock(core, geometry, rows.slot, blocks, position);
    if (blocked !== null) throw unreadableAt(blocked, position);
    return given;
  }
  // Nobody knows what the parity was: the member's own block is zeros from here on, and the parity agrees with that.
  blocks[rows.slot]!.fill(0);
  const blocked = await computeBlock(core, geometry, parity.slot, blocks, position, rows.slot);
  if (blocked !== null) throw unreadableAt(blocked, position);
  await writeMarked(core, position, parity, blocks[parity.slot]!);
  return given;
}

function unreadableAt({ label }: Member, position: number): StorageError {
  return new StorageError("EIO", `disk #${label.number} cannot be read at byte ${position}`, { disk: label.number });
}

async function writeMarked(core: GroupCore, position: number, member: Member, block: Buffer): Promise<void> {
  const marked = core.bitmap.enter(position, position + BLOCK_BYTES);
  try {
    if (marked !== null) await marked;
    await member.writev([block], position, true);
  } finally {
    core.bitmap.leave(position, position + BLOCK_BYTES);
  }
}

/**
 * RAID-1: a member's chunks are copies of its neighbours'. Nobody is writing them.
 * @param buffer  `to - from` bytes
 * @returns blocks that were given up
 */
export async function rebuildRaid1(
  core: GroupCore,
  geometry: Raid1Geometry,
  rows: RowsToRebuild,
  buffer: Buffer,
): Promise<number> {
  if (rows.slot >= geometry.members) return 0;
  const { chunkBytes } = geometry;
  const position = geometry.rows.memberByte(rows.from);
  const block = buffer.subarray(0, BLOCK_BYTES);
  if (core.lost.apartWithin(position, rows.to - rows.from)) return rebuildRaid1Blocks(core, geometry, rows, block);
  const batch = new IoBatch(core.members);
  for (let inLu = rows.from; inLu < rows.to; inLu += chunkBytes) {
    const { chunk, copy } = geometry.chunkAt(rows.slot, inLu);
    const place = geometry.place(chunk, 1 - copy);
    const at = inLu - rows.from;
    batch.add(place.member, geometry.rows.memberByte(place.inLu), buffer.subarray(at, at + chunkBytes));
  }
  try {
    await batch.read();
  } catch (error) {
    if (!isStorageError(error)) throw error;
    core.assertAlive();
    return rebuildRaid1Blocks(core, geometry, rows, block);
  }
  await core.members[rows.slot]!.writev([buffer], position, true);
  return 0;
}

async function rebuildRaid1Blocks(
  core: GroupCore,
  geometry: Raid1Geometry,
  rows: RowsToRebuild,
  block: Buffer,
): Promise<number> {
  const target = core.members[rows.slot]!;
  let given = 0;
  let failed = 0;
  for (let inLu = rows.from; inLu < rows.to; inLu += BLOCK_BYTES) {
    const inChunk = inLu % geometry.chunkBytes;
    const { chunk, copy } = geometry.chunkAt(rows.slot, inLu - inChunk);
    const place: CopyPlace = geometry.place(chunk, 1 - copy);
    const source = core.members[place.member]!;
    const position = geometry.rows.memberByte(inLu);
    const from = geometry.rows.memberByte(place.inLu) + inChunk;
    const number = (chunk * geometry.chunkBytes + inChunk) / BLOCK_BYTES;
    const kind = core.lost.kindOf(rows.lu, number);
    // Given up before: whichever copy may still be right, this one is not.
    const filler = kind === (copy === 0 ? "second" : "first");
    const fromSource = (): Promise<boolean> => succeeds(source.read(block, from));
    const fromFormer = (): Promise<boolean> => succeeds(target.read(block, position));
    // The copy that may be right is the one that is to be rebuilt: the other is only a filler.
    const own = kind === (copy === 0 ? "first" : "second");
    let there = !filler && ((!own && ((await fromSource()) || (await fromSource()))) || (await fromFormer()));
    core.assertAlive();
    if (!there && !filler && rows.giveUp) {
      const kindNow = own ? "lost" : copy === 0 ? "second" : "first";
      const at = number * BLOCK_BYTES;
      await core.losses.lose({ lu: rows.lu, at, member: source, position: from, kind: kindNow });
      given++;
    }
    if (!there && (filler || rows.giveUp)) {
      block.fill(0);
      there = true;
    }
    if (there) {
      await target.writev([block], position, true);
      continue;
    }
    rows.unreadable(source, own ? position : from);
    if (++failed === TRIES_MAX) return given + (await skipRest(geometry.rows, rows, inLu, geometry.chunkBytes, source));
  }
  return given;
}
