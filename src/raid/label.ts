import { assert } from "../lib/assert.js";
import { MIB } from "../lib/units.js";
import type { DiskState, LuDescription } from "./contract.js";
import {
  checksumHolds,
  getText,
  getU64,
  getUuid,
  isZero,
  NO_UUID,
  putText,
  putU64,
  putUuid,
  sealChecksum,
  tailOfText,
} from "./fields.js";
import type { RowRun } from "./geometry.js";
import type { GroupShape } from "./layout.js";
import { shapeIsSound } from "./layout.js";
import { LABEL_SLOT_BYTES, LUS_MAX, MEMBERS_MAX, NODES_MAX, PATH_BYTES_MAX, ROW_RUNS_MAX } from "./limits.js";

/**
 * A label slot: 65536 bytes, little-endian.
 *     0 [8] magic "STRPWARD"    8 u32 version          12 u32 checksum (CRC-32C of the slot, this field zero)
 *    16 [16] diskUuid          32 [16] groupUuid (zero: in no group; then everything from `generation` on but `diskBytes` is zero)
 *    48 u32 diskNumber         52 u32 slot (0-based place in the group)
 *    56 u64 sequence           64 u64 generation       72 u64 ownerEpoch         80 u64 diskBytes
 *    88 u32 flags (1: clean)   92 u32 chunkBytes       96 u64 rowBytes          104 u32 rowCount
 *   108 u32 memberCount       112 u32 luCount         116 u32 runCount          120 u32 nodeCount
 *   124 u32 pad               128 u64 journalBytes    136 u64 regionBytes       144 [64] groupName
 *   208 reserved
 *   512 nodes: 8 names of 64 bytes
 *  1024 members: 32 entries of 256 bytes (MEMBER_ENTRY)
 *  9216 lus: 64 entries of 128 bytes (LU_ENTRY)
 * 17408 runs: 4096 of u32 first row, u32 row count; an LU names a range of them
 * 50176 tail, reserved
 * `sequence` rises with every write of the label and picks the slot (sequence mod 2). `generation` rises when the member list or the LU
 * table changes: the newest label says which members are online, and all others stay out until rebuilt.
 */
export const LABEL = {
  magic: 0,
  version: 8,
  checksum: 12,
  diskUuid: 16,
  groupUuid: 32,
  diskNumber: 48,
  slot: 52,
  sequence: 56,
  generation: 64,
  ownerEpoch: 72,
  diskBytes: 80,
  flags: 88,
  chunkBytes: 92,
  rowBytes: 96,
  rowCount: 104,
  memberCount: 108,
  luCount: 112,
  runCount: 116,
  nodeCount: 120,
  pad: 124,
  journalBytes: 128,
  regionBytes: 136,
  groupName: 144,
  reserved: 208,
  nodes: 512,
  members: 1024,
  lus: 9216,
  runs: 17408,
  tail: 50176,
  end: 65536,
} as const;

/** 0 [16] uuid, 16 u32 number, 20 u32 state (1 online, 2 missing, 3 stale, 4 failed), 24 u64 sizeBytes, 32 reserved, 40 [216] path, 256 end */
export const MEMBER_ENTRY = {
  uuid: 0,
  number: 16,
  state: 20,
  sizeBytes: 24,
  reserved: 32,
  path: 40,
  end: 256,
} as const;

/** 0 u32 number, 4 u32 level, 8 [16] uuid, 24 u64 sizeBytes, 32 u32 firstRun, 36 u32 runCount, 40 [64] name, 104 reserved, 128 end */
export const LU_ENTRY = {
  number: 0,
  level: 4,
  uuid: 8,
  sizeBytes: 24,
  firstRun: 32,
  runCount: 36,
  name: 40,
  reserved: 104,
  end: 128,
} as const;

assert(LABEL.end === LABEL_SLOT_BYTES, "a label fills its slot");
assert(LABEL.members + MEMBERS_MAX * MEMBER_ENTRY.end === LABEL.lus, "member entries fill their table");
assert(LABEL.lus + LUS_MAX * LU_ENTRY.end === LABEL.runs, "LU entries fill their table");
assert(LABEL.runs + ROW_RUNS_MAX * 8 === LABEL.tail, "runs fill their table");
assert(LABEL.nodes + NODES_MAX * 64 === LABEL.members, "node names fill their table");

const MAGIC = "STRPWARD";
const VERSION = 1;
const CLEAN = 1;
const NAME_FIELD = 64;
const STATES = ["unused", "online", "missing", "stale", "failed"] as const satisfies readonly DiskState[];

/** A member as the label of any member lists it. */
export interface LabelMember {
  readonly uuid: string;
  readonly number: number;
  readonly state: DiskState;
  readonly sizeBytes: number;
  /** Where it was last seen; a hint for people, cut from the front when long. */
  readonly path: string;
}

export interface LabelLu extends Omit<LuDescription, "groupUuid"> {
  readonly runs: readonly RowRun[];
}

/** The part of a label that is the same on all members of a group. */
export interface GroupRecord {
  readonly uuid: string;
  readonly name: string;
  readonly generation: number;
  readonly ownerEpoch: number;
  readonly clean: boolean;
  readonly shape: GroupShape;
  readonly nodes: readonly string[];
  readonly members: readonly LabelMember[];
  readonly lus: readonly LabelLu[];
}

/** What a disk says of itself. */
export interface DiskLabel {
  readonly uuid: string;
  readonly number: number;
  readonly sequence: number;
  readonly sizeBytes: number;
  /** 0-based place in the group's member list; 0 when in no group. */
  readonly slot: number;
  readonly group?: GroupRecord;
}

/** @returns one slot, 65536 bytes */
export function encodeLabel(label: DiskLabel): Buffer {
  const block = Buffer.alloc(LABEL.end);
  block.write(MAGIC, LABEL.magic, "latin1");
  block.writeUInt32LE(VERSION, LABEL.version);
  putUuid(block, LABEL.diskUuid, label.uuid);
  block.writeUInt32LE(label.number, LABEL.diskNumber);
  block.writeUInt32LE(label.slot, LABEL.slot);
  putU64(block, LABEL.sequence, label.sequence);
  putU64(block, LABEL.diskBytes, label.sizeBytes);
  if (label.group !== undefined) putGroup(block, label.group);
  sealChecksum(block, LABEL.checksum);
  assert(decodeLabel(block) !== null, "a label that we write is one that we would read");
  return block;
}

function putGroup(block: Buffer, group: GroupRecord): void {
  assert(group.members.length <= MEMBERS_MAX && group.lus.length <= LUS_MAX, "the group fits its label");
  assert(group.nodes.length <= NODES_MAX, "the nodes fit the label");
  putUuid(block, LABEL.groupUuid, group.uuid);
  putU64(block, LABEL.generation, group.generation);
  putU64(block, LABEL.ownerEpoch, group.ownerEpoch);
  block.writeUInt32LE(group.clean ? CLEAN : 0, LABEL.flags);
  block.writeUInt32LE(group.shape.chunkBytes, LABEL.chunkBytes);
  putU64(block, LABEL.rowBytes, group.shape.rowBytes);
  block.writeUInt32LE(group.shape.rowCount, LABEL.rowCount);
  putU64(block, LABEL.journalBytes, group.shape.journalBytes);
  putU64(block, LABEL.regionBytes, group.shape.regionBytes);
  putText(block, LABEL.groupName, NAME_FIELD, group.name);
  block.writeUInt32LE(group.nodes.length, LABEL.nodeCount);
  for (const [i, name] of group.nodes.entries()) putText(block, LABEL.nodes + i * NAME_FIELD, NAME_FIELD, name);
  block.writeUInt32LE(group.members.length, LABEL.memberCount);
  for (const [i, member] of group.members.entries()) putMember(block, LABEL.members + i * MEMBER_ENTRY.end, member);
  putLus(block, group.lus);
}

function putMember(block: Buffer, at: number, member: LabelMember): void {
  putUuid(block, at + MEMBER_ENTRY.uuid, member.uuid);
  block.writeUInt32LE(member.number, at + MEMBER_ENTRY.number);
  block.writeUInt32LE(STATES.indexOf(member.state), at + MEMBER_ENTRY.state);
  putU64(block, at + MEMBER_ENTRY.sizeBytes, member.sizeBytes);
  const path = tailOfText(member.path, PATH_BYTES_MAX);
  putText(block, at + MEMBER_ENTRY.path, MEMBER_ENTRY.end - MEMBER_ENTRY.path, path);
}

function putLus(block: Buffer, lus: readonly LabelLu[]): void {
  let run = 0;
  lus.forEach((lu, i) => {
    const at = LABEL.lus + i * LU_ENTRY.end;
    block.writeUInt32LE(lu.number, at + LU_ENTRY.number);
    block.writeUInt32LE(lu.level, at + LU_ENTRY.level);
    putUuid(block, at + LU_ENTRY.uuid, lu.uuid);
    putU64(block, at + LU_ENTRY.sizeBytes, lu.sizeBytes);
    block.writeUInt32LE(run, at + LU_ENTRY.firstRun);
    block.writeUInt32LE(lu.runs.length, at + LU_ENTRY.runCount);
    putText(block, at + LU_ENTRY.name, NAME_FIELD, lu.name);
    for (const { first, count } of lu.runs) {
      assert(run < ROW_RUNS_MAX, "the row runs fit the label");
      block.writeUInt32LE(first, LABEL.runs + run * 8);
      block.writeUInt32LE(count, LABEL.runs + run * 8 + 4);
      run++;
    }
  });
  block.writeUInt32LE(lus.length, LABEL.luCount);
  block.writeUInt32LE(run, LABEL.runCount);
}

/** Does it begin like one of our labels, sound or not? */
export function hasLabelMagic(block: Buffer): boolean {
  return block.toString("latin1", LABEL.magic, LABEL.magic + 8) === MAGIC;
}

/** @returns null unless every field, every reserved byte and the checksum hold */
export function decodeLabel(block: Buffer): DiskLabel | null {
  if (block.length !== LABEL.end || !hasLabelMagic(block)) return null;
  if (block.readUInt32LE(LABEL.version) !== VERSION || !checksumHolds(block, LABEL.checksum)) return null;
  const sequence = getU64(block, LABEL.sequence);
  const sizeBytes = getU64(block, LABEL.diskBytes);
  const disk = {
    uuid: getUuid(block, LABEL.diskUuid),
    number: block.readUInt32LE(LABEL.diskNumber),
    slot: block.readUInt32LE(LABEL.slot),
    sequence,
    sizeBytes,
  };
  if (disk.uuid === NO_UUID || Number.isNaN(sequence) || !(sizeBytes >= MIB)) return null;
  if (getUuid(block, LABEL.groupUuid) === NO_UUID) return decodeUnused(block, disk);
  const group = getGroup(block);
  if (group === null || group.members[disk.slot]?.uuid !== disk.uuid) return null;
  return { ...disk, group };
}

function decodeUnused(block: Buffer, disk: DiskLabel): DiskLabel | null {
  const empty = isZero(block, LABEL.generation, LABEL.diskBytes) && isZero(block, LABEL.flags, LABEL.end);
  return empty && disk.slot === 0 ? disk : null;
}

function getGroup(block: Buffer): GroupRecord | null {
  if (!isZero(block, LABEL.pad, LABEL.journalBytes) || !isZero(block, LABEL.reserved, LABEL.nodes)) return null;
  if (!isZero(block, LABEL.tail, LABEL.end) || block.readUInt32LE(LABEL.flags) > CLEAN) return null;
  const shape: GroupShape = {
    chunkBytes: block.readUInt32LE(LABEL.chunkBytes),
    rowBytes: getU64(block, LABEL.rowBytes),
    rowCount: block.readUInt32LE(LABEL.rowCount),
    journalBytes: getU64(block, LABEL.journalBytes),
    regionBytes: getU64(block, LABEL.regionBytes),
  };
  const name = getText(block, LABEL.groupName, NAME_FIELD);
  const generation = getU64(block, LABEL.generation);
  const ownerEpoch = getU64(block, LABEL.ownerEpoch);
  const [nodes, members, lus] = [getNodes(block), getMembers(block), getLus(block, shape.rowCount)];
  if (!name || Number.isNaN(generation) || Number.isNaN(ownerEpoch)) return null;
  if (nodes === null || members === null || lus === null) return null;
  if (!members.every((member) => shapeIsSound(shape, member.sizeBytes))) return null;
  const clean = block.readUInt32LE(LABEL.flags) === CLEAN;
  return { uuid: getUuid(block, LABEL.groupUuid), name, generation, ownerEpoch, clean, shape, nodes, members, lus };
}

function getNodes(block: Buffer): string[] | null {
  const count = block.readUInt32LE(LABEL.nodeCount);
  if (count > NODES_MAX || !isZero(block, LABEL.nodes + count * NAME_FIELD, LABEL.members)) return null;
  const nodes: string[] = [];
  for (let i = 0; i < count; i++) {
    const name = getText(block, LABEL.nodes + i * NAME_FIELD, NAME_FIELD);
    if (!name) return null;
    nodes.push(name);
  }
  return nodes;
}

function getMembers(block: Buffer): LabelMember[] | null {
  const count = block.readUInt32LE(LABEL.memberCount);
  if (count < 2 || count > MEMBERS_MAX) return null;
  if (!isZero(block, LABEL.members + count * MEMBER_ENTRY.end, LABEL.lus)) return null;
  const members: LabelMember[] = [];
  for (let i = 0; i < count; i++) {
    const member = getMember(block, LABEL.members + i * MEMBER_ENTRY.end);
    if (member === null) return null;
    members.push(member);
  }
  return new Set(members.map((member) => member.uuid)).size === count ? members : null;
}

function getMember(block: Buffer, at: number): LabelMember | null {
  const state = STATES[block.readUInt32LE(at + MEMBER_ENTRY.state)];
  const path = getText(block, at + MEMBER_ENTRY.path, MEMBER_ENTRY.end - MEMBER_ENTRY.path);
  const sizeBytes = getU64(block, at + MEMBER_ENTRY.sizeBytes);
  const uuid = getUuid(block, at + MEMBER_ENTRY.uuid);
  if (state === undefined || state === "unused" || path === null || Number.isNaN(sizeBytes)) return null;
  if (uuid === NO_UUID || !isZero(block, at + MEMBER_ENTRY.reserved, at + MEMBER_ENTRY.path)) return null;
  return { uuid, number: block.readUInt32LE(at + MEMBER_ENTRY.number), state, sizeBytes, path };
}

function getLus(block: Buffer, rowCount: number): LabelLu[] | null {
  const count = block.readUInt32LE(LABEL.luCount);
  const runCount = block.readUInt32LE(LABEL.runCount);
  if (count > LUS_MAX || runCount > ROW_RUNS_MAX) return null;
  if (!isZero(block, LABEL.lus + count * LU_ENTRY.end, LABEL.runs)) return null;
  if (!isZero(block, LABEL.runs + runCount * 8, LABEL.tail)) return null;
  const lus: LabelLu[] = [];
  let nextRun = 0;
  for (let i = 0; i < count; i++) {
    const at = LABEL.lus + i * LU_ENTRY.end;
    const lu = getLu(block, at, nextRun, runCount);
    if (lu === null) return null;
    nextRun += lu.runs.length;
    lus.push(lu);
  }
  return nextRun === runCount && rowsAreDisjoint(lus, rowCount) ? lus : null;
}

function getLu(block: Buffer, at: number, firstRun: number, runsInUse: number): LabelLu | null {
  const level = block.readUInt32LE(at + LU_ENTRY.level);
  const name = getText(block, at + LU_ENTRY.name, NAME_FIELD);
  const sizeBytes = getU64(block, at + LU_ENTRY.sizeBytes);
  const runCount = block.readUInt32LE(at + LU_ENTRY.runCount);
  if ((level !== 1 && level !== 5) || !name || !(sizeBytes > 0)) return null;
  if (!isZero(block, at + LU_ENTRY.reserved, at + LU_ENTRY.end)) return null;
  if (block.readUInt32LE(at + LU_ENTRY.firstRun) !== firstRun || firstRun + runCount > runsInUse || runCount === 0)
    return null;
  const runs: RowRun[] = [];
  for (let i = firstRun; i < firstRun + runCount; i++) {
    const entry = LABEL.runs + i * 8;
    runs.push({ first: block.readUInt32LE(entry), count: block.readUInt32LE(entry + 4) });
  }
  const number = block.readUInt32LE(at + LU_ENTRY.number);
  return { number, level, uuid: getUuid(block, at + LU_ENTRY.uuid), name, sizeBytes, runs };
}

function rowsAreDisjoint(lus: readonly LabelLu[], rowCount: number): boolean {
  const runs = lus.flatMap((lu) => lu.runs).sort((a, b) => a.first - b.first);
  let next = 0;
  for (const run of runs) {
    if (run.count === 0 || run.first < next) return false;
    next = run.first + run.count;
  }
  return next <= rowCount;
}
