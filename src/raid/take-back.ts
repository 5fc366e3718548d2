import { BLOCK_BYTES } from "../lib/units.js";
import type { GroupCore } from "./core.js";
import type { Raid1Geometry, Raid5Geometry } from "./geometry.js";
import type { LostKind } from "./lost-blocks.js";
import type { Member } from "./member.js";
import { succeeds } from "./succeeds.js";

/** What taking a block back asks of its array (raid5.ts). */
export interface TakeBackSide {
  /** Run with the lock of the block's stripe. */
  locked<T>(at: number, action: () => Promise<T>): Promise<T>;
  /** There is newer content in memory, which is not in place. */
  isNewer(at: number): boolean;
  /** As a client's write of one block, with the lock. @returns false when there is no room: then nothing is done */
  put(content: Buffer, at: number): boolean;
  /** Nothing of this block's stripe is only in memory or in the journal. */
  settleBlock(at: number): Promise<void>;
  flush(): Promise<void>;
}

/**
 * A block that is lost or unread (lost-blocks.ts): when its member can be read again, or the disk that was there before has turned up, what that says is
 * written as a client would. So it takes part in the parity again, and what was computed without it is computed anew.
 * @param at  byte of the LU
 * @returns whether it is neither any more
 */
export async function takeBackRaid5(
  core: GroupCore,
  lu: number,
  geometry: Raid5Geometry,
  side: TakeBackSide,
  at: number,
): Promise<boolean> {
  const block = { lu, geometry, at };
  const kind = kindOf(core, block);
  if (kind === null) return true;
  const content = Buffer.allocUnsafe(BLOCK_BYTES);
  if (!(await findAgain(core, side, block, kind, content))) return false;
  if (kind === "unread") await putBackDerived(core, side, block, content);
  if (!(await put(core, side, block, kind, content))) return false;
  await side.settleBlock(at);
  return kindOf(core, block) === null;
}

interface LuBlock {
  readonly lu: number;
  readonly geometry: Raid5Geometry;
  readonly at: number;
}

function kindOf({ lost }: GroupCore, { lu, at }: LuBlock): LostKind | null {
  return lost.kindOf(lu, at / BLOCK_BYTES);
}

function stripeOf({ geometry, at }: LuBlock): number {
  return Math.floor(at / geometry.stripeBytes);
}

function memberOf(core: GroupCore, block: LuBlock): Member {
  const chunk = Math.floor((block.at % block.geometry.stripeBytes) / block.geometry.chunkBytes);
  return core.members[block.geometry.dataMember(stripeOf(block), chunk)]!;
}

function positionOf(block: LuBlock): number {
  return block.geometry.memberByte(stripeOf(block)) + (block.at % block.geometry.chunkBytes);
}

/** @returns whether its content could be had */
function findAgain(
  core: GroupCore,
  side: TakeBackSide,
  block: LuBlock,
  kind: LostKind,
  content: Buffer,
): Promise<boolean> {
  return side.locked(block.at, async () => {
    if (kindOf(core, block) !== kind || side.isNewer(block.at)) return false;
    const member = memberOf(core, block);
    if (kind === "unread" && (await succeeds(member.read(content, positionOf(block))))) return true;
    // What the member has itself of a lost block is not the old content.
    const { former } = member;
    return former !== null && succeeds(former.readOld(content, positionOf(block)));
  });
}

/** Unless somebody has written it meanwhile. @returns whether it was put */
async function put(
  core: GroupCore,
  side: TakeBackSide,
  block: LuBlock,
  kind: LostKind,
  content: Buffer,
): Promise<boolean> {
  const write = async (): Promise<boolean | null> => {
    if (kindOf(core, block) !== kind || side.isNewer(block.at)) return null;
    return side.put(content, block.at);
  };
  for (;;) {
    const done = await side.locked(block.at, write);
    if (done !== false) return done ?? false;
    await core.cache.waitForRoom();
  }
}

/** What was computed while a block could not be read is computed anew, before that block takes part again. */
async function putBackDerived(core: GroupCore, side: TakeBackSide, block: LuBlock, unread: Buffer): Promise<void> {
  const own = derivedFrom(core, block);
  if (own === null) return;
  const member = memberOf(core, own);
  const position = positionOf(own);
  const stands = Buffer.allocUnsafe(BLOCK_BYTES);
  const read = () => (side.isNewer(own.at) ? Promise.resolve(false) : succeeds(member.read(stands, position)));
  if (!(await side.locked(own.at, read))) return;
  for (let i = 0; i < BLOCK_BYTES; i++) stands[i]! ^= unread[i]!;
  // From here on it is not computed a second time, whatever happens.
  await core.losses.lose({ lu: own.lu, at: own.at, member, position, kind: "lost" });
  if (!(await put(core, side, own, "lost", stands))) return;
  await side.settleBlock(own.at);
  await side.flush();
}

/** The one derived block of the column, while this is its only unread one; otherwise null. */
function derivedFrom(core: GroupCore, block: LuBlock): LuBlock | null {
  const { geometry, at, lu } = block;
  const inChunk = at % geometry.chunkBytes;
  const column = Array.from({ length: geometry.dataMembers }, (_, i): LuBlock => {
    return { lu, geometry, at: stripeOf(block) * geometry.stripeBytes + i * geometry.chunkBytes + inChunk };
  });
  const [own, more] = column.filter((one) => kindOf(core, one) === "derived");
  const alone = column.every((one) => one.at === at || kindOf(core, one) !== "unread");
  return own === undefined || more !== undefined || !alone ? null : own;
}

/** RAID-1: the copy that could not be read, or the disk that was there before. Called with the lock of the block. @returns whether it was taken back */
export async function takeBackRaid1(
  core: GroupCore,
  lu: number,
  geometry: Raid1Geometry,
  at: number,
): Promise<boolean> {
  const kind = core.lost.kindOf(lu, at / BLOCK_BYTES);
  if (kind === null) return true;
  const content = Buffer.allocUnsafe(BLOCK_BYTES);
  const copies = [0, 1].map((copy) => {
    const { member, inLu } = geometry.place(Math.floor(at / geometry.chunkBytes), copy);
    return { member: core.members[member]!, position: geometry.rows.memberByte(inLu) + (at % geometry.chunkBytes) };
  });
  const ways = copies.flatMap(({ member, position }, copy) => {
    const direct = kind === (copy === 0 ? "first" : "second") ? [() => member.read(content, position)] : [];
    const { former } = member;
    return former === null ? direct : [...direct, () => former.readOld(content, position)];
  });
  for (const way of ways) {
    if (!(await succeeds(way()))) continue;
    await putCopies(core, copies, content);
    core.losses.written(lu, at, BLOCK_BYTES);
    return true;
  }
  return false;
}

/** Durably, and marked: whoever is away misses it, and an old disk that is a source has something else there. */
async function putCopies(
  core: GroupCore,
  copies: readonly { readonly member: Member; readonly position: number }[],
  content: Buffer,
): Promise<void> {
  const { bitmap } = core;
  core.guard();
  await core.writable();
  const marks = copies.map(({ position }) => bitmap.enter(position, position + BLOCK_BYTES));
  try {
    await Promise.all(marks);
    await Promise.all(copies.map(({ member, position }) => member.writev([content], position, true)));
    await Promise.all(copies.map(({ member }) => member.flush(true)));
  } finally {
    for (const { position } of copies) bitmap.leave(position, position + BLOCK_BYTES);
  }
}
