import { isStorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { GroupCore } from "./core.js";
import type { CopyPlace, Raid1Geometry, Raid5Geometry } from "./geometry.js";
import { IoBatch } from "./io-batch.js";
import type { Member } from "./member.js";
import { succeeds } from "./succeeds.js";

/** XOR in pieces that stay in the processor's cache. */
const XOR_BYTES = 64 * 1024;

/** Rows of one LU that are written anew on one member. Chunk rows [from, to) of its member space, in one run of rows. */
export interface RowsToRebuild {
  readonly lu: number;
  readonly slot: number;
  readonly from: number;
  readonly to: number;
}

/**
 * RAID-5: a member's chunks, data or parity, are the XOR of all the others. Nobody is writing the stripes.
 * @param buffers  one of `to - from` bytes for each member of the LU, in the arena
 * @returns blocks that nothing could prove
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
  let lost = 0;
  for (let inLu = rows.from; inLu < rows.to; inLu += BLOCK_BYTES) {
    const position = geometry.rows.memberByte(inLu);
    const blocks = buffers.map((buffer) => buffer.subarray(0, BLOCK_BYTES));
    const unread = await readBlocks(core, geometry, rows.slot, blocks, position);
    if (unread.length > 0) {
      lost += await loseRaid5Blocks(core, geometry, rows, inLu, [...unread, core.members[rows.slot]!], blocks);
      continue;
    }
    const sources = blocks.slice(0, geometry.members).filter((_, slot) => slot !== rows.slot);
    core.arena.xorBuffers(blocks[rows.slot]!, sources);
    await core.members[rows.slot]!.writev([blocks[rows.slot]!], position, true);
  }
  return lost;
}

/** @returns the members, but for `slot`, that cannot be read there even at the second try */
async function readBlocks(
  core: GroupCore,
  geometry: Raid5Geometry,
  slot: number,
  blocks: readonly Buffer[],
  position: number,
): Promise<Member[]> {
  const unread: Member[] = [];
  for (const member of core.members.slice(0, geometry.members)) {
    if (member.slot === slot) continue;
    const target = blocks[member.slot]!;
    const read = (): Promise<boolean> => succeeds(member.read(target, position));
    if ((await read()) || (await read())) continue;
    unread.push(member);
  }
  return unread;
}

/** Known to be lost before it is zeros: first the labels, then the disks, parity last. */
async function loseRaid5Blocks(
  core: GroupCore,
  geometry: Raid5Geometry,
  rows: RowsToRebuild,
  inLu: number,
  unread: readonly Member[],
  blocks: readonly Buffer[],
): Promise<number> {
  core.assertAlive();
  const stripe = Math.floor(inLu / geometry.chunkBytes);
  const inChunk = inLu % geometry.chunkBytes;
  const parity = geometry.parityMember(stripe);
  const position = geometry.rows.memberByte(inLu);
  const gone = unread.filter((member) => member.slot !== parity);
  for (const member of gone) {
    const index = (member.slot - parity - 1 + geometry.members) % geometry.members;
    await core.lose(rows.lu, stripe * geometry.stripeBytes + index * geometry.chunkBytes + inChunk, member, position);
    blocks[member.slot]!.fill(0);
  }
  const data = blocks.slice(0, geometry.members).filter((_, slot) => slot !== parity);
  core.arena.xorBuffers(blocks[parity]!, data);
  await writeMarked(core, position, [...gone, core.members[parity]!], blocks);
  return gone.length;
}

async function writeMarked(
  core: GroupCore,
  position: number,
  members: readonly Member[],
  blocks: readonly Buffer[],
): Promise<void> {
  const marked = core.bitmap.enter(position, position + BLOCK_BYTES);
  try {
    if (marked !== null) await marked;
    await Promise.all(members.map((member) => member.writev([blocks[member.slot]!], position, true)));
  } finally {
    core.bitmap.leave(position, position + BLOCK_BYTES);
  }
}

/**
 * RAID-1: a member's chunks are copies of its neighbours'. Nobody is writing them.
 * @param buffer  `to - from` bytes
 * @returns blocks that nothing could prove
 */
export async function rebuildRaid1(
  core: GroupCore,
  geometry: Raid1Geometry,
  rows: RowsToRebuild,
  buffer: Buffer,
): Promise<number> {
  if (rows.slot >= geometry.members) return 0;
  const { chunkBytes } = geometry;
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
    return rebuildRaid1Blocks(core, geometry, rows, buffer.subarray(0, BLOCK_BYTES));
  }
  await core.members[rows.slot]!.writev([buffer], geometry.rows.memberByte(rows.from), true);
  return 0;
}

async function rebuildRaid1Blocks(
  core: GroupCore,
  geometry: Raid1Geometry,
  rows: RowsToRebuild,
  block: Buffer,
): Promise<number> {
  let lost = 0;
  const target = core.members[rows.slot]!;
  for (let inLu = rows.from; inLu < rows.to; inLu += BLOCK_BYTES) {
    const inChunk = inLu % geometry.chunkBytes;
    const { chunk, copy } = geometry.chunkAt(rows.slot, inLu - inChunk);
    const place: CopyPlace = geometry.place(chunk, 1 - copy);
    const source = core.members[place.member]!;
    const from = geometry.rows.memberByte(place.inLu) + inChunk;
    const read = (): Promise<boolean> => succeeds(source.read(block, from));
    if (!(await read()) && !(await read())) {
      core.assertAlive();
      await core.lose(rows.lu, chunk * geometry.chunkBytes + inChunk, source, from);
      block.fill(0);
      lost++;
      await source.writev([block], from, true);
    }
    await target.writev([block], geometry.rows.memberByte(inLu), true);
  }
  return lost;
}
