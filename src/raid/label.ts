import { assert } from "../lib/assert.js";
import type { DiskState, LabelledDisk, LuDescription, ScrubRecord } from "./contract.js";
import type { RowRun } from "./geometry.js";
import type { GroupShape } from "./layout.js";
import {
  LABEL_SLOT_BYTES,
  LIVES_MAX,
  LOST_BLOCKS_MAX,
  LUS_MAX,
  MEMBERS_MAX,
  NODES_MAX,
  ROW_RUNS_MAX,
} from "./limits.js";
import type { Lineage } from "./lineage.js";
import type { LostBlock } from "./lost-blocks.js";

/**
 * A label slot: 65536 bytes, little-endian.
 *     0 [8] magic "STRPWARD"    8 u32 version          12 u32 checksum (CRC-32C of the slot, this field zero)
 *    16 [16] diskUuid          32 [16] groupUuid (zero: in no group; then everything from `generation` on but `diskBytes` is zero)
 *    48 u32 diskNumber         52 u32 slot (0-based place in the group)
 *    56 u64 sequence           64 u64 generation       72 u64 ownerEpoch         80 u64 diskBytes
 *    88 u32 flags (1: clean; 2: spare, in no group; 4: a shared group; 8: kinds of lost blocks)           92 u32 chunkBytes       96 u64 rowBytes          104 u32 rowCount
 *   108 u32 memberCount       112 u32 luCount         116 u32 runCount          120 u32 nodeCount
 *   124 u32 parityRun (0: 1)  128 u64 journalBytes    136 u64 regionBytes       144 [64] groupName
 *   208 u32 scrubEverySeconds 212 u32 scrubState (0 idle, 1 running, 2 paused)   216 u64 scrubAt (byte of the row space)
 *   224 u64 scrubStartedMs    232 u64 scrubFinishedMs (since 1970; 0: never)     240 u32 scrubFound         244 u32 scrubHealed
 *   248 u32 lostCount         252 u32 scrubFlags (1: only report)                256 u64 wholeFrom          264 u32 lifeCount
 *   268 u32 formerNumber      272 [16] formerUuid     288 formerLabels: 2 of u64 generation, u64 sequence (LabelFormer)             320 reserved
 *   512 nodes: 8 names of 64 bytes
 *  1024 members: 32 entries of 256 bytes (MEMBER_ENTRY)
 *  9216 lus: 64 entries of 128 bytes (LU_ENTRY)
 * 17408 runs: 4096 of u32 first row, u32 row count; an LU names a range of them
 * 50176 lost: 1024 of u64, 2^49 times the kind (lost-blocks.ts), plus 64 times the block of the LU (of 4096 bytes), plus the number of the LU minus 1
 * 58368 parted: 32 of u64, by slot (LabelMember.partedFrom)
 * 58624 lives: 256 of u64 first generation, [16] id (LIFE_ENTRY)
 * 64768 tail, reserved
 * `sequence` rises with every write of the label and picks the slot (sequence mod 2). `generation` rises before the first write of each life of the
 * group, when the member list or the LU table changes, at a clean stop, and every few seconds while it is written: lineage.ts tells who is
 * whole by it. The newest label says which members are online, and all others stay out until rebuilt.
 * Version 1 had everything from `wholeFrom` to `reserved`, `parted` and `lives` zero. It is read; what is written has version 2, but for labels of disks
 * that belong to no group, or to a shared one: those are as they were.
 * A shared group (ha/shared/) has no rows, no LUs and no scrub: shape, LU table, runs, scrub and lost blocks are zero. Its members are
 * always called online, because which copies are current is told by its partitions.
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
  parityRun: 124,
  journalBytes: 128,
  regionBytes: 136,
  groupName: 144,
  scrubEverySeconds: 208,
  scrubState: 212,
  scrubAt: 216,
  scrubStartedMs: 224,
  scrubFinishedMs: 232,
  scrubFound: 240,
  scrubHealed: 244,
  lostCount: 248,
  scrubFlags: 252,
  wholeFrom: 256,
  lifeCount: 264,
  formerNumber: 268,
  formerUuid: 272,
  formerLabels: 288,
  reserved: 320,
  nodes: 512,
  members: 1024,
  lus: 9216,
  runs: 17408,
  lost: 50176,
  parted: 58368,
  lives: 58624,
  tail: 64768,
  end: 65536,
} as const;

/**
 * 0 [16] uuid, 16 u32 number, 20 u32 state (1 online, 2 missing, 3 stale, 4 failed, 5 rebuilding), 24 u64 sizeBytes,
 * 32 u64 unbuiltBytes, 40 [216] path, 256 end.
 * A member that is not online has what it should have in the row space up to `unbuiltBytes` from its end, but for the regions that the
 * write-intent bitmap marks: those, and what is unbuilt, are what a rebuild has to write. 0 while online.
 */
export const MEMBER_ENTRY = {
  uuid: 0,
  number: 16,
  state: 20,
  sizeBytes: 24,
  unbuiltBytes: 32,
  path: 40,
  end: 256,
} as const;

/** 0 u64 generation (its first), 8 [16] id (random), 24 end */
export const LIFE_ENTRY = { generation: 0, id: 8, end: 24 } as const;

/**
 * 0 u32 number, 4 u32 level, 8 [16] uuid, 24 u64 sizeBytes, 32 u32 firstRun, 36 u32 runCount, 40 [64] name,
 * 104 u32 width (members that it is spread over, the first so many; 0: all), 108 u32 newWidth (0: not being spread anew),
 * 112 u64 movedBytes (of the LU, from its start, that are spread over newWidth members already), 120 reserved, 128 end
 */
export const LU_ENTRY = {
  number: 0,
  level: 4,
  uuid: 8,
  sizeBytes: 24,
  firstRun: 32,
  runCount: 36,
  name: 40,
  width: 104,
  newWidth: 108,
  movedBytes: 112,
  reserved: 120,
  end: 128,
} as const;

assert(LABEL.end === LABEL_SLOT_BYTES, "a label fills its slot");
assert(LABEL.members + MEMBERS_MAX * MEMBER_ENTRY.end === LABEL.lus, "member entries fill their table");
assert(LABEL.lus + LUS_MAX * LU_ENTRY.end === LABEL.runs, "LU entries fill their table");
assert(LABEL.runs + ROW_RUNS_MAX * 8 === LABEL.lost, "runs fill their table");
assert(LABEL.lost + LOST_BLOCKS_MAX * 8 === LABEL.parted, "lost blocks fill their table");
assert(LABEL.parted + MEMBERS_MAX * 8 === LABEL.lives, "an entry for each member");
assert(LABEL.lives + LIVES_MAX * LIFE_ENTRY.end === LABEL.tail, "lives fill their table");
assert(LABEL.nodes + NODES_MAX * 64 === LABEL.members, "node names fill their table");

export const NO_SCRUB: ScrubRecord = {
  ...{ everySeconds: 0, startedMs: 0, finishedMs: 0, atBytes: 0 },
  ...{ state: "idle", heal: true, found: 0, healed: 0 },
};

/** Of a shared group, which is not cut into rows. */
export const NO_SHAPE: GroupShape = {
  ...{ chunkBytes: 0, rowBytes: 0, rowCount: 0, journalBytes: 0, regionBytes: 0, parityRun: 1 },
};

/** A member is never unused, and a spare is no member. */
export type MemberState = Exclude<DiskState, "unused" | "spare">;

/** How the label of a member stood when it was last in use: what an old disk has to show to be believed. */
export interface LastLabel {
  readonly generation: number;
  readonly sequence: number;
}

/** The disk whose place a member that is being rebuilt has: where nothing has been written since it left, it is a source (former.ts). */
export interface LabelFormer {
  readonly uuid: string;
  readonly number: number;
  /** One, or two when the last one was perhaps not written to its end. */
  readonly labels: readonly LastLabel[];
}

/** A member as the label of any member lists it. */
export interface LabelMember {
  readonly uuid: string;
  readonly number: number;
  readonly state: MemberState;
  readonly sizeBytes: number;
  /** See MEMBER_ENTRY. */
  readonly unbuiltBytes: number;
  /**
   * Of a member that takes no writes: what it lacks is marked in the bitmap, if its own label is of this generation or a later one. 0 while it takes
   * writes.
   */
  readonly partedFrom: number;
  /** Only of a member that is being rebuilt. */
  readonly former: LabelFormer | null;
  /** Where it was last seen; a hint for people, cut from the front when long. */
  readonly path: string;
}

/** A disk as a member that has everything. */
export function newMember({ uuid, number, device }: LabelledDisk): LabelMember {
  const { sizeBytes, name: path } = device;
  return { uuid, number, state: "online", sizeBytes, unbuiltBytes: 0, partedFrom: 0, former: null, path };
}

export interface LabelLu extends Omit<LuDescription, "groupUuid"> {
  readonly runs: readonly RowRun[];
  /** While it is spread anew; see LU_ENTRY. */
  readonly moving?: { readonly newWidth: number; readonly movedBytes: number } | undefined;
}

/** The part of a label that is the same on all members of a group. */
export interface GroupRecord {
  readonly uuid: string;
  readonly name: string;
  readonly generation: number;
  readonly lineage: Lineage;
  readonly ownerEpoch: number;
  readonly clean: boolean;
  readonly shape: GroupShape;
  readonly nodes: readonly string[];
  readonly members: readonly LabelMember[];
  readonly lus: readonly LabelLu[];
  readonly scrub: ScrubRecord;
  readonly lost: readonly LostBlock[];
  /** Two nodes have it open at once: it is no RAID group, and has NO_SHAPE. */
  readonly shared?: boolean;
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
  /** In no group, and to be taken by itself when a member is lost. */
  readonly spare?: boolean;
}
